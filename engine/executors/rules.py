"""Other ways through a nonlinearity: rules that replace an operator's own backward pass on the twin.

A rule is what `Twin.forward` takes: a function of a node's module and its inputs. These keep the forward value
and change what flows back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..graph.operators import names

RECTIFIERS = names(lambda row: row.rectifier)


class _PositiveGradient(torch.autograd.Function):
    """Identity; backward keeps positive gradients only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.clamp(min=0)


class _Replaced(torch.autograd.Function):
    """Forward gives ``value``; backward passes positive gradients to ``x`` whatever the value was."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.clamp(min=0), None


def guided(module: Any, x: Tensor, *rest: Any) -> Tensor:
    """A rectifier whose gradient is the usual one where it is positive, else 0."""
    return _PositiveGradient.apply(module(x, *rest))


def deconvnet(module: Any, x: Tensor, *rest: Any) -> Tensor:
    """A rectifier whose gradient is rectified itself and does not ask which inputs were positive."""
    return _Replaced.apply(x, module(x, *rest).detach())


class _Rescale(torch.autograd.Function):
    """An element-wise function; backward multiplies by (y - y') / (x - x') instead of its derivative.

    The batch holds inputs in its first half and their references in its second.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, module: Any, rest: tuple[Any, ...]) -> Tensor:
        y = module(x, *rest)
        ctx.save_for_backward(x, y)
        ctx.call = (module, rest)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        x, y = ctx.saved_tensors
        module, rest = ctx.call
        own = _own_gradient(module, rest, x, gradient)
        change = _doubled(_difference(x))
        slope = _doubled(_difference(y)) / torch.where(change == 0, torch.ones_like(change), change)
        return torch.where(change.abs() < _TINY, own, gradient * slope), None, None


class _RescalePool(torch.autograd.Function):
    """Maximum pooling under the rescale rule.

    The change of a maximum from o' to o is split at max(o, o'): the part above o' belongs to the input's
    winner, the part below to the reference's winner.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, module: Any) -> Tensor:
        result = module(x)
        y = result[0] if isinstance(result, (tuple, list)) else result
        ctx.save_for_backward(x, y)
        ctx.module = module
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, y = ctx.saved_tensors
        new, old = y.chunk(2)
        top = torch.maximum(new, old)
        routed = _own_gradient(ctx.module, (), x, gradient * torch.cat([top - old, new - top]))
        contribution = routed.chunk(2)[0] + routed.chunk(2)[1]
        change = _difference(x)
        slope = contribution / torch.where(change == 0, torch.ones_like(change), change)
        own = _own_gradient(ctx.module, (), x, gradient)
        return torch.where(_doubled(change).abs() < _TINY, own, _doubled(slope)), None


def rescale(module: Any, x: Tensor, *rest: Any) -> Tensor:
    """DeepLIFT's rescale rule for an element-wise function."""
    return _Rescale.apply(x, module, rest)


def rescale_max_pool(module: Any, x: Tensor) -> Tensor:
    """DeepLIFT's rule for maximum pooling."""
    return _RescalePool.apply(x, module)


def rescale_product(module: Any, a: Any, b: Any) -> Tensor:
    """A product of two things that both depend on the image: each factor gets the other's mean as multiplier.

    (ab - a'b') = (a - a') (b + b') / 2 + (b - b') (a + a') / 2, so nothing is lost. Gates (squeeze and
    excitation, SiLU as x sigmoid(x)) need it.
    """
    if not (_depends(a) and _depends(b)):
        return module(a, b)
    mean_a, mean_b = (_doubled((t.chunk(2)[0] + t.chunk(2)[1]) / 2).detach() for t in (a, b))
    linear = a * mean_b + b * mean_a
    return linear + (module(a, b) - linear).detach()


# Elementwise functions of one tensor that are not lines: for a line the rule is the derivative.
_BENT = names(lambda row: row.family in ("activation", "function") and row.gradient and not row.linear)
DEEPLIFT = {**dict.fromkeys(_BENT, rescale), "MaxPool": rescale_max_pool, "Mul": rescale_product}

_TINY = 1e-10  # below this the difference quotient is noise and the derivative stands in; as captum has it


def _own_gradient(module: Any, rest: tuple[Any, ...], x: Tensor, gradient: Tensor) -> Tensor:
    with torch.enable_grad():
        inner = x.detach().requires_grad_()
        result = module(inner, *rest)
        return torch.autograd.grad(result[0] if isinstance(result, (tuple, list)) else result, inner, gradient)[0]


def _difference(values: Tensor) -> Tensor:
    new, old = values.chunk(2)
    return new - old


def _doubled(half: Tensor) -> Tensor:
    return torch.cat([half, half])


def _depends(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad
