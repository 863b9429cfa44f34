"""Receptive fields through sliding windows, resampling and padding."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import numpy as np

from ...engine.graph.layers import ReceptiveField
from ..twin.geometry import Window, axis_weights, centred, output_sizes, pad_places, resize_rule
from .call import Call, Shape, scaled
from .seen import (
    Seen,
    UnknownPlaces,
    gathered,
    over,
    taken,
    transposed_windows,
    weighted,
    windows,
)


def _channels(ends: np.ndarray, groups: int, count: int) -> np.ndarray:
    """Each output channel sees what its group's input channels see."""
    if ends.shape[2] == 1:
        return ends
    if groups == 1:
        return over(ends, [1])
    split = ends.reshape(2, ends.shape[1], groups, -1, *ends.shape[3:]).min(axis=3)
    return np.repeat(split, count // groups, axis=2)


def window(call: Call, weight: int | None = None) -> Seen:
    """Convolutions and pools; ``weight`` is the place of the weight."""
    source, shape = call.first, call.shape()
    rank = len(shape) - 2
    kernel = call.get("kernel_shape") or (call.constant_shape(weight) or ())[2:] if weight else call.get("kernel_shape")
    if not isinstance(kernel, (list, tuple)) or len(kernel) != rank or len(source.shape) != len(shape):
        raise UnknownPlaces
    window = Window(call.options, kernel, pools=weight is None)
    begins, _ = window.pads(source.shape[2:])
    groups = int(call.get("group", 1)) if weight else 0  # type: ignore[call-overload]

    def change(ends: np.ndarray) -> np.ndarray:
        ends = _channels(ends, groups, shape[1]) if weight else ends
        for a in range(rank):
            size, count = source.shape[a + 2], shape[a + 2]
            places = windows(size, count, window.kernel[a], window.strides[a], window.dilations[a], begins[a])
            ends = gathered(ends, a + 2, places, size)
        return ends

    found = source.map(change, shape)
    if rank != 2 or source.plane != (2, 3):
        return replace(found, plane=None)
    line = scaled(source.line, [r - 1 for r in window.reach], [-b for b in begins], window.strides)
    return replace(found, line=line)


def transposed(call: Call) -> Seen:
    """Output i is fed by the inputs (i + p - k d) / s that are whole: at most 1 + (k - 1) // s of them."""
    source, shape = call.first, call.shape()
    rank = len(shape) - 2
    kernel = call.get("kernel_shape") or (call.constant_shape(1) or ())[2:]
    if not isinstance(kernel, (list, tuple)) or len(kernel) != rank or not rank:
        raise UnknownPlaces
    window = Window(call.options, kernel)
    begins, _ = window.transposed_pads(source.shape[2:], call.options)

    def change(ends: np.ndarray) -> np.ndarray:
        ends = _channels(ends, int(call.options.get("group", 1)), shape[1])
        for a in range(rank):
            size, count, step = source.shape[a + 2], shape[a + 2], window.strides[a]
            places = transposed_windows(size, count, window.kernel[a], step, window.dilations[a], begins[a])
            ends = gathered(ends, a + 2, places, size)
        return ends

    found = source.map(change, shape)
    if rank != 2 or source.plane != (2, 3):
        return replace(found, plane=None)
    reach = [ceil(r / s) - 1 for r, s in zip(window.reach, window.strides, strict=True)]
    shift = [(b - r + 1) / s for b, r, s in zip(begins, window.reach, window.strides, strict=True)]
    return replace(found, line=scaled(source.line, reach, shift, [1 / s for s in window.strides]))


def resized(call: Call) -> Seen:
    """Resize and Upsample: a value sees the places that its interpolation reads."""
    source, shape = call.first, call.shape()
    node, opset = call.node, call.draft.opset
    rule, rank = resize_rule(node.op_type, opset, call.options), len(shape)
    old = node.op_type == "Upsample" or opset < 11
    axes = [int(a) % rank for a in call.options.get("axes", range(rank))]
    scales, sizes = call.constant(1 if old else 2, "scales"), None if old else _sizes(call, [shape[a] for a in axes])
    roi = call.constant(1) if rule.transform == "tf_crop_and_resize" else None
    before = [source.shape[a] for a in axes]
    by = [float(s) for s in np.ravel(scales)] if scales is not None and scales.size else None
    to = [int(s) for s in np.ravel(sizes)] if sizes is not None and sizes.size else None
    factors, targets = output_sizes(before, by, to, str(call.options.get("keep_aspect_ratio_policy", "stretch")))
    if targets == before:
        return source
    places: dict[int, np.ndarray] = {}
    for i, axis in enumerate(axes):
        if targets[i] == before[i] and (factors[i] == 1.0 or rule.antialias):
            continue
        if before[i] * targets[i] > 2**24:  # the matrix of weights
            raise UnknownPlaces
        region = None if roi is None else (float(roi.ravel()[i]), float(roi.ravel()[i + len(axes)]))
        matrix, beyond = axis_weights(before[i], targets[i], factors[i], rule, region)
        places[axis] = np.where(beyond[:, None], -1, weighted(matrix))

    def change(ends: np.ndarray) -> np.ndarray:
        for axis, read in places.items():
            ends = gathered(ends, axis, read, source.shape[axis])
        return ends

    return source.map(change, shape, line=_between(source, places))


def _sizes(call: Call, found: list[int]) -> np.ndarray | None:
    """The sizes that a Resize is given; those that were found where an open batch among them leaves them uncertain."""
    try:
        return call.constant(3)
    except UnknownPlaces:
        return np.array(found)


def _between(source: Seen, places: dict[int, np.ndarray]) -> ReceptiveField:
    """The line behind a resampling whose middle rows say what it reads."""
    line, reach, shift, step = source.line, [0.0, 0.0], [0.0, 0.0], [1.0, 1.0]
    for a, axis in enumerate(source.plane or ()):
        read = places.get(axis)
        if read is None:
            continue
        low = np.where(read < 0, source.shape[axis], read).min(axis=1)
        reach[a] = float((read.max(axis=1) - low).max())
        step[a] = source.shape[axis] / len(read)
        middle = len(read) // 2
        shift[a] = float(low[middle]) - middle * step[a]
    return scaled(line, reach, shift, step)


def padded(call: Call) -> Seen:
    """Pad with constant widths: places move, and a border of constants sees nothing."""
    source, shape = call.first, call.shape()
    pads = call.constant(1, "pads" if "pads" in call.options else "paddings")
    if pads is None:
        raise UnknownPlaces
    along, rank = call.constant(3), len(shape)
    axes = [int(a) % rank for a in along.ravel()] if along is not None and along.size else list(range(len(pads) // 2))
    pairs = {a: (int(pads[i]), int(pads[i + len(axes)])) for i, a in enumerate(axes)}
    return _moved_by_padding(source, shape, pairs, str(call.get("mode", "constant")))


def center_crop_padded(call: Call) -> Seen:
    """CenterCropPad: a pad or a crop that is the same on both sides."""
    source, shape = call.first, call.shape()
    pairs = {a: centred(s, t) for a, (s, t) in enumerate(zip(source.shape, shape, strict=True)) if s != t and a}
    return _moved_by_padding(source, shape, pairs, "constant")


def _moved_by_padding(source: Seen, shape: Shape, pairs: dict[int, tuple[int, int]], mode: str) -> Seen:
    def change(ends: np.ndarray) -> np.ndarray:
        for a, (begin, end) in pairs.items():
            if begin or end:
                ends = taken(ends, a, pad_places(source.shape[a], begin, end, mode), source.shape[a])
        return ends

    shift = [-float(pairs.get(a, (0, 0))[0]) for a in source.plane or (-1, -1)]
    return source.map(change, shape, line=scaled(source.line, [0, 0], shift, [1, 1]))
