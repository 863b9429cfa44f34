"""One target for every picture: a unit, an output's channel, a stored vector, a region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...attribution.batch import Batch
from ...outputs.target import Target
from ..trace import Trace
from ..writer import Value, Writer
from .base import Sample, Score
from .reads import target_gradients


@dataclass(frozen=True, eq=False, kw_only=True)
class FixedScore(Score):
    """A target that is the same for every picture.

    Attributes:
        target: the target.
    """

    target: Target

    @property
    def name(self) -> str | None:
        return self.target.name

    def gradients(
        self, w: Writer, trace: Trace, at: Mapping[str, str], choices: Mapping[str, Value]
    ) -> dict[str, Value]:
        return target_gradients(w, trace, self.target, at)

    def samples(self, batch: Batch, seed: int) -> list[Sample]:
        return [Sample({}, [self.target] * len(batch.x))]
