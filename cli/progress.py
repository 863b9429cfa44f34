"""Progress on stderr: a bar with rate and time left on a terminal, else one plain line every 30 seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

SECONDS_BETWEEN_LINES = 30.0


class Progress(Protocol):
    """What `progress` yields."""

    def advance(self, n: float = 1, **fields: Any) -> None:
        """``n`` more are done, also a part of one; ``fields`` (``failed=2``) are shown behind the rate."""

    def describe(self, text: str) -> None:
        """Replaces the description."""


@contextmanager
def progress(
    total: int | None,
    description: str,
    quiet: bool = False,
    *,
    unit: str = "",
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Progress]:
    """Shows how far a job is, for the length of a ``with`` block.

    Args:
        total: how many steps there are, or None where that is unknown.
        description: what is being done.
        quiet: show nothing.
        unit: what is counted, for instance "units" or "images".
        clock: seconds; for tests.
    """
    if quiet:
        yield _Silent()
    elif is_terminal():
        with _bar(total, description, unit) as shown:
            yield shown
    else:
        yield _Lines(total, description, unit, clock)


def is_terminal() -> bool:
    """Whether stderr is a terminal that can redraw a line."""
    import os

    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def duration(seconds: float) -> str:
    """Seconds as ``0:07``, ``12:30`` or ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _whole(done: float) -> int:
    """How many are finished, where sums of thirds may be a rounding error short of the last."""
    return int(done + 1e-6)


class _Silent:
    def advance(self, n: float = 1, **fields: Any) -> None:
        pass

    def describe(self, text: str) -> None:
        pass


class _Lines:
    """Plain lines for logs and pipes."""

    def __init__(self, total: int | None, description: str, unit: str, clock: Callable[[], float]) -> None:
        self._total, self._description, self._unit, self._clock = total, description, unit, clock
        self._started = self._spoke = clock()
        self._done = 0.0

    def advance(self, n: float = 1, **fields: Any) -> None:
        self._done += n
        now = self._clock()
        if now - self._spoke >= SECONDS_BETWEEN_LINES:
            self._spoke = now
            print(self._line(now - self._started, fields), file=sys.stderr, flush=True)

    def describe(self, text: str) -> None:
        self._description = text

    def _line(self, elapsed: float, fields: dict[str, Any]) -> str:
        from .common import clean

        rate = self._done / elapsed if elapsed > 0 else 0.0
        of = f"/{self._total}" if self._total is not None else ""
        parts = [f"{_whole(self._done)}{of} {self._unit}".rstrip(), f"{rate:.3g}/s"]
        if self._total is not None and rate > 0:
            parts.append(f"{duration((self._total - self._done) / rate)} left")
        parts += [f"{name} {value}" for name, value in fields.items()]
        return clean(f"{self._description}: {', '.join(parts)}")


class _Bar:
    def __init__(self, bar: Any, task: Any) -> None:
        self._bar, self._task = bar, task
        self._done = 0.0

    def advance(self, n: float = 1, **fields: Any) -> None:
        from .common import clean

        shown = clean(" ".join(f"{name} {value}" for name, value in fields.items()))
        self._done += n
        self._bar.update(self._task, completed=round(self._done, 6), extra=shown)

    def describe(self, text: str) -> None:
        from .common import clean

        self._bar.update(self._task, description=clean(text))


@contextmanager
def _bar(total: int | None, description: str, unit: str) -> Iterator[_Bar]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    from .common import clean

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.3g} {unit or 'steps'}/s" if speed else "", style="progress.data.speed")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[extra]}", markup=False),
    )
    with RichProgress(*columns, console=Console(stderr=True)) as bar:
        yield _Bar(bar, bar.add_task(clean(description), total=total, extra=""))
