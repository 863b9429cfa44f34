"""A class: of a vector, of a segmentation where it is predicted or in a region, and yes or no of one sigmoid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ...attribution.batch import Batch
from ...outputs.reading import Question, Reading
from ...outputs.target import GAMMA, Target
from ..trace import Trace
from ..writer import Value, Writer
from .base import Sample, Score, one_hot, within
from .reads import Tensor, placed_mask

CLASS_INPUT = "class"
CLASSES = 3  # to compare of each picture
_FAR = 3e38


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassScore(Score):
    """A class's logit, for a segmentation the sum of its logits over a mask.

    Attributes:
        question: what is asked besides the class.
        index: the class where it is always the same, else None: it is asked for, or predicted.
        others: what it is contrasted with: classes, or how many of the nearest ones.
        region: (h, w) weights of the output's own size in the place of the predicted mask.
        count: number of classes.
        label: the class's name, where it is always the same.
        level: of maps that are masks of their own, where inside begins; None where the strongest class has a position.
    """

    reading: Reading
    question: Question
    count: int
    index: int | None = None
    others: tuple[int, ...] | int = ()
    region: np.ndarray | None = field(default=None)
    label: str | None = None
    level: float | None = None

    @property
    def name(self) -> str | None:
        return self.label

    @property
    def tensor(self) -> str:
        """Of the logits, (N, K), (N, K, h, w), or anything of K values."""
        return self.tensors[0]

    def choices(self, w: Writer, trace: Trace) -> dict[str, Value]:
        tensor = Tensor(w, trace, self.tensor, self.tensor, 0)
        is_map = tensor.rank == 4
        logits = tensor.value if is_map else tensor.value.apply("Flatten", axis=1)
        region = None if self.region is None else placed_mask(tensor, self.region, [2, 3])
        classes = self._classes(w, logits, region, is_map=is_map)
        found = {"class": classes}
        if is_map:
            found["mask"] = self._mask(w, logits, classes, region)
        if isinstance(self.others, int):
            sums = (logits * found["mask"]).sum([2, 3], keep=False) if is_map else logits
            found["others"] = nearest(sums, classes, min(self.others, self.count - 1))
        return found

    def _classes(self, w: Writer, logits: Value, region: Value | None, *, is_map: bool) -> Value:
        if self.index is not None:
            return w.integers([self.index]).expand(logits.shape(0, 1))
        strongest = logits.apply("ArgMax", axis=1, keepdims=0)
        if is_map:
            places = self._inside(w, logits)
            places = places if region is None else places * region
            strongest = places.sum([2, 3], keep=False).apply("ArgMax", axis=1, keepdims=0)
        asked = w.value(CLASS_INPUT)
        return w.where(asked < w.integers(0), strongest, within(asked, w.integers([self.count])))

    def _inside(self, w: Writer, logits: Value) -> Value:
        """(N, K, h, w) 1 where each class is the strongest, or above its level."""
        if self.level is not None:
            return (logits > self.level).cast()
        return one_hot(w, logits.apply("ArgMax", axis=1, keepdims=0), logits.shape(1, 2))

    def _mask(self, w: Writer, logits: Value, classes: Value, region: Value | None) -> Value:
        """(N, 1, h, w): the region, or where the class is predicted; all where it is so nowhere."""
        if region is not None:
            return region.expand(w.concat(logits.shape(0, 1), [1], logits.shape(2, 4)))
        if self.level is None:
            here = logits.apply("ArgMax", axis=1, keepdims=1).equals(classes.reshape([-1, 1, 1, 1])).cast()
        else:
            own = one_hot(w, classes, logits.shape(1, 2)).unsqueeze([2, 3])
            here = ((logits * own).sum([1]) > self.level).cast()
        return w.where(here.reduce("ReduceMax", [1, 2, 3]) > 0.0, here, 1.0)

    def gradients(
        self, w: Writer, trace: Trace, at: Mapping[str, str], choices: Mapping[str, Value]
    ) -> dict[str, Value]:
        tensor = Tensor(w, trace, self.tensor, at[self.tensor], 0)
        depth = w.integers([self.count])
        weights = one_hot(w, choices["class"], depth)
        if isinstance(self.others, int):
            weights = weights - one_hot(w, choices["others"], depth, axis=2).mean([1], keep=False) * GAMMA
        elif self.others:
            rest = np.zeros((1, self.count), dtype=w.kind)
            rest[0, list(self.others)] = GAMMA / len(self.others)
            weights = weights - w.constant(rest)
        if tensor.rank != 4:
            return {self.tensor: weights if tensor.rank == 2 else weights.like(tensor.value)}
        return {self.tensor: weights.unsqueeze([2, 3]) * choices["mask"]}

    def samples(self, batch: Batch, seed: int) -> list[Sample]:
        rows = batch.rows(self.reading)
        if self.index is not None:
            return [Sample({}, [self._target(row, self.index) for row in rows])]
        alone = replace(self.question, target=None, against=None, count=1)
        predicted = [self.reading.targets(row, alone)[0].index or 0 for row in rows]
        drawn = _drawn(predicted, self.count, seed, self.others if isinstance(self.others, tuple) else ())
        return [
            Sample({CLASS_INPUT: column}, [self._target(row, int(c)) for row, c in zip(rows, column, strict=True)])
            for column in drawn.T
        ]

    def _target(self, row: Mapping[str, np.ndarray], index: int) -> Target:
        return self.reading.targets(row, replace(self.question, target=index))[0]


def nearest(values: Value, own: Value, count: int) -> Value:
    """(N, count) the columns whose values are nearest to those of the columns ``own`` (N,), without these."""
    w = values.writer
    mark = one_hot(w, own, values.shape(1, 2))
    distances = (values - (values * mark).sum([1])).apply("Abs")
    far = w.where(mark > 0.0, _FAR, distances)
    return w.add_many("TopK", far, w.integers([count]), outputs=2, axis=1, largest=0, sorted=1)[1]


def _drawn(predicted: list[int], count: int, seed: int, without: tuple[int, ...]) -> np.ndarray:
    """(N, up to 3) the predicted class of each picture and others, all different, none that it is contrasted with."""
    rng = np.random.default_rng(seed)
    rows = []
    for own in predicted:
        rest = [c for c in rng.permutation(count).tolist() if c != own and c not in without]
        rows.append([*([own] if own not in without else []), *rest][:CLASSES])
    return np.asarray([row[: min(map(len, rows))] for row in rows], dtype=np.int64)


@dataclass(frozen=True, eq=False, kw_only=True)
class SideScore(Score):
    """One logit for yes and no: class 1 is yes, class 0 no, whose score is minus the logit.

    Attributes:
        index: the side where it is always the same.
        label: its name.
    """

    reading: Reading
    index: int | None = None
    label: str | None = None

    @property
    def name(self) -> str | None:
        return self.label

    def choices(self, w: Writer, trace: Trace) -> dict[str, Value]:
        logit = w.value(self.tensors[0]).reshape([-1])
        if self.index is not None:
            return {"side": w.number(1.0 if self.index else -1.0).expand(logit.shape(0, 1))}
        asked = w.value(CLASS_INPUT)
        known = within(asked, w.integers([2]))
        yes = w.where(asked < w.integers(0), (logit >= 0.0).cast(np.int64), known)
        return {"side": w.where(yes > w.integers(0), 1.0, -1.0)}

    def gradients(
        self, w: Writer, trace: Trace, at: Mapping[str, str], choices: Mapping[str, Value]
    ) -> dict[str, Value]:
        return {self.tensors[0]: choices["side"].like(w.value(at[self.tensors[0]]))}

    def samples(self, batch: Batch, seed: int) -> list[Sample]:
        rows = batch.rows(self.reading)
        asked = [-1, 0, 1] if self.index is None else [self.index]
        return [
            Sample(
                {CLASS_INPUT: np.full(len(rows), side)} if self.index is None else {},
                [self.reading.targets(row, Question(target=None if side < 0 else side))[0] for row in rows],
            )
            for side in asked
        ]
