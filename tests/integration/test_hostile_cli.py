"""Hostile files through the real command line, one each of eight groups: exit code, output, traces, time and memory."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from .hostile_cases import CONTROLS, CORPUS, HARMLESS, NAMES
from .hostile_runner import PEAK_BYTES, SECONDS, convscope_pair, info

pytestmark = pytest.mark.filterwarnings("default")  # libraries warn of the files that are made here, rightly
CHOSEN = {
    "not a model": "pipe", "external data": "external symlink", "ONNX: bombs": "function bomb 2^31",
    "ONNX: growth": "-2^31 Div -1", "Torch": "pickle in a state dict", "Keras: descriptions": "Keras os.system",
    "Keras: HDF5": "link external", "pictures": "JPEG of 9000 x 9000",
}  # fmt: skip


@pytest.mark.parametrize("group", CHOSEN)
def test_a_hostile_file_is_refused_in_one_line_and_leaves_no_trace(group: str, tmp_path: Path) -> None:
    path, ended = convscope_pair(CORPUS[group][CHOSEN[group]], "hostile", tmp_path)
    assert ended.code == 3, ended
    assert ended.out == ""
    assert re.fullmatch(r"error: [^\n]+\n", ended.err)
    assert ended.err.rstrip("\n").isprintable()
    assert "has a bug" not in ended.err
    assert path.name in ended.err
    assert len(ended.err) < 300 + len(str(path)), ended.err
    assert ended.appeared == ()  # the canary would be there too
    assert ended.seconds <= SECONDS
    assert ended.peak <= PEAK_BYTES


def test_a_whole_import_with_its_check_writes_nothing_but_its_proof(tmp_path: Path) -> None:
    """ONNX Runtime would keep a device number and a log of models in the home, and send it."""
    _, ended = info(HARMLESS["small.onnx"].build, tmp_path)
    files = [Path(path) for path in ended.appeared if Path(path).is_file()]
    assert (ended.code, [file.parent for file in files]) == (0, [tmp_path / "home" / "cache" / "proofs"])
    assert ended.peak <= PEAK_BYTES


@pytest.mark.parametrize("name", CONTROLS)
def test_the_code_in_the_file_runs_once_it_is_trusted(name: str, tmp_path: Path) -> None:
    _, ended = info(CONTROLS[name].build, tmp_path, *CONTROLS[name].options)
    assert [Path(path).name for path in ended.appeared if path.endswith("canary")] == ["canary"], ended


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_is_whole_in_the_json_and_cannot_reach_the_terminal(name: str, tmp_path: Path) -> None:
    _, ended = info(HARMLESS[name].build, tmp_path / "json", "--json", "--no-check")
    assert NAMES[name] in {layer["tensor"] for layer in json.loads(ended.out)["layers"]}
    assert ended.out.replace("\n", "").isascii()
    assert ended.out.replace("\n", "").isprintable()
    assert all(line.isprintable() for line in ended.err.splitlines())
    _, table = info(HARMLESS[name].build, tmp_path / "table", "--no-check")
    assert table.code == 0
    assert all(line.isprintable() for line in table.out.splitlines())
