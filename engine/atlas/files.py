"""Where an atlas lives: whole files by relative name, with ``/`` between folders."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from ...errors import ConvscopeError, UsageError
from ..render.artifacts import below, check_folder, create_bytes, read_regular, sweep, temporary_name, write_bytes

# Of a unit's picture and of the page's files damage is found, and they are made again.
_LASTING = ("store/numbers/", "store/fields/", "store/relations/", "store/photographs/", "store/certificate")


class Files(Protocol):
    """A place for files, each written whole or not at all."""

    place: str

    def read(self, name: str) -> bytes:
        """A file's bytes; raises FileNotFoundError where there is none."""

    def write(self, name: str, data: bytes) -> None:
        """Writes a file; one of that name is replaced."""

    def create(self, name: str, data: bytes) -> bool:
        """Writes a file that is not there yet; False where it is. Of many that try, one does it."""

    def written(self, name: str) -> float | None:
        """When a file was written, in seconds by the place's own clock; None where the place cannot tell.

        Raises:
            FileNotFoundError: there is none.
        """

    def now(self) -> float:
        """The time by the same clock."""

    def has(self, name: str) -> bool:
        """Whether there is such a file."""

    def names(self, folder: str = "") -> set[str]:
        """Names of all files below a folder."""

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""

    def tidy(self) -> None:
        """Removes what killed processes left half-written."""

    def check(self) -> None:
        """Raises where nothing can be written."""


class Folder:
    """A local folder, made on the first write.

    Args:
        root: its path.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.place = root, str(root)

    def read(self, name: str) -> bytes:
        """A file's bytes."""
        try:
            return read_regular(self._path(name))
        except FileNotFoundError:
            raise
        except OSError as exc:
            raise ConvscopeError(f"cannot read {self.root / name}: {exc.strerror or exc}") from exc

    def write(self, name: str, data: bytes) -> None:
        """Writes a file, complete under its name or not at all; durably what is built upon and not found damaged."""
        write_bytes(self._own(name), data, durable="/" not in name or name.startswith(_LASTING))

    def create(self, name: str, data: bytes) -> bool:
        """Writes a file that is not there yet."""
        return create_bytes(self._own(name), data)

    def written(self, name: str) -> float | None:
        """When a file was written, by the clock of the disk, which may be another machine's."""
        return self._path(name).stat().st_mtime

    def now(self) -> float:
        """The time by that clock."""
        name = temporary_name()
        try:
            create_bytes(self.root / name, b"")
            return (self.root / name).stat().st_mtime
        finally:
            self.remove(name)

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return self._path(name).is_file()

    def names(self, folder: str = "") -> set[str]:
        """Names of all files below a folder, temporary ones left out."""
        start = os.fspath(self.root / folder)
        there = (one.path for one in below(start) if not one.name.endswith(".part") and not _is_folder(one))
        names = {path[len(start) :].replace(os.sep, "/").lstrip("/") for path in there}
        return {f"{folder}/{name}" for name in names} if folder else names

    def remove(self, name: str) -> None:
        """Removes a file, if it is there."""
        try:
            self._own(name).unlink(missing_ok=True)
        except OSError as exc:
            raise ConvscopeError(f"cannot remove {self.root / name}: {exc.strerror or exc}") from exc

    def tidy(self) -> None:
        """Removes what killed processes of this machine left half-written."""
        sweep(self.root)

    def check(self) -> None:
        """Raises where nothing can be written."""
        check_folder(self.root)

    def _path(self, name: str) -> Path:
        if not is_inside(name):  # names are ours, or were looked at: what is none of ours must not get past either
            raise ConvscopeError(f"{name[:200]!r} is no name of a file in {self.root}")
        return self.root / name

    def _own(self, name: str) -> Path:
        """A path to write to or remove, through no folder that is a link."""
        path, one = self._path(name), self.root
        for part in name.split("/")[:-1]:
            one /= part
            if one.is_symlink():
                raise UsageError(f"{one} is a link, and what it leads to is not written; remove it")
        return path


def is_inside(name: str) -> bool:
    """Whether a name in somebody's list stays in the folder, on every system; those that we write are ASCII."""
    parts = name.split("/")
    return name.isascii() and name.isprintable() and not {"", ".", ".."} & {*parts} and not {":", "\\"} & {*name}


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one; a file's kind is known without asking the system again."""
    return Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()


def opened(place: str | os.PathLike[str] | Files) -> Files:
    """The files at a path, or at an address with a scheme (``s3://bucket/atlas``).

    Raises:
        UsageError: the address needs a package that is not installed.
    """
    if not isinstance(place, (str, os.PathLike)):
        return place
    if "://" in str(place):
        from .cloud import Cloud

        return Cloud(str(place))
    return Folder(Path(place))
