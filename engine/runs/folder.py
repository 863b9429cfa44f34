"""The folder of a run: one writer at a time, names that every file system takes, a state that is kept on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...errors import UsageError
from ..render.artifacts import check_folder

SECONDS_BETWEEN_SAVES = 20.0


@contextmanager
def locked(folder: Path | None, part: str = "") -> Iterator[None]:
    """Holds a folder for one run: a second one that comes meanwhile is refused.

    The lock is the operating system's, so a killed process leaves none behind. Without a folder it is nothing.

    Args:
        folder: made where it is not there, and removed where nothing was written.
        part: runs of different parts may work in one folder side by side, for instance shards.

    Raises:
        UsageError: another command is writing there. ConvscopeError: the folder cannot be written.
    """
    if folder is None:
        yield
        return
    from filelock import FileLock, Timeout

    check_folder(folder)
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".convscope{part}.lock"
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(
            f"another convscope command is writing into {folder}; wait for it, or choose another folder with -o"
        ) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: who waits for it takes a new one
        lock.release()
        for one in missing:
            with suppress(OSError):  # not empty: something was written
                one.rmdir()


@contextmanager
def kept(save: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> Iterator[Callable[[], None]]:
    """Yields what to call after each batch; it saves now and then, and at the end, however the block ends.

    A state that takes long to write is written less often, so that saving takes a tenth of the time at most.
    """
    due = clock() + SECONDS_BETWEEN_SAVES

    def tick() -> None:
        nonlocal due
        started = clock()
        if started >= due:
            save()
            due = clock() + max(SECONDS_BETWEEN_SAVES, 9 * (clock() - started))

    try:
        yield tick
    finally:
        save()


def unique(stem: str, taken: set[str]) -> str:
    """A file name that is not in ``taken`` yet, on any file system; a second one of that name gets a number."""
    safe = "".join(c if c.isalnum() or c in "-_. " else "_" for c in stem).strip(". ")[:80] or "_"
    name, number = safe, 2
    while name.lower() in taken:
        name, number = f"{safe}-{number}", number + 1
    taken.add(name.lower())
    return name
