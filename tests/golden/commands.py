"""Every command once on the shipped LeNet, and what of its result is kept to compare with.

``PYTHONPATH=. python -P -m tests.golden.record`` writes ``results/NAME.json`` anew, for a change of results that is
meant; the commit then explains it.
"""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from convscope.cli.main import run

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results"
PHOTOS = "engine/pictures/photos"
CAT, COFFEE = f"{PHOTOS}/cat.jpg", f"{PHOTOS}/coffee.jpg"
ASCENT = "--steps 3 --size 28 --precision float32 --batch 2"

# name -> the command line; -o and --device are added where the command has them.
COMMANDS = {
    "info": "info lenet",
    "verify": "verify lenet",
    "weights": "weights lenet --layer conv1,conv2 --units 0-3 --save",
    "filters": f"filters lenet --layer conv2 --units 0-2 --strip 2 {ASCENT}",
    "filters-top": f"filters lenet --layer dense2 --units top:2 --preset lucid {ASCENT}",
    "maximize": f"maximize lenet --class 3,7 {ASCENT}",
    "dream": f"dream lenet {CAT} --layer conv2 --steps 3 --size 40 --strip 1",
    "invert": f"invert lenet {CAT} --layer conv1 --steps 3 --gain 2",
    "explain": f"explain lenet {CAT} {COFFEE} --method gradcam,saliency --class top:2 --layer conv2",
    "explain-metrics": f"explain lenet {CAT} --method gradcam,layercam --metrics --box 2,2,20,20",
    "predict": f"predict lenet {PHOTOS}",
    "attack": f"attack lenet {CAT} --pixels 2 --population 8 --steps 3",
    "attack-fgsm": f"attack lenet {CAT} --method fgsm --epsilon 0.05",
    "activations": f"activations lenet {CAT} {COFFEE} --layer conv1,dense2 --units 0-2 --save npz",
    "top": f"top lenet {PHOTOS} --layer conv1,dense2 --units 0-2 -k 2",
    "stats": f"stats lenet {PHOTOS} --layer conv1",
    "export": "export lenet --method layercam --layer relu1,relu2",
    "compare": "compare lenet models/lenet/lenet.onnx --match --pictures 1 --steps 2 --size 28",
}
WITHOUT_FOLDER = ("info", "predict")
_OUT = {"export": "explained.onnx"}  # what -o names in the folder, if it is a file
_WITHOUT_DEVICE = ("info", "verify", "weights", "export")
_VOLATILE = {"command", "versions", "convscope", "torch", "sha256", "graph_sha256"}
_OF_THE_DAY = {
    "checked",
    "date",
    "is_earlier",
    "time_ratio",
}  # when the import was proven, and how busy the machine was
_LONGEST = 24  # entries of a list; of a longer one the first stand for all


def kept(name: str, folder: Path) -> dict[str, Any]:
    """Runs a command in the checkout and returns its exit code, its files, and its JSON object.

    Paths lose what belongs to this machine, floats keep six digits, long lists their beginning; versions and the
    command line go, since they are checked for themselves, and of the day of a check remains that there was one.
    """
    words = [*COMMANDS[name].split(), "--json", "--quiet"]
    if words[0] in _OUT:
        folder.mkdir()
    words += [] if words[0] in WITHOUT_FOLDER else ["-o", str(folder / _OUT.get(words[0], ""))]
    words += [] if words[0] in _WITHOUT_DEVICE else ["--device", "cpu"]
    out = io.StringIO()
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(out):
        code = run(words)
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return {"code": code, "files": files, "result": _plain(json.loads(out.getvalue()), folder)}


def _plain(value: Any, folder: Path) -> Any:
    if isinstance(value, dict):
        found = {
            key: f"its {key}" if key in _OF_THE_DAY and inner is not None else inner for key, inner in value.items()
        }
        return {key: _plain(inner, folder) for key, inner in found.items() if key not in _VOLATILE}
    if isinstance(value, list):
        rest = [f"... {len(value)} in all"] if len(value) > _LONGEST else []
        return [_plain(inner, folder) for inner in value[: _LONGEST if rest else None]] + rest
    if isinstance(value, str):
        return value.replace(str(folder), "OUT").replace(str(ROOT), "ROOT")
    return float(f"{value:.6g}") if isinstance(value, float) else value
