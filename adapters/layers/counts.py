"""Parameters and multiply-adds of every layer, as the source's framework counts them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import prod

import onnx
from onnx import TensorProto

from ...engine.graph.einsum import einsum_terms
from ...engine.graph.index import first_output
from ...engine.graph.layers import Shape
from ...engine.graph.operators import operator
from ..normalize.draft import Draft, attribute

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.UNDEFINED)
_WITH_WEIGHTS = ("convolution", "dense", "normalization", "recurrent")
_STATISTICS = {"BatchNormalization": (3, 4)}  # mean and variance: Keras counts them as parameters, torch as buffers
# The places of inputs that are settings: regions, scales and sizes, and what whole numbers stand for.
_SETTINGS = {
    "Resize": (1, 2, 3), "Upsample": (1,), "QuantizeLinear": (1, 2), "DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7), "QLinearMatMul": (1, 2, 4, 5, 6, 7),
}  # fmt: skip
# The places of weights that are whole numbers.
_QUANTIZED = {
    "DequantizeLinear": (0,), "ConvInteger": (1,), "MatMulInteger": (1,), "QLinearConv": (3, 8), "QLinearMatMul": (3,),
}  # fmt: skip


def counts(
    draft: Draft, nodes: Sequence[onnx.NodeProto], image: str, taps: Collection[str], *, statistics: bool
) -> dict[str, tuple[int, int]]:
    """Tensor -> (parameters, multiply-adds) of every node that makes a layer, at the node's first output.

    A node that makes no layer of its own, as a convolution of whole numbers, is counted with the next that does; what
    is computed from weights alone (dequantized, or reshaped by a size of the picture) with the node that reads it.

    Args:
        draft: with shapes and types.
        nodes: of the canonical graph, in order of execution.
        image: the picture's tensor.
        taps: the tensors that are layers.
        statistics: whether a batch-norm's mean and variance are parameters.
    """
    settings = _SETTINGS if statistics else {**_SETTINGS, **_STATISTICS}
    dependent = {image}
    made_of: dict[str, tuple[str, ...]] = {}
    counted: set[str] = set()
    reshaped: set[str] = set()
    grouped: set[str] = set()
    waiting: dict[str, tuple[int, int]] = {}
    found: dict[str, tuple[int, int]] = {}
    for node in nodes:
        if not dependent.intersection(node.input) or node.op_type in ("Shape", "Size"):
            made_of.update(dict.fromkeys(node.output, _weights(node, draft, settings, made_of)))
            continue
        dependent.update(name for name in node.output if name)
        result = first_output(node)
        if node.op_type == "Reshape":
            (grouped if node.input[0] in grouped else reshaped).add(result)
        elif node.op_type == "InstanceNormalization" and node.input[0] in reshaped and _does_nothing(node, draft):
            counted.update(node.input[1:])  # of a group normalization taken apart, whose own scale stands behind it
            grouped.add(result)
        elif node.op_type == "BatchNormalization" and node.input[0] in grouped:
            counted.update(node.input[3:])  # that scale: it has no statistics
        parts = [(_parameters(node, draft, settings, made_of, counted), _macs(node, draft))]
        parts += [waiting.pop(name) for name in dict.fromkeys(node.input) if name in waiting]
        total = (sum(p for p, _ in parts), sum(m for _, m in parts))
        (found if result in taps else waiting)[result] = total
    return found


def _does_nothing(node: onnx.NodeProto, draft: Draft) -> bool:
    """Whether a normalization's scale is 1 and its shift 0 throughout."""
    scale, shift = (draft.constant(name) for name in node.input[1:3])
    return scale is not None and shift is not None and bool((scale == 1).all() and (shift == 0).all())


def _is_weight(node: onnx.NodeProto, place: int, draft: Draft) -> bool:
    tensor = draft.tensors.get(node.input[place])
    if tensor is None or node.input[place] in draft.untrained:
        return False
    if prod(tensor.dims) <= 1 and not (prod(tensor.dims) and _takes_weights(node, place, tensor)):
        return False
    return tensor.data_type in FLOATS or place in _QUANTIZED.get(node.op_type, ())


