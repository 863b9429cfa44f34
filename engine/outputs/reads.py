"""How one number is read from a model's outputs: the closed set of reads that a `Target` is made of.

Every read is a small frozen record that can be stored and that works on NumPy arrays and on torch tensors alike (on
these differentiably). It gets the values of its tensors for one picture, that is without the batch axis, by tensor
name, and returns one number. ``batch_axis`` says which axis of the whole tensor counts the pictures: 0 nearly always,
1 for sequences with time first (T, N, K), None for tensors that hold one picture only (boxes after suppression).
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from ...errors import UsageError

Rows = Mapping[str, Any]
_AT_EDGE = 1e-4  # of the reference's side: nearer to its edge a side of a box counts as inside
SIDES = ("left", "top", "right", "bottom")


@dataclass(frozen=True, eq=False, kw_only=True)
class Read:
    """What all reads share.

    Attributes:
        batch_axis: the axis of the tensor that counts pictures, or None.
    """

    batch_axis: int | None = 0
    kind: ClassVar[str] = ""

    @property
    def quantity(self) -> str:
        """What the number is, in words that need no knowledge of what the tensor means."""
        raise TypeError("a read says what it reads")

    @property
    def tensors(self) -> tuple[str, ...]:
        """The tensors that it needs."""
        raise TypeError("a read names its tensors")

    def value(self, rows: Rows) -> Any:
        """The number, a scalar of the rows' own library."""
        raise TypeError("a read has a value")

    def to_json(self) -> dict[str, Any]:
        """A plain dict that `from_json` reads back; arrays are packed (see `packed`)."""
        stored = {f.name: _plain(getattr(self, f.name)) for f in fields(self) if f.name != "batch_axis"}
        return {"read": self.kind, **stored, **({} if self.batch_axis == 0 else {"batch_axis": self.batch_axis})}


@dataclass(frozen=True, eq=False)
class _OfOneTensor(Read):
    tensor: str

    @property
    def tensors(self) -> tuple[str, ...]:
        return (self.tensor,)


@dataclass(frozen=True, eq=False)
class Channel(_OfOneTensor):
    """The mean of a channel over all positions; the entry itself where the tensor is a vector.

    Attributes:
        index: the channel: a class, or a unit.
        axis: the channel axis of the whole tensor, batch axis included.
    """

    index: int
    axis: int = 1
    kind = "channel"

    @property
    def quantity(self) -> str:
        return "value of the channel, the mean where it has many"

    def value(self, rows: Rows) -> Any:
        channel = _channel(rows[self.tensor], self, self.index)
        return channel.mean() if channel.ndim else channel


@dataclass(frozen=True, eq=False)
class Masked(_OfOneTensor):
    """The sum of a channel over a mask.

    Seg-Grad-CAM (Vinogradova et al. 2020, arXiv:2002.11434) is Grad-CAM of this number for a class's logit map.

    Attributes:
        index: the channel, or None where the tensor is one map without a channel axis.
        mask: (H, W) float32 weights, of the tensor's own height and width; (T,) for a tensor of tokens.
        axis: as for `Channel`.
    """

    index: int | None
    mask: np.ndarray
    axis: int = 1
    kind = "masked"

    @property
    def quantity(self) -> str:
        return "sum of the map's values over the mask"

    def value(self, rows: Rows) -> Any:
        row = rows[self.tensor]
        channel = row if self.index is None else _channel(row, self, self.index)
        if tuple(channel.shape) != self.mask.shape:
            raise UsageError(f"a mask of shape {self.mask.shape} does not fit '{self.tensor}': {tuple(channel.shape)}")
        weights = self.mask if isinstance(channel, np.ndarray) else channel.new_tensor(self.mask)
        return (channel * weights).sum()


