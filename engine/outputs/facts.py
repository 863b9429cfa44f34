"""What is known about a graph's outputs before any picture is asked about: shapes, ranges, heads, names, metadata.

Shapes and ranges that the file leaves open come from one probe: a fixed noise picture, so that what an output is taken
for never depends on the pictures that are explained.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ...errors import RefusedInput
from ..graph.graph import Graph
from ..graph.operators import operator
from .squeezed import before_squeezing

_DYNAMIC = frozenset({"NonMaxSuppression", "NonZero", "TopK", "If", "Loop", "Unique", "Compress"})


class Facts:
    """Of one graph.

    Args:
        graph: the model.
        output: the output to look at first, by name; default the first.
        device: where the probe runs.
    """

    def __init__(self, graph: Graph, output: str | None = None, device: str = "cpu") -> None:
        self.graph = graph
        self.device = device
        told = {spec.name: before_squeezing(graph, spec) for spec in graph.outputs}
        self.names: tuple[str, ...] = (told[output].name,) if output else tuple(spec.name for spec in told.values())
        self.specs = {spec.name: spec for spec in told.values()}
        self.metadata = dict(graph.metadata)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the model's input."""
        return self.graph.image_size

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Class names, or None."""
        return self.graph.labels

    @cached_property
    def probe(self) -> dict[str, np.ndarray]:
        """Every output on the probe picture; empty where the model does not run on one picture alone."""
        noise = np.random.default_rng(0).random((1, self.graph.channels, *self.size), dtype=np.float32)
        x = self.graph.preprocessing.normalize(noise)
        try:
            return self.graph.session(list(self.specs), device=self.device).run(np.ascontiguousarray(x))
        except RefusedInput:
            return {}

    @cached_property
    def selects(self) -> bool:
        """Whether some operator makes a result whose size depends on the picture (boxes after suppression)."""
        return any(node.op_type in _DYNAMIC for node in self.graph.index.nodes)

    def shape(self, name: str) -> tuple[int, ...]:
        """An output's canonical shape for one picture, batch axis included; () where nobody knows."""
        spec = self.specs[name].shape
        if len(spec) in (2, 4) and all(spec[1:]) and len(self.names) == 1 and not self.selects:
            return (1, *(int(size or 1) for size in spec[1:]))
        found = self.probe.get(name)
        return found.shape if found is not None else tuple(int(size or 1) for size in spec)

    def source_shape(self, name: str) -> tuple[int, ...]:
        """The shape as the file itself gives the output: normalization may have moved axes."""
        shape, axes = self.shape(name), self.graph.permuted.get(name)
        if axes is None or len(axes) != len(shape):
            return shape
        return tuple(shape[axes.index(axis)] for axis in range(len(axes)))

    def batch_axis(self, name: str) -> int | None:
        """0, or None where an output has no axis that counts pictures: one number alone, or several in a row."""
        return None if self.is_flat(name) and self.probe[name].shape != (1,) else 0

    def is_flat(self, name: str) -> bool:
        """Whether an output is numbers in a row, or one alone, of a fixed count."""
        found = self.probe.get(name)
        return found is not None and found.ndim < 2 and found.size > 0 and self.is_float(name) and not self.selects

    def is_float(self, name: str) -> bool:
        """Whether an output's values are floating point numbers."""
        return self.specs[name].dtype.startswith(("float", "bfloat"))

    def range(self, name: str) -> tuple[float, float]:
        """Least and largest value on the probe; (nan, nan) where there is none."""
        found = self.probe.get(name)
        if found is None or not found.size:
            return float("nan"), float("nan")
        return float(found.min()), float(found.max())

    def head(self, name: str) -> str | None:
        """The softmax, log softmax or sigmoid that the output ends in, looking through moves of values.

        Over classes as `Graph.head` finds it, also where it is written out; over any other axis (the symbols of a line)
        the operator itself.
        """
        written = self.graph.head(name).kind
        if written is not None:
            return written
        node = self.graph.index.producer.get(name)
        while node is not None:
            row = operator(node)
            if row.head is not None:
                return row.head
            if not (row.neutral or row.preserves):
                return None
            node = self.graph.index.producer.get(node.input[0])
        return None

    def is_tanh(self, name: str) -> bool:
        """Whether an output ends in a hyperbolic tangent, as pictures in -1..1 do; looking through moves of values."""
        node = self.graph.index.producer.get(name)
        while node is not None and node.op_type != "Tanh":
            row = operator(node)
            node = self.graph.index.producer.get(node.input[0]) if row.neutral or row.preserves else None
        return node is not None

    def before_head(self, name: str) -> str:
        """The tensor whose values a final softmax or sigmoid of this output takes: the logits of its own shape."""
        found = self.graph.head(name)
        if found.kind is not None and not found.moved:
            return found.logits
        while (node := self.graph.index.producer.get(name)) is not None and operator(node).head is not None:
            name = node.input[0]
        return name

    def is_headed(self, tensor: str, name: str) -> bool:
        """Whether ``tensor``, from `before_head` of an output, is the output with its head: no logits were found."""
        return tensor == name and self.head(name) in ("softmax", "sigmoid")

    def saturates(self, name: str) -> bool:
        """Whether all values on the probe lie in [0, 1], as probabilities do."""
        low, high = self.range(name)
        return low >= 0 and high <= 1

    def add_up(self, name: str) -> int | None:
        """The axis of (N, a, b) along which the probe's values are shares that add up to 1, as symbols do; or None."""
        found = self.probe.get(name)
        if found is None or found.ndim != 3 or not self.saturates(name):
            return None
        sums = [bool(np.allclose(found.sum(axis=axis), 1, atol=1e-3)) for axis in range(3)]
        return next((axis for axis in (2, 1, 0) if found.shape[axis] > 1 and sums[axis]), None)

    def named(self, name: str, *words: str) -> bool:
        """Whether an output's name holds one of the words (lower case)."""
        return any(word in name.lower() for word in words)
