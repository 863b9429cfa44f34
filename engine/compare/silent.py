"""Weights that differ although no picture shows it: behind a unit that stays silent, at a border never reached."""

from __future__ import annotations

import numpy as np

from ..graph.operators import operator
from .align import Pair
from .steps import Network, Step


def weight_difference(pair: Pair, networks: tuple[Network, Network]) -> float | None:
    """How far the trained numbers of two paired steps are apart, relative to A's largest; None where not comparable.

    Convolutions and dense layers are compared with batch-norm folded in, a batch-norm of its own by its factor and
    offset per channel, PRelu and the other normalizations by the numbers as stored.

    Args:
        pair: the steps.
        networks: A and B.
    """
    ours, theirs = (_trained(network, step) for network, step in zip(networks, (pair.a, pair.b), strict=True))
    if pair.a.kind != pair.b.kind or not ours or [x.shape for x in ours] != [y.shape for y in theirs]:
        return None
    largest = max(float(np.abs(x).max(initial=0.0)) for x in ours)
    apart = [float(np.abs(x - y).max(initial=0.0)) for x, y in zip(ours, theirs, strict=True) if not _same(x, y)]
    return max(apart, default=0.0) / max(largest, float(np.finfo(np.float32).tiny))


def _same(x: np.ndarray, y: np.ndarray) -> bool:
    return np.array_equal(x, y, equal_nan=True)


def _trained(network: Network, step: Step) -> list[np.ndarray]:
    if step.weight is not None and step.bias is not None:
        return [step.weight, step.bias]
    if step.kind != "PRelu" and operator(step.node).family != "normalization":
        return []
    found = [network.constant(name) for name in step.node.input[1:] if name]
    stored = [np.squeeze(x) for x in found if x is not None and x.dtype.kind == "f"]
    if step.kind == "BatchNormalization" and len(stored) == 4:
        scale, bias, mean, var = stored
        factor = scale / np.sqrt(var + float(str(step.attributes.get("epsilon", 1e-5))))
        return [factor, bias - mean * factor]
    return stored
