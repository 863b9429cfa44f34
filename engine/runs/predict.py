"""``predict``: what the model says about pictures, in the form that its outputs have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..attribution.batch import Batch, Executors
from ..graph.graph import Graph
from ..outputs.registry import find_decoder
from ..pictures.given import sources
from ..pictures.read import Picture
from ..record import Record, write
from ..render.answers import drawn_answer
from ..render.artifacts import save_png
from .events import ImageDone, Note, OnEvent, Progress, ignore
from .folder import locked, unique
from .images import Failures, batches
from .preprocessings import answers
from .preprocessings import in_words as preprocessings_in_words
from .reading import compared, in_words, outputs_record, vector_of
from .result import Result


@dataclass(frozen=True)
class Options:
    """How to predict.

    Attributes:
        top: how many classes or masks of each picture, best first; boxes and characters are all reported.
        batch: pictures per pass.
        device: "auto", "cpu" or "cuda[:n]".
        like: for embeddings: a vector, a ``.npy`` file or a picture file to compare with.
        decoder: how to read the outputs where the default is wrong, see `outputs.DECODERS`.
        output: read this output alone.
    """

    top: int = 3
    batch: int = 16
    device: str = "auto"
    like: Any = None
    decoder: str | None = None
    output: str | None = None

    def check(self) -> None:
        """Raises UsageError for a decoder that there is none of."""
        if self.decoder is not None:
            find_decoder(self.decoder)


def run(
    graph: Graph,
    images: Any,
    options: Options | None = None,
    folder: Path | None = None,
    *,
    command: str | None = None,
    on_event: OnEvent = ignore,
) -> Result:
    """What the outputs say: classes, boxes, masks, text, vectors; ``content["images"]`` in the order of the pictures.

    ``content["outputs"]`` says how the outputs were read, and why. docs/outputs.md has every form's fields. Where
    nobody states the preprocessing, ``content["usual_preprocessings"]`` has the first picture's best class under each.

    Args:
        graph: from `convscope.load`.
        images: pictures, as for `given.sources`: files, folders, arrays, tensors, or a list of these.
        options: default the three best classes.
        folder: writes ``result.json`` there, and each picture with its boxes, masks or points; None writes nothing.
        command: what the record says made it.
        on_event: told of every picture as it is known, and of pictures left out.

    Raises:
        UsageError: there is no such picture, decoder or output. RefusedInput: none of the pictures could be read.
    """
    options = options or Options()
    options.check()
    pictures, _ = sources(images, graph.channels)
    failures = Failures(on_event)
    rows: list[dict[str, Any]] = []
    trials: list[dict[str, Any]] = []
    names: set[str] = set()
    with locked(folder):
        executors = Executors(
            graph, device=options.device, batch=options.batch, decoder=options.decoder, output=options.output
        )
        reading = executors.reading
        like = None if options.like is None else vector_of(executors, options.like)
        on_event(Progress("predicting", 0, len(pictures), "images"))
        size = 1 if executors.one_at_a_time(reading.axes) else options.batch
        for part in batches(graph, pictures, size, failures, on_event):
            if not rows:  # not before a picture has been read: a refusal is one line
                on_event(Note(reading.in_words()))
                if trials := answers(executors, part[0][0]):
                    on_event(Note(preprocessings_in_words(trials, Path(part[0][0].path).name)))
            batch = Batch(executors, np.concatenate([x for _, x in part]))
            for (picture, _), values in zip(part, batch.rows(reading), strict=True):
                answer = reading.answer(values, top=options.top)
                row: dict[str, Any] = {"file": picture.path, **answer.to_json()}
                compared(row, answer, like)
                if folder is not None:
                    _draw(graph, answer, picture, folder, names, row)
                rows.append(row)
                on_event(ImageDone(row, in_words(row, answer.text())))
            on_event(Progress("predicting", len(rows) + len(failures.rows), len(pictures), "images"))
        failures.refuse_all(len(pictures))
        found = {"outputs": outputs_record(reading), "images": rows}
        if trials:
            found["usual_preprocessings"] = trials
        content = Record.of(graph, command).to_json(found, failures.rows)
        if folder is not None:
            write(folder, content)
    return Result(content)


def _draw(graph: Graph, answer: Any, picture: Picture, folder: Path, names: set[str], row: dict[str, Any]) -> None:
    """Writes the picture with what was found on it, where the answer has places."""
    drawn = drawn_answer(graph, answer, picture.pixels)
    if drawn is not None:
        name = f"{unique(Path(picture.path).stem, names)}.png"
        save_png(folder / name, drawn)
        row["drawn"] = name
