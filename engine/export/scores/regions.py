"""One map without classes: a mask, where it is predicted; its background, where that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...attribution.batch import Batch
from ...outputs.masks import MapReading
from ...outputs.reading import Question
from ..trace import Trace
from ..writer import Value, Writer
from .base import Sample, Score


@dataclass(frozen=True, eq=False, kw_only=True)
class MaskScore(Score):
    """The sum of a map's logits where it is above its level; everywhere where it is so nowhere.

    Attributes:
        background: minus the logits, where it is not above.
    """

    reading: MapReading
    background: bool = False

    @property
    def name(self) -> str | None:
        return "background" if self.background else "foreground"

    def choices(self, w: Writer, trace: Trace) -> dict[str, Value]:
        inside = w.value(self.tensors[0]) > self.reading.level
        here = (inside.apply("Not") if self.background else inside).cast()
        axes = list(range(1, len(trace.shape(self.tensors[0]))))
        return {"mask": w.where(here.reduce("ReduceMax", axes) > 0.0, here, 1.0)}

    def gradients(
        self, w: Writer, trace: Trace, at: Mapping[str, str], choices: Mapping[str, Value]
    ) -> dict[str, Value]:
        return {self.tensors[0]: -choices["mask"] if self.background else choices["mask"]}

    def samples(self, batch: Batch, seed: int) -> list[Sample]:
        question = Question(target="background" if self.background else None)
        return [Sample({}, [MapReading.targets(self.reading, row, question)[0] for row in batch.rows(self.reading)])]
