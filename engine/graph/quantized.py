"""Stored numbers that stand for others: whole numbers with a step and a zero point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .index import Index, attributes


@dataclass(frozen=True)
class Quantized:
    """Weights in whole numbers.

    Attributes:
        values: what they stand for, float64.
        step: the distance of two neighbouring numbers, of the same shape.
        kind: "int8", "uint8", ...
    """

    values: np.ndarray
    step: np.ndarray
    kind: str


def quantized(index: Index, names: Sequence[str], axis: int = 0) -> Quantized | None:
    """(numbers - zero point) * scale, each stored; None where one is computed, or the scale is per block.

    Args:
        index: of the graph.
        names: of the numbers, their scale and, if there is one, their zero point; "" stands for none.
        axis: that a scale of several values belongs to.
    """
    found = [index.constant(name) for name in names if name]
    stored, scale, *zero = found
    if stored is None or scale is None or any(one is None for one in zero):
        return None
    if scale.size > 1 and (scale.ndim != 1 or axis >= stored.ndim or scale.size != stored.shape[axis]):
        return None
    return scaled(stored, scale, zero[0] if zero else None, axis)


def scaled(stored: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, axis: int) -> Quantized:
    """The same of arrays; a scale and a zero point of one value are those of all."""

    def along(values: np.ndarray) -> np.ndarray:
        shape = [1] * stored.ndim
        if values.size > 1:
            shape[axis] = -1
        return values.astype(np.float64).reshape(shape)

    step = np.broadcast_to(along(scale), stored.shape)
    values = (stored.astype(np.float64) - (0.0 if zero is None else along(zero))) * step
    return Quantized(values, step, stored.dtype.name)


def is_dequantized(index: Index, name: str) -> bool:
    """Whether a tensor is what a DequantizeLinear gives for stored numbers, however their scale lies."""
    node = index.producer.get(name)
    return node is not None and node.op_type == "DequantizeLinear" and node.input[0] in index.weights


def dequantized(index: Index, name: str) -> Quantized | None:
    """What a DequantizeLinear of stored numbers gives; None for any other tensor, and for scales per block."""
    if not is_dequantized(index, name):
        return None
    node = index.producer[name]
    return quantized(index, node.input, int(str(attributes(node).get("axis", 1))))
