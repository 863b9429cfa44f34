"""Gradients of quantized models: rounding passes straight through (Bengio et al. 2013, arXiv:1308.3432)."""

from __future__ import annotations

import numpy as np

from ..writer import Value
from .base import Gradient, Gradients, Visit
from .matrices import product_gradients
from .windows import spread_convolution


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
    if 1 in v.wanted:
        raise v.unsupported("a scale that depends on the image")
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
    found = {0: v.dy * _scale(v)}
    if 1 in v.wanted:  # a scale that is computed from the image
        if v.shape(1) not in ((), (1,)):
            raise v.unsupported("scales per channel that depend on the image")
        moved = (v.dy * _centred(v, 0, 2)).sum(list(range(v.rank())), keep=False)
        found[1] = moved.like(v.raw(1))
    return found


def _dynamic(v: Visit) -> Gradients:
    """Of the whole numbers Y = round(X / S) + Z and of their scale S = (largest - smallest, with 0) / 255."""
    w, x = v.w, v.x()
    scale = v.y(1)
    empty = scale.equals(0.0)
    safe = w.where(empty, 1.0, scale)
    of_scale, found = v.upstream(1), None
    if (dy := v.upstream(0)) is not None:
        whole = (x / safe).apply("Round") + v.y(2).cast()
        inside = w.where((whole >= 0.0).apply("And", whole <= 255.0), dy / safe, 0.0)
        found, axes = inside, list(range(v.rank()))
        moved = -w.where(empty, 0.0, (inside * x).sum(axes, keep=False) / safe)
        of_scale = moved if of_scale is None else of_scale + moved
    if of_scale is not None:
        ends = _end(v, "ReduceMax") - _end(v, "ReduceMin")
        spread = ends * (of_scale / 255.0)
        found = spread if found is None else found + spread
    return {} if found is None else {0: found}


def _end(v: Visit, op: str) -> Value:
    """Equal shares of one to the largest (smallest) values, as torch has them; none where 0 lies beyond them."""
    x, axes = v.x(), list(range(v.rank()))
    end = x.reduce(op, axes)
    winners = x.equals(end).cast()
    counts = (end >= 0.0) if op == "ReduceMax" else (end <= 0.0)
    return winners / winners.sum(axes) * counts.cast()


def _centred(v: Visit, position: int, zero: int, axis: int | None = None) -> Value:
    """Whole numbers less their zero point, floating; ``axis`` is that of one zero point a channel."""
    values = v.raw(position).cast()
    return values - _along(v, zero, v.rank(position), axis).cast() if v.has(zero) else values


def _along(v: Visit, position: int, rank: int, axis: int | None) -> Value:
    """A scale or zero point, one or one a channel of a tensor of ``rank`` axes."""
    value = v.raw(position)
    if int(np.prod(v.shape(position))) == 1:
        return value.reshape([1])
    if len(v.shape(position)) != 1 or axis is None:
        raise v.unsupported("blocked quantization")
    return value.reshape([-1, *(1,) * (rank - 1 - axis % rank)])


def _real(v: Visit, position: int) -> Value:
    """What whole numbers, with scale and zero point behind them, stand for."""
    return _centred(v, position, position + 2) * _along(v, position + 1, v.rank(position), None)


def _unrounded(v: Visit, real: Value, scale: int) -> Value:
    """The gradient of the real result from that of the whole numbers that it is rounded to, zero where they clip.

    ``real`` is the result before it is rounded, ``scale`` the position of its scale, with its zero point behind it.
    """
    zero = v.constant(scale + 1) if v.has(scale + 1) else np.zeros((), dtype=np.uint8)
    if zero is None or zero.dtype.kind not in "iu" or zero.size > 1:
        raise v.unsupported("a zero point that is computed while the model runs, or one a channel")
    limits, shift, step = np.iinfo(zero.dtype), int(zero.reshape(())), _along(v, scale, len(v.result_shape()), None)
    rounded = (real / step).apply("Round")
    low, high = float(limits.min - shift), float(limits.max - shift)
    return v.w.where((rounded >= low).apply("And", rounded <= high), v.dy / step, 0.0)


def _conv_integer(v: Visit) -> Gradients:
    if 1 in v.wanted:
        raise v.unsupported("weights that depend on the image")
    kernel = _centred(v, 1, 3, 0)
    return {0: spread_convolution(v, v.dy, kernel, v.shape(1))}


def _qlinear_conv(v: Visit) -> Gradients:
    if v.wanted - {0}:
        raise v.unsupported("weights that depend on the image")
    kernel, rank = _centred(v, 3, 5, 0), v.rank()
    scales = v.raw(1).reshape([1]) * _along(v, 4, rank, 1)
    attributes = {a.name: v.get(a.name) for a in v.node.attribute}
    bias = v.raw(8).cast() if v.has(8) else None
    real = _centred(v, 0, 2).apply("Conv", kernel, bias, **attributes) * scales
    return {0: spread_convolution(v, _unrounded(v, real, 6) * scales, kernel, v.shape(3))}


