"""Gradients of operators that read a picture between its pixels: GridSample, RoiAlign, DeformConv.

Each value is a weighted sum of the pixels around a place. On the way back the pixels get their share of its gradient,
added up where places meet, and the place gets what the weights' slopes make of the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np

from ..writer import Value, Writer
from .base import Gradient, Gradients, Visit

_CUBIC = -0.75  # torch's and ONNX Runtime's coefficient; Keys 1981, doi:10.1109/TASSP.1981.1163711
_CUBIC_MODES, _LINEAR_MODES = ("cubic", "bicubic"), ("linear", "bilinear")


@dataclass(frozen=True)
class _Tap:
    """One pixel along one axis: its place (int64, within the axis), its weight, and the weight's slope (or None)."""

    place: Value
    weight: Value
    slope: Value | None


@dataclass(frozen=True)
class _Pixel:
    """One pixel of a place: where it is in the flat picture, its weight, and the weight's slope along each axis."""

    place: Value
    weight: Value
    slopes: tuple[Value | None, ...]


def _pixels(axes: Sequence[Sequence[_Tap]], sizes: Sequence[Value]) -> list[_Pixel]:
    """Every combination of the axes' taps; ``sizes`` are int64 vectors of one value, one an axis."""
    found = []
    for taps in product(*axes):
        place = taps[0].place
        for tap, size in zip(taps[1:], sizes[1:], strict=True):
            place = place * size + tap.place
        slopes: list[Value | None] = []
        for axis, tap in enumerate(taps):
            others = [other.weight for i, other in enumerate(taps) if i != axis]
            slopes.append(None if tap.slope is None else prod(others, start=tap.slope))
        found.append(_Pixel(place, prod((tap.weight for tap in taps[1:]), start=taps[0].weight), tuple(slopes)))
    return found


def _spread(w: Writer, dy: Value, pixels: Sequence[_Pixel], count: Value) -> Value:
    """(R, C, count) from ``dy`` (R, C, P): each value's gradient at its pixels (R, P), by their weights."""
    places = w.add("Concat", *(pixel.place for pixel in pixels), axis=1).unsqueeze([1])
    shares = w.add("Concat", *(dy * pixel.weight.unsqueeze([1]) for pixel in pixels), axis=2)
    picture = w.zeros(w.concat(dy.shape(0, 2), count))
    return picture.apply("ScatterElements", places.expand(shares.shape()), shares, axis=2, reduction="add")


def _read(picture: Value, dy: Value, pixel: _Pixel) -> Value:
    """(R, P) over the channels the sum of ``dy`` (R, C, P) times the pixel's values in ``picture`` (R, C, count)."""
    places = pixel.place.unsqueeze([1]).expand(dy.shape())
    return (dy * picture.apply("GatherElements", places, axis=2)).sum([1], keep=False)


def _moved(picture: Value, dy: Value, pixels: Sequence[_Pixel], axis: int) -> Value | None:
    """(R, P) the gradient for the places along one axis; None where no weight has a slope."""
    parts = [_read(picture, dy, pixel) * slope for pixel in pixels if (slope := pixel.slopes[axis]) is not None]
    return sum(parts[1:], start=parts[0]) if parts else None


