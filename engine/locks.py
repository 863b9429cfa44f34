"""One process at a time in a folder that keeps state: two of them would write over each other's lists.

The lock is on the folder itself, by the system, so that it leaves no file and ends with the process, however that
ends. A process may lock a folder again that it has locked: the second lock holds nothing more.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import UsageError

_HELD: dict[tuple[int, int], int] = {}  # device and number of the folder -> how often this process has locked it


@contextmanager
def locked(folder: str | os.PathLike[str], shared: bool = False) -> Iterator[None]:
    """While it is open, no other process of convscope can lock the folder, which is made where it is missing.

    ``shared`` locks exclude only those that are not.

    Where the system has no such locks (Windows, some network drives) nothing is locked.

    Raises:
        UsageError: another process has it.
        OSError: it cannot be made or opened.
    """
    folder = Path(folder)
    missing = [one for one in (folder, *folder.parents) if not os.path.lexists(one)]
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = _open_folder(folder)
    key = _key(folder)
    try:
        if descriptor is not None and key not in _HELD:
            _lock(descriptor, folder, shared)
        _HELD[key] = _HELD.get(key, 0) + 1
        try:
            yield
        finally:
            _HELD[key] -= 1
            if not _HELD[key]:
                del _HELD[key]
    finally:
        if descriptor is not None:
            os.close(descriptor)
        for one in missing:
            with suppress(OSError):  # what was written into it stays
                one.rmdir()


def check_no_link(folder: Path) -> None:
    """Refuses a folder that lies behind a link inside a folder that this process has locked.

    A folder that somebody sends may hold one, and what is written through it would lie elsewhere.

    Raises:
        UsageError: naming the link.
    """
    link = found = None
    for one in (folder, *folder.parents) if _HELD else ():
        try:
            if _key(one) in _HELD:
                found = link
        except OSError:  # not made yet
            continue
        if one.is_symlink():
            link = one
    if found is not None:
        raise UsageError(f"{found} is a link, and what it leads to is not written; remove it")


def _key(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _open_folder(folder: Path) -> int | None:
    directory = getattr(os, "O_DIRECTORY", None)
    return None if directory is None else os.open(folder, os.O_RDONLY | directory)


def _lock(descriptor: int, folder: Path, shared: bool) -> None:
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"another convscope is writing into {folder}; wait for it, or choose another folder") from None
    except OSError:  # a network drive without locks
        return
