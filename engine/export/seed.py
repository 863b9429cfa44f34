"""Where the walk back begins: the gradient of the target's score for the tensor that it is read from.

The scores are those of `engine.attribution.targets`: a class's logit, or for a segmentation the sum of its logit where
it is the strongest; the mean of a unit, or one position of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import UsageError
from ..outputs.reads import Channel, Entry
from ..outputs.target import Target
from .writer import Value, Writer

CLASS_INPUT = "class"


@dataclass(frozen=True)
class Seed:
    """The beginning of a walk.

    Attributes:
        tensor: the target's.
        gradient: dS / d tensor, in the tensor's shape.
        classes: (N,) int64, the class explained in each image; None for a target that is no class.
        target: that target.
    """

    tensor: str
    gradient: Value
    classes: Value | None = None
    target: Target | None = None


def chosen_classes(w: Writer, logits: str, rank: int, given: Value) -> Value:
    """(N,) the classes asked for; the predicted one where the number is negative.

    Args:
        w: the writer.
        logits: (N, K), or (N, K, H, W) of a segmentation, where the class with most positions is the predicted one.
        rank: of the logits.
        given: (N,) or (1,) int64.
    """
    if rank == 2:
        predicted = w.value(logits).apply("ArgMax", axis=1, keepdims=0)
    else:
        strongest = w.value(logits).apply("ArgMax", axis=1, keepdims=0)
        places = _one_hot(w, strongest, w.value(logits).shape(1, 2))
        predicted = places.sum([2, 3], keep=False).apply("ArgMax", axis=1, keepdims=0)
    return w.where(given < w.integers(0), predicted, given)


def class_seed(w: Writer, logits: str, shape: tuple[int, ...], classes: Value) -> Seed:
    """For classes (N,) of logits (N, K) or (N, K, H, W)."""
    one_hot = _one_hot(w, classes, w.value(logits).shape(1, 2))
    if len(shape) == 2:
        return Seed(logits, one_hot, classes)
    if shape[1] == 1:  # one map: its mean
        count = w.value(logits).shape(2).apply("ReduceProd", keepdims=0).cast()
        return Seed(logits, w.filled(w.value(logits).shape(), 1.0) / count, classes)
    strongest = w.value(logits).apply("ArgMax", axis=1, keepdims=1)
    here = strongest.equals(classes.reshape([-1, 1, 1, 1])).cast()
    mask = w.where(here.reduce("ReduceMax", [1, 2, 3]) > 0.0, here, 1.0)  # a class that is nowhere the strongest: all
    return Seed(logits, one_hot.unsqueeze([2, 3]) * mask, classes)


def unit_seed(w: Writer, target: Target, shape: tuple[int, ...], name: str | None = None) -> Seed:
    """For a unit, a neuron or an output's channel: the mean of a channel, or one position of it.

    Args:
        w: writes the nodes.
        target: what is explained.
        shape: of the tensor.
        name: of a tensor that stands for the target's own.
    """
    read, rank = target.read, len(shape)
    tensor = w.value(name or target.tensors[0])
    if target.sign == 1 and not target.against and isinstance(read, Channel):
        gradient = _mark(w, tensor, read.axis, read.index, rank)
        spatial = [axis for axis in range(1, rank) if axis != read.axis]
        if spatial:
            sizes = [tensor.shape(axis, axis + 1) for axis in spatial]
            gradient = gradient / w.concat(*sizes).apply("ReduceProd", keepdims=0).cast()
    elif target.sign == 1 and not target.against and isinstance(read, Entry) and len(read.entries) == 1:
        ((_, place),) = read.entries
        gradient = _mark(w, tensor, 1, place[0], rank)
        for axis, at in enumerate(place[1:], 2):
            gradient = gradient * _mark(w, tensor, axis, at, rank)
    else:
        raise UsageError(
            f"target '{target.name}' is a {read.kind} of one picture, or a contrast; an exported model, for all "
            "pictures, takes a class, a unit, a neuron or a channel of an output"
        )
    return Seed(tensor.name, gradient.expand(tensor.shape()), target=target)


def _mark(w: Writer, tensor: Value, axis: int, place: int, rank: int) -> Value:
    """One at a place of an axis, zero elsewhere, ready to be broadcast."""
    line = _one_hot(w, w.integers([place]), tensor.shape(axis, axis + 1))
    return line.reshape([-1 if a == axis else 1 for a in range(rank)])


def _one_hot(w: Writer, indices: Value, depth: Value) -> Value:
    """A new axis 1 of ``depth`` with a one at each index."""
    return indices.apply("OneHot", depth, w.constant(np.array([0, 1], dtype=w.kind)), axis=1)
