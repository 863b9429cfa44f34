"""The number that measures watch: a class's probability, and for every other target its own number.

What speaks against a class is measured by the probability that it is not; a contrast of classes by its own number. So
are numbers of unknown meaning, which `predict` shows as they are: a softmax over a regression is no probability.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..graph.labels import logistic
from ..outputs.classes import ClassReading
from ..outputs.reads import Channel
from ..outputs.target import Target, batch_axes, row_of

if TYPE_CHECKING:
    from .batch import Executors


def probabilities(
    executors: Executors, outputs: Mapping[str, np.ndarray], targets: Sequence[Target], count: int
) -> np.ndarray:
    """(N,) float64: of class targets the probability as the model's own head makes it, of others the score.

    Args:
        executors: know how the outputs are read.
        outputs: whole tensors by name.
        targets: one per row, or one for all.
        count: N; rows that fill up a pass may follow.
    """
    axes = batch_axes(targets)
    rows = targets if len(targets) == count else [targets[0]] * count
    return np.asarray([
        _probability(executors, target, row_of(outputs, axes, index)) for index, target in enumerate(rows)
    ])  # fmt: skip


def _probability(executors: Executors, target: Target, row: Mapping[str, np.ndarray]) -> float:
    kind = _kind(executors, target)
    if kind is None or target.against or not isinstance(target.read, Channel):
        return float(target.score(row))
    logits = np.asarray(row[target.read.tensor], np.float64).reshape(-1)
    if not 0 <= target.read.index < len(logits):
        return float(target.score(row))  # refuses it, and says why
    return class_probability(logits, target.read.index, kind, target.sign)


def class_probability(logits: np.ndarray, index: int, kind: str = "softmax", sign: float = 1.0) -> float:
    """One class's probability from logits (K,), with ``sign`` -1 that of all else; ``kind`` as for `ClassReading`."""
    if kind == "shares":
        return float(logits[index] if sign > 0 else 1 - logits[index])
    if kind == "softmax" and len(logits) > 1:
        powers = np.exp(logits - logits.max())
        own = powers[index] if sign > 0 else np.delete(powers, index).sum()
        return float(own / powers.sum())
    return float(logistic(sign * logits[index]))


def _kind(executors: Executors, target: Target) -> str | None:
    """How the target's tensor becomes probabilities, or None where the target is no class of a vector."""
    if not isinstance(target.read, Channel):
        return None
    reading = executors.reading
    return reading.kind if isinstance(reading, ClassReading) and target.read.tensor == reading.tensor else None
