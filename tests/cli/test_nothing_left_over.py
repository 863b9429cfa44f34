"""No command leaves a file outside its ``-o`` and the tool's own cache: neither in the home, nor where it works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.golden.commands import CAT, COMMANDS, ROOT, WITHOUT_FOLDER
from tests.integration.hostile_runner import listing

HOMES = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "TMPDIR")
ELSEWHERE = (  # what a developer's machine or the tests' own settings would hide
    "CONVSCOPE_CACHE", "KERAS_HOME", "KERAS_BACKEND", "MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR", "TORCH_HOME",
    "XDG_DATA_DIRS", "XDG_CONFIG_DIRS", "HF_HOME",
)  # fmt: skip
COVERED = {"filters-top", "explain-metrics", "attack-fgsm", "verify"}  # by others below
MORE = {
    "accent": f"accent lenet {CAT} --layer conv2 --units 0 --steps 2",
    "atlas": f"atlas lenet {CAT} --layer conv1 --steps 2 --size 20 --workers 1 -k 1",
    "predict-folder": f"predict lenet {CAT}",
    "verify-keras": "verify models/lenet/lenet.keras",
    "verify-pt2": "verify models/lenet/lenet.pt2",
}
ALONE = ("doctor", "models list", *(COMMANDS[name] for name in WITHOUT_FOLDER))


def test_every_command_leaves_the_home_the_working_and_the_temporary_folder_as_they_were(tmp_path: Path) -> None:
    places = {name: tmp_path / name.lower() for name in (*HOMES, "work", "out")}
    for place in places.values():
        place.mkdir()
    lines = [_absolute(line) for line in ALONE]
    written = {**{name: line for name, line in COMMANDS.items() if name not in {*WITHOUT_FOLDER, *COVERED}}, **MORE}
    lines += [f"{_absolute(line)} -o {places['out'] / name} -q" for name, line in written.items()]
    lines.append(f"export lenet -o {places['out']}/explained.onnx -q")
    (tmp_path / "lines.json").write_text(json.dumps(lines))
    shipped = listing(ROOT / "models" / "lenet")
    environment = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    ended = subprocess.run(
        [sys.executable, "-P", str(Path(__file__).with_name("all_commands.py")), str(tmp_path / "lines.json")],
        cwd=places["work"],
        env={**environment, **{name: str(places[name]) for name in HOMES}, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    codes = [line for line in ended.stdout.splitlines() if line.split(" ", 1)[-1] in lines]
    assert [line.split(" ", 1) for line in codes] == [["0", line] for line in lines], ended.stderr
    left = [str(p) for name in (*HOMES, "work") for p in places[name].rglob("*")]
    assert [one for one in left if not one.startswith(f"{places['XDG_CACHE_HOME']}/convscope")] == []
    assert [p.name for p in places["out"].rglob("*.part")] == []
    assert listing(ROOT / "models" / "lenet") == shipped


def _absolute(line: str) -> str:
    return " ".join(f"{ROOT}/{word}" if word.startswith(("engine/", "models/")) else word for word in line.split())
