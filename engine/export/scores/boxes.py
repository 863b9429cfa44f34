"""A detector's box: the surest one, the surest of a class, or the one at a place of the model's own output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...attribution.batch import Batch
from ...outputs.boxes import BoxTable, DetectionReading, ScoreTable
from ...outputs.reads import SIDES, Box
from ...outputs.target import GAMMA, Target
from ..trace import Trace
from ..writer import Value, Writer, total
from .base import Sample, Score, one_hot, within
from .classes import CLASS_INPUT
from .reads import Tensor, side_weights

BOX_INPUT = "box"
_LIKELY = 50  # candidates that are drawn from to compare
_NEVER = -1.0  # below any probability


@dataclass(frozen=True, eq=False, kw_only=True)
class BoxScore(Score):
    """One number of one candidate of a detector.

    ``box`` is the candidate's place in the model's own output, ``class`` its class. Where both are negative it is the
    surest candidate, where one is given the surest that has it.

    Attributes:
        of: "score", the logit of the box's class (with the objectness, where there is one), or a side in pixels.
        index: the class where it is always the same.
        others: what the class is contrasted with: classes, or how many of the next best of the same box.
        table: of the scores.
        sides: of the boxes' sides, where they are asked for.
    """

    reading: DetectionReading
    table: ScoreTable
    of: str = "score"
    index: int | None = None
    others: tuple[int, ...] | int = ()
    sides: BoxTable | None = None

    def choices(self, w: Writer, trace: Trace) -> dict[str, Value]:
        scores = self._scores(w, trace)  # (N, A, K)
        depth = scores.shape(2)
        if CLASS_INPUT in self.inputs:
            asked = w.value(CLASS_INPUT)
        else:
            asked = w.integers([-1 if self.index is None else self.index])
        mine = one_hot(w, within(asked, depth), depth).unsqueeze([1])
        allowed = w.where((asked < w.integers(0)).reshape([-1, 1, 1]), scores, w.where(mine > 0.0, scores, _NEVER))
        surest = allowed.reduce("ReduceMax", [2], keep=False).apply("ArgMax", axis=1, keepdims=0)
        box = w.value(BOX_INPUT)
        box = w.where(box < w.integers(0), surest, box)
        row = allowed.apply("GatherND", box.unsqueeze([1]), batch_dims=1)
        found = {"box": box, "class": row.apply("ArgMax", axis=1, keepdims=0)}
        if isinstance(self.others, int):
            own = scores.apply("GatherND", box.unsqueeze([1]), batch_dims=1)
            found["others"] = _best_others(own, found["class"], min(self.others, self.table.classes - 1))
        return found

    def _scores(self, w: Writer, trace: Trace) -> Value:
        """(N, A, K) in [0, 1]."""
        t = self.table
        table = _table(w.value(t.tensor), trace.shape(t.tensor))
        table = table.transpose([0, 1, 2] if t.candidates_first else [0, 2, 1])
        if t.softmax:
            table = table.apply("Softmax", axis=2)
        elif not t.probability:
            table = table.apply("Sigmoid")
        begin, end = (w.integers([t.first]), w.integers([t.first + t.classes]))
        scores = table.slice(begin, end, [2])
        if t.objectness is None:
            return scores
        return scores * table.slice(w.integers([t.objectness]), w.integers([t.objectness + 1]), [2])

    def gradients(
        self, w: Writer, trace: Trace, at: Mapping[str, str], choices: Mapping[str, Value]
    ) -> dict[str, Value]:
        if self.of != "score":
            return self._side(w, trace, at, choices)
        t = self.table
        tensor = Tensor(w, trace, t.tensor, at[t.tensor], 0)
        columns = tensor.value.shape(2, 3) if t.candidates_first else tensor.value.shape(1, 2)
        weights = self._column(w, choices["class"], columns)
        if isinstance(self.others, int):
            rest = one_hot(w, choices["others"] + w.integers(t.first), columns, axis=2)
            weights = weights - self._with_objectness(w, rest.mean([1], keep=False), columns) * GAMMA
        elif self.others:
            each = [self._column(w, w.integers([other]), columns) for other in self.others]
            weights = weights - total(each) * (GAMMA / len(each))
        mark = self._placed(_table(tensor.value, tensor.sizes), choices["box"], weights).like(tensor.value)
        return {t.tensor: mark * tensor.log_odds_slope(mark.apply("Abs")) if t.log_odds else mark}

    def _column(self, w: Writer, classes: Value, columns: Value) -> Value:
        """(N, C) one at each column that the score of a class is the sum of."""
        return self._with_objectness(w, one_hot(w, classes + w.integers(self.table.first), columns), columns)

    def _with_objectness(self, w: Writer, marks: Value, columns: Value) -> Value:
        objectness = self.table.objectness
        return marks if objectness is None else marks + one_hot(w, w.integers([objectness]), columns)

    def _placed(self, table: Value, box: Value, weights: Value, *, candidates_first: bool | None = None) -> Value:
        """(N, A, C), or (N, C, A): the weights of the columns at the box's place."""
        first = self.table.candidates_first if candidates_first is None else candidates_first
        count = table.shape(1, 2) if first else table.shape(2, 3)
        place = one_hot(table.writer, box, count)
        return place.unsqueeze([2]) * weights.unsqueeze([1]) if first else weights.unsqueeze([2]) * place.unsqueeze([1])

    def _side(self, w: Writer, trace: Trace, at: Mapping[str, str], choices: Mapping[str, Value]) -> dict[str, Value]:
        assert self.sides is not None
        name = self.sides.tensor
        tensor = Tensor(w, trace, name, at[name], 0)
        first = self.sides.place(1)[0] == (1, 0)
        width = tensor.sizes[2] if first else tensor.sizes[1]
        weights = np.zeros((1, width), dtype=w.kind)
        weights[0, :4] = side_weights(self.sides.form, self.of, self.sides.scale)
        return {name: self._placed(tensor.value, choices["box"], w.constant(weights), candidates_first=first)}

    def samples(self, batch: Batch, seed: int) -> list[Sample]:
        rng = np.random.default_rng(seed)
        decoded = [self.reading.decode(row).scores for row in batch.rows(self.reading)]
        nothing = np.full(len(decoded), -1)
        allowed = [scores if self.index is None else _only(scores, self.index) for scores in decoded]
        likely = [np.argsort(-scores.max(axis=1), kind="stable")[:_LIKELY] for scores in allowed]
        drawn = np.asarray([int(rng.choice(order)) for order in likely])
        asked = [(nothing, nothing), (drawn, nothing)]
        if CLASS_INPUT in self.inputs:
            asked.append((nothing, rng.integers(0, self.table.classes, len(decoded))))
        return [self._sample(batch, allowed, box, index) for box, index in asked]

    def _sample(self, batch: Batch, scores: list[np.ndarray], boxes: np.ndarray, classes: np.ndarray) -> Sample:
        targets = []
        for row, known, box, index in zip(batch.rows(self.reading), scores, boxes, classes, strict=True):
            allowed = known if index < 0 else _only(known, int(index))
            place = int(allowed.max(axis=1).argmax()) if box < 0 else int(box)
            targets.append(self._target(row, place, int(allowed[place].argmax())))
        return Sample(
            {BOX_INPUT: boxes, CLASS_INPUT: classes} if CLASS_INPUT in self.inputs else {BOX_INPUT: boxes}, targets
        )

    def _target(self, row: Mapping[str, np.ndarray], place: int, index: int) -> Target:
        if self.of in SIDES:
            assert self.sides is not None
            s = self.sides
            return Target(Box(s.tensor, s.place(place), s.form, self.of, s.scale), "")
        assert self.reading.score is not None
        others, found = self.others, self.reading.decode(row)
        index = index if found.classes is None else int(found.classes[place])
        if isinstance(others, int):
            own = found.scores[place]
            others = tuple(int(i) for i in np.argsort(-own, kind="stable") if i != index)[:others]
        against = tuple(Target(self.reading.score(row, place, other), "") for other in others)
        return Target(self.reading.score(row, place, index), "", against=against)


def _table(scores: Value, shape: Sequence[int]) -> Value:
    """Three axes: the positions of a map, or a vector's one, are candidates of a row."""
    return scores if len(shape) == 3 else scores.reshape([0, 0, -1])


def _best_others(scores: Value, own: Value, count: int) -> Value:
    """(N, count) the next best classes of a box."""
    w = scores.writer
    mark = one_hot(w, own, scores.shape(1, 2))
    rest = w.where(mark > 0.0, _NEVER, scores)
    return w.add_many("TopK", rest, w.integers([count]), outputs=2, axis=1, largest=1, sorted=1)[1]


def _only(scores: np.ndarray, index: int) -> np.ndarray:
    """The scores of one class; those of others as if there were none."""
    found = np.full_like(scores, _NEVER)
    found[:, index] = scores[:, index]
    return found
