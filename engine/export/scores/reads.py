"""Gradients of the reads of `engine.outputs.reads`, as nodes: where the walk back from a stored target begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ....errors import UsageError
from ...outputs.reads import SIDES, Box, Channel, Cosine, Distance, Entry, Logsumexp, Masked, Read, Symbol
from ...outputs.target import Target
from ..trace import Trace
from ..writer import Value, Writer, total
from .base import one_hot

_TINY, _LARGEST = 1e-30, 1 - 2.0**-24  # of a probability whose logit is meant, as `outputs.reads` has them
_LEAST = -3e38  # below any value


class Tensor:
    """A tensor that a read is of: its value, its shape in the example, and which axis counts pictures."""

    def __init__(self, w: Writer, trace: Trace, name: str, stands: str, batch_axis: int | None) -> None:
        if batch_axis is None:
            raise UsageError(f"'{name}' holds one picture alone, without a batch axis; an exported file takes many")
        shape = trace.shape(stands)
        self.w, self.name, self.batch_axis, self.rank = w, name, batch_axis, len(shape)
        self.value = w.value(stands)
        self.is_fixed = trace.is_fixed
        self.sizes = shape
        self.rest = [axis for axis in range(self.rank) if axis != batch_axis]

    def mark(self, place: Mapping[int, int]) -> Value:
        """One at these places of these axes (of the whole tensor), zero elsewhere; ready to be broadcast."""
        found = None
        for axis, at in place.items():
            line = one_hot(self.w, self.w.integers([at]), self.value.shape(axis, axis + 1))
            line = line.reshape([-1 if a == axis else 1 for a in range(self.rank)])
            found = line if found is None else found * line
        return self.w.number(1.0) if found is None else found

    def entry(self, place: tuple[int, ...]) -> Value:
        """The mark of one entry, its place without the batch axis."""
        return self.mark(dict(zip(self.rest, place, strict=True)))

    def full(self, gradient: Value) -> Value:
        """A gradient in the tensor's shape."""
        return gradient.expand(self.value.shape())

    def log_odds_slope(self, mark: Value) -> Value:
        """d log(p / (1 - p)) / dp where the mark is, and where p is not rounded to 0 or 1; else zero."""
        w, p = self.w, self.value
        inside = (p >= _TINY).apply("And", p <= _LARGEST).apply("And", mark > 0.0)
        safe = w.where(inside, p, 0.5)
        return w.where(inside, 1 / safe + 1 / (1.0 - safe), 0.0)


def target_gradients(
    w: Writer, trace: Trace, target: Target, at: Mapping[str, str], share: float = 1.0
) -> dict[str, Value]:
    """The gradient of a target's score for each of its tensors.

    Raises:
        UsageError: a read that no file can hold.
    """
    parts: dict[str, list[Value]] = {}
    for name, gradient in _read_gradients(w, trace, target.read, at).items():
        parts.setdefault(name, []).append(gradient * (target.sign * share))
    for other in target.against:
        weight = -target.gamma / len(target.against) * share
        for name, gradient in target_gradients(w, trace, other, at, weight).items():
            parts.setdefault(name, []).append(gradient)
    return {name: total(gradients) for name, gradients in parts.items()}


def _read_gradients(w: Writer, trace: Trace, read: Read, at: Mapping[str, str]) -> dict[str, Value]:
    rule = _RULES.get(type(read))
    if rule is None:
        raise UsageError(f"a target that is a {read.kind} cannot be written into a file; {', '.join(_KINDS)} can")
    return rule(read, {n: Tensor(w, trace, n, at[n], read.batch_axis) for n in read.tensors})


def _channel(read: Channel, t: Mapping[str, Tensor]) -> dict[str, Value]:
    tensor = t[read.tensor]
    gradient = tensor.mark({read.axis: read.index})
    spatial = [axis for axis in tensor.rest if axis != read.axis]
    if spatial:
        sizes = [tensor.value.shape(axis, axis + 1) for axis in spatial]
        gradient = gradient / tensor.w.concat(*sizes).apply("ReduceProd", keepdims=0).cast()
    return {read.tensor: tensor.full(gradient)}


