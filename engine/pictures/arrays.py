"""Arrays in ``.npy`` files that nobody has vouched for."""

from __future__ import annotations

import os
import stat
from math import prod
from pathlib import Path

import numpy as np

from ...errors import RefusedInput

_MOST_BYTES = 2**30


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
        is_first = np.lib.format.read_magic(file) == (1, 0)
        read_header = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
    if min(shape, default=0) < 0 or prod(shape) * dtype.itemsize > status.st_size:
        raise ValueError(f"its shape {shape[:8]} needs more bytes than the file has")
    return np.asarray(np.load(path, allow_pickle=False))
