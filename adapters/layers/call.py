"""One node with what its inputs see, and what the rules of all families share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil

import numpy as np
import onnx

from ...engine.graph.index import attributes
from ...engine.graph.layers import ReceptiveField
from ..normalize.draft import Draft
from .seen import MOST, NOTHING, Seen, UnknownPlaces, union

Shape = tuple[int, ...]


class Call:
    """One node with what its inputs see."""

    def __init__(self, draft: Draft, size: tuple[int, int], node: onnx.NodeProto, sources: list[Seen | None]) -> None:
        self.draft, self.size, self.node, self.sources = draft, size, node, sources
        self.options = attributes(node)

    @property
    def first(self) -> Seen:
        """What the first input that sees anything sees; for most operators the only one."""
        return next(s for s in self.sources if s is not None)

    def get(self, name: str, default: object = None) -> object:
        """An attribute."""
        return self.options.get(name, default)

    def shape(self, place: int = 0, batch: int | None = None) -> Shape:
        """The shape of an output for one picture.

        Raises:
            UnknownPlaces: it is not known.
        """
        rows = (self.first.shape or (1,))[0] if batch is None else batch  # a number has no batch
        found = shape_of(self.draft, self.node.output[place], rows)
        if found is None:
            raise UnknownPlaces
        return found

    def constant(self, place: int, attribute: str = "") -> np.ndarray | None:
        """A setting that is an attribute, a constant input or follows from sizes; None where it is left out.

        Raises:
            UnknownPlaces: it depends on the picture.
        """
        if attribute and attribute in self.options:
            return np.asarray(self.options[attribute])
        if place >= len(self.node.input) or not self.node.input[place]:
            return None
        name = self.node.input[place]
        value = self.draft.constant(name)
        value = self.draft.settled.get(name) if value is None else value
        if value is None:
            raise UnknownPlaces
        return value

    def axes(self, place: int = 1) -> list[int] | None:
        """Axes that are an attribute or a constant input, counted from 0; None where they are left out."""
        value, rank = self.constant(place, "axes"), len(self.first.shape)
        return None if value is None or value.size == 0 else [int(a) % rank for a in value.ravel()]

    def constant_shape(self, place: int) -> Shape | None:
        """The shape of an input that does not depend on the image; None where it is open."""
        name = self.node.input[place] if place < len(self.node.input) else ""
        shape = self.draft.shapes.get(name)
        return None if shape is None or any(s is None for s in shape) else tuple(s or 0 for s in shape)


Rule = Callable[[Call], Seen | list[Seen]]


def shape_of(draft: Draft, name: str, batch: int) -> Shape | None:
    """A tensor's shape for one picture; None where it is not known. ``batch`` where only the first axis is open."""
    shape = draft.shapes.get(name)
    if shape is None or any(s is None for s in shape[1:]) or max((s or 1 for s in shape), default=1) > MOST:
        return None
    return tuple(batch if s is None else s for s in shape)


def met(sources: Sequence[Seen]) -> list[Seen]:
    """What counts where paths meet: those that could not be followed, else the local ones, where there are any."""
    return [s for s in sources if s.lost] or [s for s in sources if not s.whole] or list(sources)


def kept(call: Call) -> Seen:
    """Positions stay: the union of all inputs, broadcast."""
    return together(call.shape(), met([s for s in call.sources if s is not None]))


def together(shape: Shape, met: Sequence[Seen]) -> Seen:
    """The union of what meets in a tensor of this shape."""
    rank = len(shape)
    nothing = np.full((2, *[1] * rank), NOTHING)
    ends = [union([nothing, *(s.ends[d] for s in met)]) for d in (0, 1)]
    if any(e.ndim - 1 != rank for e in ends):
        raise UnknownPlaces
    planes = {shifted(s.plane, rank - len(s.shape)) for s in met}
    plane = planes.pop() if len(planes) == 1 else None
    line, whole, lost = union_of_lines([s.line for s in met]), any(s.whole for s in met), any(s.lost for s in met)
    return Seen((ends[0], ends[1]), shape, line, plane, whole, lost)


def shifted(plane: tuple[int, int] | None, by: int) -> tuple[int, int] | None:
    """The two axes of the picture where ``by`` more stand before them."""
    return None if plane is None else (plane[0] + by, plane[1] + by)


def union_of_lines(lines: Sequence[ReceptiveField]) -> ReceptiveField:
    """The smallest line that holds all of them, with the widest strides."""
    if len(lines) == 1:
        return lines[0]
    stride = (max(f.stride[0] for f in lines), max(f.stride[1] for f in lines))
    boxes = [(f.offset, f.size) for f in lines if f.size is not None]
    low = [min(o[a] for o, _ in boxes) for a in (0, 1)]
    high = [max(o[a] + s[a] for o, s in boxes) for a in (0, 1)]
    return ReceptiveField((ceil(high[0] - low[0]), ceil(high[1] - low[1])), stride, (low[0], low[1]))


def scaled(
    line: ReceptiveField, reach: Sequence[float], shift: Sequence[float], step: Sequence[float]
) -> ReceptiveField:
    """The line behind a window: position i begins at i * step + shift and goes on for ``reach`` more positions."""
    assert line.size is not None
    size, stride, offset = [], [], []
    for a in (0, 1):
        j = line.stride[a]
        size.append(line.size[a] + ceil(reach[a] * abs(j)))
        stride.append(j * step[a])
        offset.append(line.offset[a] + shift[a] * j + min(reach[a] * j, 0.0))
    return ReceptiveField((size[0], size[1]), (stride[0], stride[1]), (offset[0], offset[1]))
