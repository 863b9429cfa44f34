"""A first look at a file that nobody has vouched for; `formats` tells by it what the file is."""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import RefusedInput, UsageError
from .foreign import by_mark

MAX_BYTES = 8 * 2**30  # a CNN of this size does not exist; a sparse file of this size does
MAX_DIRECTORY = 2**24  # bytes of the list of a zip archive's members; 100,000 of Torch's take half of it
_HEAD = 4096
_PAGE = re.compile(rb"\s*<[!?A-Za-z]")  # the length of a safetensors header may begin with blanks and a "<" too


class DirectoryReader(io.FileIO):
    """A file of which `zipfile` reads no directory of more than `MAX_DIRECTORY` bytes.

    An entry takes 46 bytes there, and hundreds in memory.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file.

        Raises:
            BadZipFile: the directory is asked for, and is too large.
        """
        if size is not None and size > MAX_DIRECTORY:
            raise zipfile.BadZipFile(f"its directory has {size:,} bytes; at most {MAX_DIRECTORY:,} are read")
        return super().read(size) or b""


@dataclass(frozen=True)
class Look:
    """What a file shows of itself without being read.

    Attributes:
        path: the file.
        head: its first bytes.
    """

    path: Path
    head: bytes

    @cached_property
    def members(self) -> frozenset[str]:
        """Names inside a zip archive; empty where the file is none.

        Raises:
            RefusedInput: the archive is broken.
        """
        if not self.head.startswith(b"PK\x03\x04"):
            return frozenset()
        try:
            with DirectoryReader(self.path) as file, zipfile.ZipFile(file) as archive:
                return frozenset(archive.namelist())
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise RefusedInput(f"{self.path} is a broken zip archive: {str(error)[:120]}") from None

    @cached_property
    def tails(self) -> frozenset[str]:
        """The members' names without their first folder, which Torch names after the file."""
        return frozenset(name.split("/", 1)[-1] for name in self.members)


def look(path: Path) -> Look:
    """A look at a file.

    Raises:
        UsageError: there is no such file.
        RefusedInput: not a regular file, empty, too large, or plainly something else.
    """
    return Look(path, glance(path))


def glance(path: Path) -> bytes:
    """The file's first bytes.

    Raises:
        UsageError, RefusedInput: as `look`, where the first bytes say so.
    """
    head = _read_head(path)
    if head.startswith(b"version https://git-lfs"):
        raise RefusedInput(f"{path} is a git-lfs pointer, not the model; fetch the real file: git lfs pull")
    if (other := by_mark(path, head)) is not None:
        raise RefusedInput(other)
    if _PAGE.match(head) or b"<html" in head[:512].lower():
        raise RefusedInput(f"{path} is an HTML or XML page, not a model; the download probably failed")
    if head.startswith(b"\x1f\x8b"):
        raise RefusedInput(f"{path} is gzip-compressed; unpack it first: gunzip {path.name}")
    return head


def _read_head(path: Path) -> bytes:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise UsageError(f"model file '{path}' does not exist") from None
    except (OSError, ValueError) as error:
        raise RefusedInput(f"model file '{path}' cannot be read: {getattr(error, 'strerror', error)}") from None
    if stat.S_ISDIR(status.st_mode):
        raise RefusedInput(
            f"{path} is a folder; name one model file (TensorFlow SavedModel: convert it with tf2onnx first)"
        )
    if not stat.S_ISREG(status.st_mode):
        raise RefusedInput(f"{path} is not a regular file")
    if status.st_size == 0:
        raise RefusedInput(f"{path} is empty")
    if status.st_size > MAX_BYTES:
        raise RefusedInput(f"{path} has {status.st_size:,} bytes; more than {MAX_BYTES:,} is refused")
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise RefusedInput(f"model file '{path}' cannot be read: {error.strerror}") from None
