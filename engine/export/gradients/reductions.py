"""Gradients of reductions, softmax and cumulative sums."""

from __future__ import annotations

from collections.abc import Callable

from ..writer import Value
from .base import Gradient, Gradients, Visit


def _reduced(formula: Callable[[Visit, Value, Value], Value]) -> Gradient:
    """A reduction's gradient from (visit, dY, Y), both with the reduced axes kept as size one."""

    def gradient(v: Visit) -> Gradients:
        axes = v.axes()
        if not axes and int(v.get("noop_with_empty_axes", 0)):
            raise v.unsupported("a reduction of nothing")
        axes = sorted(a % v.rank() for a in axes) if axes else list(range(v.rank()))
        kept = bool(v.get("keepdims", 1))
        dy, y = (v.dy, v.y()) if kept else (v.dy.unsqueeze(axes), v.y().unsqueeze(axes))
        return {0: formula(v, dy, y)}

    return gradient


def _sum(v: Visit, dy: Value, _y: Value) -> Value:
    return dy.expand(v.raw(0).shape())


def _mean(v: Visit, dy: Value, _y: Value) -> Value:
    count = (v.raw(0).count() / v.w.value(v.node.output[0]).count()).cast()
    return (dy / count).expand(v.raw(0).shape())


def _extreme(v: Visit, dy: Value, y: Value) -> Value:
    """Equal shares to all that are the largest (smallest), as torch's amax."""
    axes = v.axes()
    chosen = sorted(a % v.rank() for a in axes) if axes else list(range(v.rank()))
    winners = v.x().equals(y).cast()
    return winners * (dy / winners.sum(chosen))


def _product(v: Visit, dy: Value, _y: Value) -> Value:
    """dY times the product of the others: where one value is zero, it alone moves the product."""
    x, w = v.x(), v.w
    axes = v.axes() or range(v.rank())
    empty = x.equals(0.0)
    filled = w.where(empty, 1.0, x)
    zeros = empty.cast().sum([a % v.rank() for a in axes])
    others = filled.reduce("ReduceProd", [a % v.rank() for a in axes])
    return dy * others * w.where(empty, zeros.equals(1.0).cast(), zeros.equals(0.0).cast() / filled)


def _length(v: Visit, dy: Value, y: Value) -> Value:
    """Of the Euclidean length: X / Y, zero where the length is zero."""
    empty = y.equals(0.0)
    return v.x() * v.w.where(empty, 0.0, dy / v.w.where(empty, 1.0, y))


def _softmax(v: Visit) -> Gradients:
    weighted = v.dy * v.y()
    return {0: v.y() * (v.dy - weighted.sum([int(v.get("axis", -1))]))}


def _log_softmax(v: Visit) -> Gradients:
    return {0: v.dy - v.y().exp() * v.dy.sum([int(v.get("axis", -1))])}


def _cumulative(v: Visit) -> Gradients:
    turned = 1 - int(v.get("reverse", 0))
    return {0: v.dy.apply("CumSum", v.raw(1), reverse=turned, exclusive=v.get("exclusive"))}


REDUCTIONS: dict[str, Gradient] = {
    "ReduceSum": _reduced(_sum),
    "ReduceMean": _reduced(_mean),
    "ReduceMax": _reduced(_extreme),
    "ReduceMin": _reduced(_extreme),
    "ReduceProd": _reduced(_product),
    "ReduceL1": _reduced(lambda v, dy, y: v.x().apply("Sign") * dy),
    "ReduceL2": _reduced(_length),
    "ReduceSumSquare": _reduced(lambda v, dy, y: v.x() * 2.0 * dy),
    "ReduceLogSum": _reduced(lambda v, dy, y: (dy / y.exp()).expand(v.raw(0).shape())),
    "ReduceLogSumExp": _reduced(lambda v, dy, y: dy * (v.x() - y).exp()),
    "Softmax": _softmax,
    "LogSoftmax": _log_softmax,
    "CumSum": _cumulative,
}

# Operators through which no gradient flows: what they give are whole numbers, truth values or steps.
CONSTANT = frozenset({
    "Shape", "Size", "ArgMax", "ArgMin", "Hardmax", "NonZero", "Equal", "Greater", "GreaterOrEqual", "Less",
    "LessOrEqual", "And", "Or", "Xor", "Not", "IsNaN", "IsInf", "Floor", "Ceil", "Round", "Sign", "ConstantOfShape",
    "EyeLike", "Range", "OneHot", "NonMaxSuppression", "HannWindow", "HammingWindow", "BlackmanWindow",
    "MelWeightMatrix",
})  # fmt: skip
