"""What every gradient is given: one node as the walk from the output back meets it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from ....errors import UnsupportedOperator
from ..trace import Trace
from ..writer import Value, Writer

Gradients = Mapping[int, Value]


class Visit:
    """One node, the gradient at its outputs, and the means to write what follows for its inputs.

    Attributes:
        node: of the model.
        w: where nodes are written.
        wanted: positions of the inputs whose gradient is asked for.
    """

    def __init__(
        self,
        node: onnx.NodeProto,
        writer: Writer,
        trace: Trace,
        upstream: Sequence[Value | None],
        wanted: frozenset[int],
        second_outputs: dict[str, str],
    ) -> None:
        self.node = node
        self.w = writer
        self.wanted = wanted
        self._trace = trace
        self._upstream = upstream
        self._second_outputs = second_outputs
        self._attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}

    @property
    def dy(self) -> Value:
        """The gradient at the first output."""
        found = self._upstream[0]
        if found is None:
            raise self.unsupported("a gradient at another output than the first")
        return found

    def upstream(self, position: int) -> Value | None:
        """The gradient at an output, None where nothing asks for that output."""
        return self._upstream[position]

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, text decoded."""
        value = self._attributes.get(name, default)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    def has(self, position: int) -> bool:
        """Whether the input is given."""
        return position < len(self.node.input) and bool(self.node.input[position])

    def constant(self, position: int) -> np.ndarray | None:
        """The input's value, None where it is computed or omitted."""
        return self._trace.constant(self.node.input[position]) if self.has(position) else None

    def integers(self, position: int) -> list[int] | None:
        """A constant input as ints, None where it is computed or omitted."""
        value = self.constant(position)
        return None if value is None else [int(v) for v in np.ravel(value)]

    def raw(self, position: int) -> Value:
        """An input as it is."""
        return self.w.value(self.node.input[position])

    def x(self, position: int = 0) -> Value:
        """An input in the floating type of the gradient."""
        return self._floating(self.node.input[position])

    def y(self, position: int = 0) -> Value:
        """An output in the floating type of the gradient."""
        return self._floating(self.node.output[position])

    def shape(self, position: int = 0) -> tuple[int, ...]:
        """An input's shape in the example run: its rank counts, and which axes have size one."""
        return self._trace.shape(self.node.input[position])

    def result_shape(self, position: int = 0) -> tuple[int, ...]:
        """An output's shape in the example run."""
        return self._trace.shape(self.node.output[position])

    def rank(self, position: int = 0) -> int:
        """How many axes an input has."""
        return len(self.shape(position))

    @property
    def is_fixed(self) -> bool:
        """Whether every image has the example's size, so that shapes but for the batch may be used."""
        return self._trace.is_fixed

    def axes(self, position: int = 1) -> list[int] | None:
        """Axes from the attribute of older opsets or the constant input of newer ones; None where there are none.

        Raises:
            UnsupportedOperator: they are computed while the model runs.
        """
        given = self.get("axes")
        if given is None and self.has(position):
            given = self.integers(position)
            if given is None:
                raise self.unsupported("axes that are computed while the model runs")
        return None if given is None else [int(a) for a in given]

    def fit(self, gradient: Value, position: int) -> Value:
        """A gradient of the output's shape summed over the axes along which the input was broadcast."""
        return unbroadcast(
            gradient, self.result_shape(), self.raw(position), self.shape(position), is_fixed=self.is_fixed
        )

    def second_output(self, op: str) -> Value:
        """The node's second output, given a name where it had none."""
        if len(self.node.output) > 1 and self.node.output[1]:
            return self.w.value(self.node.output[1])
        first = self.node.output[0]
        if first not in self._second_outputs:
            self._second_outputs[first] = self.w.fresh(op)
        return self.w.value(self._second_outputs[first])

    def unsupported(self, reason: str) -> UnsupportedOperator:
        """The error for a node without a gradient."""
        return UnsupportedOperator(
            f"no gradient can be written for operator {self.node.op_type} (node '{self.node.name[:80]}'): {reason}"
        )

    def _floating(self, name: str) -> Value:
        value = self.w.value(name)
        return value if self._trace.kind(name) == self.w.kind else value.cast()


Gradient = Callable[[Visit], Gradients]


def unbroadcast(
    gradient: Value, shape: Sequence[int], target: Value, target_shape: Sequence[int], *, is_fixed: bool
) -> Value:
    """``gradient`` (of ``shape``) summed to the target's shape.

    An axis of size one in both is broadcast for other image sizes perhaps: where it could be, which axes are summed
    is decided while the model runs.
    """
    lead = len(shape) - len(target_shape)
    pairs = list(zip(shape[lead:], target_shape, strict=True))
    unsure = not is_fixed and any(a == b == 1 for a, b in pairs[2:])
    if unsure:
        return _unbroadcast_when_run(gradient, target, lead)
    if lead:
        gradient = gradient.sum(list(range(lead)), keep=False)
    summed = [axis for axis, (size, own) in enumerate(pairs) if own == 1 and size != 1]
    return gradient.sum(summed) if summed else gradient


def _unbroadcast_when_run(gradient: Value, target: Value, lead: int) -> Value:
    w = gradient.writer
    own = w.concat([1] * lead, target.shape())
    differs = own.equals(gradient.shape()).apply("Not").cast(np.int64)
    axes = differs.apply("NonZero").reshape([-1])
    summed = w.add("ReduceSum", gradient, axes, keepdims=1, noop_with_empty_axes=1)
    return summed.like(target)