def _masked(read: Masked, t: Mapping[str, Tensor]) -> dict[str, Value]:
    tensor = t[read.tensor]
    free = [axis for axis in tensor.rest if read.index is None or axis != read.axis]
    mask = placed_mask(tensor, read.mask, free)
    gradient = mask if read.index is None else tensor.mark({read.axis: read.index}) * mask
    return {read.tensor: tensor.full(gradient)}


def placed_mask(tensor: Tensor, mask: np.ndarray, axes: list[int]) -> Value:
    """A stored mask along some axes of a tensor, enlarged where the tensor has another size than the example."""
    w = tensor.w
    if mask.ndim != len(axes):
        raise UsageError(f"a mask of shape {mask.shape} does not fit '{tensor.name}' of shape {tensor.sizes}")
    value = w.constant(mask.astype(w.kind))
    if not tensor.is_fixed and mask.ndim == 2:
        sizes = w.concat([1, 1], *(tensor.value.shape(axis, axis + 1) for axis in axes))
        value = value.unsqueeze([0, 1]).apply(
            "Resize", None, None, sizes, mode="linear", coordinate_transformation_mode="half_pixel"
        )
        value = value.squeeze([0, 1])
    others = [axis for axis in range(tensor.rank) if axis not in axes]
    return value.unsqueeze(others)


def _entry(read: Entry, t: Mapping[str, Tensor]) -> dict[str, Value]:
    found: dict[str, list[Value]] = {}
    for name, place in read.entries:
        mark = t[name].entry(place)
        slope = t[name].log_odds_slope(mark) if read.log_odds else None
        found.setdefault(name, []).append(t[name].full(mark if slope is None else mark * slope))
    return {name: total(marks) for name, marks in found.items()}


def side_weights(form: str, of: str, scale: tuple[float, float]) -> list[float]:
    """How much each of a box's four stored numbers counts for one of its sides."""
    horizontal, vertical = scale
    first = of in ("left", "right")
    size = horizontal if first else vertical
    if form == "cxcywh":
        half = -size / 2 if of in ("left", "top") else size / 2
        return [size, 0.0, half, 0.0] if first else [0.0, size, 0.0, half]
    order = SIDES if form == "ltrb" else ("top", "left", "bottom", "right")
    return [size if side == of else 0.0 for side in order]


def _box(read: Box, t: Mapping[str, Tensor]) -> dict[str, Value]:
    if read.of not in SIDES:
        raise UsageError(f"of={read.of} compares with a box of one picture; a file takes score, {', '.join(SIDES)}")
    tensor = t[read.tensor]
    weights = side_weights(read.form, read.of, read.scale)
    marks = [tensor.entry(p) * weight for p, weight in zip(read.places, weights, strict=True) if weight]
    return {read.tensor: tensor.full(total(marks))}


def _vector(tensor: Tensor) -> Value:
    """(N, D), the batch axis first."""
    value = tensor.value
    return (value if tensor.batch_axis == 0 else value.transpose([tensor.batch_axis, *tensor.rest])).apply(
        "Flatten", axis=1
    )


def _of_vector(tensor: Tensor, gradient: Value) -> Value:
    if tensor.batch_axis == 0:
        return gradient.like(tensor.value)
    turned = [tensor.batch_axis, *tensor.rest]
    back = gradient.reshape(tensor.w.concat(*(tensor.value.shape(a, a + 1) for a in turned)))
    return back.transpose([turned.index(a) for a in range(tensor.rank)])


