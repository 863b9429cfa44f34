"""Element by element: arithmetic, comparison, logic, casts."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from onnx import helper
from torch import Tensor

from .base import Converted, Converter, Function, Node, OfKind, first_input, pointwise
from .quantize import float8


def _divide(a: Tensor, b: Tensor) -> Tensor:
    if a.is_floating_point() or b.is_floating_point():
        return torch.div(a, b)
    return torch.div(a, b, rounding_mode="trunc")


def _power(base: Tensor, exponent: Tensor) -> Tensor:
    return torch.pow(base, exponent).to(base.dtype)


def _modulo(node: Node) -> Converted:
    function = torch.fmod if node.get("fmod", 0) else torch.remainder
    return Converted(Function(function), node.inputs)


def _variadic(function: Callable[[Tensor, Tensor], Tensor]) -> Converter:
    return pointwise(lambda *inputs: reduce(function, inputs))


def _mean(*inputs: Tensor) -> Tensor:
    return reduce(torch.add, inputs) / len(inputs)


def _is_infinite(node: Node) -> Converted:
    positive, negative = node.get("detect_positive", 1), node.get("detect_negative", 1)

    def function(x: Tensor) -> Tensor:
        return (torch.isposinf(x) & bool(positive)) | (torch.isneginf(x) & bool(negative))

    return Converted(Function(function), node.inputs)


def _shift(node: Node) -> Converted:
    left = node.get("direction") == "LEFT"
    return Converted(Function(torch.bitwise_left_shift if left else torch.bitwise_right_shift), node.inputs)


def _cast(node: Node) -> Converted:
    return _cast_to(node, int(node.get("to")))


def _cast_to(node: Node, wanted: int) -> Converted:
    rounded = float8(node, wanted)
    if rounded is not None:
        return first_input(node, rounded)
    return Converted(OfKind(_dtype(node, wanted), lambda kind, x: x.to(kind)), node.inputs[:1])


def _dtype(node: Node, onnx_type: int) -> torch.dtype:
    try:
        return torch.from_numpy(_example(onnx_type)).dtype
    except TypeError:
        raise node.unsupported(f"cast to ONNX type {onnx_type} is not supported") from None


def _example(onnx_type: int):  # type: ignore[no-untyped-def]
    import numpy as np

    return np.zeros(1, dtype=helper.tensor_dtype_to_np_dtype(onnx_type))


def _cast_like(node: Node) -> Converted:
    like = node.constant(1)
    if like is not None:
        return _cast_to(node, helper.np_dtype_to_tensor_dtype(like.dtype))
    return Converted(Function(lambda x, like: x.to(like.dtype)), node.inputs)


def _dropout(node: Node) -> Converted:
    """At inference the identity; the optional mask keeps everything."""
    training, ratio = node.constant(2), node.constant(1)
    if node.is_computed(2) or (training is not None and training.any() and (ratio is None or ratio.any())):
        raise node.unsupported("dropout in training mode (export the model in inference mode: model.eval())")
    if len([o for o in node.outputs if o]) > 1:
        return Converted(Function(lambda x: (x, torch.ones_like(x, dtype=torch.bool))), node.inputs[:1])
    return Converted(Function(lambda x: x), node.inputs[:1])


_SIMPLE: dict[str, Callable[..., Tensor]] = {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": _divide, "Pow": _power, "Round": torch.round,
    "Sin": torch.sin, "Cos": torch.cos, "Tan": torch.tan, "Asin": torch.asin, "Acos": torch.acos, "Atan": torch.atan,
    "Sinh": torch.sinh, "Cosh": torch.cosh, "Asinh": torch.asinh, "Acosh": torch.acosh, "Atanh": torch.atanh,
    "Equal": torch.eq, "Greater": torch.gt, "GreaterOrEqual": torch.ge, "Less": torch.lt,
    "LessOrEqual": torch.le, "Where": torch.where, "IsNaN": torch.isnan, "Identity": lambda x: x,
    "BitwiseAnd": torch.bitwise_and, "BitwiseOr": torch.bitwise_or, "BitwiseXor": torch.bitwise_xor,
    "BitwiseNot": torch.bitwise_not,
}  # fmt: skip

CONVERTERS: dict[tuple[str, str], Converter] = {
    **{("", op): pointwise(function) for op, function in _SIMPLE.items()},
    ("", "Sum"): _variadic(torch.add),
    ("", "Max"): _variadic(torch.maximum),
    ("", "Min"): _variadic(torch.minimum),
    ("", "Mean"): pointwise(_mean),
    ("", "Mod"): _modulo,
    ("", "IsInf"): _is_infinite,
    ("", "BitShift"): _shift,
    ("", "Cast"): _cast,
    ("", "CastLike"): _cast_like,
    ("", "Dropout"): _dropout,
}