@dataclass(frozen=True, eq=False)
class Entry(Read):
    """One entry of a tensor, or the sum of several: a neuron, a box's class score (objectness and class).

    Attributes:
        entries: (tensor, place) pairs; places are indices into the tensor without its batch axis.
        log_odds: the entries are probabilities, and log(p / (1 - p)) of each is wanted: the logit before a sigmoid.
    """

    entries: tuple[tuple[str, tuple[int, ...]], ...]
    log_odds: bool = False
    kind = "entry"

    @property
    def quantity(self) -> str:
        what = "log-odds of the probability" if self.log_odds else "value"
        return what if len(self.entries) == 1 else f"sum of {len(self.entries)} values, {what} each"

    @property
    def tensors(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(tensor for tensor, _ in self.entries))

    def value(self, rows: Rows) -> Any:
        found = [_entry(rows[tensor], tensor, place) for tensor, place in self.entries]
        if self.log_odds:
            found = [log_odds(p) for p in found]
        return sum(found[1:], start=found[0])


@dataclass(frozen=True, eq=False)
class Box(_OfOneTensor):
    """One number of one box, in pixels of the model's input.

    At a box that is its own reference the overlap has an edge: it falls whether a side moves in or out, and rounding
    would decide which of the two slopes is taken. There a side counts as inside, so that the gradient asks what keeps
    the box as large as it is.

    Attributes:
        places: where the box's four numbers lie in the tensor without its batch axis.
        form: "cxcywh", "ltrb" or "tlbr".
        of: "left", "top", "right", "bottom", or "iou" with ``reference``.
        scale: (horizontal, vertical) factors that make pixels of the stored numbers.
        reference: (left, top, right, bottom) for "iou".
    """

    places: tuple[tuple[int, ...], ...]
    form: str
    of: str
    scale: tuple[float, float] = (1.0, 1.0)
    reference: tuple[float, float, float, float] | None = None
    kind = "box"

    @property
    def quantity(self) -> str:
        if self.of == "iou":
            return "overlap (IoU) with the reference box"
        return f"{self.of} side of the box, in pixels of the model's input"

    def value(self, rows: Rows) -> Any:
        row = rows[self.tensor]
        sides = _sides([_entry(row, self.tensor, place) for place in self.places], self.form, self.scale)
        if self.of != "iou":
            return sides[SIDES.index(self.of)]
        if self.reference is None:
            raise ValueError("Box of 'iou' needs a reference box")
        return _iou(sides, self.reference)


@dataclass(frozen=True, eq=False)
class Cosine(_OfOneTensor):
    """The cosine of the angle to a reference vector, a constant.

    Attributes:
        reference: as many numbers as the tensor has for one picture.
    """

    reference: np.ndarray
    kind = "cosine"

    @property
    def quantity(self) -> str:
        return "cosine to the reference vector"

    def value(self, rows: Rows) -> Any:
        vector = rows[self.tensor].reshape(-1)
        reference = _reference(self, vector)
        length = ((vector * vector).sum() * (reference * reference).sum()) ** 0.5
        return (vector * reference).sum() / (length + 1e-30)


@dataclass(frozen=True, eq=False)
class Distance(_OfOneTensor):
    """Minus the squared Euclidean distance to a reference: high is near.

    With a reference of zeros it is minus the squared norm, so a `Target` with ``sign`` -1 asks what makes the norm.

    Attributes:
        reference: as many numbers as the tensor (or its ``index``) has for one picture.
        index: one entry of a vector, or None for the whole.
    """

    reference: np.ndarray
    index: int | None = None
    kind = "distance"

    @property
    def quantity(self) -> str:
        return "minus the squared distance to the reference"

    def value(self, rows: Rows) -> Any:
        vector = rows[self.tensor].reshape(-1)
        if self.index is not None:
            vector = _entry(vector, self.tensor, (self.index,)).reshape(1)
        difference = vector - _reference(self, vector)
        return -(difference * difference).sum()


@dataclass(frozen=True, eq=False)
class Logsumexp(_OfOneTensor):
    """log(sum(exp)) of a channel over all positions, or of the whole tensor: a smooth maximum.

    Asks for a class wherever it may be: the evidence that any box of a detector has it.

    Attributes:
        index: the channel, or None for everything.
        axis: as for `Channel`.
        log_odds: the entries are probabilities; their logits are meant.
        plus: a channel that is added to it at every position, for instance a detector's objectness.
    """

    index: int | None = None
    axis: int = 1
    log_odds: bool = False
    plus: int | None = None
    kind = "logsumexp"

    @property
    def quantity(self) -> str:
        return "smooth maximum (log-sum-exp) over all positions"

    def value(self, rows: Rows) -> Any:
        row = rows[self.tensor]
        channels = (
            [row] if self.index is None else [_channel(row, self, i) for i in (self.index, self.plus) if i is not None]
        )
        parts = [log_odds(part) for part in channels] if self.log_odds else channels
        values = parts[0] if len(parts) == 1 else parts[0] + parts[1]
        if isinstance(values, np.ndarray):
            largest = values.max()
            return largest + np.log(np.exp(values - largest).sum())
        return values.reshape(-1).logsumexp(0)


