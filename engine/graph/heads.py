"""Where an output's class logits are: behind a softmax or sigmoid, however it is written and whatever follows it.

The way leads back from the output through what only moves or bounds values. A softmax or sigmoid that is written out in
exponentials, sums and quotients is one too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from .index import Index, attributes
from .layers import Shape
from .operators import operator

_OF_SEVERAL = frozenset({"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"})


@dataclass(frozen=True)
class Head:
    """How an output is made of logits.

    Attributes:
        output: its name.
        logits: the tensor of the logits; the output itself where no head is found.
        kind: "softmax", "log softmax" or "sigmoid", or None.
        moved: whether the values lie in another shape than the logits'.
    """

    output: str
    logits: str
    kind: str | None
    moved: bool = False


def find_head(index: Index, output: str, shapes: Mapping[str, Shape]) -> Head:
    """The head that makes an output.

    Args:
        index: of the graph.
        output: a tensor, classes on axis 1.
        shapes: tensor -> shape, batch None, as far as known. Through a change of shape the way goes on only for a
            vector of classes: (N, K), (N, K, 1) or (N, K, 1, 1), as its logits are too.
    """
    name, moved, logarithm = output, False, False
    while (node := index.producer.get(name)) is not None:
        found = _softmax(index, node) or _sigmoid(index, node)
        if found is not None:
            kind, logits, axes = found
            if kind == "softmax" and not _along_classes(axes, shapes.get(logits)):
                break
            if moved and not _is_vector_of(shapes.get(output), shapes.get(logits)):
                break
            return Head(output, logits, "log softmax" if logarithm and kind == "softmax" else kind, moved)
        if node.op_type == "Log" and not logarithm:
            logarithm = True
        elif not (_hands_on(index, node) or _of_one(index, node, shapes.get(node.input[0]))):
            break
        elif _changes_shape(node):
            moved = True
        name = node.input[0]
    return Head(output, output, None)


def chosen_from(index: Index, output: str) -> str | None:
    """The tensor whose largest entry along the classes an output of labels names (ArgMax); None for all others."""
    node = index.producer.get(output)
    while node is not None and node.op_type in ("Cast", "Squeeze", "Identity", "Reshape", "Unsqueeze"):
        node = index.producer.get(node.input[0])
    return node.input[0] if node is not None and node.op_type == "ArgMax" else None


def shares(values: np.ndarray) -> bool:
    """Whether numbers (K,) are probabilities already: none negative, and their sum 1."""
    return values.size > 1 and bool(values.min() >= 0) and abs(float(values.sum(dtype=np.float64)) - 1) < 1e-3


def _hands_on(index: Index, node: onnx.NodeProto) -> bool:
    """Whether each value of the first input comes out, at most elsewhere, of another type, or bounded."""
    if operator(node).preserves:
        return True
    bounds = node.op_type in ("Clip", "Min", "Max")
    return bounds and all(not name or index.constant(name) is not None for name in node.input[1:])


def _of_one(index: Index, node: onnx.NodeProto, shape: Shape | None) -> bool:
    """Whether a mean, sum or extreme is taken of one value each: of a single frame's probability, say."""
    if node.op_type not in _OF_SEVERAL or shape is None:
        return False
    try:
        axes = index.argument(node, 1, "axes")
    except KeyError:
        return False
    return axes is not None and np.size(axes) > 0 and all(shape[int(a)] == 1 for a in np.ravel(axes))


def _changes_shape(node: onnx.NodeProto) -> bool:
    return operator(node).elementwise is not True


def _along_classes(axes: Sequence[int] | None, shape: Shape | None) -> bool:
    """Whether a softmax is over axis 1 alone (with others of length one, where it flattens)."""
    if axes is None:
        return True
    if not shape:  # unknown
        return list(axes) == [1]
    long = [a for a in (a % len(shape) for a in axes) if shape[a] != 1 or a == 1]
    return long == [1] or (long == [] and len(shape) == 1)


def _is_vector_of(output: Shape | None, logits: Shape | None) -> bool:
    if output is None or logits is None or len(output) < 2 or len(logits) < 2:
        return False
    return logits[1] == output[1] and all(side == 1 for side in (*output[2:], *logits[2:]))


_Found = tuple[str, str, Sequence[int] | None]


def _softmax(index: Index, node: onnx.NodeProto) -> _Found | None:
    """(kind, logits, axes): the operator, or exp(x) / sum(exp(x)), also of x less its maximum."""
    row = operator(node)
    if row.head in ("softmax", "log softmax"):
        axis = int(attributes(node).get("axis", -1))
        return row.head, node.input[0], [axis]
    if node.op_type == "Div":
        over = index.producer.get(node.input[1])
    elif node.op_type == "Mul":
        inverse = index.producer.get(node.input[1])
        over = index.producer.get(inverse.input[0]) if inverse is not None and inverse.op_type == "Reciprocal" else None
    else:
        return None
    power, total = index.producer.get(node.input[0]), _unbounded(index, over)
    if power is None or total is None or power.op_type != "Exp" or total.op_type != "ReduceSum":
        return None
    if total.input[0] != power.output[0]:
        return None
    try:
        axes = index.argument(total, 1, "axes")
    except KeyError:
        return None
    if axes is None:
        return None
    return "softmax", _less_maximum(index, power.input[0]), [int(a) for a in np.ravel(axes)]


def _unbounded(index: Index, node: onnx.NodeProto | None) -> onnx.NodeProto | None:
    """What a sum was before something small was added to it or it was kept away from zero."""
    while node is not None and node.op_type in ("Add", "Max", "Clip"):
        constants = [index.constant(n) for n in node.input[1:] if n]
        if any(c is None or np.max(np.abs(c)) > 1e-3 for c in constants[:1]):
            return node
        node = index.producer.get(node.input[0])
    return node


def _less_maximum(index: Index, name: str) -> str:
    node = index.producer.get(name)
    if node is not None and node.op_type == "Sub":
        largest = index.producer.get(node.input[1])
        if largest is not None and largest.op_type == "ReduceMax" and largest.input[0] == node.input[0]:
            return node.input[0]
    return name


def _sigmoid(index: Index, node: onnx.NodeProto) -> _Found | None:
    """The operator, or 1 / (1 + exp(-x))."""
    if operator(node).head == "sigmoid":
        return "sigmoid", node.input[0], None
    if node.op_type == "Reciprocal":
        below = node.input[0]
    elif node.op_type == "Div" and _is_one(index, node.input[0]):
        below = node.input[1]
    else:
        return None
    total = index.producer.get(below)
    if total is None or total.op_type != "Add":
        return None
    ones = [name for name in total.input if _is_one(index, name)]
    powers = [index.producer.get(name) for name in total.input if name not in ones]
    if len(ones) != 1 or not powers or powers[0] is None or powers[0].op_type != "Exp":
        return None
    negative = index.producer.get(powers[0].input[0])
    if negative is None:
        return None
    if negative.op_type == "Neg":
        return "sigmoid", negative.input[0], None
    if negative.op_type == "Mul":
        for value, other in (tuple(negative.input), tuple(negative.input)[::-1]):
            constant = index.constant(other)
            if constant is not None and constant.size == 1 and float(constant.ravel()[0]) == -1:
                return "sigmoid", value, None
    return None


def _is_one(index: Index, name: str) -> bool:
    value = index.constant(name)
    return value is not None and value.size == 1 and float(value.ravel()[0]) == 1
