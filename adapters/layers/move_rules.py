"""Receptive fields through what moves, cuts and joins values."""

from __future__ import annotations

from functools import partial

import numpy as np

from .call import Call, met, scaled, shape_of, shifted, union_of_lines
from .seen import (
    NOTHING,
    Seen,
    UnknownPlaces,
    compressed,
    over,
    reshaped,
    taken,
)


def sliced(call: Call) -> Seen:
    """Slice with constant starts and ends: a choice of places along each axis."""
    source, shape = call.first, call.shape()
    starts, ends_at = call.constant(1, "starts"), call.constant(2, "ends")
    steps = call.constant(4)
    if starts is None or ends_at is None:
        raise UnknownPlaces
    axes = call.axes(3) or list(range(starts.size))
    cuts = {}
    for i, a in enumerate(axes):
        step = 1 if steps is None else int(steps.ravel()[i])
        cuts[a] = range(source.shape[a])[slice(int(starts.ravel()[i]), int(ends_at.ravel()[i]), step)]

    def change(ends: np.ndarray) -> np.ndarray:
        for a, places in cuts.items():
            ends = taken(ends, a, np.asarray(places), source.shape[a])
        return ends

    spatial = [cuts.get(a, range(1)) for a in source.plane or (-1, -1)]
    line = scaled(source.line, [0, 0], [c.start for c in spatial], [c.step for c in spatial])
    return source.map(change, shape, line=line)


def picked(call: Call) -> Seen:
    """Gather: rows of an axis by constant places; by computed ones any of them."""
    source = call.sources[0]
    if source is None:  # rows of a constant, chosen by what the picture holds
        raise UnknownPlaces
    axis = int(call.options.get("axis", 0)) % len(source.shape)
    draft = call.draft
    places = draft.constant(call.node.input[1])
    if places is None:
        if axis == 0 or (len(call.sources) > 1 and call.sources[1] is not None):
            raise UnknownPlaces
        rank = len(draft.shapes.get(call.node.input[1], ()))
        places = np.zeros([1] * rank, np.int64)
        source = source.map(
            lambda ends: over(ends, [axis]), tuple(1 if a == axis else s for a, s in enumerate(source.shape))
        )
    size = source.shape[axis]
    index = np.where(places < 0, places + size, places)
    before = source.shape
    shape = (*before[:axis], *index.shape, *before[axis + 1 :])
    plane = source.plane
    if plane is not None:
        inside = axis in plane or plane[0] < axis < plane[1]
        plane = None if inside else shifted(plane, index.ndim - 1 if axis < plane[0] else 0)
    return source.map(lambda ends: taken(ends, axis, index, size), shape, plane=plane)


def joined(call: Call, first: int = 0, step: int = 1) -> Seen:
    """Concat: each part sees its own; constants see nothing. The parts are every ``step``-th input."""
    known = [s for s in call.sources if s is not None]
    counted = met(known)
    shape = call.shape()
    axis = int(call.options.get("axis", 1)) % len(shape)
    parts: list[tuple[Seen | None, int]] = []
    for name, seen in list(zip(call.node.input, call.sources, strict=True))[first::step]:
        sides = seen.shape if seen is not None else shape_of(call.draft, name, 1)
        if sides is None:
            raise UnknownPlaces
        parts.append((seen if seen in counted else None, sides[axis]))
    if axis == 0:
        shape = (sum(count for _, count in parts), *shape[1:])
    ends = []
    for d in (0, 1):
        rows = [s.ends[d] if s is not None else np.full((2, *[1] * len(shape)), NOTHING) for s, _ in parts]
        common = [max(r.shape[a + 1] for r in rows) if a != axis else 0 for a in range(len(shape))]
        full = [
            np.broadcast_to(r, (2, *(count if a == axis else common[a] for a in range(len(shape)))))
            for r, (_, count) in zip(rows, parts, strict=True)
        ]
        ends.append(np.concatenate(full, axis=axis + 1))
    plane = counted[0].plane if len({s.plane for s in counted}) == 1 and axis not in (counted[0].plane or ()) else None
    line = union_of_lines([s.line for s in counted])
    whole, lost = all(s.whole for s in counted), any(s.lost for s in counted)
    return Seen((compressed(ends[0]), compressed(ends[1])), shape, line, plane, whole, lost)


