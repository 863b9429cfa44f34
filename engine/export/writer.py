"""Writing ONNX nodes as one writes formulas.

A `Value` is the name of a tensor that can be added, multiplied and compared; every operation appends one standard node
to the `Writer`. The same node is never written twice, so that formulas may repeat a term. Sizes are never baked in:
what depends on the image is computed from ``Shape`` nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..graph.index import reads

PREFIX = "heatmap/"  # of every tensor and node that is added to a model

Number = float | int
ScanBody = Callable[[list["Value"], Mapping[str, "Value"]], tuple[list["Value"], list["Value"]]]


class Writer:
    """Collects nodes and constants.

    Args:
        opset: of the model that the nodes go into, 16 or newer.
        kind: floating data type of everything that is computed here: float32, or float64 in a model of doubles.
        taken: names that the model has already.
    """

    def __init__(self, opset: int, kind: np.dtype[Any] | type = np.float32, taken: Iterable[str] = ()) -> None:
        self.opset = opset
        self.kind = np.dtype(kind)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self._written: dict[tuple[Any, ...], tuple[str, ...]] = {}
        self._taken = set(taken)
        self._counts: dict[str, int] = {}

    def fresh(self, stem: str) -> str:
        """A name under ``heatmap/`` that nothing else has."""
        while True:
            count = self._counts.get(stem, 0)
            self._counts[stem] = count + 1
            name = f"{PREFIX}{stem}_{count}" if count else f"{PREFIX}{stem}"
            if name not in self._taken:
                self._taken.add(name)
                return name

    def add(self, op: str, *inputs: Value | None, outputs: int = 1, **attributes: Any) -> Value:
        """One node with one result (the first, where it has more: see `add_many`)."""
        return self.add_many(op, *inputs, outputs=outputs, **attributes)[0]

    def add_many(self, op: str, *inputs: Value | None, outputs: int = 1, **attributes: Any) -> tuple[Value, ...]:
        """One node of any number of results; inputs that are None are omitted."""
        names = [i.name if i is not None else "" for i in inputs]
        while names and not names[-1]:
            names.pop()
        given = {k: v for k, v in attributes.items() if v is not None}
        key = (op, tuple(names), outputs, repr(sorted(given.items())))
        if key not in self._written:
            node = self.fresh(op)
            results = (node,) if outputs == 1 else tuple(f"{node}:{i}" for i in range(outputs))
            self.nodes.append(helper.make_node(op, names, list(results), node, **given))
            self._written[key] = results
        return tuple(Value(self, name) for name in self._written[key])

    def constant(self, value: Any, stem: str = "constant") -> Value:
        """A constant tensor; the same values are stored once."""
        array = np.ascontiguousarray(value)
        array = array.reshape(np.shape(value))  # ascontiguousarray makes a number a vector
        key = ("constant", array.dtype.str, array.shape, array.tobytes())
        if key not in self._written:
            name = self.fresh(stem)
            self.constants[name] = array
            self._written[key] = (name,)
        return Value(self, self._written[key][0])

    def number(self, value: Number) -> Value:
        """A floating scalar."""
        return self.constant(np.array(value, dtype=self.kind))

    def integers(self, values: Sequence[int] | int) -> Value:
        """An int64 vector, or a scalar for a single int."""
        return self.constant(np.array(values, dtype=np.int64))

    def keep_only(self, output: str) -> None:
        """Drops the nodes and constants that ``output`` does not need."""
        needed, kept = {output}, []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                needed.update(reads(node))
                kept.append(node)
        self.nodes = kept[::-1]
        self.constants = {name: value for name, value in self.constants.items() if name in needed}

    def scan(
        self, step: ScanBody, states: Sequence[Value], rows: Mapping[str, Value | None], *, reverse: bool = False
    ) -> tuple[list[Value], list[Value]]:
        """A loop over the first axis of some tensors.

        Args:
            step: from the states and the rows of one step (without that axis) to the next states and to results. It
                may use tensors of the model; operations have to begin with one of its own.
            states: the first ones.
            rows: by name, floating; those that are None are left out.
            reverse: from the last row to the first.

        Returns:
            The last states, and the results of all steps in the rows' order.
        """
        given = {name: value for name, value in rows.items() if value is not None}
        body = _Body(self)
        inner = [Value(body, self.fresh("state")) for _ in states], [Value(body, self.fresh("row")) for _ in given]
        after, results = step(inner[0], dict(zip(given, inner[1], strict=True)))
        outputs = [body.named(value).name for value in (*after, *results)]
        name, kind = self.fresh("Scan"), helper.np_dtype_to_tensor_dtype(self.kind)
        graph = helper.make_graph(
            body.nodes,
            f"{name}/step",
            [helper.make_tensor_value_info(value.name, kind, None) for value in (*inner[0], *inner[1])],
            [helper.make_tensor_value_info(output, kind, None) for output in outputs],
        )
        found = [f"{name}:{i}" for i in range(len(outputs))]
        options: dict[str, Any] = {
            "body": graph, "num_scan_inputs": len(given), "scan_input_directions": [int(reverse)] * len(given),
            "scan_output_directions": [int(reverse)] * len(results),
        }  # fmt: skip
        self.nodes.append(
            helper.make_node("Scan", [v.name for v in (*states, *given.values())], found, name, **options)
        )
        return [Value(self, o) for o in found[: len(states)]], [Value(self, o) for o in found[len(states) :]]

    def value(self, name: str) -> Value:
        """A tensor that the model has already."""
        return Value(self, name)

    def where(self, condition: Value, yes: Value | Number, no: Value | Number) -> Value:
        """``yes`` where the condition holds, ``no`` elsewhere."""
        return self.add("Where", condition, self.lifted(yes), self.lifted(no))

    def concat(self, *parts: Value | Sequence[int]) -> Value:
        """Integer vectors one after the other; sequences of ints are constants."""
        values = [p if isinstance(p, Value) else self.integers(list(p)) for p in parts if isinstance(p, Value) or p]
        return values[0] if len(values) == 1 else self.add("Concat", *values, axis=0)

    def zeros(self, shape: Value) -> Value:
        """A tensor of zeros; ``shape`` is an int64 vector."""
        return self.filled(shape, 0.0)

    def filled(self, shape: Value, value: Number) -> Value:
        """A tensor of one value; ``shape`` is an int64 vector."""
        return self.add("ConstantOfShape", shape, value=numpy_helper.from_array(np.array([value], dtype=self.kind)))

    def lifted(self, value: Value | Number) -> Value:
        """A number as a scalar constant."""
        return value if isinstance(value, Value) else self.number(value)


class _Body(Writer):
    """Nodes of a loop's body; constants and names are those of the writer outside."""

    def __init__(self, outside: Writer) -> None:
        super().__init__(outside.opset, outside.kind)
        self._outside = outside

    def fresh(self, stem: str) -> str:
        return self._outside.fresh(stem)

    def constant(self, value: Any, stem: str = "constant") -> Value:
        return Value(self, self._outside.constant(value, stem).name)

    def named(self, value: Value) -> Value:
        """A result under a name of its own, since one tensor may be asked for twice."""
        name = self.fresh("result")
        self.nodes.append(helper.make_node("Identity", [value.name], [name], name))
        return Value(self, name)


class Value:
    """A tensor of the model by name; arithmetic on it writes nodes. Equality is identity of the name."""

    def __init__(self, writer: Writer, name: str) -> None:
        self.writer = writer
        self.name = name

    def __add__(self, other: Value | Number) -> Value:
        return self._binary("Add", other)

    def __radd__(self, other: Number) -> Value:
        return self.writer.lifted(other) + self

    def __sub__(self, other: Value | Number) -> Value:
        return self._binary("Sub", other)

    def __rsub__(self, other: Number) -> Value:
        return self.writer.lifted(other) - self

    def __mul__(self, other: Value | Number) -> Value:
        return self if _is_one(other) else self._binary("Mul", other)

    def __rmul__(self, other: Number) -> Value:
        return self * other

    def __truediv__(self, other: Value | Number) -> Value:
        return self if _is_one(other) else self._binary("Div", other)

    def __rtruediv__(self, other: Number) -> Value:
        return self.apply("Reciprocal") if other == 1 else self.writer.lifted(other) / self

    def __neg__(self) -> Value:
        return self.apply("Neg")

    def __gt__(self, other: Value | Number) -> Value:
        return self._binary("Greater", other)

    def __lt__(self, other: Value | Number) -> Value:
        return self._binary("Less", other)

    def __ge__(self, other: Value | Number) -> Value:
        return self._binary("GreaterOrEqual", other)

    def __le__(self, other: Value | Number) -> Value:
        return self._binary("LessOrEqual", other)

    def equals(self, other: Value | Number) -> Value:
        """Where both are equal (bool)."""
        return self._binary("Equal", other)

    def apply(self, op: str, *inputs: Value | None, **attributes: Any) -> Value:
        """The operator with this as its first input."""
        return self.writer.add(op, self, *inputs, **attributes)

    def cast(self, kind: Any = None) -> Value:
        """As another data type; the writer's floating type by default."""
        wanted = helper.np_dtype_to_tensor_dtype(np.dtype(kind or self.writer.kind))
        return self.apply("Cast", to=wanted)

    def shape(self, start: int | None = None, end: int | None = None) -> Value:
        """The sizes (int64 vector) of the axes from ``start`` to before ``end``."""
        return self.apply("Shape", start=start, end=end)

    def count(self) -> Value:
        """How many values it has (int64 scalar)."""
        return self.apply("Size")

    def reshape(self, shape: Value | Sequence[int]) -> Value:
        """In another shape; in ``shape`` 0 keeps a size and -1 takes what is left."""
        return self.apply("Reshape", self.writer.concat(shape))

    def like(self, other: Value) -> Value:
        """In the shape of another tensor with as many values."""
        return self.apply("Reshape", other.shape())

    def transpose(self, axes: Sequence[int]) -> Value:
        """With its axes in another order."""
        axes = list(axes)
        return self if axes == sorted(axes) else self.apply("Transpose", perm=axes)

    def expand(self, shape: Value) -> Value:
        """Broadcast to ``shape`` (int64 vector)."""
        return self.apply("Expand", shape)

    def sum(self, axes: Sequence[int], keep: bool = True) -> Value:
        """Summed over axes."""
        return self._reduced("ReduceSum", axes, keep)

    def mean(self, axes: Sequence[int], keep: bool = True) -> Value:
        """The mean over axes."""
        return self._reduced("ReduceMean", axes, keep)

    def _reduced(self, op: str, axes: Sequence[int], keep: bool) -> Value:
        """One axis after another: ONNX Runtime adds up a whole plane in one row, 3e-5 off at 224 x 224 in float32."""
        reduced = self
        for axis in sorted(axes, reverse=True):
            reduced = reduced.reduce(op, [axis])
        return reduced if keep else reduced.squeeze(axes)

    def reduce(self, op: str, axes: Sequence[int], keep: bool = True) -> Value:
        """Any reduction, its axes where this opset has them: an input of ReduceSum, since 18 of all."""
        if op == "ReduceSum" or self.writer.opset >= 18:
            return self.apply(op, self.writer.integers(list(axes)), keepdims=int(keep))
        return self.apply(op, axes=list(axes), keepdims=int(keep))

    def unsqueeze(self, axes: Sequence[int]) -> Value:
        """With axes of size one put in."""
        return self.apply("Unsqueeze", self.writer.integers(list(axes)))

    def squeeze(self, axes: Sequence[int]) -> Value:
        """Without axes of size one."""
        return self.apply("Squeeze", self.writer.integers(list(axes)))

    def slice(self, starts: Value, ends: Value, axes: Sequence[int]) -> Value:
        """Cut along axes; bounds are int64 vectors."""
        return self.apply("Slice", starts, ends, self.writer.integers(list(axes)))

    def exp(self) -> Value:
        """e to its power."""
        return self.apply("Exp")

    def positive(self) -> Value:
        """max(x, 0)."""
        return self.apply("Relu")

    def _binary(self, op: str, other: Value | Number) -> Value:
        return self.writer.add(op, self, self.writer.lifted(other))


def _is_one(value: Value | Number) -> bool:
    return not isinstance(value, Value) and value == 1


def total(values: Sequence[Value]) -> Value:
    """The sum of one or more tensors of the same shape."""
    return values[0] if len(values) == 1 else values[0].apply("Sum", *values[1:])