def _between(place: Value, size: Value, mode: str = "linear", padding: str = "zeros", reach: float = 0.0) -> list[_Tap]:
    """The pixels around places along an axis of ``size`` (floating vector of one value) pixels.

    Args:
        place: in pixels, 0 the first one's centre.
        size: of the axis.
        mode: nearest, linear or cubic.
        padding: zeros, border or reflection, as GridSample has them.
        reach: how far beyond the outer pixels' centres the picture is reflected.
    """
    w, factor = place.writer, None
    whole = mode in _CUBIC_MODES  # there each pixel's own place is reflected or cut, not the place between them
    if not whole and padding == "reflection":
        place, factor = _reflected(place, size, reach)
    if not whole and padding != "zeros":
        inside = (place > 0.0).apply("And", place < size - 1.0).cast()
        place, factor = _within(place, size), inside if factor is None else factor * inside
    lower = place.apply("Round" if mode == "nearest" else "Floor")
    taps = []
    for offset, weight, slope in _weights(place - lower, mode):
        at = lower + float(offset)
        if padding == "zeros":
            inside = (at >= 0.0).apply("And", at < size).cast()
            weight, slope = weight * inside, None if slope is None else slope * inside
        elif whole and padding == "reflection":
            at, _ = _reflected(at, size, reach)
        slope = slope if slope is None or factor is None else slope * factor
        taps.append(
            _Tap(_within(at, size).cast(np.int64), weight if isinstance(weight, Value) else w.lifted(weight), slope)
        )
    return taps


def _weights(t: Value, mode: str) -> list[tuple[int, Value, Value | None]]:
    """(offset, weight, slope) of each pixel, ``t`` the share of the way from the lower pixel to the next."""
    if mode == "nearest":
        return [(0, t * 0.0 + 1.0, None)]
    if mode in _LINEAR_MODES:
        one = t * 0.0 + 1.0
        return [(0, 1.0 - t, -one), (1, t, one)]
    found: list[tuple[int, Value, Value | None]] = []
    for offset in (-1, 0, 1, 2):
        d = t - float(offset) if offset < 1 else float(offset) - t  # the distance, and which way it grows with t
        grows = 1.0 if offset < 1 else -1.0
        if offset in (0, 1):
            weight = ((_CUBIC + 2) * d - (_CUBIC + 3)) * d * d + 1.0
            slope = (3 * (_CUBIC + 2) * d - 2 * (_CUBIC + 3)) * d
        else:
            weight = ((_CUBIC * d - 5 * _CUBIC) * d + 8 * _CUBIC) * d - 4 * _CUBIC
            slope = (3 * _CUBIC * d - 10 * _CUBIC) * d + 8 * _CUBIC
        found.append((offset, weight, slope * grows))
    return found


def _within(place: Value, size: Value) -> Value:
    return place.apply("Max", place.writer.number(0.0)).apply("Min", size - 1.0)


def _reflected(place: Value, size: Value, reach: float) -> tuple[Value, Value]:
    """The places folded into the picture, and by what sign they move."""
    w = place.writer
    span = (size - 1.0 + 2 * reach).apply("Max", w.number(1e-6))  # of a single pixel there is nothing to fold
    beyond = place + reach
    far = beyond.apply("Abs")
    folds = (far / span).apply("Floor")
    rest, odd = far - folds * span, (folds - (folds / 2.0).apply("Floor") * 2.0) > 0.5
    sign = w.where(beyond < 0.0, -1.0, 1.0)
    return w.where(odd, span - rest, rest) - reach, w.where(odd, -sign, sign)


def _grid_sample(v: Visit) -> Gradients:
    """Of the picture (N, C, ...) and of the grid (N, ..., axes): places from -1 to 1, the last axis first."""
    w, x, corners = v.w, v.raw(0), bool(v.get("align_corners", 0))
    mode, padding = str(v.get("mode", "linear")), str(v.get("padding_mode", "zeros"))
    space = v.rank() - 2
    grid = v.x(1).reshape(w.concat(v.raw(1).shape(0, 1), [-1, space]))
    sizes = [x.shape(2 + axis, 3 + axis) for axis in range(space)]
    taps, scales = [], []
    for axis, size in enumerate(sizes):
        length = size.cast()
        along = grid.apply("Gather", w.integers(space - 1 - axis), axis=2)
        span = length - 1.0 if corners else length
        place = (along + 1.0) * span / 2.0 - (0.0 if corners else 0.5)
        taps.append(_between(place, length, mode, padding, 0.0 if corners else 0.5))
        scales.append(span / 2.0)
    pixels, dy = _pixels(taps, sizes), v.dy.reshape([0, 0, -1])
    found = {}
    if 0 in v.wanted:
        found[0] = _spread(w, dy, pixels, x.shape(2).apply("ReduceProd", keepdims=1)).like(x)
    if 1 in v.wanted:
        picture = v.x(0).reshape([0, 0, -1])
        moved = [_moved(picture, dy, pixels, axis) for axis in range(space)]
        parts = [w.zeros(grid.shape(0, 2)) if m is None else m * s for m, s in zip(moved, scales, strict=True)]
        found[1] = w.add("Concat", *(part.unsqueeze([2]) for part in parts[::-1]), axis=2).like(v.raw(1))
    return found


