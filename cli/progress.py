"""What a run tells, on stderr: a bar with rate and time left on a terminal, else one plain line every 30 seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from ..engine.runs.events import Event, ImageDone, Note, OnEvent, Preview, Progress, Skipped
from .output import clean, in_flags, say
from .terminal import drawing, is_terminal

SECONDS_BETWEEN_LINES = 30.0
SKIPPED_LINES = 100  # a line each; of a folder of a million broken files the number says enough


@contextmanager
def drawn(
    quiet: bool = False,
    *,
    live: bool = False,
    show: Callable[[str], None] = say,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[OnEvent]:
    """What to hand to a run as ``on_event``: notes are lines, progress is a bar or now and then a line.

    Args:
        quiet: show nothing.
        live: on a terminal show the pictures so far instead of a bar.
        show: called with the line of every finished picture, also when quiet.
        clock: seconds; for tests.
    """
    display: _Display = _Lines(clock)
    if not quiet and is_terminal():
        display = _Pictures() if live else _Bar()

    skipped = 0

    def on_event(event: Event) -> None:
        nonlocal skipped
        if isinstance(event, ImageDone) and event.text:
            show(f"{event.row['file']}: {event.text}")
        if quiet:
            return
        if isinstance(event, Note):
            say(in_flags(event.text))
        elif isinstance(event, Skipped):
            skipped += 1
            if skipped <= SKIPPED_LINES:
                say(f"skipped: {in_flags(str(event.error))}")
        elif isinstance(event, Progress):
            display.show(event)
        elif isinstance(event, Preview):
            display.preview(event)

    try:
        yield on_event
    finally:
        display.close()
        if skipped > SKIPPED_LINES:
            say(f"skipped: {skipped - SKIPPED_LINES:,} more, {skipped:,} in all")


class _Display:
    """Shows nothing; each kind of display shows what it can."""

    def show(self, progress: Progress) -> None:
        """Shows how far the work is."""

    def preview(self, preview: Preview) -> None:
        """Shows what the work has made so far."""

    def close(self) -> None:
        """Leaves the terminal as it should stay."""


class _Lines(_Display):
    """Plain lines for logs and pipes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._stage: str | None = None
        self._started = self._spoke = self._before = 0.0

    def show(self, progress: Progress) -> None:
        now = self._clock()
        if progress.stage != self._stage:
            self._stage, self._started, self._spoke = progress.stage, now, now
            self._before = progress.done + progress.ahead  # done by an earlier run: no measure of the speed
        elif now - self._spoke >= SECONDS_BETWEEN_LINES:
            self._spoke = now
            print(self._line(progress, now - self._started), file=sys.stderr, flush=True)

    def _line(self, progress: Progress, elapsed: float) -> str:
        reached = progress.done + progress.ahead
        rate = (reached - self._before) / elapsed if elapsed > 0 else 0.0
        parts = [progress.count, f"{rate:.3g}/s"]
        if progress.total is not None and rate > 0:
            parts.append(f"{timedelta(seconds=round((progress.total - reached) / rate))} left")
        return clean(f"{progress.stage}: {', '.join(parts + [progress.detail] * bool(progress.detail))}")


class _Bar(_Display):
    """A line per stage that is redrawn in place."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._stage: str | None = None
        self._task: Any = None

    def show(self, progress: Progress) -> None:
        if self._bar is None:
            self._bar = _rich_bar()
            self._bar.start()
        shown = {"count": progress.count, "detail": clean(progress.detail)}
        if progress.stage != self._stage:
            self._stage = progress.stage
            self._task = self._bar.add_task(clean(progress.stage), total=progress.total, **shown)
        self._bar.update(self._task, completed=progress.done + progress.ahead, **shown)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()


class _Pictures(_Display):
    """The pictures so far, in place of a bar."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._view = Live(console=Console(stderr=True), auto_refresh=False)
        self._view.start()

    def preview(self, preview: Preview) -> None:
        self._view.update(drawing(preview.draw(), self._view.console), refresh=True)

    def close(self) -> None:
        self._view.stop()


def _rich_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Any) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.3g}/s" if speed else "", style="progress.data.speed")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}", markup=False),
        Rate(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    return RichProgress(*columns, console=Console(stderr=True))
