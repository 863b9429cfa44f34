"""Targets that do not depend on the picture: their maps show rounding, and have to say so."""

from __future__ import annotations

import numpy as np

from ..outputs.reads import Box, Channel, Entry, Masked
from ..outputs.target import Target
from .batch import Batch

_FAINT = 1e-3  # of the score: a map whose values vary by less may be rounding, and is looked at
_EQUAL = 1e-5  # relative: what a forward pass in float32 leaves of a constant


def constant_note(batch: Batch, index: int, target: Target, values: np.ndarray, score: float) -> str | None:
    """A sentence where the target has the same value for other pictures, else None.

    Asked of other pictures (noise, and the picture turned around) where the map is faint beside the score, and always
    where the target is an average over an output, whose parts may add up to a constant.
    """
    faint = float(np.ptp(values)) * values.size <= _FAINT * abs(score)
    if not faint and _is_plain(batch, target):
        return None
    x = batch.x[index]
    noise = np.random.default_rng(0).random((1, *x.shape), dtype=np.float32)
    others = np.concatenate([batch.graph.preprocessing.normalize(noise), x[None, :, ::-1, ::-1]])
    found = batch.executors.scores(np.ascontiguousarray(others, dtype=np.float32), [target])
    if np.abs(found - score).max() <= _EQUAL * max(abs(score), 1e-6):
        return f"the target does not depend on the picture: it is {score:.6g} for others too; the map means nothing"
    return None


def _is_plain(batch: Batch, target: Target) -> bool:
    """Whether the target is one entry or a unit of a feature map: where it is constant, its map is faint."""
    if isinstance(target.read, (Entry, Box, Masked)):
        return True
    if not isinstance(target.read, Channel):
        return False
    (values,) = batch.values([target.read.tensor])
    return values.ndim == 2 or target.read.tensor in {layer.tensor for layer in batch.graph.layers if layer.is_spatial}
