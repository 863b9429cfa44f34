"""Gradients of quantized models: rounding passes straight through (Bengio et al. 2013, arXiv:1308.3432)."""

from __future__ import annotations

import numpy as np

from ..writer import Value
from .base import Gradient, Gradients, Visit


def _scale(v: Visit) -> Value:
    """Broadcast along the quantized axis."""
    if len(v.shape(1)) > 1 or int(v.get("block_size", 0)):
        raise v.unsupported("blocked quantization")
    if not v.shape(1) or v.shape(1)[0] == 1:
        return v.x(1).reshape([1])
    axis = int(v.get("axis", 1)) % v.rank()
    return v.x(1).reshape([-1, *(1,) * (v.rank() - 1 - axis)])


def _quantize(v: Visit) -> Gradients:
    """dY / scale where the value was not clipped."""
    zero = v.constant(2) if v.has(2) else np.zeros((), dtype=np.uint8)
    if zero is None or zero.dtype.kind not in "iu":
        raise v.unsupported("a zero point that is computed while the model runs")
    limits = np.iinfo(zero.dtype)
    axis = int(v.get("axis", 1)) % v.rank()
    shift = zero.astype(np.int64)
    shift = shift.reshape(-1, *(1,) * (v.rank() - 1 - axis)) if shift.size > 1 else shift.reshape(())
    rounded = (v.x() / _scale(v)).apply("Round")
    low, high = (v.w.constant((bound - shift).astype(v.w.kind)) for bound in (limits.min, limits.max))
    inside = (rounded >= low).apply("And", rounded <= high)
    return {0: v.w.where(inside, v.dy / _scale(v), 0.0)}


def _dequantize(v: Visit) -> Gradients:
    return {0: v.dy * _scale(v)}


QUANTIZATION: dict[str, Gradient] = {"QuantizeLinear": _quantize, "DequantizeLinear": _dequantize}
