"""What is explained: one number per picture, read from one or several tensors of the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import reads
from .reads import Read, Rows

GAMMA = 0.6  # weight of what is contrasted with, Finer-CAM (Zhang et al. 2025, arXiv:2501.11309)
SidesBox = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Target:
    """One number per picture, the same in NumPy and (differentiable) in torch; it can be stored.

    The number is ``sign * read - gamma * mean(against)``. Every method and every measure takes every target.

    Attributes:
        read: what is read, see `reads`: a class's logit is ``Channel(tensor, index)``.
        name: for people.
        sign: -1 asks what speaks against the number.
        against: what it is contrasted with; "why this and not that" (Finer-CAM).
        gamma: weight of the contrast.
        box: (left, top, right, bottom) of the detection that it belongs to, pixels of the model's input, or None.
        place: (H, W) bool over the model's input where the answer lies (a predicted mask), or None.
        class_index: the class of the detection.
        quantity: what ``sign * read`` is, in words, where whoever made it knows; see `meaning`.

    Example:
        >>> Target(Channel("logits", 281), "tabby")
        >>> Target(Entry((("output0", (4, 812)),), log_odds=True), "box 1: person", box=(10.0, 20.0, 60.0, 90.0))
    """

    read: Read
    name: str
    sign: float = 1.0
    against: tuple[Target, ...] = ()
    gamma: float = GAMMA
    box: SidesBox | None = None
    place: np.ndarray | None = None
    class_index: int | None = None
    quantity: str | None = None

    @property
    def meaning(self) -> str:
        """What the number is, for people: "logit, before the softmax", "cosine to the other vector"."""
        own = self.quantity or f"{'minus the ' if self.sign < 0 else ''}{self.read.quantity}"
        if not self.against:
            return own
        others = ", ".join(other.name for other in self.against)
        of = f"that of {others}" if len(self.against) == 1 else f"the mean of those of {others}"
        return f"{own}, less {self.gamma:g} times {of}"

    @property
    def tensors(self) -> tuple[str, ...]:
        """Every tensor that it reads."""
        return tuple(dict.fromkeys(n for part in (self, *self.against) for n in part.read.tensors))

    @property
    def index(self) -> int | None:
        """The class or unit, where it is one."""
        return self.class_index if self.class_index is not None else getattr(self.read, "index", None)

    def score(self, rows: Rows) -> Any:
        """The number, from one picture's values by tensor name (numpy or torch, without the batch axis)."""
        own = self.read.value(rows)
        own = own if self.sign == 1 else own * self.sign
        if not self.against:
            return own
        others = [other.score(rows) for other in self.against]
        return own - self.gamma * sum(others[1:], start=others[0]) / len(others)

    def to_json(self) -> dict[str, Any]:
        """A plain dict that `from_json` reads back (without ``place``, which is a result and no question)."""
        return {
            "name": self.name,
            **self.read.to_json(),
            **({"sign": self.sign} if self.sign != 1 else {}),
            **({"against": [t.to_json() for t in self.against], "gamma": self.gamma} if self.against else {}),
            **({"box": list(self.box), "class": self.class_index} if self.box is not None else {}),
        }


def from_json(stored: Mapping[str, Any]) -> Target:
    """A target from what `Target.to_json` gave.

    Raises:
        ValueError: it holds a Python callable, which cannot be stored.
    """
    own = dict(stored)
    name, sign = own.pop("name"), own.pop("sign", 1.0)
    against = tuple(from_json(other) for other in own.pop("against", ()))
    gamma, box, of_class = own.pop("gamma", GAMMA), own.pop("box", None), own.pop("class", None)
    read = reads.from_json(own)
    return Target(read, name, sign, against, gamma, tuple(box) if box else None, class_index=of_class)


def of_function(function: Callable[[Rows], Any], tensors: Sequence[str], name: str = "") -> Target:
    """A target from a Python callable of the outputs (mapping of name to one picture's value -> one number)."""
    return Target(reads.Function(tuple(tensors), function), name or getattr(function, "__name__", "function"))


def tensors_of(targets: Sequence[Target]) -> tuple[str, ...]:
    """Every tensor that any of the targets reads, in order."""
    return tuple(dict.fromkeys(name for target in targets for name in target.tensors))


def batch_axes(targets: Sequence[Target]) -> dict[str, int | None]:
    """Tensor -> the axis that counts pictures, as the targets' reads know it."""
    parts = [part for target in targets for part in (target, *target.against)]
    return {name: part.read.batch_axis for part in parts for name in part.read.tensors}


def scores(outputs: Mapping[str, Any], targets: Sequence[Target], count: int) -> Any:
    """(N,) numbers of a batch; float64 for NumPy, a differentiable tensor for torch.

    Args:
        outputs: whole tensors by name.
        targets: one per picture, or one for all of them.
        count: N. Rows that fill up a pass may follow and are not looked at.
    """
    axes = batch_axes(targets)
    asked = targets if len(targets) == count else [targets[0]] * count
    found = [target.score(row_of(outputs, axes, index)) for index, target in enumerate(asked)]
    if isinstance(next(iter(outputs.values())), np.ndarray):
        return np.asarray([float(number) for number in found], dtype=np.float64)
    import torch

    return torch.stack(found)


def row_of(outputs: Mapping[str, Any], axes: Mapping[str, int | None], index: int) -> dict[str, Any]:
    """One picture's values by tensor name, without the batch axis; ``axes`` as from `batch_axes`."""
    rows = {}
    for name, values in outputs.items():
        axis = axes.get(name, 0)
        rows[name] = values if axis is None else values[(slice(None),) * axis + (index,)]
    return rows