def _affine_grid(v: Visit) -> Gradients:
    """A grid is linear in theta (N, axes, axes + 1): dtheta = sum of dgrid times the places of the grid of identity."""
    w, space = v.w, v.shape()[1]
    identity = w.constant(np.eye(space, space + 1, dtype=v.w.kind)[None])
    size = w.concat([1], v.raw(1).slice(w.integers([1]), w.integers([2**62]), [0]))
    own = identity.apply("AffineGrid", size, align_corners=int(v.get("align_corners", 0))).reshape([1, -1, space])
    places = w.add("Concat", own, own.slice(w.integers([0]), w.integers([1]), [2]) * 0.0 + 1.0, axis=2)
    return {0: v.dy.reshape([0, -1, space]).transpose([0, 2, 1]).apply("MatMul", places)}


def _roi_align(v: Visit) -> Gradients:
    """Of the features (N, C, H, W) and of the regions (R, 4): left, top, right, bottom (He et al. 2017)."""
    if v.get("mode", "avg") != "avg":
        raise v.unsupported(f"mode '{v.get('mode')}'; features that are averaged have one")
    if 2 in v.wanted:
        raise v.unsupported("pictures that are chosen by the picture")
    w, x = v.w, v.raw(0)
    cells = int(v.get("output_height", 1)), int(v.get("output_width", 1))
    sides = [_Side(v, axis, count) for axis, count in enumerate(cells)]
    sizes = [x.shape(2, 3), x.shape(3, 4)]
    # (R, points) of each axis become (R, points, 1) and (R, 1, points), and their combinations one row a region
    taps = [[side.tap(tap) for tap in side.taps] for side in sides]
    whole = w.concat(v.raw(1).shape(0, 1), [-1])
    shape = w.concat(v.raw(1).shape(0, 1), sides[0].steps.shape(1, 2), sides[1].steps.shape(1, 2))
    pixels = [
        _Pixel(_flat(p.place, shape, whole), _flat(p.weight, shape, whole),
               tuple(None if s is None else _flat(s, shape, whole) for s in p.slopes))
        for p in _pixels(taps, sizes)
    ]  # fmt: skip
    share = v.dy / (sides[0].count * sides[1].count).unsqueeze([1, 2]).reshape([-1, 1, 1, 1])
    repeated = share.unsqueeze([3, 5]).expand(
        w.concat([1, 1], [1], sides[0].most, [1], sides[1].most)
    )  # (R, C, height, points, width, points)
    dy = repeated.reshape(w.concat(share.shape(0, 2), [-1]))
    found = {}
    own = v.raw(2).cast(np.int64)
    if 0 in v.wanted:  # all regions of all pictures in one row of pixels, (C, N H W)
        area = sizes[0] * sizes[1]
        moved = [_Pixel(_in_row(p.place + own.reshape([-1, 1]) * area), _in_row(p.weight), ()) for p in pixels]
        together = dy.transpose([1, 0, 2]).reshape(w.concat([1], share.shape(1, 2), [-1]))
        spread = _spread(w, together, moved, x.shape(0, 1) * area)
        order = w.concat(share.shape(1, 2), x.shape(0, 1), x.shape(2))
        found[0] = spread.reshape(order).transpose([1, 0, 2, 3])
    if 1 in v.wanted:
        picture = v.x(0).reshape([0, 0, -1]).apply("Gather", own, axis=0)
        ends = []
        for axis, side in enumerate(sides):
            places = _moved(picture, dy, pixels, axis)
            assert places is not None  # linear weights have slopes
            ends.append(side.ends(places.reshape(shape).sum([2 - axis], keep=False)))
        (top, bottom), (left, right) = ends
        found[1] = w.add("Concat", left, top, right, bottom, axis=1)
    return found


