"""Two processes never write into one folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from convscope.engine.locks import locked
from convscope.errors import UsageError

_HOLD = """
import sys
from convscope.engine.locks import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""

_SHARD = """
import sys
from pathlib import Path
from convscope.engine.runs.top import _held
with _held(Path(sys.argv[1]), (1, 2)):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock until it is killed or its stdin closed."""
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", _HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    return child


def test_a_folder_that_another_process_writes_into_is_refused_by_name(tmp_path: Path) -> None:
    child = hold(tmp_path / "out")
    try:
        with pytest.raises(UsageError, match=r"another convscope is writing into .*out"), locked(tmp_path / "out"):
            pass
    finally:
        child.kill()
        child.communicate()
    with locked(tmp_path / "out"):  # a lock dies with its process
        pass


def test_one_process_may_lock_a_folder_twice(tmp_path: Path) -> None:
    with locked(tmp_path), locked(tmp_path / "."):
        pass
    hold(tmp_path).communicate("")  # and both are gone


def test_a_lock_leaves_nothing_behind_but_what_was_written(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert not list(tmp_path.iterdir())
    with locked(tmp_path / "a"):
        (tmp_path / "a" / "file").touch()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["file"]


def test_shards_write_into_one_folder_together_and_no_shard_runs_twice(tmp_path: Path) -> None:
    from convscope.engine.runs.top import _held

    child = subprocess.Popen(
        [sys.executable, "-P", "-c", _SHARD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        with _held(tmp_path, (2, 2)):
            pass
        for shard in ((1, 2), None):  # the same again; and the run that merges while one is at work
            with pytest.raises(UsageError, match="another convscope is writing into"), _held(tmp_path, shard):
                pass
    finally:
        child.communicate("")
    with _held(tmp_path, None):
        assert not list((tmp_path / "state").iterdir() if (tmp_path / "state").exists() else ())
