"""What a run tells while it works. The command line draws it, a notebook may, and by default nobody listens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from ...errors import RefusedInput


@dataclass(frozen=True)
class Progress:
    """How far one stage of the work is.

    Attributes:
        stage: what is being done; another one begins when it changes.
        done: how many are finished.
        total: of how many, or None where that is unknown.
        unit: what is counted: "images", "units", ...
        ahead: work on further ones, in parts of one: enough to estimate the time left, finished only in ``done``.
        detail: what else there is to say, for instance ``step 12/256``.
    """

    stage: str
    done: int
    total: int | None
    unit: str = ""
    ahead: float = 0.0
    detail: str = ""

    @property
    def count(self) -> str:
        """``3/10 units``, or ``3 units`` where the total is unknown."""
        return f"{self.done}{'' if self.total is None else f'/{self.total}'} {self.unit}".rstrip()


@dataclass(frozen=True)
class Note:
    """A sentence for the reader."""

    text: str


@dataclass(frozen=True)
class Skipped:
    """An input that cannot be read and is left out."""

    path: Path
    error: RefusedInput


@dataclass(frozen=True)
class ImageDone:
    """One image's part of the result, as soon as it is known.

    Attributes:
        row: of the result.
        text: the same in a line for people, where the run has one.
    """

    row: dict[str, Any]
    text: str = ""


@dataclass(frozen=True)
class Preview:
    """The work so far can be seen: ``draw`` gives it as a picture (H, W, C)."""

    draw: Callable[[], np.ndarray]


Event = Progress | Note | Skipped | ImageDone | Preview
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Does nothing: nobody listens."""
