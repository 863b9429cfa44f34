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


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("com.microsoft", "QLinearAdd"): _through_floats(2, lambda node: torch.add),
    ("com.microsoft", "QLinearMul"): _through_floats(2, lambda node: torch.mul),
    ("com.microsoft", "QLinearGlobalAveragePool"): _through_floats(1, _global_average),
    ("com.microsoft", "QLinearLeakyRelu"): _through_floats(1, _leaky_relu),
    ("com.microsoft", "QLinearSigmoid"): _through_floats(1, lambda node: torch.sigmoid),
    ("com.microsoft", "QLinearConcat"): _concat,
    ("com.microsoft", "QuantizeLinear"): STANDARD["", "QuantizeLinear"],
    ("com.microsoft", "DequantizeLinear"): STANDARD["", "DequantizeLinear"],
}
