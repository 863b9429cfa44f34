"""Temporary folders: there while they are used, gone afterwards, and those of killed processes gone with the next."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from convscope.adapters.scratch import scratch

NAME = "convscope-0123456789abcdef"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left(place: Path) -> list[str]:
    with scratch() as own:
        return sorted(path.name for path in place.iterdir() if path != own)


def test_a_folder_is_this_users_alone_and_gone_with_all_that_is_in_it(place: Path) -> None:
    with scratch() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("text")
        with scratch() as second:
            assert second != folder
            assert (folder / "inner" / "file").exists()  # the second did not sweep the first
    assert not list(place.iterdir())


def test_the_folder_of_a_killed_process_is_swept_and_that_of_a_living_one_is_not(place: Path) -> None:
    held = (
        "import sys, tempfile\n"
        "from convscope.adapters.scratch import scratch\n"
        "tempfile.tempdir = sys.argv[1]\n"
        "with scratch() as folder:\n"
        "    print(folder, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", held, str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        folder = Path(child.stdout.readline().strip())
        assert left(place) == [folder.name]
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert folder.exists()
    assert left(place) == []


def test_links_other_names_and_folders_that_others_may_enter_are_left_alone(place: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o700)
    (kept / "precious").write_text("text")
    (place / NAME).symlink_to(kept)
    (place / "convscope-keras-old").mkdir(mode=0o700)
    (place / f"{NAME[:-1]}0").mkdir(mode=0o755)
    (place / f"{NAME[:-1]}1").write_text("a file")
    before = sorted(path.name for path in place.iterdir())
    assert left(place) == before
    assert (kept / "precious").exists()


def test_what_is_a_link_inside_a_left_folder_is_not_followed(place: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("text")
    (place / NAME).mkdir(mode=0o700)
    (place / NAME / "link").symlink_to(tmp_path)
    assert left(place) == ["precious"]
    assert precious.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_another_users_folder_is_left_alone(place: Path) -> None:
    (place / NAME).mkdir(mode=0o700)
    os.chown(place / NAME, 12345, 12345)
    assert left(place) == [NAME]
