"""A box of a list that the file chose itself: its score is looked up among all scores that the choice was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from ....errors import UsageError
from ...attribution.batch import Batch
from ...outputs.boxes import DetectionReading
from ...outputs.selection import CLOSE, CLOSE_TO_ZERO, ScoreList
from ...outputs.target import Target
from ..trace import Trace
from ..writer import PREFIX, Value, Writer
from .base import Sample, Score, one_hot
from .boxes import BOX_INPUT
from .classes import CLASS_INPUT
from .reads import Tensor

_NEVER = -1.0  # below any probability
_LIKELY = 50  # scores that are drawn from to compare
_FED = f"{PREFIX}listed/"


@dataclass(frozen=True, eq=False, kw_only=True)
class ListedBoxScore(Score):
    """The score of a listed box, in the last tensor before suppression or TopK.

    ``box`` is the box's row in the model's own list, ``class`` its class; where both are negative the surest. Which of
    all scores it was is told by the value, as `outputs.selection.Origin.of` does. A picture without a box, or without
    one of the class, gets an empty map.

    Attributes:
        chosen: where scores, classes and all scores lie.
        index: the class where it is always the same.
    """

    reading: DetectionReading
    chosen: ScoreList
    index: int | None = None

    def choices(self, w: Writer, trace: Trace) -> dict[str, Value]:
        scores, labels = self._listed(w, trace)
        asked = (
            w.value(CLASS_INPUT)
            if CLASS_INPUT in self.inputs
            else w.integers([-1 if self.index is None else self.index])
        )
        asked = asked.reshape([-1, 1])
        allowed = w.where((asked < w.integers(0)).apply("Or", labels.equals(asked)), scores, _NEVER)
        surest = allowed.apply("ArgMax", axis=1, keepdims=0)
        row = w.value(BOX_INPUT)
        row = w.where(row < w.integers(0), surest, row).unsqueeze([1])
        wanted, label = (
            values.apply("GatherElements", self._per_picture(row, values), axis=1) for values in (allowed, labels)
        )
        found, left = {}, None
        for i, tensor in enumerate(self.tensors):
            place, is_here = self._searched(w, trace, tensor, wanted, label)
            found[f"place {i}"], found[f"here {i}"] = place, (is_here if left is None else is_here * left).squeeze([1])
            left = (1.0 - is_here) if left is None else left * (1.0 - is_here)
        return found

    def _listed(self, w: Writer, trace: Trace) -> tuple[Value, Value]:
        """(N, D + 1) scores and classes; the last is no box, so that an empty list has one."""
        scores = w.value(self.chosen.scores)
        labels = None if self.chosen.labels is None else w.value(self.chosen.labels)
        if labels is not None and trace.kind(self.chosen.labels or "").kind == "f":
            labels = labels.apply("Round")
        labels = w.zeros(scores.shape()) if labels is None else labels
        one = w.integers([0, 0, 0, 1])
        rows = [values.reshape([1, -1]) if self.is_single else values for values in (scores, labels.cast(np.int64))]
        return rows[0].apply("Pad", one, w.number(_NEVER)), rows[1].apply("Pad", one, w.integers(-1))

    @property
    def is_single(self) -> bool:
        """Whether the list has no batch axis."""
        return self.reading.axes.get(self.chosen.scores) is None

    def _per_picture(self, row: Value, values: Value) -> Value:
        """(N, 1), where one number may be given for all pictures."""
        return row.expand(row.writer.concat(values.shape(0, 1), [1]))

    def _searched(self, w: Writer, trace: Trace, tensor: str, wanted: Value, label: Value) -> tuple[Value, Value]:
        """(N,) the place in the tensor laid flat, and (N, 1) one where the score is there; one of its class first."""
        values, rank = w.value(tensor), len(trace.shape(tensor))
        shown = values.apply("Sigmoid") if tensor in self.chosen.origin.logits else values
        alone = [-1, *(1,) * (rank - 1)]
        off = (shown - wanted.reshape(alone)).apply("Abs")
        close = (off <= (wanted.apply("Abs") * CLOSE + CLOSE_TO_ZERO).reshape(alone)).cast()
        same = None
        for axis in range(1, rank):
            size = values.shape(axis, axis + 1).squeeze([0])
            line = w.add("Range", w.integers(0), size, w.integers(1))
            line = line.reshape([-1 if a == axis else 1 for a in range(rank)]).equals(label.reshape(alone))
            same = line if same is None else same.apply("Or", line)
        points = close if same is None else close * (same.cast() + 1.0)
        flat = points.apply("Flatten", axis=1)
        place = flat.apply("ArgMax", axis=1, keepdims=0)
        is_here = (flat.reduce("ReduceMax", [1]) > 0.0).cast() * (wanted > _NEVER).cast()
        return place, is_here

    def gradients(
        self, w: Writer, trace: Trace, at: Mapping[str, str], choices: Mapping[str, Value]
    ) -> dict[str, Value]:
        found = {}
        for i, name in enumerate(self.tensors):
            tensor = Tensor(w, trace, name, at[name], 0)
            size = tensor.value.apply("Flatten", axis=1).shape(1, 2)
            mark = one_hot(w, choices[f"place {i}"], size) * choices[f"here {i}"].unsqueeze([1])
            mark = mark.like(tensor.value)
            if name not in self.chosen.origin.logits and not self.straight:
                is_share = (tensor.value >= 0.0).apply("And", tensor.value <= 1.0)
                mark = w.where(is_share, mark * tensor.log_odds_slope(mark), mark)
            found[name] = mark
        return found

    def provable(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """The lists that the map is asked about are inputs, since few pictures have a box that the file chooses."""
        fed = onnx.ModelProto()
        fed.CopyFrom(model)
        kinds = {o.name: o.type.tensor_type.elem_type for o in fed.graph.output}
        rank = 1 if self.is_single else 2
        for name in self._lists:
            for node in fed.graph.node:
                if node.name.startswith(PREFIX):
                    node.input[:] = [_FED + name if read == name else read for read in node.input]
            fed.graph.input.append(helper.make_tensor_value_info(_FED + name, kinds[name], [None] * rank))
        return fed

    @property
    def _lists(self) -> list[str]:
        return [name for name in (self.chosen.scores, self.chosen.labels) if name is not None]

    def samples(self, batch: Batch, seed: int) -> list[Sample]:
        """The model's own lists, where every picture has a box; and lists of one box, likely ones of all there are."""
        rng = np.random.default_rng(seed)
        rows = batch.rows(self.reading)
        outputs = batch.outputs(self._lists)
        listed = [self.reading.decode(row) for row in rows]
        found = []
        own = [self._allowed(known.scores[:, 0], known.classes, self.index) for known in listed]
        if all((scores > _NEVER).any() for scores in own):
            at = [(int(scores.argmax()), known) for scores, known in zip(own, listed, strict=True)]
            chosen = [(float(known.scores[i, 0]), int(np.asarray(known.classes)[i])) for i, known in at]
            found.append(self._sample(rows, outputs, chosen, box=-1, index=-1))
        drawn = [self._drawn(row, rng) for row in rows]
        scores, labels = (
            np.array(values).reshape(-1 if self.is_single else (-1, 1)) for values in zip(*drawn, strict=True)
        )
        lists = {
            name: values.astype(outputs[name].dtype)
            for name, values in zip(self._lists, (scores, labels), strict=False)
        }
        for box, index in ((0, -1), (-1, labels.ravel())):
            found.append(self._sample(rows, lists, drawn, box, index))
        return found

    @staticmethod
    def _allowed(scores: np.ndarray, classes: Any, index: int | None) -> np.ndarray:
        return scores if index is None else np.where(np.asarray(classes) == index, scores, _NEVER)

    def _drawn(self, row: Mapping[str, np.ndarray], rng: np.random.Generator) -> tuple[float, int]:
        """The value and class of one of the largest scores that the file chooses from."""
        name = self.tensors[int(rng.integers(len(self.tensors)))]
        shown = self.chosen.origin.shown(row, name)
        place = np.unravel_index(int(rng.choice(np.argsort(-shown, axis=None)[:_LIKELY])), shown.shape)
        label = 0 if self.chosen.labels is None else int(place[0]) if self.index is None else self.index
        return float(np.float32(shown[place])), label

    def _sample(
        self, rows: list[dict[str, np.ndarray]], lists: Mapping[str, np.ndarray], chosen: list[tuple[float, int]],
        box: int, index: Any,
    ) -> Sample:  # fmt: skip
        whole = {BOX_INPUT: np.full(len(rows), box), CLASS_INPUT: np.broadcast_to(index, len(rows)).astype(np.int64)}
        feeds = {**{name: whole[name] for name in self.inputs}, **{_FED + name: v for name, v in lists.items()}}
        return Sample(feeds, [self._target(row, *wanted) for row, wanted in zip(rows, chosen, strict=True)])

    def _target(self, row: Mapping[str, np.ndarray], wanted: float, index: int) -> Target:
        try:
            return Target(self.chosen.origin.find(row, wanted, index), "")
        except LookupError as error:
            raise UsageError(
                f"{self.reading.graph.name} changes a box's score ({error}) after it chose the box, so it is not found "
                "again; name a target: unit:LAYER:UNIT or output:NAME:INDEX"
            ) from error
