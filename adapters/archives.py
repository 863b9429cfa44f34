"""Looking into a zip archive that nobody has vouched for, before anything of it is unpacked.

Keras and Torch model files are zip archives. What a zip's directory claims is checked here against the file:
names, sizes, ratios, duplicates. Nothing is ever written to disk; members are read under a bound.
"""

from __future__ import annotations

import stat
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ..errors import RefusedInput, UnsafeFile
from .sniff import DirectoryReader

MAX_MEMBERS = 100_000
MAX_RATIO = 100  # deflate reaches 1000:1 on zeros; weights stay below 2:1, JSON below 30:1
MAX_TEXT = 64 * 2**20  # a config of this size does not exist
_FREE_RATIO_BYTES = 2**20  # below this the ratio does not matter


@dataclass(frozen=True)
class Archive:
    """A checked zip: where it is, and its members' sizes after unpacking by name."""

    path: Path
    members: dict[str, int]

    @cached_property
    def _opened(self) -> zipfile.ZipFile:
        """Opened once: every time the whole directory is read."""
        return zipfile.ZipFile(self.path)

    def read(self, name: str, limit: int = MAX_TEXT) -> bytes:
        """One member's bytes, at most ``limit`` of them.

        Raises:
            RefusedInput: it is missing, larger than ``limit`` or damaged.
        """
        if name not in self.members:
            raise RefusedInput(f"{self.path} has no member '{name}'")
        if self.members[name] > limit:
            raise UnsafeFile(f"{self.path}: member '{name}' unpacks to {self.members[name]:,} bytes; limit {limit:,}")
        try:
            with self._opened.open(name) as member:
                data = member.read(limit + 1)
        except (zipfile.BadZipFile, OSError, RuntimeError, EOFError, ValueError, NotImplementedError) as error:
            raise RefusedInput(f"{self.path}: member '{name[:80]}' is damaged: {str(error)[:120]}") from None
        if len(data) != self.members[name]:  # the directory lied
            raise UnsafeFile(f"{self.path}: member '{name}' does not have the size that it states")
        return data


def inspect_zip(path: Path, *, stored: bool = False) -> Archive:
    """Checks a zip's directory without unpacking anything.

    Args:
        path: the file.
        stored: demand that no member is compressed, as in Torch files.

    Raises:
        UnsafeFile: a bomb, an absolute or climbing name, a link, a duplicate, an encrypted member.
        RefusedInput: not a zip archive, or a damaged one.
    """
    try:
        with DirectoryReader(path) as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise RefusedInput(f"{path} is a broken zip archive: {str(error)[:120]}") from None
    if len(entries) > MAX_MEMBERS:
        raise UnsafeFile(f"{path} has {len(entries):,} members; at most {MAX_MEMBERS:,} are read")
    members: dict[str, int] = {}
    for entry in entries:
        _check_entry(entry, path, stored)
        if entry.filename in members:
            raise UnsafeFile(f"{path} has the member {entry.filename[:80]!r} twice")
        members[entry.filename] = entry.file_size
    _check_total(entries, path)
    return Archive(path, members)


def _check_entry(entry: zipfile.ZipInfo, path: Path, stored: bool) -> None:
    shown = repr(entry.filename[:80])
    parts = entry.filename.replace("\\", "/").split("/")
    if entry.filename.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in entry.orig_filename:
        raise UnsafeFile(f"{path} has a member outside its folder: {shown}")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise UnsafeFile(f"{path} has a symbolic link inside: {shown}")
    if entry.flag_bits & 0x1:
        raise UnsafeFile(f"{path} has an encrypted member: {shown}")
    if stored and entry.compress_type != zipfile.ZIP_STORED:
        raise UnsafeFile(f"{path} has a compressed member {shown}; torch writes none, so the file was altered")
    if entry.file_size > _FREE_RATIO_BYTES and entry.file_size > MAX_RATIO * max(entry.compress_size, 1):
        raise UnsafeFile(
            f"{path}: member {shown} unpacks from {entry.compress_size:,} to {entry.file_size:,} bytes (a zip bomb)"
        )


def _check_total(entries: list[zipfile.ZipInfo], path: Path) -> None:
    """Overlapping members let a small file unpack to a large one though each ratio is harmless."""
    packed = sum(entry.compress_size for entry in entries)
    if packed > path.stat().st_size:
        raise UnsafeFile(f"{path}: its members claim {packed:,} bytes, more than the file has (a zip bomb)")
