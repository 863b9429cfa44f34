"""Vectors that a file brings to unit length, however it writes that.

``x / |x|`` is one operator (LpNormalization), or a quotient or product with the length, its inverse or a root of the
sum of squares: torch writes ReduceL2, Clip, Expand, Div; TensorFlow and Keras Mul, ReduceSum, Max, Sqrt, Reciprocal,
Mul.
"""

from __future__ import annotations

import onnx

from ..graph.index import Index

_MOVES = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "Transpose"})
_BOUNDS = frozenset({"Add", "Max", "Min", "Clip", "Expand", "Where", "Abs"})  # keep it from zero, give it a shape
_SUMS = {"ReduceL2": 1.0, "ReduceL1": 1.0, "ReduceSumSquare": 2.0}  # of the vector -> the power of its length
_DEEPEST = 32  # operators: no way of writing a length is longer


def before_unit_length(index: Index, output: str) -> str | None:
    """The vector that an output is the direction of, or None where the output is not divided by its own length.

    A constant factor behind the division (the scale of a face network's embedding) keeps the direction.
    """
    name = output
    for _ in range(_DEEPEST):
        node = index.producer.get(name)
        if node is None:
            return None
        if node.op_type == "LpNormalization":
            return str(node.input[0])
        for vector, other, power in _factors(node):
            found = _power(index, other, vector, _DEEPEST)
            if found == power:
                return vector
        if node.op_type in _MOVES:
            name = node.input[0]
        elif (scaled := _scaled(index, node)) is not None:
            name = scaled
        else:
            return None
    return None


def _factors(node: onnx.NodeProto) -> list[tuple[str, str, float]]:
    """(what may be the vector, what may be a power of its length, that power) of a quotient or product."""
    if node.op_type == "Div":
        return [(node.input[0], node.input[1], 1.0)]
    if node.op_type == "Mul":
        a, b = node.input
        return [(a, b, -1.0), (b, a, -1.0)]
    return []


def _scaled(index: Index, node: onnx.NodeProto) -> str | None:
    """What a node multiplies by one constant number."""
    if node.op_type not in ("Mul", "Div"):
        return None
    pairs = [tuple(node.input)] if node.op_type == "Div" else [tuple(node.input), tuple(node.input)[::-1]]
    for value, factor in pairs:
        constant = index.constant(factor)
        if constant is not None and constant.size == 1:
            return str(value)
    return None


def _power(index: Index, name: str, vector: str, depth: int) -> float | None:
    """The power of the vector's length that a tensor is, up to a constant factor or bound; None where it is none."""
    node = index.producer.get(name)
    if node is None or not depth:
        return None
    inner = [n for n in node.input if n]
    if node.op_type in _SUMS and _same(index, inner[0], vector):
        return _SUMS[node.op_type] if _by_picture(index, node) else None
    if node.op_type in ("ReduceSum", "ReduceMean"):
        power = _square(index, inner[0], vector)
        return power if _by_picture(index, node) else None
    if node.op_type == "MatMul":
        return 2.0 if all(_same(index, n, vector) for n in inner) else None
    if node.op_type == "Div" and index.constant(inner[0]) is not None:
        return _times(_power(index, inner[1], vector, depth - 1), -1.0)
    if node.op_type in ("Mul", "Div") and (scaled := _scaled(index, node)) is not None:
        return _power(index, scaled, vector, depth - 1)
    if node.op_type in _BOUNDS:
        found = {_power(index, n, vector, depth - 1) for n in inner} - {None}
        free = [n for n in inner if index.constant(n) is None]
        alone = node.op_type in ("Where", "Expand") or len(free) == 1  # beside it a condition, a shape or constants
        return found.pop() if len(found) == 1 and alone else None
    if node.op_type in _MOVES:
        return _power(index, inner[0], vector, depth - 1)
    return _times(_power(index, inner[0], vector, depth - 1), _exponent(index, node))


def _exponent(index: Index, node: onnx.NodeProto) -> float | None:
    """What a node raises its first input to."""
    if node.op_type == "Pow":
        constant = index.constant(node.input[1])
        return float(constant.ravel()[0]) if constant is not None and constant.size == 1 else None
    return {"Sqrt": 0.5, "Reciprocal": -1.0}.get(node.op_type)


def _times(power: float | None, exponent: float | None) -> float | None:
    return None if power is None or exponent is None else power * exponent


def _square(index: Index, name: str, vector: str) -> float | None:
    """2 for the vector's squares, 1 for its magnitudes: what their sum is a power of."""
    node = index.producer.get(name)
    if node is None:
        return None
    if node.op_type == "Abs":
        return 1.0 if _same(index, node.input[0], vector) else None
    if node.op_type == "Mul":
        return 2.0 if all(_same(index, n, vector) for n in node.input) else None
    if node.op_type == "Pow" and _exponent(index, node) == 2:
        inside = index.producer.get(node.input[0])
        base = inside.input[0] if inside is not None and inside.op_type == "Abs" else node.input[0]
        return 2.0 if _same(index, base, vector) else None
    return _square(index, node.input[0], vector) if node.op_type in _MOVES else None


def _same(index: Index, name: str, vector: str) -> bool:
    """Whether both are one tensor's values, moved at most."""
    return _source(index, name) == _source(index, vector)


def _source(index: Index, name: str) -> str:
    while (node := index.producer.get(name)) is not None and node.op_type in _MOVES:
        name = node.input[0]
    return name


def _by_picture(index: Index, node: onnx.NodeProto) -> bool:
    """Whether a sum leaves the axis of pictures out."""
    try:
        axes = index.argument(node, 1, "axes")
    except KeyError:
        return False
    return axes is None or 0 not in [int(a) for a in axes]
