"""Temporary folders of our own: a process that is killed leaves one at most until the next one makes its own.

Each is locked, by the system, for as long as a process lives that made it or was forked with it. One that nobody holds
is a dead process's and is removed. So no number of a process, which another may have by then, has to be trusted.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import ConvscopeError

_NAME = re.compile("convscope-[0-9a-f]{16}")


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder that only this user can look into, removed when the block ends, with all that is in it."""
    try:
        place = Path(tempfile.gettempdir())
        _sweep(place)
        folder, lock = _made(place)
    except OSError as exc:
        raise ConvscopeError(
            f"no temporary folder can be made ({exc.strerror or exc}); free some space, or name another place in TMPDIR"
        ) from exc
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _made(place: Path) -> tuple[Path, int | None]:
    """A new folder and what holds its lock."""
    while True:
        folder = place / f"convscope-{secrets.token_hex(8)}"
        folder.mkdir(mode=0o700)
        try:
            lock = _locked(folder)
        except BlockingIOError:  # another process sweeps it away
            continue
        if lock is None or os.path.lexists(folder):
            return folder, lock
        os.close(lock)  # another process has


def _sweep(place: Path) -> None:
    """Removes what dead processes of this user left."""
    with suppress(OSError), os.scandir(place) as entries:
        for entry in [one for one in entries if _NAME.fullmatch(one.name)]:
            with suppress(BlockingIOError):
                lock = _locked(Path(entry.path))
                if lock is not None:
                    shutil.rmtree(entry.path, ignore_errors=True)  # it follows no link
                    os.close(lock)


def _locked(folder: Path) -> int | None:
    """The lock of a folder of this user's alone; None where there is none to be had, as for want of such locks.

    Raises:
        BlockingIOError: another process has it.
    """
    try:
        import fcntl

        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except (ImportError, AttributeError, OSError):
        return None
    try:
        status = os.fstat(lock)
        if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == 0o700:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
    except BlockingIOError:
        os.close(lock)
        raise
    except OSError:  # a network drive without locks
        pass
    os.close(lock)
    return None
