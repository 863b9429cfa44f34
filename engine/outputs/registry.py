"""The table of decoders: what an output may be, in the order in which it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from ...errors import UsageError
from ..graph.graph import Graph
from . import chosen, classes, craft, faces, listed, masks, pictures, queries, sequences, vectors, yolo
from .facts import Facts
from .reading import Answer, Question, Reading
from .reads import Rows
from .target import Target


@dataclass(frozen=True)
class Decoder:
    """One way to read outputs.

    Attributes:
        name: what ``--decoder`` takes.
        form: of its readings, see `reading.Reading`.
        summary: the outputs that it reads, for people.
        read: (facts, forced) -> the reading, or None where the outputs are not of that kind. Forced, it asks only for
            what it cannot do without.
    """

    name: str
    form: str
    summary: str
    read: Callable[[Facts, bool], Reading | None]


# Boxes before lines of text and vectors: their shapes are the more particular ones.
DECODERS: tuple[Decoder, ...] = (
    Decoder("mtcnn", "detection", "four offsets and two probabilities, maps or one crop", faces.mtcnn),
    Decoder("chosen", "detection", "boxes, scores and labels in lists of their own", chosen.chosen_boxes),
    Decoder("end-to-end", "detection", "a row of corners, score and class a box", listed.end_to_end),
    Decoder("rtdetr", "detection", "(N, Q, 4 + K) in [0, 1]", queries.rtdetr_table),
    Decoder("detr", "detection", "(N, Q, 4) in [0, 1] and (N, Q, K)", queries.detr),
    Decoder("ssd", "detection", "(N, A, 4) and (N, A, K), to be thinned out", queries.ssd),
    Decoder("yolov8", "detection", "(N, 4 + K, A), also with mask coefficients", yolo.yolov8),
    Decoder("yolox", "detection", "(N, A, 5 + K) in cells", yolo.yolox),
    Decoder("yolov5", "detection", "(N, A, 5 + K) in pixels", yolo.yolov5),
    Decoder("craft", "text regions", "(N, 2, h, w), characters and links", craft.craft),
    Decoder("db", "text regions", "(N, 1, h, w) probability of text", masks.text_map),
    Decoder("image", "image", "(N, 3 or 1, h, w), a picture", pictures.picture),
    Decoder("mask", "segmentation", "(N, 1, h, w), one mask", masks.mask),
    Decoder("segmentation", "segmentation", "(N, K, h, w), classes of every position", masks.segmentation),
    Decoder("ctc", "text", "(N, T, K) or (T, N, K) with a blank", sequences.ctc),
    Decoder("steps", "text", "(N, L, K), a symbol each", sequences.steps),
    Decoder("landmarks", "landmarks", "(N, 2 P) or (N, P, 2)", vectors.landmarks),
    Decoder("sigmoid", "classification", "(N, 1), yes or no", classes.sigmoid),
    Decoder("sigmoids", "labels", "(N, K), independent labels", classes.sigmoids),
    Decoder("softmax", "classification", "(N, K), one of K classes", classes.softmax),
    Decoder("embedding", "embedding", "(N, D), a vector", vectors.embedding),
    Decoder("regression", "regression", "(N, K), values", vectors.regression),
    Decoder("values", "unknown", "(N, K), numbers of unknown meaning", vectors.numbers),
)

_KNOWN: WeakKeyDictionary[Graph, dict[tuple[str | None, str | None], Reading]] = WeakKeyDictionary()


def read_outputs(graph: Graph, decoder: str | None = None, output: str | None = None, device: str = "cpu") -> Reading:
    """What the graph's outputs mean, told from metadata, names, shapes and ranges.

    Args:
        graph: the model.
        decoder: overrules: a name of `DECODERS`.
        output: look at this output alone.
        device: where a probe runs, if one is needed.

    Returns:
        The reading; ``reading.reason`` says why. The same for a graph every time.

    Raises:
        UsageError: no such decoder or output, or the outputs cannot be read so.
    """
    known = _KNOWN.setdefault(graph, {})
    key = decoder, output
    if key not in known:
        known[key] = _read(graph, decoder, output, device)
    return known[key]


def _read(graph: Graph, decoder: str | None, output: str | None, device: str) -> Reading:
    names = [spec.name for spec in graph.outputs]
    if output is not None and output not in names:
        raise UsageError(f"output '{output}' is not in {graph.name}; it has {', '.join(names)}")
    facts = Facts(graph, output, device)
    if decoder is not None:
        chosen_one = find_decoder(decoder)
        found = chosen_one.read(facts, True)
        if found is None:
            shapes = "; ".join(f"'{name}' {facts.source_shape(name)}" for name in facts.names)
            raise UsageError(f"decoder={decoder} reads {chosen_one.summary}; {graph.name} gives {shapes}")
        return found
    for row in DECODERS:
        found = row.read(facts, False)
        if found is not None:
            return found
    return unknown(facts)


def find_decoder(name: str) -> Decoder:
    """The decoder of that name.

    Raises:
        UsageError: there is none; the closest ones are in the message.
    """
    names = [row.name for row in DECODERS]
    if name not in names:
        close = get_close_matches(name, names, n=3, cutoff=0.4)
        hint = f"closest: {', '.join(close)}; " if close else ""
        raise UsageError(f"decoder='{name}' is unknown; {hint}all: {', '.join(names)}")
    return DECODERS[names.index(name)]


@dataclass(frozen=True, eq=False)
class Shapes(Answer):
    """Outputs of which nothing is known.

    Attributes:
        outputs: (name, shape, least, largest) of each.
    """

    outputs: tuple[tuple[str, tuple[int, ...], float, float], ...]

    def to_json(self) -> dict[str, Any]:
        return {"outputs": [{"name": n, "shape": list(s), "min": low, "max": high} for n, s, low, high in self.outputs]}

    def text(self) -> str:
        return "; ".join(f"{n} {s}: {low:.4g} to {high:.4g}" for n, s, low, high in self.outputs)


@dataclass(frozen=True, eq=False)
class UnknownReading(Reading):
    """Nothing is assumed: shapes and ranges are reported, and a target has to be named."""

    def answer(self, rows: Rows, *, top: int = 3) -> Shapes:
        found = []
        for name in self.tensors:
            value = np.asarray(rows[name])
            ends = (float(value.min()), float(value.max())) if value.size else (0.0, 0.0)
            found.append((name, value.shape, *ends))
        return Shapes(tuple(found))

    def targets(self, rows: Rows, question: Question) -> list[Target]:
        names = ", ".join(f"'{name}' {np.asarray(rows[name]).shape}" for name in self.tensors)
        raise UsageError(
            f"what the outputs of {self.graph.name} mean is not known ({names}); name a target: unit:LAYER:UNIT or "
            "output:NAME:INDEX, or say how to read them: decoder=NAME"
        )


def unknown(facts: Facts) -> UnknownReading:
    """For outputs that no decoder takes."""
    names = tuple(facts.names)
    axes = {}
    for name in names:
        shape = facts.shape(name)
        axes[name] = 0 if shape and shape[0] == 1 else 1 if len(shape) > 1 and shape[1] == 1 else None
    shown = "; ".join(f"'{name}' {facts.source_shape(name)}" for name in names)
    return UnknownReading(facts.graph, "unknown", "unknown", f"outputs of unknown meaning: {shown}", names, names, axes)
