"""Gradients of matrix products."""

from __future__ import annotations

from collections.abc import Mapping

from ...graph.einsum import einsum_terms
from ..writer import Value
from .base import Gradient, Gradients, Visit, unbroadcast


def _matmul(v: Visit) -> Gradients:
    return product_gradients(v, v.dy, {0: v.x(0), 1: v.x(1)})


def product_gradients(v: Visit, dy: Value, factors: Mapping[int, Value]) -> Gradients:
    """dA = dY B^T and dB = A^T dY, over the last two axes, of the wanted ones of two factors (by input position)."""
    (i, a), (j, b) = factors.items()
    if min(v.rank(i), v.rank(j)) < 2:
        raise v.unsupported("a product with a vector")
    found = {}
    batch = v.result_shape()[:-2]
    if i in v.wanted:
        product = dy.apply("MatMul", _turned(b, v.rank(j)))
        found[i] = unbroadcast(product, (*batch, *v.shape(i)[-2:]), v.raw(i), v.shape(i), is_fixed=v.is_fixed)
    if j in v.wanted:
        product = _turned(a, v.rank(i)).apply("MatMul", dy)
        found[j] = unbroadcast(product, (*batch, *v.shape(j)[-2:]), v.raw(j), v.shape(j), is_fixed=v.is_fixed)
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
    """Each operand's gradient is an Einsum of the output's and the other operands, with the letters exchanged.

    What one operand alone has is summed: its gradient is repeated along it. What it lacks of an axis of others
    (size one) is summed again.
    """
    terms, out = _letters(v)
    sizes = {letter: 1 for term in terms for letter in term}
    for i, term in enumerate(terms):
        sizes |= {letter: max(sizes[letter], size) for letter, size in zip(term, v.shape(i), strict=True)}
    found = {}
    for i in v.wanted:
        own, others = terms[i], [j for j in range(len(terms)) if j != i]
        theirs = [(c, n) for j in others for c, n in zip(terms[j], v.shape(j), strict=True)]
        known = {*out, *(c for c, n in theirs if n == sizes[c])}
        equation = f"{','.join([out, *(terms[j] for j in others)])}->{''.join(c for c in own if c in known)}"
        gradient = v.dy.apply("Einsum", *(v.x(j) for j in others), equation=equation)
        if alone := [place for place, c in enumerate(own) if c not in known]:
            gradient = gradient.unsqueeze(alone).expand(v.raw(i).shape())
        full = [sizes[c] if c in known else n for c, n in zip(own, v.shape(i), strict=True)]
        found[i] = unbroadcast(gradient, full, v.raw(i), v.shape(i), is_fixed=v.is_fixed)
    return found


def _letters(v: Visit) -> tuple[list[str], str]:
    equation = v.get("equation")
    terms, out = einsum_terms(equation, [v.rank(i) for i in range(equation.count(",") + 1)])
    if any(len(set(term)) != len(term) for term in terms):
        raise v.unsupported(f"equation '{equation.replace(' ', '')}', which takes a diagonal")
    return terms, out


MATRICES: dict[str, Gradient] = {"MatMul": _matmul, "Gemm": _gemm, "Einsum": _einsum}
