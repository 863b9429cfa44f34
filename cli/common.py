"""What the commands that have no run yet still share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..engine.graph.units import Units, parse_units
from ..engine.runs.events import OnEvent, Progress
from .loading import loading_options, open_model
from .options import (
    LARGEST_SIZE,
    BatchOption,
    DeviceOption,
    ForceOption,
    ImagesArgument,
    JsonOption,
    LayerOption,
    ModelArgument,
    OutOption,
    QuietOption,
    SeedOption,
    SizeOption,
    UnitsOption,
    parse_size,
)
from .output import clean, command_line, emit, emit_json, fail, say
from .progress import drawn

__all__ = [
    "LARGEST_SIZE",
    "BatchOption",
    "DeviceOption",
    "ForceOption",
    "ImagesArgument",
    "JsonOption",
    "LayerOption",
    "ModelArgument",
    "OutOption",
    "QuietOption",
    "SeedOption",
    "SizeOption",
    "Units",
    "UnitsOption",
    "clean",
    "command_line",
    "emit",
    "emit_json",
    "fail",
    "loading_options",
    "open_model",
    "parse_size",
    "parse_units",
    "progress",
    "say",
]


class Counter:
    """What `progress` yields."""

    def __init__(self, total: int | None, stage: str, unit: str, on_event: OnEvent) -> None:
        self._total, self._stage, self._unit, self._on_event = total, stage, unit, on_event
        self._done = 0.0

    def advance(self, n: float = 1, **fields: Any) -> None:
        """``n`` more are done."""
        self._done += n
        done = int(self._done + 1e-6)
        detail = ", ".join(f"{name} {value}" for name, value in fields.items())
        self._on_event(Progress(self._stage, done, self._total, self._unit, max(self._done - done, 0.0), detail))


@contextmanager
def progress(total: int | None, description: str, quiet: bool = False, *, unit: str = "") -> Iterator[Counter]:
    """Shows how far a job is, for the length of a ``with`` block."""
    with drawn(quiet) as on_event:
        on_event(Progress(description, 0, total, unit))
        yield Counter(total, description, unit, on_event)
