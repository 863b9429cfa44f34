"""Quantized models, with gradients: rounding passes the gradient straight through (Bengio et al. 2013).

Quantized tensors are kept as floating tensors that hold whole numbers, so that a gradient can pass from
Dequantize through Quantize to the image: d dequantize(quantize(x)) / dx = 1 where x was not clipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.nn.functional as F
from onnx import helper
from torch import Tensor

from ....errors import UnsupportedOperator
from ..geometry import Window
from .base import Converted, Converter, Function, Node
from .conv import pad_spatial

_RANGES = {
    "uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767),
    "uint4": (0, 15), "int4": (-8, 7),
}  # fmt: skip
_BY_NUMBER = {0: "uint8", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 21: "uint4", 22: "int4"}  # ONNX's numbers
_EIGHT_BITS = {
    17: torch.float8_e4m3fn, 18: torch.float8_e4m3fnuz, 19: torch.float8_e5m2, 20: torch.float8_e5m2fnuz
}  # fmt: skip


_rounds = ContextVar("rounds", default=True)


@contextmanager
def without_rounding() -> Iterator[None]:
    """Within it, quantized twins clip and scale but do not round.

    That is the function whose derivative their gradient is: the steps themselves have none.
    """
    before = _rounds.set(False)
    try:
        yield
    finally:
        _rounds.reset(before)


def round_straight_through(x: Tensor) -> Tensor:
    """Round half to even; the gradient passes as if nothing were rounded."""
    return x + (torch.round(x) - x).detach() if _rounds.get() else x


def float8(node: Node, wanted: int) -> Callable[[Tensor], Tensor] | None:
    """Rounding to floats of eight bits, held in the type of what is rounded; None where ``wanted`` is another type.

    Beyond the largest value it saturates, which is ONNX's default. The gradient passes as in `round_straight_through`.
    """
    kind = _EIGHT_BITS.get(wanted)
    if kind is None:
        return None
    if not node.get("saturate", 1):
        raise node.unsupported("floats of eight bits that do not saturate")
    most = torch.finfo(kind).max

    def run(x: Tensor) -> Tensor:
        bounded = torch.clamp(x, -most, most)
        return bounded + (bounded.to(kind).to(x.dtype) - bounded).detach() if _rounds.get() else bounded

    return run


def _per_axis(value: Tensor, x: Tensor, axis: int) -> Tensor:
    """A scale or zero point, reshaped to broadcast along ``axis``."""
    if value.ndim == 0 or value.numel() == 1:
        return value.reshape(())
    if value.ndim != 1:
        raise UnsupportedOperator("blocked quantization with scales that are computed while the model runs")
    return value.reshape(*(-1 if i == axis % x.ndim else 1 for i in range(x.ndim)))


def value_range(node: Node, position: int) -> tuple[int, int]:
    """(lowest, highest) value of the type of the zero point at this input; uint8 where there is none."""
    zero = node.constant(position)
    if zero is None:
        if node.is_computed(position):
            raise node.unsupported("a zero point that is computed while the model runs")
        wanted = int(node.get("output_dtype", 0)) if node.op == "QuantizeLinear" else 0
        if wanted not in _BY_NUMBER:
            raise node.unsupported(f"quantization to ONNX type {wanted}")
        return _RANGES[_BY_NUMBER[wanted]]
    if str(zero.dtype) not in _RANGES:
        raise node.unsupported(f"quantization to {zero.dtype}")
    return _RANGES[str(zero.dtype)]


def _refuse_blocks(node: Node, position: int) -> None:
    scale = node.constant(position)
    if int(node.get("block_size", 0)) or (scale is not None and scale.ndim > 1):
        raise node.unsupported("blocked quantization")


def _quantize(node: Node) -> Converted:
    _refuse_blocks(node, 1)
    axis, given = int(node.get("axis", 1)), node.constant(2)
    wanted = int(node.get("output_dtype", 0)) if given is None else helper.np_dtype_to_tensor_dtype(given.dtype)
    rounded = float8(node, wanted)
    if rounded is not None:
        return Converted(Function(lambda x, scale, zero=None: rounded(x / _per_axis(scale, x, axis))), node.inputs)
    low, high = value_range(node, 2)

    def run(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        scaled = round_straight_through(x / _per_axis(scale, x, axis))
        return torch.clamp(scaled if zero is None else scaled + _per_axis(zero, x, axis).to(x.dtype), low, high)

    return Converted(Function(run), node.inputs)


def _dequantize(node: Node) -> Converted:
    _refuse_blocks(node, 1)
    if int(node.get("output_dtype", 0)) not in (0, 1):
        raise node.unsupported("dequantization to another type than float")
    axis = int(node.get("axis", 1))

    def run(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        values = x.to(scale.dtype)
        centred = values if zero is None else values - _per_axis(zero, x, axis).to(scale.dtype)
        return centred * _per_axis(scale, x, axis)

    return Converted(Function(run), node.inputs)


def _dynamic(node: Node) -> Converted:
    return Converted(Function(_quantized_dynamically), node.inputs)


def _quantized_dynamically(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(whole numbers, scale, zero point) with 8 bit over the range that ``x`` has, 0 included."""
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = (high - low) / 255
    safe = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero = torch.clamp(torch.round(-low / safe), 0, 255)
    return torch.clamp(round_straight_through(x / safe) + zero, 0, 255), scale, zero