def _flat(value: Value, shape: Value, whole: Value) -> Value:
    return value.expand(shape).reshape(whole)


def _in_row(value: Value) -> Value:
    return value.reshape([1, -1])


class _Side:
    """One axis of all regions: the places that are read.

    Attributes:
        count: (R, 1) points of each cell.
        most: int64 vector of one value, the largest count; beyond its own a region's points weigh nothing.
        steps: (R, cells * most) how many cells lie before a point.
        taps: of the points.
    """

    def __init__(self, v: Visit, axis: int, cells: int) -> None:
        w, self.axis, self.cells = v.w, axis, cells
        self.scale = float(v.get("spatial_scale", 1.0))
        is_aligned = v.get("coordinate_transformation_mode", "half_pixel") == "half_pixel"
        shift = 0.5 if is_aligned else 0.0
        ends = [v.x(1).slice(w.integers([i]), w.integers([i + 1]), [1]) for i in (1 - axis, 3 - axis)]
        start, end = (value * self.scale - shift for value in ends)
        self._extent = end - start
        extent = self._extent if is_aligned else self._extent.apply("Max", w.number(1.0))
        self.stretches = w.lifted(1.0) if is_aligned else (self._extent >= 1.0).cast()
        points = int(v.get("sampling_ratio", 0))
        if points:
            self.count, self.most = extent * 0.0 + float(points), w.integers([points])
        else:
            counts = (extent / float(cells)).apply("Ceil").apply("Max", w.number(1.0))
            self.count = counts
            one = w.constant(np.ones((1, 1), w.kind))
            self.most = w.add("Concat", one, counts, axis=0).reduce("ReduceMax", [0, 1], keep=False).cast(np.int64)
            self.most = self.most.reshape([1])
        numbers = w.add("Range", w.integers(0), self.most.squeeze([0]), w.integers(1)).cast()
        within = (numbers + 0.5) / self.count  # (R, most)
        before = w.constant(np.arange(cells, dtype=w.kind).reshape(1, -1, 1))
        self.steps = (within.unsqueeze([1]) + before).reshape([0, -1])
        counts_in = (within < 1.0).cast().unsqueeze([1]).expand(w.concat([1], [cells], [1])).reshape([0, -1])
        if not points:
            counts_in = counts_in * (extent > 0.0).cast()
        place = start + self.steps * (extent / float(cells))
        size = v.raw(0).shape(2 + axis, 3 + axis).cast()
        self.taps = [
            _Tap(tap.place, tap.weight * counts_in, None if tap.slope is None else tap.slope * counts_in)
            for tap in self._taps(place, size)
        ]

    def _taps(self, place: Value, size: Value) -> list[_Tap]:
        """Up to a pixel outside the picture its border is read, further out nothing."""
        inside = (place >= -1.0).apply("And", place <= size).cast()
        clamped = place.apply("Max", place.writer.number(0.0))
        lower = _within(clamped.apply("Floor"), size)
        is_last = (lower >= size - 1.0).cast()
        share = (clamped - lower) * (1.0 - is_last)
        slope = (place >= 0.0).cast() * (1.0 - is_last) * inside
        upper = _within(lower + 1.0, size)
        return [
            _Tap(lower.cast(np.int64), (1.0 - share) * inside, -slope),
            _Tap(upper.cast(np.int64), share * inside, slope),
        ]

    def tap(self, tap: _Tap) -> _Tap:
        """With an axis for the other side's points."""
        other = 2 - self.axis
        place, weight = tap.place.unsqueeze([other]), tap.weight.unsqueeze([other])
        return _Tap(place, weight, None if tap.slope is None else tap.slope.unsqueeze([other]))

    def ends(self, moved: Value) -> tuple[Value, Value]:
        """(R, 1) the gradients of the region's begin and end, from those of its places (R, points)."""
        of_extent = (moved * self.steps).sum([1]) / float(self.cells) * self.stretches
        return (moved.sum([1]) - of_extent) * self.scale, of_extent * self.scale