def split(call: Call) -> list[Seen]:
    """Split: a slice for each output, one behind the other."""
    source = call.first
    axis = int(call.options.get("axis", 0)) % len(source.shape)
    found, at = [], 0
    for place in range(len(call.node.output)):
        shape = call.shape(place)
        count = shape[axis]
        change = partial(taken, axis=axis, places=np.arange(at, at + count), size=source.shape[axis])
        shift = [float(at) if axis == a else 0.0 for a in source.plane or (-1, -1)]
        found.append(source.map(change, shape, line=scaled(source.line, [0, 0], shift, [1, 1])))
        at += count
    return found


def turned(call: Call) -> Seen:
    """Transpose: the axes in another order; the picture is lost where its rows come behind its columns."""
    source = call.first
    rank = len(source.shape)
    order = [int(p) for p in call.options.get("perm", range(rank - 1, -1, -1))]
    shape = tuple(source.shape[p] for p in order)
    plane = None if source.plane is None else (order.index(source.plane[0]), order.index(source.plane[1]))
    if plane is not None and (plane[0] > plane[1] or plane[0] == 0):
        plane = None
    return source.map(lambda ends: ends.transpose(0, *(p + 1 for p in order)), shape, plane=plane)


def in_another_shape(call: Call) -> Seen:
    """Reshape, Flatten and their like: the same values in the same order; rows and columns last stay so."""
    source = call.first
    shape = call.draft.shapes.get(call.node.output[0])
    if shape is None or any(s is None for s in shape[1:]):
        raise UnknownPlaces
    rest = int(np.prod([s or 1 for s in shape[1:]]))
    total = int(np.prod(source.shape))
    target = tuple([total // max(rest, 1), *(s or 1 for s in shape[1:])] if shape else [])
    rank, plane = len(source.shape), source.plane
    if plane == (rank - 2, rank - 1) and target[-2:] == source.shape[-2:]:
        plane = (len(target) - 2, len(target) - 1)
    elif plane != (1, 2) or target[:3] != source.shape[:3]:
        plane = None
    return source.map(lambda ends: reshaped(ends, source.shape, target), target, plane=plane)


def repeated(call: Call) -> Seen:
    """Expand: values repeat along axes of length one and along new axes in front."""
    source, shape = call.first, call.shape()
    more = len(shape) - len(source.shape)
    plane = shifted(source.plane, more)
    return source.map(lambda ends: ends.reshape(2, *[1] * more, *ends.shape[1:]), shape, plane=plane)


def tiled(call: Call) -> Seen:
    """Tile: whole copies one behind the other; along rows or columns the picture is no picture any more."""
    source, shape = call.first, call.shape()

    def change(ends: np.ndarray) -> np.ndarray:
        for a, size in enumerate(source.shape):
            if shape[a] != size:
                ends = taken(ends, a, np.arange(shape[a]) % size, size)
        return ends

    repeats = any(shape[a] != source.shape[a] for a in source.plane or ())
    return source.map(change, shape, plane=None if repeats else source.plane)


def blocks(call: Call) -> Seen:
    """DepthToSpace and SpaceToDepth: a reshape, a transposition, a reshape."""
    source, shape = call.first, call.shape()
    batch, channels, height, width = source.shape
    b = int(call.options["blocksize"])
    if call.node.op_type == "SpaceToDepth":
        cut, order = (batch, channels, height // b, b, width // b, b), (0, 3, 5, 1, 2, 4)
    elif call.options.get("mode", "DCR") == "DCR":
        cut, order = (batch, b, b, channels // b**2, height, width), (0, 3, 4, 1, 5, 2)
    else:
        cut, order = (batch, channels // b**2, b, b, height, width), (0, 1, 4, 2, 5, 3)

    def change(ends: np.ndarray) -> np.ndarray:
        moved = reshaped(ends, source.shape, cut).transpose(0, *(p + 1 for p in order))
        return reshaped(moved, [cut[p] for p in order], shape)

    reach = [b - 1, b - 1] if call.node.op_type == "SpaceToDepth" else [0, 0]
    step = [b, b] if call.node.op_type == "SpaceToDepth" else [1 / b, 1 / b]
    plane = (2, 3) if source.plane == (2, 3) else None
    return source.map(change, shape, line=scaled(source.line, reach, [0, 0], step), plane=plane)
