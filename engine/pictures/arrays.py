"""Arrays in ``.npy`` and ``.npz`` files that nobody has vouched for."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ...errors import RefusedInput

_MOST_BYTES = 2**30
_MOST_OF_CONTENTS = 2**16  # bytes of an archive's list of contents
_END = 22 + 2**16  # an archive's last record, and its comment


def read_npy(path: str | os.PathLike[str]) -> np.ndarray:
    """The numbers in an ``.npy`` file.

    Raises:
        RefusedInput: no regular file, no numbers, more than 1 GiB, or fewer bytes than its shape needs.
    """
    try:
        values = load_npy(Path(path))
        if values.dtype.kind not in "biufc":
            raise ValueError(f"values of the type {str(values.dtype)[:40]}")
        return values
    except Exception as error:  # NumPy reads a header with Python's own tokenizer and parser
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise RefusedInput(f"{path} is no .npy file of numbers: {reason.splitlines()[0][:120]}") from None


def load_npy(path: Path) -> np.ndarray:
    """The array in an ``.npy`` file, of which nothing is allocated before the file is found to hold it.

    Raises:
        Exception: of whatever type NumPy's reader has; ValueError for what is no regular file or too large.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # whoever opens a pipe waits for its writer
        raise ValueError("not a regular file")
    if status.st_size > _MOST_BYTES:
        raise ValueError(f"more than {_MOST_BYTES:,} bytes")
    with path.open("rb") as file:
        _check_header(file, status.st_size)
    return np.asarray(np.load(path, allow_pickle=False))


def load_npz(path: Path, most: int) -> np.ndarray:
    """The one array in an ``.npz`` file.

    Args:
        path: a regular file of no more than a few hundred MiB.
        most: bytes that the array may have.

    Raises:
        Exception: of whatever type the readers have; ValueError for none or several arrays, or one that is too large.
    """
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _END, 0))
        end = file.read()
        last = end.rfind(b"PK\5\6")
        if last < 0 or b"PK\6\7" in end or int.from_bytes(end[last + 12 : last + 16], "little") > _MOST_OF_CONTENTS:
            raise ValueError("not a zip archive of one array")
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if len(names) != 1:
                raise ValueError(f"it holds {len(names)} arrays ({', '.join(names[:3])}, ...); save the one in a file")
            if archive.infolist()[0].file_size > most:
                raise ValueError(f"more than {most:,} bytes")
            data = archive.read(names[0])
    _check_header(io.BytesIO(data), len(data))
    return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))


def _check_header(file: BinaryIO, size: int) -> None:
    """Raises ValueError where an array's shape needs more bytes than there are."""
    is_first = np.lib.format.read_magic(file) == (1, 0)
    read_header = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if min(shape, default=0) < 0 or prod(shape) * dtype.itemsize > size:
        raise ValueError(f"its shape {shape[:8]} needs more bytes than the file has")
