"""One writer at a time, and nothing left of a lock."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from convscope.engine.pictures.photographs import FOLDER
from convscope.engine.render.artifacts import temporary_name
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


def test_what_a_killed_run_left_half_written_goes_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    script = "from convscope.engine.render.artifacts import temporary_name; print(temporary_name())"
    dead, gathered = (
        subprocess.check_output([sys.executable, "-P", "-c", script], text=True).strip() for _ in range(2)
    )
    kept = [tmp_path / temporary_name(), tmp_path / ".mine.part", tmp_path / "a" / "note.part"]
    (tmp_path / "a").mkdir()
    for path in (tmp_path / dead, tmp_path / "a" / dead, *kept):
        path.write_bytes(b"half")
    (tmp_path / gathered).mkdir()
    (tmp_path / gathered / "0").write_bytes(b"half")
    with locked(tmp_path):
        assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
        assert not (tmp_path / gathered).exists()


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limit on file sizes here")
def test_an_array_that_does_not_fit_on_the_disk_is_a_line_of_our_own(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys, numpy; from convscope.engine.render.artifacts import save_npy;"
        "from convscope.errors import ConvscopeError; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: save_npy(sys.argv[1], numpy.zeros(10**5))\n"
        "except ConvscopeError as error: print(error)"
    )
    path = tmp_path / "a.npy"
    said = subprocess.check_output([sys.executable, "-P", "-c", script, str(path)], text=True, timeout=120)
    assert str(path) in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())
