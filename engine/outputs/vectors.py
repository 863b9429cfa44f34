"""Vectors that are no classes: embeddings, regressions, landmarks, and numbers of which nothing is known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import UsageError
from ..graph.labels import class_name
from .classes import others
from .facts import Facts
from .lengths import before_unit_length
from .reading import Answer, Question, Reading
from .reads import Channel, Cosine, Distance, Entry, Read, Rows
from .specs import check_no_probability, class_index, is_all, top_count
from .target import Target

_POINT = re.compile(r"point (?P<point>[0-9]+)(?: (?P<side>[xy]))?")
_FEATURES = frozenset({"GlobalAveragePool", "ReduceMean", "GlobalMaxPool", "LayerNormalization", "BatchNormalization"})


@dataclass(frozen=True, eq=False)
class Values(Answer):
    """Numbers with names.

    Attributes:
        values: (name, number) pairs.
    """

    values: tuple[tuple[str, float], ...]

    def to_json(self) -> dict[str, Any]:
        return {"values": [{"index": i, "name": n, "value": v} for i, (n, v) in enumerate(self.values)]}

    def text(self) -> str:
        shown = ", ".join(f"{name} {value:.4g}" for name, value in self.values[:12])
        return shown + (f", ... ({len(self.values)} values)" if len(self.values) > 12 else "")

    def rows(self) -> list[tuple[str, float | None, str]]:
        return [(name, None, f"{value:.4g}") for name, value in self.values]


@dataclass(frozen=True, eq=False)
class Embedding(Answer):
    """A vector that stands for the picture.

    Attributes:
        vector: (D,) float32, as the file gives it.
        norm: its length, before the file's own normalization where it has one.
    """

    vector: np.ndarray
    norm: float

    def to_json(self) -> dict[str, Any]:
        return {"embedding": [float(v) for v in self.vector], "norm": self.norm}

    def text(self) -> str:
        return f"an embedding of {len(self.vector)} numbers, norm {self.norm:.4g}"

    def similarity(self, other: np.ndarray) -> float:
        """The cosine with another vector.

        Raises:
            UsageError: it has another number of values.
        """
        if other.size != self.vector.size:
            raise UsageError(f"like= has {other.size} numbers, but the embedding has {self.vector.size}")
        length = float(np.linalg.norm(self.vector) * np.linalg.norm(other))
        return float(self.vector @ other.reshape(-1)) / length if length else 0.0


@dataclass(frozen=True, eq=False)
class EmbeddingReading(Reading):
    """A vector that is compared with other pictures' vectors.

    Attributes:
        tensor: the vector before a final normalization, whose direction is the output's.
        output: the vector as the file gives it.
    """

    tensor: str = field(kw_only=True)
    output: str = field(kw_only=True)

    accepts = frozenset({"like"})
    alternatives = (frozenset({"like", "target"}),)

    def answer(self, rows: Rows, *, top: int = 3) -> Embedding:
        vector, before = (np.asarray(rows[name], np.float32).reshape(-1) for name in (self.output, self.tensor))
        return Embedding(vector, float(np.linalg.norm(before)))

    def targets(self, rows: Rows, question: Question) -> list[Target]:
        self.check(question)
        vector = np.asarray(rows[self.tensor]).reshape(-1)
        if question.like is not None:
            like = np.asarray(question.like, np.float32).reshape(-1)
            if like.size != vector.size:
                raise UsageError(
                    f"like= has {like.size} numbers, but the embedding of {self.graph.name} has {vector.size}"
                )
            return [Target(Cosine(self.tensor, like), "similarity", quantity="cosine to the other picture's vector")]
        if question.target is not None:
            row = rows[self.tensor]
            return [
                Target(_one(self.tensor, i, np.shape(row)), f"number {i}", quantity="number of the vector")
                for i in _chosen(self, row, question.target, [f"number {i}" for i in range(vector.size)])
            ]
        nothing = np.zeros(vector.size, np.float32)
        return [
            Target(
                Distance(self.tensor, nothing), "norm (squared)", sign=-1.0, quantity="square of the vector's length"
            )
        ]


@dataclass(frozen=True, eq=False)
class ValueReading(Reading):
    """Numbers, each with its own meaning.

    Attributes:
        tensor: of the numbers.
        kind: "value" or "point"; for names.
        scale: (horizontal, vertical) factors that make pixels of a landmark's numbers.
        centred: whether the numbers count from the middle of the picture.
        apart: whether the numbers are all x and then all y, and not x and y in turn.
    """

    tensor: str = field(kw_only=True)
    kind: str = field(kw_only=True, default="value")
    scale: tuple[float, float] = field(kw_only=True, default=(1.0, 1.0))
    centred: bool = field(kw_only=True, default=False)
    apart: bool = field(kw_only=True, default=False)

    accepts = frozenset({"to", "against", "box"})
    alternatives = (frozenset({"to", "against"}), frozenset({"box", "target"}))

    def answer(self, rows: Rows, *, top: int = 3) -> Answer:
        vector = np.asarray(rows[self.tensor], np.float64).reshape(-1)
        if self.kind == "point":
            pairs = (vector.reshape(2, -1).T if self.apart else vector.reshape(-1, 2)) + self.centred
            pairs = pairs * np.asarray(self.scale)
            return Points(tuple((float(x), float(y)) for x, y in pairs))
        names = [self._name(i, len(vector)) for i in range(len(vector))]
        return Values(tuple(zip(names, vector.tolist(), strict=True)))

    def _name(self, index: int, count: int) -> str:
        if self.kind == "point":
            point, side = (index % (count // 2), index // (count // 2)) if self.apart else divmod(index, 2)
            return f"point {point + 1} {'xy'[side]}"
        if self.graph.labels is not None and len(self.graph.labels) == count:
            return class_name(self.graph, index)
        return "value" if count == 1 else f"value {index}"

    def targets(self, rows: Rows, question: Question) -> list[Target]:
        self.check(question)
        row = rows[self.tensor]
        if question.box is not None and self.kind != "point":
            raise UsageError(f"box= is a point's number; {self.graph.name} gives values, name one with target=")
        every = [self._name(i, np.size(row)) for i in range(np.size(row))]
        chosen = self._points(row, question) if self.kind == "point" else _chosen(self, row, question.target, every)
        names = [every[i] for i in chosen]
        axis = self.axes.get(self.tensor, 0)
        if question.to is None:
            vector = np.asarray(row).reshape(-1)
            return [
                Target(
                    _one(self.tensor, i, np.shape(row), axis),
                    n,
                    quantity=f"{'coordinate' if self.kind == 'point' else 'value'} as the file gives it",
                    against=() if question.against is None else tuple(
                        Target(_one(self.tensor, other, np.shape(row), axis), self._name(other, len(vector)))
                        for other in others(self.graph, vector, i, question.against)
                    ),
                )
                for i, n in zip(chosen, names, strict=True)
            ]  # fmt: skip
        wanted = np.asarray([question.to], np.float32)
        return [
            Target(
                Distance(self.tensor, wanted, i, batch_axis=axis),
                f"{n}, distance to {question.to:g}",
                quantity=f"minus the squared distance to {question.to:g}",
            )
            for i, n in zip(chosen, names, strict=True)
        ]

    def _points(self, row: Any, question: Question) -> list[int]:
        """Numbers of the points that are asked about: x and y of each; the first ones where none is named."""
        count = np.size(row) // 2
        match = _POINT.fullmatch(str(question.target).strip()) if question.target is not None else None
        number = int(match["point"]) if match else question.box
        if number is None:
            top, everyone = top_count(question.target), is_all(question.target)
            if question.target is not None and top is None and not everyone:
                return _chosen(self, row, question.target, ())
            many = top or (count if everyone else question.count)
            return [self._place(point, side, count) for point in range(min(many, count)) for side in range(2)]
        if not 1 <= number <= count:
            raise UsageError(f"point {number} is not there: {self.graph.name} gives {count} points")
        side = match["side"] if match else None
        return [self._place(number - 1, i, count) for i, name in enumerate("xy") if side in (None, name)]

    def _place(self, point: int, side: int, count: int) -> int:
        """Where a point's x (0) or y (1) stands among the numbers."""
        return side * count + point if self.apart else 2 * point + side


