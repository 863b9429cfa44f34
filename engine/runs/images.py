"""The pictures of a run: read ahead, in batches, and what becomes of those that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ...errors import RefusedInput
from ..graph.graph import Graph
from ..pictures.given import Source
from ..pictures.read import Picture, model_input, stream
from .events import Note, OnEvent, Skipped


class Failures:
    """The inputs that could not be read; called with each as it is met.

    Attributes:
        rows: ``file`` and ``error`` of each, for the result.
    """

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self.rows: list[dict[str, str]] = []

    def __call__(self, path: Path, error: RefusedInput) -> None:
        self.rows.append({"file": str(path), "error": str(error)})
        self._on_event(Skipped(path, error))

    def refuse_all(self, total: int) -> None:
        """Raises RefusedInput where none of ``total`` inputs could be read."""
        if self.rows and len(self.rows) == total:
            raise RefusedInput(f"none of the {total} images could be read; the first: {self.rows[0]['error']}")


def batches(
    graph: Graph, pictures: Sequence[Source], size: int, failures: Failures, on_event: OnEvent
) -> Iterator[list[tuple[Picture, np.ndarray]]]:
    """(picture, model input (1, C, H, W)) in lists of up to ``size``; unreadable pictures are told and left out.

    Raises:
        RefusedInput: the only picture cannot be read.
    """
    part: list[tuple[Picture, np.ndarray]] = []
    for path, found in stream(pictures, lambda picture: (picture, model_input(picture, graph))):
        if isinstance(found, RefusedInput):
            if len(pictures) == 1:
                raise found
            failures(path, found)
            continue
        for note in (*found[0].notes, *_heard(found[0], graph)):
            on_event(Note(f"note: {path}: {note}"))
        part.append(found)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def _heard(picture: Picture, graph: Graph) -> tuple[str, ...]:
    """What of a sound the model is given, where that is not all."""
    samples, taken = picture.pixels.shape[1], graph.image_size[1]
    if not picture.is_sound or samples == taken:
        return ()
    return (f"the model hears the first {taken:,}" if samples > taken else f"silence follows, up to {taken:,}",)
