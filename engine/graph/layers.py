"""The words for places in a network: layer, receptive field, tensor specification, source."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from math import prod
from typing import Any

from ...errors import UsageError

Shape = tuple[int | None, ...]
Intervals = tuple[tuple[tuple[int, int], ...], ...]  # by row, by column: first pixel, and the one after the last


@dataclass(frozen=True)
class ReceptiveField:
    """What one position of a layer sees of the input, in input pixels, (vertical, horizontal).

    Position (i, j) sees the rows ``offset[0] + i * stride[0]`` to that plus ``size[0] - 1``, and the columns
    alike. ``offset`` is negative where padding is seen. A size of None sees the whole picture.

    Where no such line is exact (behind resizing, flips, rolls, slices, swapped axes) ``table`` has each position's
    rows and columns, cut to the picture, at the graph's own image size: by row and column the first pixel and the one
    after the last, each axis 1 long where it makes no difference; size, stride and offset then are the largest, the
    mean and the first.
    """

    size: tuple[int, int] | None
    stride: tuple[float, float]
    offset: tuple[float, float]
    table: tuple[Intervals, Intervals] | None = field(default=None, repr=False, compare=False)

    def box(self, row: int, column: int) -> tuple[float, float, float, float] | None:
        """(top, left, bottom, right) of a position, bottom and right exclusive, or None for everything."""
        if self.size is None:
            return None
        if self.table is not None:
            (top, bottom), (left, right) = (_at(ends, row, column) for ends in self.table)
            return top, left, bottom, right
        top = self.offset[0] + row * self.stride[0]
        left = self.offset[1] + column * self.stride[1]
        return top, left, top + self.size[0], left + self.size[1]

    def to_json(self) -> dict[str, Any]:
        """Size, stride and offset as a plain dict."""
        return {"size": self.size, "stride": self.stride, "offset": self.offset}


def _at(intervals: Intervals, row: int, column: int) -> tuple[float, float]:
    """First pixel and the one after the last, of a position of a table; beyond the table its last position's."""
    line = intervals[min(row, len(intervals) - 1)]
    first, after = line[min(column, len(line) - 1)]
    return float(first), float(after)


@dataclass(frozen=True)
class Tokens:
    """How the places of a layer lie over the picture.

    They are the tokens of (N, T, C) or (N, C, T), the moments of a signal's map (N, C, T), or the places of a volume's
    map (N, C, d, h, w), whose slices lie one below the other.

    Attributes:
        rows, columns: of the grid, in the picture's order, row by row.
        prefix: tokens before the grid that belong to no place: class and register tokens.
        count: all tokens, T; of a volume all places.
        slices: of a volume: its rows are those of so many slices.
        depth: of a volume: the picture's rows are those of so many slices.
    """

    rows: int
    columns: int
    prefix: int
    count: int
    slices: int = 1
    depth: int = 1

    @property
    def end(self) -> int:
        """The first token behind the grid."""
        return self.prefix + self.rows * self.columns