@dataclass(frozen=True, eq=False)
class Symbol(_OfOneTensor):
    """One character of a read line: its lead over the best other symbol, summed over its time steps.

    sum over t of y[t, c] - max over d != c of y[t, d]; on logits this equals the difference of the log-softmax, whose
    normalizer cancels.

    Attributes:
        steps: the time steps at which the character was read.
        index: the symbol.
        axis: the symbols' axis of the tensor without its batch axis, 1 for (T, K), 0 for (K, T).
        log: the values are probabilities, and their logarithms are meant.
    """

    steps: tuple[int, ...]
    index: int
    axis: int = 1
    log: bool = False
    kind = "step"

    @property
    def quantity(self) -> str:
        what = "log-probability" if self.log else "logit"
        steps = "" if len(self.steps) == 1 else f", summed over its {len(self.steps)} time steps"
        return f"lead of the symbol's {what} over the best other's{steps}"

    def value(self, rows: Rows) -> Any:
        row = rows[self.tensor]
        row = row if self.axis == 1 else row.T
        total = 0.0
        for step in self.steps:
            symbols = row[step]
            if self.log:
                symbols = np.log(symbols + 1e-30) if isinstance(symbols, np.ndarray) else (symbols + 1e-30).log()
            others = [part.max() for part in (symbols[: self.index], symbols[self.index + 1 :]) if len(part)]
            best = max(others, key=_number)
            total = total + symbols[self.index] - best
        return total


@dataclass(frozen=True, eq=False)
class Function(Read):
    """A Python callable of the outputs; it cannot be stored, only named.

    Attributes:
        names: the tensors that it gets.
        function: mapping of tensor name to one picture's value (numpy or torch) -> one number.
    """

    names: tuple[str, ...]
    function: Callable[[Rows], Any]
    kind = "function"

    @property
    def tensors(self) -> tuple[str, ...]:
        return self.names

    @property
    def quantity(self) -> str:
        return "what the function gives"

    def value(self, rows: Rows) -> Any:
        asked = {name: rows[name] for name in self.names}
        try:
            found = self.function(asked)
        except LookupError as error:
            raise UsageError(
                f"the target function asked for {error}, which is not there; outputs are {', '.join(map(repr, asked))}"
            ) from error
        size = math.prod(np.shape(found))
        if size != 1:
            raise UsageError(f"the target function gives {size} numbers (shape {tuple(np.shape(found))}); give one")
        if hasattr(next(iter(asked.values())), "detach") and not hasattr(found, "detach"):
            raise UsageError("the target function gives a number without a gradient; compute it from the tensors")
        return found if np.ndim(found) == 0 else found.reshape(())

    def to_json(self) -> dict[str, Any]:
        return {
            "read": self.kind,
            "names": list(self.names),
            "function": getattr(self.function, "__qualname__", None) or type(self.function).__name__,
        }


READS: dict[str, type[Read]] = {
    read.kind: read for read in (Channel, Masked, Entry, Box, Cosine, Distance, Logsumexp, Symbol)
}


def from_json(stored: Mapping[str, Any]) -> Read:
    """A read from what `Read.to_json` gave.

    Raises:
        ValueError: it names no read of this set, for instance a Python callable, which cannot be stored.
    """
    kind = stored.get("read")
    if kind not in READS:
        raise ValueError(f"read {kind!r} is none of {', '.join(READS)}")
    return READS[kind](**{name: unpacked(value) for name, value in stored.items() if name != "read"})