def _deform_conv(v: Visit) -> Gradients:
    """Of the picture, of the offsets and of the mask (Zhu et al. 2019, arXiv:1811.11168)."""
    if not v.wanted <= {0, 2, 4}:
        raise v.unsupported("weights that depend on the image")
    if v.rank() != 4:
        raise v.unsupported(f"{v.rank() - 2} spatial axes; 2 have one")
    w, x = v.w, v.raw(0)
    out, inner, *kernel = v.shape(1)
    taps, groups, shared = int(np.prod(kernel)), int(v.get("group", 1)), int(v.get("offset_group", 1))
    rows, offsets = x.shape(0, 1) * w.integers([shared]), v.x(2)
    positions = v.dy.shape(2)
    moved = offsets.reshape(w.concat(rows, [taps, 2], positions))
    sizes = [x.shape(2, 3), x.shape(3, 4)]
    axes = [_between(_tap_places(v, moved, axis, kernel), size.cast()) for axis, size in enumerate(sizes)]
    pixels = _pixels(axes, sizes)
    weights = v.x(1).reshape([groups, out // groups, inner * taps]).transpose([0, 2, 1])
    columns = weights.apply("MatMul", v.dy.reshape([0, groups, out // groups, -1]))
    each = columns.reshape(w.concat(rows, [inner * groups // shared, -1]))  # (N offset groups, C, taps positions)
    masked = each * v.x(4).reshape(w.concat(rows, [1, -1])) if v.has(4) else each
    picture = v.x(0).reshape(w.concat(rows, [inner * groups // shared, -1]))
    found = {}
    if 0 in v.wanted:
        found[0] = _spread(w, masked, pixels, sizes[0] * sizes[1]).like(x)
    if 2 in v.wanted:
        parts = [_moved(picture, masked, pixels, axis) for axis in (0, 1)]
        shape = w.concat(rows, [taps, 1], positions)
        found[2] = w.add("Concat", *(p.reshape(shape) for p in parts if p is not None), axis=2).like(v.raw(2))
    if 4 in v.wanted:
        reads = [_read(picture, each, pixel) * pixel.weight for pixel in pixels]
        found[4] = sum(reads[1:], start=reads[0]).like(v.raw(4))
    return found


def _tap_places(v: Visit, moved: Value, axis: int, kernel: Sequence[int]) -> Value:
    """(N offset groups, taps positions) along one axis, from the offsets (..., taps, 2, height, width)."""
    w, strides, dilations = v.w, v.get("strides", [1, 1]), v.get("dilations", [1, 1])
    pads = v.get("pads", [0] * 4)
    count = v.dy.shape(2 + axis, 3 + axis).squeeze([0])
    lines = w.add("Range", w.integers(0), count, w.integers(1)).cast() * float(strides[axis])
    along = np.indices(kernel)[axis].reshape(-1, 1, 1) * dilations[axis] - pads[axis]
    base = lines.reshape([1, -1, 1] if axis == 0 else [1, 1, -1]) + w.constant(along.astype(w.kind))
    own = moved.apply("Gather", w.integers(axis), axis=2)
    return (own + base).reshape([0, -1])


SAMPLING: dict[str, Gradient] = {
    "GridSample": _grid_sample,
    "AffineGrid": _affine_grid,
    "RoiAlign": _roi_align,
    "DeformConv": _deform_conv,
}
