"""What every score of an exported file has: what is chosen in a picture, and the gradient that the walk begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from ...attribution.batch import Batch
from ...outputs.reading import Reading
from ...outputs.target import Target
from ..trace import Trace
from ..writer import Value, Writer


@dataclass(frozen=True, eq=False)
class Sample:
    """One thing that a file is asked, and what the twin is asked in its place.

    Attributes:
        feeds: input of the file -> (N,) int64.
        targets: one a picture.
    """

    feeds: Mapping[str, np.ndarray]
    targets: list[Target]


@dataclass(frozen=True, eq=False, kw_only=True)
class Score:
    """One number per picture.

    Attributes:
        tensors: that it is read from.
        inputs: the file's own inputs that ask, int64 (N,) or (1,); a negative number asks for what the model says.
        asks: what they ask for, in the plural, for people.
        head: tensors whose feature maps explain it.
        reading: of the outputs, where one was needed.
        straight: outputs of sigmoids that the gradient passes as it is: the score is what went into them.
    """

    tensors: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    asks: str = "targets"
    head: tuple[str, ...] = ()
    reading: Reading | None = None
    straight: frozenset[str] = frozenset()

    @property
    def name(self) -> str | None:
        """Of the one target of every picture; None where the file's inputs or the picture choose."""
        return None

    def choices(self, w: Writer, trace: Trace) -> dict[str, Value]:
        """What is chosen in each picture (a class, a mask), by name; each with the batch axis first."""
        return {}

    def gradients(
        self, w: Writer, trace: Trace, at: Mapping[str, str], choices: Mapping[str, Value]
    ) -> dict[str, Value]:
        """The gradient of the score for each of its tensors, in the tensor's shape.

        Args:
            w: writes the nodes.
            trace: of the model that holds the tensors.
            at: tensor -> the name that stands for it.
            choices: from `choices`, for as many pictures as those tensors have.
        """
        raise TypeError("a score has gradients")

    def provable(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """The file in a form that `samples` can ask about every picture."""
        return model

    def samples(self, batch: Batch, seed: int) -> list[Sample]:
        """What to ask for when the file is compared with the twin."""
        raise TypeError("a score has samples")


def repeated(choice: Value, times: int) -> Value:
    """Each row of a choice so many times in a row."""
    w = choice.writer
    rest = choice.shape(1)
    return choice.unsqueeze([1]).expand(w.concat([1, times], rest)).reshape(w.concat([-1], rest))


def one_hot(w: Writer, indices: Value, depth: Value, axis: int = 1) -> Value:
    """A new axis of ``depth`` with a one at each index; a negative index counts from the end."""
    return indices.apply("OneHot", depth, w.constant(np.array([0, 1], dtype=w.kind)), axis=axis)


def within(asked: Value, count: Value) -> Value:
    """The numbers that are asked for, below ``count`` (int64, (1,)); what is negative becomes the last.

    A number beyond stops the run with ONNX Runtime's message of an index out of bounds, where a mark that lies nowhere
    would give an empty map.
    """
    w = asked.writer
    numbers = w.add("Range", w.integers(0), count.squeeze([0]), w.integers(1))
    return numbers.apply("Gather", asked.apply("Max", w.integers(-1)))