def _cosine(read: Cosine, t: Mapping[str, Tensor]) -> dict[str, Value]:
    """d (v r / (|v| |r|)) / dv = (r - (v r / |v|^2) v) / (|v| |r|)."""
    tensor = t[read.tensor]
    w, vector = tensor.w, _vector(tensor)
    reference = w.constant(read.reference.reshape(1, -1).astype(w.kind))
    squared = (vector * vector).sum([1])
    safe = w.where(squared > 0.0, squared, 1.0)
    along = (vector * reference).sum([1]) / safe
    length = safe.apply("Sqrt") * max(float(np.linalg.norm(read.reference)), 1e-30)
    gradient = w.where(squared > 0.0, (reference - along * vector) / length, 0.0)
    return {read.tensor: _of_vector(tensor, gradient)}


def _distance(read: Distance, t: Mapping[str, Tensor]) -> dict[str, Value]:
    tensor = t[read.tensor]
    w, vector = tensor.w, _vector(tensor)
    gradient = (vector - w.constant(read.reference.reshape(1, -1).astype(w.kind))) * -2.0
    if read.index is not None:
        gradient = gradient * one_hot(w, w.integers([read.index]), vector.shape(1, 2))
    return {read.tensor: _of_vector(tensor, gradient)}


def _logsumexp(read: Logsumexp, t: Mapping[str, Tensor]) -> dict[str, Value]:
    """The softmax over all positions that count."""
    tensor = t[read.tensor]
    w, value = tensor.w, tensor.value
    mark = tensor.full(w.number(1.0) if read.index is None else tensor.mark({read.axis: read.index}))
    both = mark if read.plus is None else mark + tensor.full(tensor.mark({read.axis: read.plus}))
    slope = None
    if read.log_odds:
        slope = tensor.log_odds_slope(both)
        inside = value.apply("Clip", w.number(_TINY), w.number(_LARGEST))
        value = inside.apply("Log") - (1.0 - inside).apply("Log")
    if read.plus is not None:
        value = (value * both).sum([read.axis])
    counted = w.where(mark > 0.0, value, _LEAST)
    turned = counted if tensor.batch_axis == 0 else counted.transpose([tensor.batch_axis, *tensor.rest])
    shares = _of_vector(tensor, turned.apply("Flatten", axis=1).apply("Softmax", axis=1))
    if read.plus is not None:
        shares = shares.sum([read.axis]) * both
    return {read.tensor: shares if slope is None else shares * slope}


def _symbol(read: Symbol, t: Mapping[str, Tensor]) -> dict[str, Value]:
    tensor = t[read.tensor]
    symbols = tensor.rest[read.axis]
    time = next(axis for axis in tensor.rest if axis != symbols)
    steps = total([tensor.mark({time: step}) for step in read.steps])
    own = tensor.mark({symbols: read.index})
    lead = lead_gradient(tensor.value, tensor.full(own), symbols, log=read.log)
    return {read.tensor: lead * steps}


def lead_gradient(value: Value, own: Value, symbols: int, *, log: bool) -> Value:
    """Of a symbol's lead over the best other one: one at the symbol, minus one at the other.

    Args:
        value: (..., K, ...) of the symbols.
        own: one at the symbol that was read, in the shape of ``value``.
        symbols: their axis.
        log: the values are probabilities whose logarithms are meant.
    """
    w = value.writer
    best = w.where(own > 0.0, _LEAST, value).apply("ArgMax", axis=symbols, keepdims=0)
    other = one_hot(w, best, value.shape(symbols, symbols + 1), axis=symbols)
    lead = own - other
    return lead / (value + _TINY) if log else lead


_RULES: dict[type[Read], Callable[[Any, Mapping[str, Tensor]], dict[str, Value]]] = {
    Channel: _channel,
    Masked: _masked,
    Entry: _entry,
    Box: _box,
    Cosine: _cosine,
    Distance: _distance,
    Logsumexp: _logsumexp,
    Symbol: _symbol,
}
_KINDS = tuple(rule.kind for rule in _RULES)
