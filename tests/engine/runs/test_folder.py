"""One writer at a time, and nothing left of a lock."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from convscope.engine.pictures.photographs import FOLDER
from convscope.engine.runs.folder import kept, locked
from convscope.errors import ConvscopeError

CAT = FOLDER / "cat.jpg"


def test_another_process_is_refused_while_the_run_works_and_an_empty_folder_goes(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    command = [sys.executable, "-P", "-m", "convscope.cli.main", "explain", "lenet", str(CAT), "--no-check"]
    with locked(out):
        done = subprocess.run([*command, "-o", str(out)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert "another convscope is writing into" in done.stderr
    assert not (tmp_path / "a").exists()


def test_a_folder_that_cannot_be_written_is_said_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConvscopeError, match="cannot write"), locked(tmp_path / "file" / "out"):
        pass


def test_a_state_is_saved_now_and_then_and_at_the_end_however_it_ends() -> None:
    saved: list[float] = []
    now = 0.0

    def clock() -> float:
        return now

    def save() -> None:
        nonlocal now
        saved.append(now)
        now += 10  # slow to write: the next save is 90 seconds off

    with pytest.raises(KeyboardInterrupt), kept(save, clock) as tick:  # noqa: PT012 - it is raised half-way
        for moment in (1.0, 21.0, 60.0, 125.0):
            now = moment
            tick()
        raise KeyboardInterrupt
    assert saved == [21.0, 125.0, 135.0]
