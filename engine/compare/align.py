"""Which layer of A stands for which layer of B: by name, by equal weights, by weight shape, by structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .operations import ACTIVATIONS, POOLS, CommonForm, Operation

_GAP = -0.4  # leaving an operation without a partner must cost less than a wrong pair, more than a right one gains
_BAND = 4_000_000  # cells of the table; beyond it only anchors are aligned


@dataclass(frozen=True, eq=False)
class Pair:
    """Two operations that stand for each other; ``found_by``: "name", "weights", "weight shape" or "structure"."""

    a: Operation
    b: Operation
    found_by: str


def align(a: CommonForm, b: CommonForm) -> tuple[Pair, ...]:
    """The pairs, in A's order of execution.

    Global alignment of the two sequences of operations (Needleman and Wunsch 1970, J. Mol. Biol. 48): the order is
    kept, and the sum of the likeness of paired operations is the highest possible. Convolutions and dense layers
    weigh most. Convolutions whose weights are the same numbers are paired even where parallel branches
    stand in another order.
    """
    left, right = list(a.operations), list(b.operations)
    if len(left) * len(right) > _BAND:
        left, right = [s for s in left if s.is_anchor], [s for s in right if s.is_anchor]
    prints = {id(s): _fingerprint(s) for s in (*left, *right) if s.is_anchor}
    scores = np.array([[_likeness(x, y, prints) for y in right] for x in left]).reshape(len(left), len(right))
    pairs = {i: j for i, j in _needleman_wunsch(scores) if scores[i, j] > 0}
    _repair_branches(left, right, prints, pairs)
    return tuple(Pair(left[i], right[j], _how(left[i], right[j], prints)) for i, j in sorted(pairs.items()))


def _likeness(x: Operation, y: Operation, prints: dict[int, tuple[float, ...]]) -> float:
    if x.is_anchor != y.is_anchor:
        return -1.0
    named = 0.5 * (x.name == y.name)
    if x.weight is not None and y.weight is not None:
        if x.kind != y.kind:
            return -1.0
        if x.weight.shape != y.weight.shape:
            near = sum(p == q for p, q in zip(x.weight.shape, y.weight.shape, strict=False))
            return 0.2 * near + named + 0.1
        return 3.0 + named + 2.0 * _equal(prints[id(x)], prints[id(y)])
    if x.kind == y.kind:
        return 1.0 + named + 0.5 * (x.attributes == y.attributes)
    same_family = any(x.kind in family and y.kind in family for family in (ACTIVATIONS, POOLS))
    return 0.5 + named if same_family else -1.0


def _needleman_wunsch(scores: np.ndarray) -> list[tuple[int, int]]:
    rows, columns = scores.shape
    table = np.zeros((rows + 1, columns + 1))
    table[:, 0], table[0] = _GAP * np.arange(rows + 1), _GAP * np.arange(columns + 1)
    for i in range(rows):
        above, row, gains = table[i], table[i + 1], scores[i]
        for j in range(columns):
            row[j + 1] = max(above[j] + gains[j], above[j + 1] + _GAP, row[j] + _GAP)
    found, i, j = [], rows, columns
    while i and j:
        if np.isclose(table[i, j], table[i - 1, j - 1] + scores[i - 1, j - 1]):
            i, j = i - 1, j - 1
            found.append((i, j))
        elif np.isclose(table[i, j], table[i - 1, j] + _GAP):
            i -= 1
        else:
            j -= 1
    return found[::-1]


def _repair_branches(
    left: Sequence[Operation], right: Sequence[Operation], prints: dict[int, tuple[float, ...]], pairs: dict[int, int]
) -> None:
    """Pairs anchors with the same numbers that the order kept apart (branches written in another order)."""
    partner = {j: i for i, j in pairs.items()}
    for i, x in enumerate(left):
        if not x.is_anchor or (i in pairs and _equal(prints[id(x)], prints.get(id(right[pairs[i]]), ()))):
            continue
        same = [j for j, y in enumerate(right) if y.is_anchor and _equal(prints[id(x)], prints[id(y)])]
        if len(same) != 1:
            continue
        j = same[0]
        old, other = pairs.pop(i, None), partner.pop(j, None)
        if other is not None:
            pairs.pop(other, None)
        if old is not None:
            partner.pop(old, None)
        pairs[i], partner[j] = j, i


def _fingerprint(operation: Operation) -> tuple[float, ...]:
    """Numbers that the order of channels does not change: size, and sums of the effective weight's powers."""
    w = np.asarray(operation.weight)
    return (float(w.size), float(w.sum()), float((w * w).sum()), float((np.abs(w) ** 3).sum()), float(np.abs(w).max()))


def _equal(one: tuple[float, ...], two: tuple[float, ...]) -> bool:
    return len(one) == len(two) and all(
        abs(p - q) <= 1e-5 * max(abs(p), abs(q), 1e-3) for p, q in zip(one, two, strict=True)
    )


def _how(x: Operation, y: Operation, prints: dict[int, tuple[float, ...]]) -> str:
    if x.name == y.name:
        return "name"
    if x.weight is None or y.weight is None:
        return "structure"
    if _equal(prints[id(x)], prints[id(y)]):
        return "weights"
    return "weight shape" if x.weight.shape == y.weight.shape else "structure"
