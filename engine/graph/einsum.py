"""Einsum's equations, with a letter for every axis."""

from __future__ import annotations

import string
from collections.abc import Sequence


def einsum_terms(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The operands' letters and the result's, with free letters in the place of dots and of what is not said.

    Dots of several operands are aligned at their end, as broadcasting has it.

    Args:
        equation: with or without spaces and a result.
        ranks: numbers of axes of the operands; no terms come of ranks that do not fit.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    spans = [rank - len(term) + 3 if "." in term else 0 for term, rank in zip(terms, ranks, strict=False)]
    if min(spans, default=0) < 0:
        return [], ""
    if not arrow:
        right = "..." * ("." in left) + "".join(sorted(c for c in set(left) - set(",.") if left.count(c) == 1))
    free = "".join(c for c in string.ascii_letters if c not in equation)[: max(spans, default=0)]
    terms = [term.replace("...", free[len(free) - span :]) for term, span in zip(terms, spans, strict=False)]
    return terms, right.replace("...", free)
