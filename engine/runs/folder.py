"""The folder of a run: one writer at a time, names that every file system takes, a state that is kept on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import locks
from ..render.artifacts import check_folder, sweep

SECONDS_BETWEEN_SAVES = 20.0


@contextmanager
def locked(folder: Path | None, shared: bool = False) -> Iterator[None]:
    """Holds a folder for one run, or a ``shared`` one with others, see `locks.locked`; without a folder it is nothing.

    What a killed run left in it half written is removed.

    Raises:
        UsageError: another process is writing there. ConvscopeError: the folder cannot be written.
    """
    if folder is None:
        yield
        return
    check_folder(folder)
    with locks.locked(folder, shared):
        sweep(folder, everywhere=False)
        yield


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
