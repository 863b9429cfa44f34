"""Weights that differ although no picture shows it: behind a unit that stays silent, at a border never reached."""

from __future__ import annotations

import numpy as np

from ..graph.operators import operator
from .align import Pair
from .operations import CommonForm, Operation


def weight_difference(pair: Pair, networks: tuple[CommonForm, CommonForm]) -> float | None:
    """How far the weights of two paired operations are apart, relative to A's largest; None where not comparable.

    Convolutions and dense layers are compared with batch-norm folded in, a batch-norm of its own by its factor and
    offset per channel, PRelu and the other normalizations by the numbers as stored.

    Args:
        pair: the operations.
        networks: A and B.
    """
    ours, theirs = (_trained(network, operation) for network, operation in zip(networks, (pair.a, pair.b), strict=True))
    if pair.a.kind != pair.b.kind or not ours or [x.shape for x in ours] != [y.shape for y in theirs]:
        return None
    largest = max(float(np.abs(x).max(initial=0.0)) for x in ours)
    apart = [float(np.abs(x - y).max(initial=0.0)) for x, y in zip(ours, theirs, strict=True) if not _same(x, y)]
    return max(apart, default=0.0) / max(largest, float(np.finfo(np.float32).tiny))


def _same(x: np.ndarray, y: np.ndarray) -> bool:
    return np.array_equal(x, y, equal_nan=True)


def _trained(network: CommonForm, operation: Operation) -> list[np.ndarray]:
    if operation.weight is not None and operation.bias is not None:
        return [operation.weight, operation.bias]
    if operation.kind != "PRelu" and operator(operation.node).family != "normalization":
        return []
    found = [network.constant(name) for name in operation.node.input[1:] if name]
    stored = [np.squeeze(x) for x in found if x is not None and x.dtype.kind == "f"]
    if operation.kind == "BatchNormalization" and len(stored) == 4:
        scale, bias, mean, var = stored
        factor = scale / np.sqrt(var + float(str(operation.attributes.get("epsilon", 1e-5))))
        return [factor, bias - mean * factor]
    return stored