def _channel(row: Any, read: Channel | Masked | Logsumexp, index: int) -> Any:
    axis = read.axis - 1 if read.batch_axis is not None and read.axis > read.batch_axis else read.axis
    if not (0 <= axis < row.ndim and 0 <= index < row.shape[axis]):
        raise UsageError(
            f"channel {index} along axis {read.axis} is not in '{read.tensor}', "
            f"which has shape {tuple(row.shape)} for one picture"
        )
    return row[(slice(None),) * axis + (index,)]


def _entry(row: Any, tensor: str, place: tuple[int, ...]) -> Any:
    if len(place) != row.ndim or not all(0 <= i < size for i, size in zip(place, row.shape, strict=True)):
        raise UsageError(f"entry {place} is not in '{tensor}', which has shape {tuple(row.shape)} for one picture")
    return row[place]


def _reference(read: Cosine | Distance, vector: Any) -> Any:
    reference = read.reference.reshape(-1)
    if reference.size != math.prod(vector.shape):
        raise UsageError(
            f"the reference has {reference.size} numbers, but there are {math.prod(vector.shape)} of '{read.tensor}'"
        )
    return _like(reference, vector)


def log_odds(p: Any) -> Any:
    """log(p / (1 - p)) of NumPy or torch values, finite where float32 has rounded a probability to 0 or 1."""
    tiny, largest = 1e-30, 1 - 2.0**-24
    if isinstance(p, (np.ndarray, np.generic)):
        inside = np.clip(p, tiny, largest)
        return np.log(inside) - np.log1p(-inside)
    inside = p.clamp(tiny, largest)
    return inside.log() - (-inside).log1p()


def _sides(numbers: list[Any], form: str, scale: tuple[float, float]) -> list[Any]:
    """[left, top, right, bottom] in pixels."""
    a, b, c, d = numbers
    horizontal, vertical = scale
    if form == "cxcywh":
        return [(a - c / 2) * horizontal, (b - d / 2) * vertical, (a + c / 2) * horizontal, (b + d / 2) * vertical]
    if form == "tlbr":
        a, b, c, d = b, a, d, c
    return [a * horizontal, b * vertical, c * horizontal, d * vertical]


def _iou(sides: list[Any], reference: tuple[float, float, float, float]) -> Any:
    left, top, right, bottom = sides
    slack = _AT_EDGE * (reference[2] - reference[0]), _AT_EDGE * (reference[3] - reference[1])
    width = _smaller(right, reference[2], slack[0]) - _larger(left, reference[0], slack[0])
    height = _smaller(bottom, reference[3], slack[1]) - _larger(top, reference[1], slack[1])
    shared = _larger(width, 0.0) * _larger(height, 0.0)
    own = (reference[2] - reference[0]) * (reference[3] - reference[1])
    return shared / ((right - left) * (bottom - top) + own - shared)


def _larger(value: Any, bound: float, slack: float = 0.0) -> Any:
    """The larger one; the value itself (and its gradient) as far as ``slack`` below the bound."""
    return value if _number(value) >= bound - slack else _bound(value, bound)


def _smaller(value: Any, bound: float, slack: float = 0.0) -> Any:
    return value if _number(value) <= bound + slack else _bound(value, bound)


def _number(value: Any) -> float:
    return float(value.detach() if hasattr(value, "detach") else value)


def _bound(value: Any, bound: float) -> Any:
    """The bound, in the value's own library, type and graph."""
    return value * 0 + bound


def _like(values: np.ndarray, like: Any) -> Any:
    return values if isinstance(like, np.ndarray) else like.new_tensor(values)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return packed(value)
    return [_plain(part) for part in value] if isinstance(value, tuple) else value


def packed(array: np.ndarray) -> dict[str, Any]:
    """float32 numbers, little endian, zlib-compressed, base64."""
    data = zlib.compress(np.ascontiguousarray(array, dtype="<f4").tobytes(), 6)
    return {"shape": list(array.shape), "float32": base64.b64encode(data).decode()}


def unpacked(value: Any) -> Any:
    """What `packed` packed, also inside lists, which become tuples; everything else as it is."""
    if isinstance(value, Mapping):
        data = np.frombuffer(zlib.decompress(base64.b64decode(value["float32"])), dtype="<f4")
        return data.reshape(value["shape"]).astype(np.float32)
    return tuple(unpacked(part) for part in value) if isinstance(value, list) else value
