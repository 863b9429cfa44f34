"""Arrays from strangers: no pipe is waited for, no shape believed."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest

from convscope.engine.pictures.arrays import read_npy
from convscope.errors import RefusedInput


def _npy(path: Path, shape: tuple[int, ...], kind: str = "<f4") -> None:
    header = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    path.write_bytes(b"\x93NUMPY\x01\0" + struct.pack("<H", len(header) + 1) + header + b"\n")


@pytest.mark.parametrize("kind", ["float32", "int8", "bool", "complex64"])
def test_numbers_come_back_as_they_were_saved(tmp_path: Path, kind: str) -> None:
    values = np.arange(6).reshape(2, 3).astype(kind)
    np.save(tmp_path / "x.npy", values)
    assert read_npy(tmp_path / "x.npy").dtype == kind
    assert np.array_equal(read_npy(tmp_path / "x.npy"), values)


@pytest.mark.parametrize("shape", [(2**40,), (2**62, 2**62), (-1,), (2**31,)])
def test_a_shape_that_the_file_cannot_hold_is_refused_before_it_is_made(tmp_path: Path, shape: tuple[int, ...]) -> None:
    _npy(tmp_path / "x.npy", shape)
    with pytest.raises(RefusedInput, match="more bytes than the file has"):
        read_npy(tmp_path / "x.npy")


def test_pipes_devices_objects_and_damaged_headers_are_refused_in_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    (tmp_path / "zero.npy").symlink_to("/dev/zero")
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object))
    np.savez(tmp_path / "archive.npz", a=np.zeros(3))
    (tmp_path / "deep.npy").write_bytes(b"\x93NUMPY\x01\0" + struct.pack("<H", 9000) + b"(" * 9000)
    os.truncate(tmp_path / "archive.npz", 300)
    for path in [*sorted(tmp_path.iterdir()), tmp_path / "missing.npy"]:
        with pytest.raises(RefusedInput, match=r"is no .npy file of numbers: [^\n]+$"):
            read_npy(path)
