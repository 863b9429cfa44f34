"""Receptive fields through what computes a value from all along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ...engine.graph.einsum import einsum_terms
from .call import Call, shifted, together
from .seen import (
    NOTHING,
    Seen,
    UnknownPlaces,
    expanded,
    over,
)


def reduced(call: Call, axes: Sequence[int] | None = None) -> Seen:
    """One number of all values along some axes; whole where that is what makes it see the whole picture."""
    source = call.first
    rank = len(source.shape)
    if axes is None:
        axes = call.axes()
    if axes is None:
        axes = [] if call.options.get("noop_with_empty_axes") else list(range(rank))
    keep = bool(call.options.get("keepdims", 1))
    shape = tuple(1 if a in axes else s for a, s in enumerate(source.shape) if keep or a not in axes)
    gone, plane = sorted(axes), source.plane
    pooled = plane is not None and any(source.shape[a] > 1 for a in plane if a in gone)
    if plane is not None:
        before = sum(a < plane[0] for a in gone)
        plane = None if any(plane[0] <= a <= plane[1] for a in gone) else shifted(plane, 0 if keep else -before)
    return _contracted(call, source, source.map(lambda ends: over(ends, gone, keep), shape, plane=plane), pooled)


def _contracted(call: Call, before: Seen, after: Seen, pooled: bool = False) -> Seen:
    """A value that was local before and sees the whole picture now is a number taken from the whole picture.

    So is one of all places of a map (``pooled``), also where each of them saw the whole picture already.
    """
    spreads = (pooled or not before.covers(call.size)) and after.covers(call.size)
    return replace(after, whole=after.whole or spreads)


def global_pool(call: Call) -> Seen:
    """A pool over the whole map: every value sees what all of its channel see."""
    return reduced(call, list(range(2, len(call.first.shape))))


def arg(call: Call) -> Seen:
    """ArgMax and ArgMin: an index depends on every value along its axis."""
    return reduced(call, [int(call.options.get("axis", 0)) % len(call.first.shape)])


def softmax(call: Call) -> Seen:
    """Softmax and its like: each value knows all along its axis."""
    source = call.first
    rank, default = len(source.shape), -1 if call.draft.opset >= 13 else 1
    axis = int(call.options.get("axis", default)) % rank
    axes = [axis] if call.draft.opset >= 13 else list(range(axis, rank))
    if call.node.op_type == "TopK":
        axes = [int(call.options.get("axis", -1)) % rank]
    shape = call.shape()
    return _contracted(call, source, source.map(lambda ends: over(ends, axes), shape))


def normalized(call: Call) -> Seen:
    """Statistics along some axes; where they are the whole picture's they are left out."""
    source = call.first
    rank, op = len(source.shape), call.node.op_type
    axis = int(call.options.get("axis", -1)) % rank
    axes = (
        [1] if op in ("GroupNormalization", "LRN") else [axis] if op == "LpNormalization" else list(range(axis, rank))
    )
    found = source.map(lambda ends: over(ends, axes), source.shape)
    return source if found.covers(call.size) else found


def accumulated(call: Call) -> Seen:
    """CumSum: a value sees all before it along its axis, or all behind it in reverse."""
    source, axes = call.first, call.constant(1)
    if axes is None:
        raise UnknownPlaces
    axis = int(axes.ravel()[0]) % len(source.shape)
    backwards, exclusive = bool(call.options.get("reverse")), bool(call.options.get("exclusive"))

    def change(ends: np.ndarray) -> np.ndarray:
        full = expanded(ends, source.shape, [axis])
        full = np.flip(full, axis + 1) if backwards else full
        found = np.minimum.accumulate(full, axis=axis + 1)
        if exclusive:
            found = np.concatenate(
                [
                    np.full_like(found.take([0], axis + 1), NOTHING),
                    found.take(range(found.shape[axis + 1] - 1), axis + 1),
                ],
                axis + 1,
            )
        return np.flip(found, axis + 1) if backwards else found

    return source.map(change, source.shape, plane=None)


def product(call: Call, left: int = 0, right: int = 1) -> Seen:
    """MatMul: each value sees its row of the left factor and its column of the right one."""
    a, b = call.sources[left], call.sources[right]
    known = [s for s in (a, b) if s is not None]
    shape = call.shape(batch=max(s.shape[0] for s in known))
    if any(len(s.shape) < 2 for s in known) or len(shape) < 2:
        raise UnknownPlaces
    parts = []
    for seen, axis in ((a, -1), (b, -2)):
        if seen is not None:
            place = len(seen.shape) + axis
            sides = tuple(1 if i == place else s for i, s in enumerate(seen.shape))
            plane = None if seen is b or place in (seen.plane or ()) else seen.plane
            parts.append(_contracted(call, seen, seen.map(partial(over, axes=[place]), sides, plane=plane)))
    return together(shape, parts)


def dense(call: Call) -> Seen:
    """Gemm on a matrix: each row by itself."""
    source = call.first
    if call.sources[0] is None or len(source.shape) != 2 or call.options.get("transA", 0):
        raise UnknownPlaces
    shape = call.shape()
    return _contracted(call, source, source.map(lambda ends: over(ends, [1]), shape))


def einsum(call: Call) -> Seen:
    """Einsum: labels that both sides have move, labels that the result lacks are summed over."""
    ranks = [len(s.shape) if s is not None else len(call.draft.shapes.get(name, ()))
             for s, name in zip(call.sources, call.node.input, strict=True)]  # fmt: skip
    terms, right = einsum_terms(str(call.options["equation"]), ranks)
    if not terms or any(len(set(term)) != len(term) for term in terms):
        raise UnknownPlaces
    parts = []
    for seen, term in zip(call.sources, terms, strict=True):
        if seen is None:
            continue
        gone = [i for i, label in enumerate(term) if label not in right]
        kept = [label for label in term if label in right]
        order = [kept.index(label) for label in right if label in kept]
        line = [i for i, label in enumerate(right) if label in kept]

        def change(
            ends: np.ndarray, gone: list[int] = gone, order: list[int] = order, line: list[int] = line
        ) -> np.ndarray:
            less = over(ends, gone, keep=False).transpose(0, *(o + 1 for o in order))
            sides = dict(zip(line, less.shape[1:], strict=True))
            return less.reshape(2, *(sides.get(i, 1) for i in range(len(right))))

        sides = dict(zip(term, seen.shape, strict=True))
        shape = tuple(sides.get(label, 1) for label in right)
        parts.append(_contracted(call, seen, seen.map(change, shape, plane=None)))
    return together(call.shape(batch=max(s.shape[0] for s in parts)), parts)


def dynamic_quantize(call: Call) -> list[Seen]:
    """DynamicQuantizeLinear: the values stay; scale and zero point are numbers taken from the whole picture."""
    return [call.first, *(call.first.of_all((), call.size) for _ in call.node.output[1:])]