@dataclass(frozen=True, eq=False)
class Points(Answer):
    """Landmarks (x, y) in pixels of the model's input."""

    points: tuple[tuple[float, float], ...]

    def to_json(self) -> dict[str, Any]:
        return {"points": [[round(x, 2), round(y, 2)] for x, y in self.points]}

    def text(self) -> str:
        return f"{len(self.points)} points: " + "; ".join(f"{x:.0f},{y:.0f}" for x, y in self.points[:12])


def embedding(facts: Facts, forced: bool = False) -> EmbeddingReading | None:
    """(N, D): a vector of unit length, of pooled features, or named so."""
    found = _vector(facts, flat=False)
    if found is None or found[1] < 2:
        return None
    name, count = found
    raw = before_unit_length(facts.graph.index, name)
    why = "divided by its own length" if raw else "pooled features" if _is_pooled(facts, name) else None
    if facts.named(name, "embed", "feature", "descriptor"):
        why = f"an output named '{name}'"
    if not forced and (why is None or facts.head(name) is not None):
        return None
    tensor = raw or name
    reason = f"an embedding of {count} numbers ({why or 'as asked'})"
    return EmbeddingReading(
        facts.graph, "embedding", "embedding", reason, tuple(dict.fromkeys((tensor, name))), (tensor,), tensor=tensor,
        output=name,
    )  # fmt: skip


