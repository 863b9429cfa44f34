"""``predict``: what the model says about pictures, in the form that its outputs have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..attribution.batch import Batch, Executors
from ..executors.devices import check_device
from ..graph.graph import Graph
from ..outputs.reading import Answer, Question
from ..outputs.registry import find_decoder
from ..pages.answers import PAGE_IMAGES, PREDICT_PIXELS, answer_entry, answers_page
from ..pictures.given import sources
from ..pictures.read import Picture
from ..record import Record, write
from ..render.answers import drawn_answer
from ..render.artifacts import save_png, unique, write_text
from ..whole import keep_whole
from .events import ImageDone, Note, OnEvent, Progress, ignore
from .folder import locked
from .images import Failures, batches
from .opening import Model, opened
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
        check_device(self.device)
        if self.decoder is not None:
            find_decoder(self.decoder)
        keep_whole(self, top=0, batch=1)


def run(
    model: Model,
    images: Any,
    options: Options | None = None,
    folder: Path | None = None,
    *,
    command: str | None = None,
    on_event: OnEvent = ignore,
) -> Result:
    """What the outputs say: classes, boxes, masks, text, vectors; ``content["images"]`` in the order of the pictures.

    ``content["outputs"]`` says how the outputs were read, and why. docs/outputs.md has every form's fields. Where
    nobody states the preprocessing, ``content["usual_preprocessings"]`` has the first picture's answer under each.

    Args:
        model: from `convscope.load`, or what opens it.
        images: pictures, as for `given.sources`: files, folders, arrays, tensors, or a list of these.
        options: default the three best classes.
        folder: writes ``result.json`` and ``index.html`` there, and each picture with its boxes, masks, points or
            characters; None writes nothing.
        command: what the record says made it.
        on_event: told of every picture as it is known, and of pictures left out.

    Raises:
        UsageError: there is no such picture, decoder or output. RefusedInput: none of the pictures could be read.
    """
    options = options or Options()
    options.check()
    graph = opened(model, folder, on_event, images)
    pictures, _ = sources(images, graph.channels)
    failures = Failures(on_event)
    rows: list[dict[str, Any]] = []
    trials: list[dict[str, Any]] = []
    shown = None if folder is None else _Shown(graph, folder)
    with locked(folder):
        executors = Executors(
            graph, device=options.device, batch=options.batch, decoder=options.decoder, output=options.output
        )
        reading = executors.reading
        like = None if options.like is None else vector_of(executors, options.like)
        reading.check(Question(like=like))
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
                words = in_words(row, answer.text())
                if (doubt := _no_numbers(graph, values)) is not None:
                    on_event(Note(f"{picture.path}: {doubt}"))
                if shown is not None:
                    shown.add(picture, answer, row, words)
                rows.append(row)
                on_event(ImageDone(row, words))
            on_event(Progress("predicting", len(rows) + len(failures.rows), len(pictures), "images"))
        failures.refuse_all(len(pictures))
        found = {"outputs": outputs_record(reading), "images": rows}
        if trials:
            found["usual_preprocessings"] = trials
        content = Record.of(graph, command).to_json(found, failures.rows)
        page = None if shown is None else shown.write(content, on_event)
        return Result(content, page, seen=len(pictures))


def _no_numbers(graph: Graph, values: Mapping[str, Any]) -> str | None:
    """What to say of an answer that holds NaN; None where it does not."""
    if not any(np.isnan(value).any() for value in values.values() if np.asarray(value).dtype.kind == "f"):
        return None
    told = "what the model gives is not a number (NaN)"
    zeros = [name for name, value in graph.given.items() if not np.any(value)]
    if not zeros:
        return told
    listed = ", ".join(f"inputs['{name[:80]}']=VALUE" for name in zeros[:3])
    return f"{told}; an input that is taken as zeros may be why: {listed}"


class _Shown:
    """The pictures of one run in its folder, and its page."""

    def __init__(self, graph: Graph, folder: Path) -> None:
        self._graph, self._folder = graph, folder
        self._names: set[str] = set()
        self._entries: list[dict[str, Any]] = []

    def add(self, picture: Picture, answer: Answer, row: dict[str, Any], words: str) -> None:
        """Writes the picture with what was found on it, where the answer has places, and keeps it for the page."""
        seen = drawn_answer(self._graph, answer, picture.pixels)
        path = Path(picture.path)
        if seen is not None:
            row["drawn"] = f"{unique(path.stem, self._names)}.png"
            save_png(self._folder / row["drawn"], seen)
        if len(self._entries) < PAGE_IMAGES:
            entry = answer_entry(self._graph, path.name, picture.pixels, seen, answer, words, longest=PREDICT_PIXELS)
            self._entries.append(entry)

    def write(self, content: Mapping[str, Any], on_event: OnEvent) -> Path:
        """Writes the result and the page; returns the page."""
        write(self._folder, content)
        if (total := len(content["images"])) > PAGE_IMAGES:
            on_event(Note(f"the page shows the first {PAGE_IMAGES} images; result.json lists all {total}"))
        return write_text(self._folder / "index.html", answers_page(self._graph, self._entries, content))
