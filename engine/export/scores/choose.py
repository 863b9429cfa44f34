"""From a question to the score that a file can hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ....errors import UsageError
from ...attribution.batch import Batch, Executors
from ...attribution.targets import as_question, direct
from ...graph.graph import Graph
from ...graph.labels import class_name
from ...graph.operators import operator
from ...outputs.boxes import DetectionReading
from ...outputs.classes import ClassReading
from ...outputs.entries import movers
from ...outputs.masks import MapReading, region_weights
from ...outputs.pictures import PictureReading
from ...outputs.reading import Question, Reading
from ...outputs.reads import SIDES
from ...outputs.registry import read_outputs
from ...outputs.selection import ScoreList
from ...outputs.sequences import SequenceReading
from ...outputs.specs import class_index, least_probability, top_count
from ...outputs.target import Target
from ...outputs.vectors import EmbeddingReading, ValueReading
from .base import Score
from .boxes import BOX_INPUT, BoxScore
from .chosen import ListedBoxScore
from .classes import CLASS_INPUT, ClassScore, SideScore
from .fixed import FixedScore
from .lines import CHARACTER_INPUT, LineScore
from .regions import MaskScore


def score_of(graph: Graph, target: Any = None, decoder: str | None = None, output: str | None = None) -> Score:
    """The number that a file explains.

    Args:
        graph: the model.
        target: as for `explain`: a class, ``unit:...``, ``output:...``, a `Target` or a `Question`; None for what the
            file's own inputs ask for.
        decoder: how the outputs are read, as for `read_outputs`.
        output: that is read alone.

    Raises:
        UsageError: the question is about one picture alone, or does not fit the outputs.
    """
    question = one_question(target)
    if callable(question.target):
        raise UsageError("a Python function cannot be written into a file; give a target by name, or a Target")
    known = direct(graph, question)
    if known is not None:
        return _fixed(known[0])
    for name, spec in (("target", question.target), *((("box", question.box),) if question.box is not None else ())):
        several = name == "target" and (top_count(spec) is not None or least_probability(spec) is not None)
        if several or name == "box":
            said = f"box={spec} is a box of one picture" if name == "box" else f"target '{spec}' is not one number"
            raise UsageError(f"{said}; the exported file is told which one when it runs")
    reading = read_outputs(graph, decoder, output)
    reading.check(question)
    for kind, rule in _RULES:
        if isinstance(reading, kind):
            return rule(reading, question)
    return _stored(reading, question)


def one_question(target: Any) -> Question:
    """The question of an exported file: a list of one target is that target.

    Raises:
        UsageError: a list of more, or of none.
    """
    question = as_question(target)
    if not isinstance(question.target, (list, tuple, np.ndarray)):
        return question
    if len(given := np.ravel(question.target) if isinstance(question.target, np.ndarray) else question.target) != 1:
        raise UsageError(f"{len(given)} targets are given; an exported file explains one")
    return replace(question, target=given[0])


def _fixed(target: Target, reading: Reading | None = None) -> FixedScore:
    head = target.tensors if reading is None else reading.head
    return FixedScore(tensors=target.tensors, head=head, reading=reading, target=target)


def _stored(reading: Reading, question: Question) -> FixedScore:
    """A target that is the same for every picture, as the reading makes it for the probe."""
    found = reading.targets(_probe(reading), question)
    return _fixed(found[0], reading)


def _probe(reading: Reading) -> dict[str, np.ndarray]:
    """The outputs of a picture of noise, without the batch axis."""
    graph = reading.graph
    noise = np.random.default_rng(0).random((1, graph.channels, *graph.image_size), dtype=np.float32)
    executors = Executors(graph, device="cpu")
    return Batch(executors, graph.preprocessing.normalize(noise).astype(np.float32)).rows(reading)[0]


def _class(reading: ClassReading, question: Question) -> Score:
    tensor = reading.tensor
    if reading.kind == "share":
        if question.target is None:
            raise UsageError(
                f"{reading.graph.name} gives the probability of yes alone, without its logit; say which side: class=1"
            )
        return _stored(reading, question)
    if reading.kind == "sigmoid":
        if question.against is not None:
            raise UsageError(f"against=: {reading.graph.name} has one class, there is none to contrast with")
        named = _stored(reading, question).target if question.target is not None else None
        return SideScore(
            tensors=(tensor,), head=reading.head, reading=reading, asks="sides",
            inputs=() if named else (CLASS_INPUT,),
            index=None if named is None else int(named.sign > 0), label=named.name if named else None,
        )  # fmt: skip
    return _classes(reading, question, tensor, int(np.size(_probe(reading)[tensor])))


def _classes(
    reading: Reading, question: Question, tensor: str, count: int, region: np.ndarray | None = None
) -> ClassScore:
    graph = reading.graph
    index = None if question.target is None else class_index(graph, question.target, count)
    others = _others(graph, question, count)
    if index is not None and not isinstance(others, int) and index in others:
        raise UsageError(f"against= names class {index} itself; name another, or top:3")
    return ClassScore(
        tensors=(tensor,), head=reading.head, reading=reading, asks="classes",
        inputs=(CLASS_INPUT,) if index is None else (), question=replace(question, target=None), count=count,
        index=index, label=None if index is None else class_name(graph, index), others=others, region=region,
    )  # fmt: skip


def _others(graph: Graph, question: Question, count: int) -> tuple[int, ...] | int:
    """The class that is named, or how many of the nearest."""
    if question.against is None:
        return ()
    top = top_count(question.against)
    if count < 2:
        raise UsageError(f"against=: {graph.name} has one class, there is none to contrast with")
    return top if top is not None else (class_index(graph, question.against, count),)


def _map(reading: MapReading, question: Question) -> Score:
    """Classes of a segmentation, or one mask; a stored region in the place of what is predicted."""
    rows = _probe(reading)
    shape = np.shape(rows[reading.tensor])[-2:]
    region = region_weights(question, shape, reading.graph.image_size)
    if not reading.binary:
        maps = _classes(reading, question, reading.tensor, np.shape(rows[reading.tensor])[0], region)
        return replace(maps, level=reading.level) if reading.independent else maps
    found = MapReading.targets(reading, rows, question)[0]  # refuses a class that there is not
    if region is not None:
        return _fixed(found, reading)
    return MaskScore(tensors=(reading.tensor,), head=reading.head, reading=reading, background=found.sign < 0)


def _line(reading: SequenceReading, question: Question) -> Score:
    if question.target is not None:
        raise UsageError(
            f"target '{question.target}' is a character of one line; the exported file is given the number of a "
            "character when it runs"
        )
    return LineScore(
        tensors=(reading.tensor,), head=reading.head, reading=reading, inputs=(CHARACTER_INPUT,), asks="characters"
    )


def _values(reading: ValueReading, question: Question) -> Score:
    count = int(np.size(_probe(reading)[reading.tensor]))
    if count > 1 and question.to is None:
        return _classes(reading, question, reading.tensor, count)
    if count > 1 and question.target is None:
        raise UsageError(f"to=: {reading.graph.name} gives {count} values; name one with target=")
    return _stored(reading, question)


def _boxes(reading: DetectionReading, question: Question) -> Score:
    table, listed = reading.scores, reading.chosen
    if question.region is not None or question.mask is not None:
        raise UsageError("region= and mask= mean nothing for the boxes of an exported file")
    if listed is not None:
        return _listed(reading, question, listed)
    if table is None or reading.score is None:
        raise UsageError(
            f"{reading.graph.name} is read as {reading.reason}: its scores are no one table that passes a gradient on, "
            "so no box can be asked for; name a target: unit:LAYER:UNIT or output:NAME:INDEX"
        )
    of = "score" if question.of == "class" else question.of
    if of != "score" and (of not in SIDES or reading.table is None):
        raise UsageError(f"of={question.of} cannot be written into a file; it takes score, {', '.join(SIDES)}")
    sides = reading.table if of != "score" else None
    index = None if question.target is None else class_index(reading.graph, question.target, table.classes)
    several = table.classes > 1 and index is None
    straight = _sigmoids(reading.graph, [table.tensor]) if table.probability and not table.log_odds else frozenset()
    return BoxScore(
        tensors=tuple(dict.fromkeys((table.tensor, *((sides.tensor,) if sides else ())))), head=reading.head,
        reading=reading, inputs=(BOX_INPUT, CLASS_INPUT) if several else (BOX_INPUT,), asks="boxes", table=table,
        straight=straight, of=of, index=index, others=_others(reading.graph, question, table.classes),
        sides=sides,
    )  # fmt: skip


def _listed(reading: DetectionReading, question: Question, chosen: ScoreList) -> Score:
    for name, asked in (("of", question.of not in ("score", "class")), ("against", question.against is not None)):
        if asked:
            raise UsageError(
                f"{name}=: the boxes of {reading.graph.name} are chosen in the file, one score each; leave it out"
            )
    index = None if question.target is None else class_index(reading.graph, question.target, reading.classes)
    inputs = (BOX_INPUT, CLASS_INPUT) if chosen.labels is not None and index is None else (BOX_INPUT,)
    return ListedBoxScore(
        tensors=chosen.origin.tensors, head=reading.head, reading=reading, inputs=inputs, asks="boxes", chosen=chosen,
        index=index, straight=_sigmoids(reading.graph, chosen.origin.tensors),
    )  # fmt: skip


def _sigmoids(graph: Graph, tensors: Sequence[str]) -> frozenset[str]:
    """Outputs of the sigmoids whose values only move to some tensors."""
    made = [graph.index.producer.get(name) for tensor in tensors for name in movers(graph, tensor)]
    return frozenset(node.output[0] for node in made if node is not None and operator(node).head == "sigmoid")


_RULES: tuple[tuple[type[Reading], Any], ...] = (
    (PictureReading, _stored),
    (ClassReading, _class),
    (MapReading, _map),
    (SequenceReading, _line),
    (DetectionReading, _boxes),
    (ValueReading, _values),
    (EmbeddingReading, _stored),
)
