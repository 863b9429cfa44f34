"""What every value of a tensor sees of the picture: two intervals, moved about as the operators move the values.

An interval's ends are whole numbers per value of the tensor, kept once along every axis along which they do not
change: of a feature map (1, C, H, W) the rows that are seen are an array of (1, 1, H, 1), the columns one of
(1, 1, 1, W). Low and negated high ends stand side by side, so that the union of intervals is one minimum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce as fold
from math import prod

import numpy as np

from ...engine.graph.layers import Intervals, ReceptiveField

NOTHING = 2**40  # both ends of what sees no pixel: the union with anything else is the other
MOST = 2**20  # values of one tensor for which ends are held one by one
_LONGEST = 2**16  # rows or columns of a feature map; a table of more takes seconds, and no picture makes them


class UnknownPlaces(Exception):
    """Where the values come from cannot be told."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What a tensor's values see.

    Attributes:
        ends: for rows and for columns (2, *axes), each axis as long as the tensor's or 1: low ends and negated high
            ends, in pixels of the input, high ends exclusive.
        shape: of the tensor for one picture.
        line: size, stride and offset by the chain rule, where padding goes on beyond the picture.
        plane: the axes of rows and of columns that the line is about, None once an operator came in between that no
            such rule describes.
        whole: whether its values are numbers taken from the whole picture.
        lost: whether it is so only because an operator could not be followed.
    """

    ends: tuple[np.ndarray, np.ndarray]
    shape: tuple[int, ...]
    line: ReceptiveField
    plane: tuple[int, int] | None = (2, 3)
    whole: bool = False
    lost: bool = False

    @classmethod
    def picture(cls, shape: tuple[int, int, int, int]) -> Seen:
        """Every pixel of a picture (N, C, H, W) sees itself."""
        ends = []
        for axis in (2, 3):
            places = np.arange(shape[axis])
            ends.append(np.stack([places, -places - 1]).reshape(2, *(-1 if a == axis else 1 for a in range(4))))
        return cls((ends[0], ends[1]), shape, ReceptiveField((1, 1), (1.0, 1.0), (0.0, 0.0)))

    def of_all(self, shape: tuple[int, ...], size: tuple[int, int], lost: bool = False) -> Seen:
        """A tensor of which every value sees the whole picture, as far as anybody knows."""
        ends = [np.array([0, -side]).reshape(2, *[1] * len(shape)) for side in size]
        return replace(self, ends=(ends[0], ends[1]), shape=shape, whole=True, lost=lost)

    def map(self, change: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...], **traits: object) -> Seen:
        """The same change of both intervals; the new shape."""
        rows, columns = (compressed(change(end)) for end in self.ends)
        if rows.ndim - 1 != len(shape):
            raise UnknownPlaces
        return replace(self, ends=(rows, columns), shape=shape, **traits)  # type: ignore[arg-type]

    def covers(self, size: tuple[int, int]) -> bool:
        """Whether every value sees the whole picture."""
        return all(bool((e[0] <= 0).all() and (e[1] <= -s).all()) for e, s in zip(self.ends, size, strict=True))

    def field(self, axes: tuple[int, int] | None, size: tuple[int, int]) -> ReceptiveField:
        """What the positions of a feature map see.

        Args:
            axes: of its rows and its columns.
            size: (height, width) of the picture.
        """
        if self.whole or axes is None:
            return ReceptiveField(None, self.line.stride, self.line.offset)
        others = tuple(a + 1 for a in range(len(self.shape)) if a not in axes)
        ends = [end.min(axis=others) for end in self.ends]
        if axes[0] > axes[1]:
            ends = [end.swapaxes(1, 2) for end in ends]
        if any((end[0] >= NOTHING).all() for end in ends):
            return ReceptiveField(None, self.line.stride, self.line.offset)
        plane = self.shape[axes[0]], self.shape[axes[1]]
        line = self.line if axes == self.plane else _straight(ends, self.line)
        return _with_table(line, ends, plane, size)

    def laid(self, plane: tuple[int, int], size: tuple[int, int]) -> ReceptiveField:
        """What the positions of a map (N, C, places...) see, whose places lie over the picture as rows and columns.

        A volume's slices lie one below the other, and a position that sees several sees all rows from the first to the
        last.

        Args:
            plane: (rows, columns) that the places are.
            size: (height, width) of the picture.
        """
        if self.whole or prod(self.shape[2:]) != prod(plane) or prod(plane) > MOST:
            return ReceptiveField(None, self.line.stride, self.line.offset)
        places = [np.broadcast_to(end.min(axis=(1, 2)), (2, *self.shape[2:])) for end in self.ends]
        ends = [compressed(end.reshape(2, *plane)) for end in places]
        if any((end[0] >= NOTHING).all() for end in ends):
            return ReceptiveField(None, self.line.stride, self.line.offset)
        return _with_table(_straight(ends, self.line), ends, plane, size)


def _straight(ends: Sequence[np.ndarray], line: ReceptiveField) -> ReceptiveField:
    """Size, stride and offset that describe intervals of another form best.

    They are the largest, the mean of the steps from place to place away from the picture's edges, and the first.
    Places that all see the same tell no step; then it is the chain rule's.
    """
    sizes, strides, offsets = [], [], []
    for direction, (low, high) in enumerate(ends):
        inside = low < NOTHING
        sizes.append(int((-high - low)[inside].max()))
        along = np.moveaxis(low, direction, 0)
        first = along[0].min()
        step = _step(low.min(axis=1 - direction), -high.min(axis=1 - direction))
        strides.append(step or line.stride[direction])
        offsets.append(float(first if first < NOTHING else low.min()))
    return ReceptiveField((sizes[0], sizes[1]), (strides[0], strides[1]), (offsets[0], offsets[1]))


def _step(low: np.ndarray, high: np.ndarray) -> float | None:
    """Pixels from place to place along one direction, where what is seen does not end at an edge of the picture.

    The steps may repeat (half a pixel is one step in two places); then it is their mean over whole rounds.
    """
    if len(low) < 2 or (low >= NOTHING).any():
        return None
    inside = (low > low.min()) & (high < high.max())
    places = np.flatnonzero(inside)
    ends = low[places] if len(places) > 2 and np.ptp(places) == len(places) - 1 else low
    for round_ in range(1, len(ends) // 2 + 1):
        steps = ends[round_:] - ends[:-round_]
        if (steps == steps[0]).all():
            return float(steps[0]) / round_
    return float(ends[-1] - ends[0]) / (len(ends) - 1)


def _with_table(
    line: ReceptiveField, ends: Sequence[np.ndarray], plane: tuple[int, int], size: tuple[int, int]
) -> ReceptiveField:
    """The field with its intervals one by one, unless the line says the same inside the picture."""
    assert line.size is not None
    if max(plane) > _LONGEST:
        return ReceptiveField(None, line.stride, line.offset)
    tables = []
    same = True
    for direction, (low, high) in enumerate(ends):
        places = np.arange(plane[direction]).reshape((-1, 1) if direction == 0 else (1, -1))
        start = line.offset[direction] + places * line.stride[direction]
        lowest, side = np.broadcast_arrays(low, start)[1], size[direction]
        seen = low < NOTHING
        low, high = np.where(seen, low, np.floor(start)), np.where(seen, -high, np.ceil(start + line.size[direction]))
        same = same and bool(
            (lowest.clip(0, side) == low.clip(0, side)).all()
            and ((lowest + line.size[direction]).clip(0, side) == high.clip(0, side)).all()
        )
        tables.append(_intervals(low, high))
    return line if same else replace(line, table=(tables[0], tables[1]))


def _intervals(low: np.ndarray, high: np.ndarray) -> Intervals:
    return tuple(
        tuple((int(first), int(after)) for first, after in zip(*row, strict=True))
        for row in zip(low.tolist(), high.tolist(), strict=True)
    )


def compressed(ends: np.ndarray) -> np.ndarray:
    """Axes along which nothing changes, once."""
    for axis in range(1, ends.ndim):
        if ends.shape[axis] > 1:
            first = ends.take([0], axis)
            if (ends == first).all():
                ends = first
    return ends


def expanded(ends: np.ndarray, shape: Sequence[int], axes: Sequence[int]) -> np.ndarray:
    """The named axes of the tensor in their full length."""
    wanted = [shape[a] if a in axes else ends.shape[a + 1] for a in range(len(shape))]
    if prod(wanted) > MOST:
        raise UnknownPlaces
    return np.broadcast_to(ends, (2, *wanted))


def union(ends: Sequence[np.ndarray]) -> np.ndarray:
    """Of several intervals, ranks aligned at the last axis as ONNX broadcasts."""
    rank = max(e.ndim for e in ends)
    return fold(np.minimum, (e.reshape(2, *[1] * (rank - e.ndim), *e.shape[1:]) for e in ends))


def over(ends: np.ndarray, axes: Sequence[int], keep: bool = True) -> np.ndarray:
    """What a value sees that is computed from all along some axes."""
    return ends.min(axis=tuple(a + 1 for a in axes), keepdims=keep)


def taken(ends: np.ndarray, axis: int, places: np.ndarray, size: int) -> np.ndarray:
    """The values at these places of an axis; a place outside sees nothing."""
    outside = (places < 0) | (places >= size)
    if ends.shape[axis + 1] == 1 and not outside.any():
        return ends.reshape(*ends.shape[: axis + 1], *[1] * places.ndim, *ends.shape[axis + 2 :])
    if ends.shape[axis + 1] == 1:
        ends = np.repeat(ends, size, axis + 1)
    found = ends.take(places.clip(0, size - 1).ravel(), axis + 1)
    if outside.any():
        line = outside.reshape([-1 if a == axis + 1 else 1 for a in range(found.ndim)])
        found = np.where(line, NOTHING, found)
    return found.reshape(*found.shape[: axis + 1], *places.shape, *found.shape[axis + 2 :])


def gathered(ends: np.ndarray, axis: int, places: np.ndarray, size: int) -> np.ndarray:
    """Each new value of an axis sees what several old ones see: (new, terms), outside the axis where there are less."""
    if ends.shape[axis + 1] == 1 and size > 1 and ((places >= 0) & (places < size)).any(axis=1).all():
        return ends
    return taken(ends, axis, places, size).min(axis=axis + 2)


def windows(size: int, count: int, kernel: int, stride: int, dilation: int, begin: int) -> np.ndarray:
    """(count, kernel) places that each position of a sliding window reads, -1 where it reads padding."""
    if count * kernel > MOST:
        raise UnknownPlaces
    places = np.arange(count)[:, None] * stride - begin + np.arange(kernel) * dilation
    return np.where(places < size, places, -1)


def transposed_windows(size: int, count: int, kernel: int, stride: int, dilation: int, begin: int) -> np.ndarray:
    """(count, kernel) places that each position of a transposed convolution reads, -1 where a tap reads none."""
    if count * kernel > MOST:
        raise UnknownPlaces
    found = np.arange(count)[:, None] + begin - np.arange(kernel) * dilation
    places = np.where(found % stride == 0, found // stride, -1)
    return np.where((places >= 0) & (places < size), places, -1)


def weighted(matrix: np.ndarray) -> np.ndarray:
    """(new, terms) places that a matrix (new, old) of weights reads, -1 where there are fewer."""
    read = np.abs(matrix) > 1e-6 * max(float(np.abs(matrix).max()), 1e-300)
    most = max(int(read.sum(axis=1).max()), 1)
    order = np.argsort(~read, axis=1, kind="stable")[:, :most]
    return np.where(np.take_along_axis(read, order, axis=1), order, -1)


def reshaped(ends: np.ndarray, shape: Sequence[int], target: Sequence[int]) -> np.ndarray:
    """The same values in another shape: axes that go into one another are held one by one only where they differ."""
    kept: list[int] = []
    materialized: list[int] = []
    for sources, targets in axis_groups(shape, target):
        changes = any(ends.shape[a + 1] > 1 for a in sources)
        materialized += sources if changes else []
        kept += [target[a] if changes else 1 for a in targets]
    return expanded(ends, shape, materialized).reshape(2, *kept)


def axis_groups(shape: Sequence[int], target: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest groups of neighbouring axes that a reshape turns into one another.

    Raises:
        UnknownPlaces: the shapes hold different numbers of values.
    """
    if prod(shape) != prod(target) or not prod(shape):
        raise UnknownPlaces
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(shape) or j < len(target):
        left, right = [i], [j]
        old, new = (shape[i] if i < len(shape) else 1), (target[j] if j < len(target) else 1)
        while old != new:
            if old < new:
                left.append(left[-1] + 1)
                old *= shape[left[-1]]
            else:
                right.append(right[-1] + 1)
                new *= target[right[-1]]
        groups.append(([a for a in left if a < len(shape)], [a for a in right if a < len(target)]))
        i, j = left[-1] + 1, right[-1] + 1
    return groups
