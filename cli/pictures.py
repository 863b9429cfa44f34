"""What commands over many pictures share: the pictures that could not be read, and safe names for files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import PartlyDone, RefusedInput
from .common import say

SECONDS_BETWEEN_SAVES = 20.0


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


class Skipped:
    """The pictures that could not be read: said when they are met, counted at the end."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.failed: list[dict[str, str]] = []

    def __call__(self, path: Path, error: RefusedInput) -> None:
        """Says that a picture is skipped, and why."""
        say(f"skipped: {error}", self.quiet)
        self.failed.append({"file": str(path), "error": str(error)})

    def refuse_all(self, total: int) -> None:
        """Raises RefusedInput where no picture of ``total`` could be read."""
        if self.failed and len(self.failed) == total:
            raise RefusedInput(f"none of the {total} images could be read; the first: {self.failed[0]['error']}")

    def finish(self, total: int) -> None:
        """Raises PartlyDone where some pictures could not be read."""
        if self.failed:
            raise PartlyDone(f"{len(self.failed)} of {total} images could not be read; the others are done")


def unique(stem: str, taken: set[str]) -> str:
    """A file name that is not in ``taken`` yet, on any file system; a second one of that name gets a number."""
    safe = "".join(c if c.isalnum() or c in "-_. " else "_" for c in stem).strip(". ")[:80] or "_"
    name, number = safe, 2
    while name.lower() in taken:
        name, number = f"{safe}-{number}", number + 1
    taken.add(name.lower())
    return name
