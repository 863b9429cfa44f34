"""Gradients of matrix products."""

from __future__ import annotations

from ..writer import Value
from .base import Gradient, Gradients, Visit, unbroadcast


def _matmul(v: Visit) -> Gradients:
    """dA = dY B^T and dB = A^T dY, over the last two axes."""
    ranks = v.rank(0), v.rank(1)
    if min(ranks) < 2:
        raise v.unsupported("a product with a vector")
    found = {}
    batch = v.result_shape()[:-2]
    if 0 in v.wanted:
        product = v.dy.apply("MatMul", _turned(v.x(1), ranks[1]))
        found[0] = unbroadcast(product, (*batch, *v.shape(0)[-2:]), v.raw(0), v.shape(0), is_fixed=v.is_fixed)
    if 1 in v.wanted:
        product = _turned(v.x(0), ranks[0]).apply("MatMul", v.dy)
        found[1] = unbroadcast(product, (*batch, *v.shape(1)[-2:]), v.raw(1), v.shape(1), is_fixed=v.is_fixed)
    return found


def _turned(x: Value, rank: int) -> Value:
    axes = list(range(rank))
    return x.transpose([*axes[:-2], axes[-1], axes[-2]])


def _gemm(v: Visit) -> Gradients:
    """Y = alpha A' B' + beta C, where A' and B' are A and B or their transposes."""
    alpha, beta = float(v.get("alpha", 1.0)), float(v.get("beta", 1.0))
    left, right = int(v.get("transA", 0)), int(v.get("transB", 0))
    found = {}
    if 0 in v.wanted:
        found[0] = (
            v.x(1).apply("Gemm", v.dy, transA=right, transB=1, alpha=alpha)
            if left
            else v.dy.apply("Gemm", v.x(1), transB=1 - right, alpha=alpha)
        )
    if 1 in v.wanted:
        found[1] = (
            v.dy.apply("Gemm", v.x(0), transA=1, transB=left, alpha=alpha)
            if right
            else v.x(0).apply("Gemm", v.dy, transA=1 - left, alpha=alpha)
        )
    if 2 in v.wanted:
        found[2] = v.fit(v.dy * beta, 2)
    return found


def _einsum(v: Visit) -> Gradients:
    """Each operand's gradient is an Einsum of the output's and the other operands, with the letters exchanged."""
    equation = v.get("equation").replace(" ", "")
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    if not arrow or "." in equation or any(len(set(t)) != len(t) for t in terms):
        raise v.unsupported(f"equation '{equation}'")
    found = {}
    for i in v.wanted:
        others = [(t, v.x(j)) for j, t in enumerate(terms) if j != i]
        known = set(out).union(*(t for t, _ in others))
        if not set(terms[i]) <= known:
            raise v.unsupported(f"equation '{equation}', which sums one operand alone")
        inputs = ",".join([out, *(t for t, _ in others)])
        found[i] = v.dy.apply("Einsum", *(x for _, x in others), equation=f"{inputs}->{terms[i]}")
    return found


MATRICES: dict[str, Gradient] = {"MatMul": _matmul, "Gemm": _gemm, "Einsum": _einsum}
