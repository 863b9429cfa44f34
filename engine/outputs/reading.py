"""What a model's outputs mean: a reading answers for one picture, and says which numbers can be asked about it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from ...errors import UsageError
from ..graph.graph import Graph
from ..whole import keep_whole, whole
from .reads import Rows
from .target import Target


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of a picture; everything is optional.

    Attributes:
        target: class index or name, ``top:K``, ``all:0.5``, ``unit:...``, ``output:...``, a `Target`, or a callable of
            the outputs.
        box: number of a detection (from 1), of a text region, or of a read character.
        of: which number of the box: "score", "left", "top", "right", "bottom" or "iou".
        region: (top, left, bottom, right) of the model's input, bottom and right exclusive.
        mask: (H, W) weights over the model's input.
        like: another picture's output, or a class's embedding: as many numbers as the output has.
        to: a value to be near to, for regressions.
        against: what the target is contrasted with: a class, ``top:K`` or a `Target`.
        count: how many answers are explained where the question names none.
    """

    target: Any = None
    box: int | None = None
    of: str = "score"
    region: tuple[int, int, int, int] | None = None
    mask: np.ndarray | None = None
    like: np.ndarray | None = None
    to: float | None = None
    against: Any = None
    count: int = 3

    def __post_init__(self) -> None:
        """Raises UsageError for a part that can mean nothing, whatever the outputs are."""
        keep_whole(self, box=0, count=1)
        if self.region is not None:
            sides = tuple(whole(side, "side of region") for side in self.region)
            if len(sides) != 4:
                raise UsageError(f"region={self.region} is not four whole numbers: top, left, bottom, right")
            object.__setattr__(self, "region", sides)
            if sides[0] >= sides[2] or sides[1] >= sides[3]:
                raise UsageError(f"region={self.region} is empty: bottom and right must be larger than top and left")
        if self.to is not None and not (isinstance(self.to, Real) and math.isfinite(self.to)):
            raise UsageError(f"to={self.to!r} is no finite number")
        for name in ("mask", "like"):
            values = getattr(self, name)
            if values is not None and not _are_finite(values):
                raise UsageError(f"{name}= holds values that are no finite numbers")

    def given(self) -> tuple[str, ...]:
        """Names of the attributes beside ``target`` that were set."""
        names = ("box", "region", "mask", "like", "to", "against")
        found = [name for name in names if getattr(self, name) is not None]
        return tuple(found + (["of"] if self.of != "score" else []))


def _are_finite(values: Any) -> bool:
    try:
        return bool(np.isfinite(np.asarray(values, np.float64)).all())
    except (TypeError, ValueError):
        return False


@dataclass(frozen=True, eq=False)
class Answer:
    """What the outputs say about one picture."""

    def to_json(self) -> dict[str, Any]:
        """A plain dict; docs/outputs.md lists every form's fields."""
        raise TypeError("an answer has a JSON form")

    def text(self) -> str:
        """One line for people."""
        raise TypeError("an answer has a text")

    def rows(self) -> list[tuple[str, float | None, str]]:
        """(name, share in [0, 1] or None, value as text) of each part, for tables."""
        return [(self.text(), None, "")]


@dataclass(frozen=True, eq=False)
class Reading:
    """What a graph's outputs are taken for.

    Attributes:
        graph: the model.
        form: "classification", "labels", "detection", "segmentation", "text regions", "text", "embedding",
            "regression", "landmarks", "image" or "unknown".
        decoder: what ``--decoder`` calls it.
        reason: why the outputs are read so, for people.
        tensors: what `answer` and `targets` need.
        head: the tensors whose feature maps explain the answer.
        axes: tensor -> the axis that counts pictures, where that is not 0.
        differentiable: False where the answer is chosen by operators that pass no gradient on.
    """

    graph: Graph
    form: str
    decoder: str
    reason: str
    tensors: tuple[str, ...]
    head: tuple[str, ...] = ()
    axes: Mapping[str, int | None] = field(default_factory=dict)
    differentiable: bool = True

    accepts = frozenset[str]()  # names of the question's attributes that mean something here
    alternatives: ClassVar[tuple[frozenset[str], ...]] = ()  # sets of them of which one at most can be given
    takes_target: ClassVar[bool] = True  # whether a target by name or number means something

    @property
    def unread(self) -> tuple[str, ...]:
        """The outputs that say nothing here: neither read nor computed from what is read."""
        read = self.graph.index.descendants(self.tensors)
        return tuple(output.name for output in self.graph.outputs if output.name not in read)

    def in_words(self) -> str:
        """How the outputs are read, and which are not, for people."""
        if not self.unread:
            return f"outputs: {self.reason}"
        listed = ", ".join(f"'{name[:80]}'" for name in self.unread[:5]) + (", ..." if self.unread[5:] else "")
        read = [output.name for output in self.graph.outputs if output.name not in self.unread]
        of = f", read from '{read[0][:80]}'" if len(read) == 1 else ""
        return f"outputs: {self.reason}{of}; not read: {listed} (output= reads another)"

    def answer(self, rows: Rows, *, top: int = 3) -> Answer:
        """What the outputs say about one picture; ``rows`` are its values by tensor name, without the batch axis."""
        raise TypeError("a reading answers")

    def targets(self, rows: Rows, question: Question) -> list[Target]:
        """The numbers that the question is about, on one picture.

        Raises:
            UsageError: the question does not fit this form, or names nothing that is there.
        """
        raise TypeError("a reading has targets")

    def check(self, question: Question) -> None:
        """Raises UsageError for a part of the question that this form has no use for, alone or beside another part."""
        given = (*(("target",) if question.target is not None else ()), *question.given())
        for name in given:
            if name not in self.accepts and not (name == "target" and self.takes_target):
                takes = ", ".join(f"{n}=" for n in sorted(self.accepts)) or "no such option"
                raise UsageError(
                    f"{name}= means nothing for {self.graph.name}, which is read as {self.reason}; "
                    f"it takes {takes} (decoder= overrules)"
                )
        for names in self.alternatives:
            both = [name for name in given if name in names]
            if len(both) > 1:
                raise UsageError(f"{both[0]}= and {both[1]}= cannot both be asked of {self.graph.name}; leave one out")
