"""Hostile files through the real command line: refused in one line, nothing run, nothing written, cheaply."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .hostile_cases import CONTROLS, HARMLESS, HOSTILE, NAMES, Case
from .hostile_runner import Ended, convscope

SECONDS = 10  # of processor time: by the clock a busy machine would fail
PEAK_BYTES = 2**30
Results = dict[str, tuple[Path, Ended]]


def run_all(cases: Mapping[str, Case], root: Path, *arguments: str) -> Results:
    """Every file in a folder and a child of its own, two at a time."""

    def run(item: tuple[int, tuple[str, Case]]) -> tuple[str, tuple[Path, Ended]]:
        number, (name, case) = item
        folder = root / f"{number:03d}"
        (folder / "files").mkdir(parents=True)
        path = case.build(folder / "files")
        return name, (path, convscope(["info", str(path), *case.options, *arguments], folder))

    with ThreadPoolExecutor(2) as pool:
        return dict(pool.map(run, enumerate(cases.items())))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run_all(HOSTILE, tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return run_all(HARMLESS, tmp_path_factory.mktemp("harmless"), "--json", "--no-check")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line_and_leaves_no_trace(name: str, hostile: Results) -> None:
    path, ended = hostile[name]
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


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_twin_loads(name: str, harmless: Results) -> None:
    _, ended = harmless[name]
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["layers"]
    assert ended.appeared == ()


def test_a_whole_import_with_its_check_writes_nothing(tmp_path: Path) -> None:
    """ONNX Runtime would keep a device number and a log of models in the home, and send it."""
    _, ended = run_all({"small.onnx": HARMLESS["small.onnx"]}, tmp_path)["small.onnx"]
    assert (ended.code, ended.appeared) == (0, ())
    assert ended.peak <= PEAK_BYTES


def test_every_hostile_file_has_its_twin() -> None:
    assert {case.twin for case in HOSTILE.values()} <= HARMLESS.keys()
    assert len(HOSTILE) >= 70


@pytest.mark.parametrize("name", CONTROLS)
def test_the_code_in_the_file_runs_once_it_is_trusted(name: str, tmp_path: Path) -> None:
    _, ended = run_all({name: CONTROLS[name]}, tmp_path)[name]
    assert [Path(path).name for path in ended.appeared if path.endswith("canary")] == ["canary"], ended


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_is_whole_in_the_json_and_cannot_reach_the_terminal(
    name: str, harmless: Results, tmp_path: Path
) -> None:
    _, ended = harmless[name]
    assert NAMES[name] in {layer["tensor"] for layer in json.loads(ended.out)["layers"]}
    assert ended.out.replace("\n", "").isascii()
    assert ended.out.replace("\n", "").isprintable()
    assert all(line.isprintable() for line in ended.err.splitlines())
    _, table = run_all({name: HARMLESS[name]}, tmp_path, "--no-check")[name]
    assert table.code == 0
    assert all(line.isprintable() for line in table.out.splitlines())