def landmarks(facts: Facts, forced: bool = False) -> ValueReading | None:
    """(N, 2 P), (N, P, 2) or (N, 2, P): points, by name."""
    name = next((n for n in facts.names if facts.named(n, "landmark", "keypoint", "kpt", "kps")), None)
    name = name or (facts.names[0] if forced else None)
    if name is None or not facts.is_float(name):
        return None
    shape = facts.shape(name)
    if len(shape) not in (2, 3) or int(np.prod(shape[1:])) % 2 or (len(shape) == 3 and 2 not in shape[1:]):
        return None
    low, high = facts.range(name)
    share = not (low < -0.5 or high > 1.5)
    centred = not share and max(-low, high) <= 1.5  # no landmarks in pixels lie so near to one another
    height, width = facts.size
    order = _order_of_points(facts, name)
    unit = "as shares of the sides" if share else "from -1 to 1" if centred else "in pixels"
    reason = f"{int(np.prod(shape[1:])) // 2} landmarks, {order} {unit}"
    scale = (float(width), float(height)) if share else (width / 2, height / 2) if centred else (1.0, 1.0)
    return ValueReading(
        facts.graph, "landmarks", "landmarks", reason, (name,), (name,), tensor=name, kind="point", scale=scale,
        centred=centred, apart=order.startswith("all x"),
    )  # fmt: skip


def _order_of_points(facts: Facts, name: str) -> str:
    """How the numbers of landmarks follow one another, in words; by shape, or as MTCNN's last net has them.

    Ten numbers beside four sides and two probabilities are that net's (Zhang et al. 2016, arXiv:1604.02878, in its
    published weights): the x of five points, then their y.
    """
    shape = facts.shape(name)
    if len(shape) == 3 and shape[2] == 2:
        return "x and y of each"
    if len(shape) == 3:
        return "all x and then all y"
    counts = sorted(int(np.prod([n or 1 for n in spec.shape[1:]])) for spec in facts.graph.outputs)
    return "all x and then all y, as MTCNN has them," if counts == [2, 4, 10] else "x and y in turn (assumed)"


def regression(facts: Facts, forced: bool = False) -> ValueReading | None:
    """(N, 1) without a sigmoid, or numbers named as such."""
    found = _vector(facts)
    if found is None or facts.head(found[0]) is not None:
        return None
    name, count = found
    told = facts.named(name, "age", "value", "regress", "angle", "pose", "yaw", "offset", "bbox")
    if not forced and not (count == 1 or told):
        return None
    reason = f"{count} value{'s' if count > 1 else ''} (no softmax, no sigmoid{', by name' if told else ''})"
    axes = {name: facts.batch_axis(name)}
    return ValueReading(facts.graph, "regression", "regression", reason, (name,), (name,), axes, tensor=name)


def numbers(facts: Facts, _forced: bool = False) -> ValueReading | None:
    """(N, K) of which nothing tells whether they are classes: shown as they are."""
    found = _vector(facts)
    if found is None:
        return None
    name, count = found
    reason = (
        f"{count} numbers: no softmax, no class names, no telling name; shown as they are "
        "(decoder=softmax if they are class logits)"
    )
    axes = {name: facts.batch_axis(name)}
    return ValueReading(facts.graph, "unknown", "values", reason, (name,), (name,), axes, tensor=name)


def _vector(facts: Facts, flat: bool = True) -> tuple[str, int] | None:
    """(output, how many numbers it has for one picture); ``flat``: also a first output without an axis for pictures."""
    for name in facts.names:
        shape = facts.shape(name)
        if flat and name == facts.names[0] and facts.is_flat(name):
            return name, facts.probe[name].size
        if facts.is_float(name) and len(shape) >= 2 and shape[0] == 1 and sum(size > 1 for size in shape[1:]) <= 1:
            return name, int(np.prod(shape[1:]))
    return None


def _is_pooled(facts: Facts, name: str) -> bool:
    """Whether the vector is a feature map's mean, moved or normalized at most, with no dense layer behind."""
    producer = facts.graph.index.producer
    node = producer.get(name)
    while node is not None and node.op_type in ("Flatten", "Reshape", "Squeeze", "Identity", "Cast"):
        node = producer.get(node.input[0])
    return node is not None and node.op_type in _FEATURES


def _chosen(reading: Reading, row: Any, spec: Any, names: Sequence[str]) -> list[int]:
    """The numbers that are asked about, by index or as they are shown; the largest where none is named."""
    vector = np.asarray(row).reshape(-1)
    check_no_probability(spec, "these numbers")
    if is_all(spec):
        return list(range(len(vector)))
    if isinstance(spec, str) and spec.strip() in names:
        return [names.index(spec.strip())]
    top = 1 if spec is None else top_count(spec)
    if top is not None:
        return [int(i) for i in np.argsort(-vector, kind="stable")[:top]]
    return [class_index(reading.graph, spec, len(vector))]


def _one(tensor: str, index: int, shape: tuple[int, ...], axis: int | None = 0) -> Read:
    """The read of one number of a vector, whichever axis it lies along; ``axis`` counts the pictures."""
    if len(shape) == 1 and axis == 0:
        return Channel(tensor, index)
    place = tuple(int(i) for i in np.unravel_index(index, shape)) if shape else ()
    return Entry(((tensor, place),), batch_axis=axis)