@dataclass(frozen=True, repr=False)
class Layer:
    """A named tap on one tensor of the graph.

    Attributes:
        index: place in the layer table, from 0, in order of execution.
        name: what the source framework's user calls it (``block5_conv3``, ``layer4.1.conv2``), unique.
        tensor: the ONNX tensor's name, the same in both executors.
        node: the ONNX node's original name.
        op: the ONNX operator that computes it.
        channels: number of units, or None where the tensor has no channel axis.
        shape: output shape at the graph's default image size; the batch axis is None.
        channel_axis: 1 for (N, C, ...), the last axis for channels-last tensors, None without channels.
        receptive_field: None where it is not defined (after a dense layer, or off the image's path).
        parameters: number of values that this layer's node holds, as the source's framework counts them: a batch-norm's
            statistics are parameters for Keras, and none elsewhere.
        macs: multiply-adds for one image of the default size.
        tokens: of a transformer's layer, the grid of its tokens; None for all others.
    """

    index: int
    name: str
    tensor: str
    node: str
    op: str
    channels: int | None
    shape: Shape
    channel_axis: int | None
    receptive_field: ReceptiveField | None
    parameters: int
    macs: int
    tokens: Tokens | None = None

    def __repr__(self) -> str:
        units = "no units" if self.channels is None else f"{self.channels} units"
        return f"<Layer {self.index} {self.name!r}: {self.op}, {self.shape_text}, {units}>"

    @property
    def shape_text(self) -> str:
        """The output shape without the batch, for a person: ``64 x 56 x 56``, ``?`` where it is open."""
        return " x ".join("?" if size is None else str(size) for size in self.shape[1:]) or "scalar"

    @property
    def is_spatial(self) -> bool:
        """Whether it is a feature map: channels and two spatial axes."""
        return self.channels is not None and len(self.shape) == 4

    @property
    def places(self) -> int | None:
        """How many places a unit's map has at the graph's image size, None where a side is open."""
        if self.tokens is not None:
            return self.tokens.rows * self.tokens.columns
        sides = [side for axis, side in enumerate(self.shape) if axis not in (0, self.channel_axis)]
        return None if None in sides else prod(side or 0 for side in sides)

    def channels_first(self, values: Any) -> Any:
        """This layer's raw tensor (numpy or torch) with its channel axis moved to 1."""
        if self.channel_axis in (None, 1):
            return values
        order = [0, self.channel_axis, *(a for a in range(1, values.ndim) if a != self.channel_axis)]
        return values.transpose(order) if type(values).__module__ == "numpy" else values.permute(order)

    @property
    def is_unfolded(self) -> bool:
        """Whether it is a feature map of one axis of places, as of a signal, or of three, as of a volume."""
        grid = self.tokens
        if grid is None or self.channel_axis != 1:
            return False
        return len(self.shape) == 5 or (len(self.shape) == 3 and 1 in (grid.rows, grid.columns))

    @property
    def is_volume(self) -> bool:
        """Whether `maps` lays slices one below the other, which are neighbours in a third direction."""
        return self.tokens is not None and self.tokens.depth > 1

    @property
    def has_maps(self) -> bool:
        """Whether `maps` has rows and columns: of a feature map, or of tokens with a grid."""
        return self.is_spatial or self.tokens is not None

    def maps(self, values: Any) -> Any:
        """As `channels_first`, and tokens as the feature maps (N, C, rows, columns) of their grid alone.

        Maps of a signal so have one row, or one column, and those of a volume its slices one below the other.

        Raises:
            UsageError: the tokens are not those of the graph's own image size.
        """
        found, grid = self.channels_first(values), self.tokens
        if grid is None:
            return found
        found = found.reshape(*found.shape[:2], -1)
        if found.shape[2] != grid.count:
            raise UsageError(
                f"layer '{self.name}' has {found.shape[2]} places here, and a grid is known for {grid.count}; "
                "take the model's own size"
            )
        places = found[:, :, grid.prefix : grid.end]
        return places.reshape(*places.shape[:2], grid.rows, grid.columns)

    def to_json(self) -> dict[str, Any]:
        """A plain dict, as in ``convscope info --json``."""
        seen = self.receptive_field
        rest = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "tokens"}
        if self.tokens is not None:
            rest["tokens"] = {f.name: getattr(self.tokens, f.name) for f in fields(self.tokens)}
        return {**rest, "receptive_field": None if seen is None else seen.to_json()}


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape (None where dynamic) and numpy dtype name of an input or output."""

    name: str
    shape: Shape
    dtype: str


@dataclass(frozen=True)
class Source:
    """Where a graph comes from.

    Attributes:
        path: the file, or None for a live object.
        sha256: of the file's bytes, or of the canonical ONNX for a live object.
        format: "onnx", "keras", "torch", ...
        producer: what wrote it, with its version.
        opset: of the ONNX that was normalized.
        notes: what was assumed or left out, one sentence each, for the user to read.
        name: what a live object calls itself: a torch module's class, a Keras model's name.
        arch: the code that built the network of a file of weights, see `adapters.load.load`; None where none did.
        trusted: whether code of the file was allowed to run.
    """

    path: str | None
    sha256: str
    format: str
    producer: str
    opset: int
    notes: tuple[str, ...] = ()
    name: str = ""
    arch: str | None = None
    trusted: bool = False


@dataclass(frozen=True)
class Proof:
    """That both executors were found to agree on every tensor of a random picture.

    Attributes:
        date: when, UTC, as 2026-11-26.
        is_earlier: found by an earlier run on the same file with the same versions, and kept in the cache folder.
        notes: what else was found, for the user to read: operators that no gradient passes.
        ran: sum of the graph and of the size at which a picture ran through it when a size was searched; else empty.
    """

    date: str
    is_earlier: bool = False
    notes: tuple[str, ...] = ()
    ran: str = ""
