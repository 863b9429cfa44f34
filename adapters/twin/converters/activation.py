"""Activations. ReLU and its kin stay single modules, so that rules (guided backprop) can take their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Converted, Converter, Function, Node, first_input, parameter


def _by(make: Callable[[Node], Callable[[Tensor], Tensor]]) -> Converter:
    return lambda node: first_input(node, make(node))


class _Clamp(torch.autograd.Function):
    """Clamp whose gradient is zero at the bounds too, as ReLU6 has it; torch.clamp passes it there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor | None, high: Tensor | None) -> Tensor:
        inside = torch.ones_like(x, dtype=torch.bool)
        if low is not None:
            inside &= x > low
        if high is not None:
            inside &= x < high
        ctx.save_for_backward(inside)
        return torch.clamp(x, low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None, None


def _clip(node: Node) -> Converted:
    bounds = [node.get("min"), node.get("max")]
    for i in (0, 1):
        value = node.constant(i + 1)
        if value is not None and value.size:
            bounds[i] = float(np.ravel(value)[0])
    low, high = (None if b is None else float(b) for b in bounds)
    if node.is_computed(1) or node.is_computed(2):

        def computed(x: Tensor, least: Tensor | None = None, most: Tensor | None = None) -> Tensor:
            return _Clamp.apply(x, least, most)

        return Converted(Function(computed), node.inputs)
    if low == 0.0 and high is None:
        return first_input(node, F.relu)
    if low is not None and high is not None and low < high:
        return first_input(
            node, lambda x: F.hardtanh(x, low, high) if x.is_floating_point() else x.clamp(int(low), int(high))
        )

    def run(x: Tensor) -> Tensor:
        least = None if low is None else torch.full((), low, dtype=x.dtype, device=x.device)
        most = None if high is None else torch.full((), high, dtype=x.dtype, device=x.device)
        return x if least is None and most is None else _Clamp.apply(x, least, most)

    return first_input(node, run)


class PRelu(torch.nn.Module):
    """x where positive, slope * x else; the slope broadcasts from the right, as ONNX has it."""

    def __init__(self, slope: np.ndarray) -> None:
        super().__init__()
        self.slope = parameter(slope)

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x < 0, x * self.slope, x)


def _prelu(node: Node) -> Converted:
    slope = node.constant(1)
    if slope is not None:
        return Converted(PRelu(slope), node.inputs[:1])
    return Converted(Function(lambda x, s: torch.where(x < 0, x * s, x)), node.inputs)


def _selu(node: Node) -> Callable[[Tensor], Tensor]:
    # the specification's defaults (Klambauer et al. 2017), more digits than torch keeps
    alpha = float(node.get("alpha", 1.67326319217681884765625))
    gamma = float(node.get("gamma", 1.05070102214813232421875))
    return lambda x: gamma * torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))


def _celu(node: Node) -> Callable[[Tensor], Tensor]:
    alpha = float(node.get("alpha", 1.0))
    return lambda x: F.celu(x, alpha)


def _elu(node: Node) -> Callable[[Tensor], Tensor]:
    alpha = float(node.get("alpha", 1.0))
    return lambda x: F.elu(x, alpha)


def _thresholded(node: Node) -> Callable[[Tensor], Tensor]:
    alpha = float(node.get("alpha", 1.0))
    return lambda x: torch.where(x > alpha, x, torch.zeros_like(x))


def _hard_sigmoid(node: Node) -> Callable[[Tensor], Tensor]:
    alpha, beta = float(node.get("alpha", 0.2)), float(node.get("beta", 0.5))
    return lambda x: F.hardtanh(alpha * x + beta, 0.0, 1.0)


def _gelu(node: Node) -> Callable[[Tensor], Tensor]:
    approximate = "tanh" if node.get("approximate", "none") == "tanh" else "none"
    return lambda x: F.gelu(x, approximate=approximate)


def _swish(node: Node) -> Callable[[Tensor], Tensor]:
    alpha = float(node.get("alpha", 1.702 if node.op == "QuickGelu" else 1.0))
    return lambda x: x * torch.sigmoid(alpha * x)


def _shrink(node: Node) -> Callable[[Tensor], Tensor]:
    bias, limit = float(node.get("bias", 0.0)), float(node.get("lambd", 0.5))

    def run(x: Tensor) -> Tensor:
        return torch.where(x < -limit, x + bias, torch.where(x > limit, x - bias, torch.zeros_like(x))).to(x.dtype)

    return run


def _along_axis(function: Callable[[Tensor, int], Tensor]) -> Converter:
    """Softmax and its kin: before opset 13 over all axes from ``axis`` on, since then along one."""

    def convert(node: Node) -> Converted:
        axis = int(node.get("axis", -1 if node.opset >= 13 else 1))
        if node.opset >= 13:
            return first_input(node, lambda x: function(x, axis))

        def flattened(x: Tensor) -> Tensor:
            cut = axis % x.ndim
            return function(x.flatten(cut), -1).reshape(x.shape)

        return first_input(node, flattened)

    return convert


def _hardmax(x: Tensor, axis: int) -> Tensor:
    first = (x == x.amax(axis, keepdim=True)).to(torch.uint8).argmax(axis, keepdim=True)
    return torch.zeros_like(x).scatter(axis, first, 1.0)


_SIMPLE: dict[str, Callable[[Tensor], Tensor]] = {
    "Softplus": F.softplus, "Softsign": F.softsign, "HardSwish": F.hardswish, "Mish": F.mish,
}  # fmt: skip

CONVERTERS: dict[tuple[str, str], Converter] = {
    **{("", op): _by(lambda node, f=function: f) for op, function in _SIMPLE.items()},  # type: ignore[misc]
    ("", "Clip"): _clip,
    ("", "PRelu"): _prelu,
    ("", "Selu"): _by(_selu),
    ("", "Celu"): _by(_celu),
    ("", "Elu"): _by(_elu),
    ("", "ThresholdedRelu"): _by(_thresholded),
    ("", "HardSigmoid"): _by(_hard_sigmoid),
    ("", "Gelu"): _by(_gelu),
    ("", "Swish"): _by(_swish),
    ("", "Shrink"): _by(_shrink),
    ("", "Softmax"): _along_axis(lambda x, axis: F.softmax(x, axis)),
    ("", "LogSoftmax"): _along_axis(lambda x, axis: F.log_softmax(x, axis)),
    ("", "Hardmax"): _along_axis(_hardmax),
    ("com.microsoft", "Gelu"): _by(_gelu),
    ("com.microsoft", "QuickGelu"): _by(_swish),
}
