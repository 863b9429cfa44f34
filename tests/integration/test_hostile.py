"""Hostile files through `convscope.load`, behind its wall: refused in one line, nothing run, nothing written.

`python -m benchmarks.hostile` hands all of them, and all their twins, to the command line, and measures each.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import pytest

from convscope.adapters.load import load
from convscope.engine.pictures.read import read_image
from convscope.errors import RefusedInput

from .hostile_cases import CORPUS, HARMLESS
from .hostile_pairs import Pair
from .hostile_runner import listing

pytestmark = pytest.mark.filterwarnings("default")  # libraries warn of the files that are made here, rightly
EVERY = {f"{group}: {name}": pair for group, pairs in CORPUS.items() for name, pair in pairs.items()}
SHARE = 4  # the tests take one in so many of the long families; the benchmark takes all
_ODD = {case.build for case in HARMLESS.values()}
KILLED = {"ONNX: growth: -2^31 Div -1", "ONNX: growth: -2^31 Mod -1"}  # by the wall: nothing else knows


def _taken(share: int) -> dict[str, Pair]:
    """The first of each kind of file, and one in ``share`` of the rest, by its name."""
    kinds: set[str] = set()
    found = {}
    for name, pair in EVERY.items():
        kind = name.split(" ")[0] + name.split(": ")[1].split(" ")[0]
        if not pair.is_long and (kind not in kinds or zlib.crc32(name.encode()) % share == 0):
            found[name] = pair
        kinds.add(kind)
    return found


def _options(pair: Pair) -> dict[str, Any]:
    """The command line's options as those of `load`."""
    given = dict(zip(pair.options[::2], pair.options[1::2], strict=True))
    side = int(given.get("--image-size", 0))
    return {"arch": given.get("--arch"), "size": (side, side) if side else None}


def _open(name: str, path: Path, pair: Pair, check: bool) -> object:
    if name.startswith("pictures"):
        return read_image(path)
    return load(path, check=check, max_seconds=10, max_memory=1.5, **_options(pair)).layers


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the file is made, which is the working folder too: a canary would be seen there."""
    (tmp_path / "files").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "files"


@pytest.mark.parametrize("name", _taken(SHARE))
def test_a_hostile_file_is_refused_in_one_line_and_leaves_no_trace(name: str, folder: Path) -> None:
    path = EVERY[name].hostile(folder)
    before = listing(folder.parent)
    with pytest.raises(RefusedInput) as caught:
        _open(name, path, EVERY[name], check=True)
    line = str(caught.value)
    assert str(path) in line
    assert line.isprintable()
    assert len(line) < 300 + len(str(path)), line
    assert "has a bug" not in line
    assert "max_seconds=" not in line and "max_memory=" not in line, "the wall had to stop it"
    assert ("ended the process" in line) == (name in KILLED), line
    assert listing(folder.parent) == before


@pytest.mark.parametrize("name", [n for n, pair in _taken(12).items() if pair.harmless not in _ODD])
def test_its_harmless_twin_loads(name: str, folder: Path) -> None:
    pair = EVERY[name]
    assert _open(name, pair.harmless(folder), pair, check=False) is not None


@pytest.mark.parametrize("name", HARMLESS)
def test_what_only_looks_odd_loads(name: str, folder: Path) -> None:
    case = HARMLESS[name]
    assert _open(name, case.build(folder), Pair(case.build, case.build, case.options), check=False)


def test_the_corpus_is_as_large_as_the_page_says() -> None:
    assert len(EVERY) >= 480
    assert sum(name.startswith("Keras") for name in EVERY) >= 210
