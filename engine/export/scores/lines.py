"""A read line: one of its characters, or all of them, as CTC's rule or each step by itself gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...attribution.batch import Batch
from ...outputs.reading import Question
from ...outputs.sequences import SequenceReading
from ...outputs.target import Target, of_function
from ..trace import Trace
from ..writer import Value, Writer
from .base import Sample, Score, one_hot
from .reads import lead_gradient

CHARACTER_INPUT = "character"
_ASKED = 3
_LEAST = -3e38


@dataclass(frozen=True, eq=False, kw_only=True)
class LineScore(Score):
    """The lead of a character over the best other symbol, summed over its steps; of the whole line by default.

    ``character`` counts from 1 in reading order; 0 and less is the whole line; beyond the line's end the score is 0.
    """

    reading: SequenceReading

    @property
    def _axes(self) -> list[int]:
        """Of the tensor: pictures, steps, symbols."""
        batch = self.reading.axes.get(self.reading.tensor, 0) or 0
        rest = [axis for axis in range(3) if axis != batch]
        symbols = rest[self.reading.axis]
        return [batch, next(axis for axis in rest if axis != symbols), symbols]

    def _table(self, w: Writer, name: str) -> Value:
        """(N, steps, symbols)."""
        return w.value(name).transpose(self._axes)

    def choices(self, w: Writer, trace: Trace) -> dict[str, Value]:
        table, blank = self._table(w, self.reading.tensor), self.reading.blank
        path = table.apply("ArgMax", axis=2, keepdims=0)
        if blank is None:
            read = path.equals(path)
            starts = read
        else:
            before = w.add(
                "Concat", w.integers([-1]).expand(w.concat(path.shape(0, 1), [1])),
                path.slice(w.integers([0]), w.integers([-1]), [1]), axis=1,
            )  # fmt: skip
            read = path.equals(w.integers(blank)).apply("Not")
            starts = read.apply("And", path.equals(before).apply("Not"))
        number = starts.cast(np.int64).apply("CumSum", w.integers(1))
        asked = w.value(CHARACTER_INPUT).reshape([-1, 1])
        member = read.apply("And", (asked < w.integers(1)).apply("Or", number.equals(asked))).cast()
        if blank is None:
            return {"symbols": path, "steps": member}
        return self._or_likeliest(w, table, path, read, member)

    def _or_likeliest(self, w: Writer, table: Value, path: Value, read: Value, member: Value) -> dict[str, Value]:
        """Where nothing was read: the strongest symbol beside the blank, at its step."""
        blank = one_hot(w, w.integers([self.reading.blank or 0]), table.shape(2)).unsqueeze([0])
        others = w.where(blank > 0.0, _LEAST, table)
        step = others.reduce("ReduceMax", [2], keep=False).apply("ArgMax", axis=1, keepdims=0)
        here = one_hot(w, step, table.shape(1, 2))
        symbols = others.apply("ArgMax", axis=2, keepdims=0)
        is_read = read.cast().reduce("ReduceMax", [1]) > 0.0
        return {"symbols": w.where(is_read, path, symbols), "steps": w.where(is_read, member, here)}

    def gradients(
        self, w: Writer, trace: Trace, at: Mapping[str, str], choices: Mapping[str, Value]
    ) -> dict[str, Value]:
        tensor = self.reading.tensor
        table = self._table(w, at[tensor])
        own = one_hot(w, choices["symbols"], table.shape(2), axis=2)
        gradient = lead_gradient(table, own, 2, log=self.reading.log) * choices["steps"].unsqueeze([2])
        axes = self._axes
        return {tensor: gradient.transpose([axes.index(axis) for axis in range(3)])}

    def samples(self, batch: Batch, seed: int) -> list[Sample]:
        rows = batch.rows(self.reading)
        each = [self.reading.targets(row, Question()) for row in rows]
        found = [Sample({CHARACTER_INPUT: np.full(len(rows), -1)}, [_whole(targets) for targets in each])]
        for rank in range(min(_ASKED - 1, max(map(len, each)))):
            numbers = [min(rank, len(targets) - 1) for targets in each]
            chosen = [targets[i] for targets, i in zip(each, numbers, strict=True)]
            found.append(Sample({CHARACTER_INPUT: np.asarray(numbers) + 1}, chosen))
        return found


def _whole(targets: list[Target]) -> Target:
    """All characters of a line: the sum of their leads."""
    (tensor,), axis = targets[0].tensors, targets[0].read.batch_axis

    def total(rows: Mapping[str, Any]) -> Any:
        return sum((t.read.value(rows) for t in targets[1:]), start=targets[0].read.value(rows))

    whole = of_function(total, [tensor], "line")
    return replace(whole, read=replace(whole.read, batch_axis=axis))