def fake_quantized_dynamically(x: Tensor) -> Tensor:
    """``x`` rounded to 8 bit over its own range and back; the gradient passes as if nothing were rounded."""
    if not _rounds.get():  # a zero point that is rounded would still clip the ends of the range
        return x
    whole, scale, zero = _quantized_dynamically(x.detach())
    return x + ((whole - zero) * scale - x.detach())


def _qlinear_conv(node: Node) -> Converted:
    """Inputs: x, scale, zero, weight, scale, zero, scale of y, zero of y, bias (int32, scale = both scales)."""
    weight = node.constant(3)
    if weight is None:
        raise node.unsupported("a weight that is computed while the model runs")
    low, high = value_range(node, 7)
    window, groups = Window(node, weight.shape[2:]), int(node.get("group", 1))

    def run(
        x: Tensor,
        xs: Tensor,
        xz: Tensor,
        w: Tensor,
        ws: Tensor,
        wz: Tensor,
        ys: Tensor,
        yz: Tensor,
        b: Tensor | None = None,
    ) -> Tensor:
        kind = xs.dtype
        real = x.to(kind) - xz.to(kind)
        kernel = w.to(kind) - _per_axis(wz.to(kind), w, 0)
        total = _window_conv(real, kernel, window, groups)
        if b is not None:
            total = total + b.to(kind).reshape(1, -1, *(1,) * (x.ndim - 2))
        factor = xs * _per_axis(ws, total, 1) / ys
        return torch.clamp(round_straight_through(total * factor) + yz.to(kind), low, high)

    return Converted(Function(run), node.inputs)


def _conv_integer(node: Node) -> Converted:
    weight = node.constant(1)
    if weight is None:
        raise node.unsupported("a weight that is computed while the model runs")
    window, groups = Window(node, weight.shape[2:]), int(node.get("group", 1))

    def run(x: Tensor, w: Tensor, xz: Tensor | None = None, wz: Tensor | None = None) -> Tensor:
        kind = x.dtype if x.is_floating_point() else torch.float32
        real = x.to(kind) if xz is None else x.to(kind) - xz.to(kind)
        kernel = w.to(kind) if wz is None else w.to(kind) - _per_axis(wz.to(kind), w, 0)
        return _window_conv(real, kernel, window, groups)

    return Converted(Function(run), node.inputs)


def _window_conv(x: Tensor, kernel: Tensor, window: Window, groups: int) -> Tensor:
    begins, ends = window.pads(x.shape[2:])
    functions = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
    padded = pad_spatial(x, begins, ends)
    return functions[x.ndim](padded, kernel, None, window.strides, 0, window.dilations, groups)


def _qlinear_matmul(node: Node) -> Converted:
    low, high = value_range(node, 7)

    def run(a: Tensor, as_: Tensor, az: Tensor, b: Tensor, bs: Tensor, bz: Tensor, ys: Tensor, yz: Tensor) -> Tensor:
        kind = as_.dtype
        total = torch.matmul(a.to(kind) - az.to(kind), b.to(kind) - bz.to(kind))
        return torch.clamp(round_straight_through(total * (as_ * bs / ys)) + yz.to(kind), low, high)

    parts = [node.constant(i) for i in (1, 2, 4, 5, 6, 7)]
    if any(part is not None and part.size > 1 for part in parts):
        raise node.unsupported("a matrix product quantized per row or column")
    return Converted(Function(run), node.inputs)


def _matmul_integer(node: Node) -> Converted:
    def run(a: Tensor, b: Tensor, az: Tensor | None = None, bz: Tensor | None = None) -> Tensor:
        kind = a.dtype if a.is_floating_point() else torch.float32
        left = a.to(kind) if az is None else a.to(kind) - _per_axis(az.to(kind), a, -2)
        right = b.to(kind) if bz is None else b.to(kind) - _per_axis(bz.to(kind), b, -1)
        return torch.matmul(left, right)

    return Converted(Function(run), node.inputs)


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "QuantizeLinear"): _quantize,
    ("", "DequantizeLinear"): _dequantize,
    ("", "DynamicQuantizeLinear"): _dynamic,
    ("", "QLinearConv"): _qlinear_conv,
    ("", "ConvInteger"): _conv_integer,
    ("", "QLinearMatMul"): _qlinear_matmul,
    ("", "MatMulInteger"): _matmul_integer,
}