def _matmul_integer(v: Visit) -> Gradients:
    """Zero points a row of A or a column of B stand for themselves."""
    a, b = _centred(v, 0, 2, -2), _centred(v, 1, 3, -1)
    return product_gradients(v, v.dy, {0: a, 1: b})


def _qlinear_matmul(v: Visit) -> Gradients:
    a, b = _real(v, 0), _real(v, 3)
    found = product_gradients(v, _unrounded(v, a.apply("MatMul", b), 6), {0: a, 3: b})
    return {i: gradient * _along(v, i + 1, v.rank(i), None) for i, gradient in found.items()}


def _qgemm(v: Visit) -> Gradients:
    """Y = alpha A' B' + C, of whole numbers or, without a scale of its own, real."""
    alpha, left, right = float(v.get("alpha", 1.0)), int(v.get("transA", 0)), int(v.get("transB", 0))
    if v.wanted - {0} or left:
        raise v.unsupported("weights that depend on the image, or an image that is transposed")
    a, b = _real(v, 0), _real(v, 3)
    dy = v.dy
    if v.has(7):
        total = a.apply("Gemm", b, transB=right, alpha=alpha)
        if v.has(6):
            total = total + v.raw(6).cast() * v.raw(1).reshape([1]) * v.raw(4).reshape([1])
        dy = _unrounded(v, total, 7)
    return {0: dy.apply("Gemm", b, transB=1 - right, alpha=alpha) * v.raw(1).reshape([1])}


def _qlinear_add(v: Visit) -> Gradients:
    dy = _unrounded(v, _real(v, 0) + _real(v, 3), 6)
    return {i: v.fit(dy * _along(v, i + 1, v.rank(i), None), i) for i in v.wanted if i in (0, 3)}


def _qlinear_mul(v: Visit) -> Gradients:
    values = {0: _real(v, 0), 3: _real(v, 3)}
    dy = _unrounded(v, values[0] * values[3], 6)
    return {
        i: v.fit(dy * values[3 - i] * _along(v, i + 1, v.rank(i), None), i) for i in v.wanted if i in values
    }  # fmt: skip


def _qlinear_average(v: Visit) -> Gradients:
    if int(v.get("channels_last", 0)):
        raise v.unsupported("channels last")
    x = _real(v, 0)
    dy = _unrounded(v, x.mean(range(2, v.rank())), 3)
    count = v.raw(0).shape(2).apply("ReduceProd", keepdims=0).cast()
    return {0: (dy * _along(v, 1, v.rank(), None) / count).expand(v.raw(0).shape())}


def _qlinear_leaky(v: Visit) -> Gradients:
    slope, x = float(v.get("alpha", 0.01)), _real(v, 0)
    dy = _unrounded(v, x.apply("LeakyRelu", alpha=slope), 3) * _along(v, 1, v.rank(), None)
    return {0: v.w.where(x > 0.0, dy, dy * slope)}


def _qlinear_sigmoid(v: Visit) -> Gradients:
    y = _real(v, 0).apply("Sigmoid")
    return {0: _unrounded(v, y, 3) * y * (1.0 - y) * _along(v, 1, v.rank(), None)}


def _qlinear_concat(v: Visit) -> Gradients:
    """Inputs: scale and zero point of the result, then (values, scale, zero point) for each part."""
    places, axis = range(2, len(v.node.input), 3), int(v.get("axis")) % v.rank(2)
    dy = _unrounded(v, v.w.add("Concat", *(_real(v, i) for i in places), axis=axis), 0)
    sizes = v.w.concat(*(v.raw(i).shape(axis, axis + 1) for i in places))
    parts = v.w.add_many("Split", dy, sizes, outputs=len(places), axis=axis) if len(places) > 1 else (dy,)
    return {i: part * _along(v, i + 1, v.rank(i), None) for i, part in zip(places, parts, strict=True)}


QUANTIZATION: dict[str, Gradient] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic,
    "ConvInteger": _conv_integer,
    "MatMulInteger": _matmul_integer,
    "QLinearConv": _qlinear_conv,
    "QLinearMatMul": _qlinear_matmul,
    "QGemm": _qgemm,
    "QLinearAdd": _qlinear_add,
    "QLinearMul": _qlinear_mul,
    "QLinearGlobalAveragePool": _qlinear_average,
    "QLinearLeakyRelu": _qlinear_leaky,
    "QLinearSigmoid": _qlinear_sigmoid,
    "QLinearConcat": _qlinear_concat,
}
