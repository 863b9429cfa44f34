"""One writer at a time, and nothing left of a lock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from convscope.engine.runs.folder import kept, locked
from convscope.errors import UsageError


def test_a_second_run_into_the_folder_is_refused_while_the_first_works(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with locked(out):
        with pytest.raises(UsageError, match="another convscope command is writing into"), locked(out):
            pass
        (out / "kept.txt").write_text("x")
    with locked(out):
        pass
    assert [p.name for p in out.iterdir()] == ["kept.txt"]


def test_another_process_is_refused_too_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    holding = (
        "import os, sys, pathlib; from convscope.engine.runs.folder import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", holding, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    with pytest.raises(UsageError, match="another convscope command"), locked(out):
        pass
    process.kill()
    process.communicate()
    with locked(out):
        pass
    assert not out.exists() or not list(out.iterdir())


def test_parts_of_a_run_work_side_by_side_and_an_empty_folder_goes(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    with locked(out, "-1-of-2"), locked(out, "-2-of-2"):
        pass
    assert not (tmp_path / "a").exists()


def test_a_state_is_saved_now_and_then_and_at_the_end_however_it_ends() -> None:
    saved: list[float] = []
    now = 0.0

    def clock() -> float:
        return now

    def save() -> None:
        nonlocal now
        saved.append(now)
        now += 10  # slow to write: the next save is 90 seconds off

    with pytest.raises(KeyboardInterrupt), kept(save, clock) as tick:
        for moment in (1.0, 21.0, 60.0, 125.0):
            now = moment
            tick()
        raise KeyboardInterrupt
    assert saved == [21.0, 125.0, 135.0]