def _takes_weights(node: onnx.NodeProto, place: int, tensor: onnx.TensorProto) -> bool:
    """Whether a single number at this place of a node is a weight: the bias of one class, the slope of a PRelu."""
    if node.op_type == "DequantizeLinear":
        return bool(tensor.dims)
    return place > 0 and (operator(node).family in _WITH_WEIGHTS or node.op_type == "PRelu")


def _weights(
    node: onnx.NodeProto, draft: Draft, settings: Mapping[str, Sequence[int]], made_of: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """The weights that a node reads, by itself or through nodes that read no picture."""
    names: dict[str, None] = {}
    for place, name in enumerate(node.input):
        if place not in settings.get(node.op_type, ()):
            names.update(dict.fromkeys(made_of.get(name, (name,) if _is_weight(node, place, draft) else ())))
    return tuple(names)


def _parameters(
    node: onnx.NodeProto,
    draft: Draft,
    settings: Mapping[str, Sequence[int]],
    made_of: Mapping[str, tuple[str, ...]],
    counted: set[str],
) -> int:
    """Values of the node's weights; a shared weight counts once, and a single number beside the picture is none."""
    total = 0
    for place, name in enumerate(node.input):
        if place in settings.get(node.op_type, ()):
            continue
        weights = made_of.get(name, (name,) if _is_weight(node, place, draft) else ())
        values = sum(prod(draft.tensors[weight].dims) for weight in weights if weight not in counted)
        counted.update(weights)
        read = draft.shapes.get(name)
        if name in made_of and read is not None and None not in read:
            values = min(values, prod(size or 0 for size in read))  # the vectors of a spectral norm are no parameters
        total += values
    return total


def _macs(node: onnx.NodeProto, draft: Draft) -> int:
    weights = draft.shapes.get(node.input[1], ()) if len(node.input) > 1 else ()
    if operator(node).family == "recurrent" and len(weights) == 3 and len(node.input) > 2:
        source, again = draft.shapes.get(node.input[0], ()), draft.shapes.get(node.input[2], ())
        steps = prod(s or 1 for s in source[:2])  # of one picture: time, with the batch before or behind it
        return steps * prod(w or 1 for w in (*weights[:2], (weights[2] or 0) + ((*again, 0, 0, 0)[2] or 0)))
    shape: Shape = draft.shapes.get(first_output(node), ())
    if not shape or any(s is None for s in shape[1:]):
        return 0
    places = prod(s for s in shape[1:] if s is not None)
    if node.op_type == "Einsum":
        return _summed(node, draft)
    if node.op_type in ("Conv", "QLinearConv", "ConvInteger", "DeformConv"):
        kernel = draft.shapes.get(node.input[3 if node.op_type == "QLinearConv" else 1], ())
        return places * prod(k or 1 for k in kernel[1:]) if kernel else 0
    if node.op_type == "ConvTranspose":
        source = draft.shapes.get(node.input[0], ())
        inputs = prod(s or 1 for s in source[1:])
        return inputs * prod(w or 1 for w in weights[1:])
    if node.op_type in ("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"):
        source = draft.shapes.get(node.input[0], ())
        inner = source[0 if attribute(node, "transA", 0) else -1] if source else None
        return places * (inner or 0)
    return 0


def _summed(node: onnx.NodeProto, draft: Draft) -> int:
    """Multiply-adds of an Einsum of two tensors: one for each place of all its labels together."""
    shapes = [draft.shapes.get(name, ()) for name in node.input]
    terms, _ = einsum_terms(str(attribute(node, "equation")), [len(shape) for shape in shapes])
    if len(terms) != 2:
        return 0
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for label, size in zip(term, shape, strict=False):
            sizes[label] = max(sizes.get(label, 1), size or 1)
    return prod(sizes.values())
