"""Gradients of sums, products and choices; what was broadcast is summed again."""

from __future__ import annotations

import numpy as np

from ..writer import Value
from .base import Gradient, Gradients, Visit


def _add(v: Visit) -> Gradients:
    return {i: v.fit(v.dy, i) for i in v.wanted}


def _sub(v: Visit) -> Gradients:
    return {i: v.fit(-v.dy if i else v.dy, i) for i in v.wanted}


def _mul(v: Visit) -> Gradients:
    return {i: v.fit(v.dy * v.x(1 - i), i) for i in v.wanted}


def _div(v: Visit) -> Gradients:
    share = v.dy / v.x(1)
    return {i: v.fit(-(share * v.y()) if i else share, i) for i in v.wanted}


def _mean(v: Visit) -> Gradients:
    share = v.dy / float(len(v.node.input))
    return {i: v.fit(share, i) for i in v.wanted}


def _pow(v: Visit) -> Gradients:
    """Of the base: dY * e * X^(e - 1); the exponent has to be a constant."""
    exponent = v.constant(1)
    if 1 in v.wanted or exponent is None:
        raise v.unsupported("an exponent that is computed while the model runs")
    lower = v.w.constant((np.asarray(exponent, dtype=np.float64) - 1).astype(v.w.kind))
    factor = v.w.constant(np.asarray(exponent).astype(v.w.kind))
    if exponent.size == 1 and float(np.ravel(exponent)[0]) == 2.0:
        return {0: v.fit(v.dy * v.x() * 2.0, 0)}
    return {0: v.fit(v.dy * factor * v.x().apply("Pow", lower), 0)}


def _mod(v: Visit) -> Gradients:
    """The remainder moves with the number."""
    if v.wanted != {0}:
        raise v.unsupported("a divisor that depends on the image")
    return {0: v.fit(v.dy, 0)}


def _extreme(v: Visit) -> Gradients:
    """Max and Min: to the larger (smaller) of two, half to each where they are equal; many are taken pair by pair."""
    op = v.node.op_type
    so_far = [v.x(0)]
    for i in range(1, len(v.node.input)):
        so_far.append(so_far[-1].apply(op, v.x(i)))
    gradient, found = v.dy, {}
    for i in range(len(v.node.input) - 1, 0, -1):
        left, right = so_far[i - 1], v.x(i)
        found[i] = gradient * _share(right, left, op)
        gradient = gradient * _share(left, right, op)
    found[0] = gradient
    return {i: v.fit(found[i], i) for i in v.wanted}


def _share(own: Value, other: Value, op: str) -> Value:
    w = own.writer
    ahead = own > other if op == "Max" else own < other
    return w.where(ahead, 1.0, w.where(own.equals(other), 0.5, 0.0))


def _where(v: Visit) -> Gradients:
    condition, found = v.raw(0), {}
    if 1 in v.wanted:
        found[1] = v.fit(v.w.where(condition, v.dy, 0.0), 1)
    if 2 in v.wanted:
        found[2] = v.fit(v.w.where(condition, 0.0, v.dy), 2)
    return found


ARITHMETIC: dict[str, Gradient] = {
    "Add": _add,
    "Sum": _add,
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div,
    "Mean": _mean,
    "Pow": _pow,
    "Mod": _mod,
    "Max": _extreme,
    "Min": _extreme,
    "Where": _where,
}
