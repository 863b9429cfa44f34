"""ONNX Runtime's own quantized operators (domain com.microsoft), as its quantizer writes them.

Each one dequantizes its inputs, computes in floating point and quantizes the result; the gradient passes the
rounding as in `quantize`. Scales and zero points are per tensor, as those operators define them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Converted, Converter, Function, Node
from .quantize import CONVERTERS as STANDARD
from .quantize import round_straight_through, value_range

Real = Callable[..., Tensor]


def _dequantized(x: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    values = x.to(scale.dtype)
    return (values if zero is None else values - zero.to(scale.dtype)) * scale


def _through_floats(count: int, make: Callable[[Node], Real]) -> Converter:
    """A converter for inputs (value, scale, zero point) * ``count``, then scale and zero point of the result."""

    def convert(node: Node) -> Converted:
        low, high = value_range(node, 3 * count + 1)
        real = make(node)

        def run(*inputs: Tensor | None) -> Tensor:
            values = _values(inputs[: 3 * count])
            return _quantized(real(*values), inputs[3 * count :], low, high)

        return Converted(Function(run), node.inputs)

    return convert


def _values(triples: Sequence[Tensor | None]) -> list[Tensor]:
    starts = range(0, len(triples), 3)
    return [_dequantized(triples[i], triples[i + 1], triples[i + 2]) for i in starts]  # type: ignore[arg-type]


def _quantized(y: Tensor, step: Sequence[Tensor | None], low: int, high: int) -> Tensor:
    scale, zero = step[0], step[1] if len(step) > 1 else None
    assert scale is not None  # the operator requires it
    whole = round_straight_through(y / scale)
    return torch.clamp(whole if zero is None else whole + zero.to(whole.dtype), low, high)


def _concat(node: Node) -> Converted:
    """Inputs: scale and zero point of the result, then (value, scale, zero point) for each part."""
    low, high = value_range(node, 1)
    axis = int(node.get("axis"))

    def run(*inputs: Tensor | None) -> Tensor:
        return _quantized(torch.cat(_values(inputs[2:]), axis), inputs[:2], low, high)

    return Converted(Function(run), node.inputs)


def _global_average(node: Node) -> Real:
    if node.get("channels_last", 0):
        raise node.unsupported("channels last")
    return lambda x: x.mean(tuple(range(2, x.ndim)), keepdim=True)


def _leaky_relu(node: Node) -> Real:
    slope = float(node.get("alpha", 0.01))
    return lambda x: F.leaky_relu(x, slope)


def _gemm(node: Node) -> Converted:
    """Inputs: a, scale, zero, b, scale, zero, bias (int32, scale = both scales), scale and zero of y (both or none)."""
    alpha = float(node.get("alpha", 1.0))
    left, right = bool(node.get("transA", 0)), bool(node.get("transB", 0))
    scale = node.constant(4)
    if scale is None or scale.size > 1:
        raise node.unsupported("scales per column")
    low, high = value_range(node, 8) if node.has(7) else (0, 0)

    def run(*inputs: Tensor | None) -> Tensor:
        filled = [*inputs, *[None] * (9 - len(inputs))]
        a, a_scale, a_zero, b, b_scale, b_zero, bias, *step = filled
        assert a is not None and b is not None and a_scale is not None and b_scale is not None  # all required
        x, w = _dequantized(a, a_scale, a_zero), _dequantized(b, b_scale, b_zero)
        total = alpha * torch.matmul(x.T if left else x, w.T if right else w)
        if bias is not None:
            total = total + bias.to(total.dtype) * a_scale * b_scale
        return total if step[0] is None else _quantized(total, step, low, high)

    return Converted(Function(run), node.inputs)


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("com.microsoft", "QLinearAdd"): _through_floats(2, lambda node: torch.add),
    ("com.microsoft", "QLinearMul"): _through_floats(2, lambda node: torch.mul),
    ("com.microsoft", "QLinearGlobalAveragePool"): _through_floats(1, _global_average),
    ("com.microsoft", "QLinearLeakyRelu"): _through_floats(1, _leaky_relu),
    ("com.microsoft", "QLinearSigmoid"): _through_floats(1, lambda node: torch.sigmoid),
    ("com.microsoft", "QLinearConcat"): _concat,
    ("com.microsoft", "QGemm"): _gemm,
    ("com.microsoft", "QuantizeLinear"): STANDARD["", "QuantizeLinear"],
    ("com.microsoft", "DequantizeLinear"): STANDARD["", "DequantizeLinear"],
}
