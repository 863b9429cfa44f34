"""Closed and full standard streams, and libraries that print into them."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="shells of POSIX")


def _shell(words: str, streams: str) -> subprocess.CompletedProcess[str]:
    command = f'exec "{sys.executable}" -P -m convscope.cli.main {words} {streams}'
    return subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=120, check=False)


def _tiff(compression: int, samples: int) -> bytes:
    """A TIFF of 30 x 40 pixels whose data are zeros."""
    tags = {256: 30, 257: 40, 258: 8, 259: compression, 262: 1, 273: 122, 277: samples, 278: 40, 279: 1200}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4 + 1200)


@pytest.mark.parametrize(
    ("compression", "samples", "printed"), [(34925, 1, "LZMADecode"), (1, 65535, "More samples per pixel")]
)
def test_what_libraries_print_of_a_damaged_picture_is_shown_with_debug_alone(
    compression: int, samples: int, printed: str, tmp_path: Path
) -> None:
    (tmp_path / "x.tif").write_bytes(_tiff(compression, samples))
    ended = _shell(f"predict lenet '{tmp_path / 'x.tif'}'", "")
    assert ended.returncode == 3
    assert ended.stderr.count("\n") == 1
    assert printed not in ended.stderr
    assert printed in _shell(f"--debug predict lenet '{tmp_path / 'x.tif'}'", "").stderr


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", "2>&-", "2>/dev/full"])
def test_nobody_to_read_the_messages_changes_no_exit_code(closed: str) -> None:
    ended = _shell("predict lenet nowhere.png", closed)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", "")


def test_a_full_standard_output_is_one_line_and_a_closed_one_is_no_error() -> None:
    full = _shell("--version", "> /dev/full")
    assert (full.returncode, full.stderr) == (1, "error: standard output: No space left on device\n")
    closed = _shell("--version", ">&-")
    assert (closed.returncode, closed.stderr) == (0, "")
