"""The closed form: where global average pooling and one linear layer follow, the gradient is a row of its weights.

logits = W mean(A) + b gives dS_c / dA = W_c / (h w) at every position (Zhou et al. 2016, arXiv:1512.04150): nothing has
to be walked back, four nodes are enough.
"""

from __future__ import annotations

import numpy as np
import onnx

from .trace import Trace
from .writer import Value, Writer

_RESHAPING = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout"})


def linear_head_gradient(
    model: onnx.ModelProto, w: Writer, trace: Trace, start: str, tensor: str, classes: Value
) -> Value | None:
    """dS / d start of the logits ``tensor`` at ``classes`` (N,); None where the head is another one.

    It is the same at every position: (N, K, 1, 1).
    """
    shape = trace.shape(start)
    if len(shape) != 4 or len(trace.shape(tensor)) != 2:
        return None
    chain = _chain(model, start, tensor)
    if chain is None or not chain or not _is_pool(chain[0], trace):
        return None
    linear = [node for node in chain[1:] if node.op_type not in _RESHAPING]
    if not linear or not all(_is_bias(node, trace) for node in linear[1:]):
        return None
    weights = _class_weights(linear[0], w, trace, shape[1], classes)
    if weights is None:
        return None
    count = w.value(start).shape(2).apply("ReduceProd", keepdims=0).cast()
    return weights.reshape([-1, shape[1], 1, 1]) / count


def _chain(model: onnx.ModelProto, start: str, end: str) -> list[onnx.NodeProto] | None:
    """The nodes from one tensor to another where each has the one before as its only computed input; else None."""
    producer = {name: node for node in model.graph.node for name in node.output}
    weights = {t.name for t in model.graph.initializer}
    chain: list[onnx.NodeProto] = []
    name = end
    while name != start:
        node = producer.get(name)
        computed = [] if node is None else [i for i in node.input if i and i not in weights]
        if node is None or len(computed) != 1:
            return None
        chain.append(node)
        name = computed[0]
    return chain[::-1]


def _is_pool(node: onnx.NodeProto, trace: Trace) -> bool:
    """Whether the node averages over both spatial axes and nothing else."""
    before, after = trace.shape(node.input[0]), trace.shape(node.output[0])
    if node.op_type not in ("GlobalAveragePool", "ReduceMean"):
        return False
    return before[:2] == after[:2] and int(np.prod(after[2:])) == 1 and int(np.prod(before[2:])) > 1


def _is_bias(node: onnx.NodeProto, trace: Trace) -> bool:
    """Whether the node adds a constant."""
    return node.op_type == "Add" and any(trace.constant(name) is not None for name in node.input)


def _class_weights(node: onnx.NodeProto, w: Writer, trace: Trace, channels: int, classes: Value) -> Value | None:
    """The classes' rows of the linear layer's weight, N x channels values; None where it is no such layer."""
    weight = trace.shape(node.input[1]) if len(node.input) > 1 else ()
    if not weight or trace.constant(node.input[1]) is None or trace.kind(node.input[1]) != w.kind:
        return None
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    stored = w.value(node.input[1])
    if node.op_type == "Conv":
        is_linear = weight[1:] == (channels, 1, 1) and not any(attributes.get("pads", []))
        return stored.apply("Gather", classes, axis=0) if is_linear else None
    if node.op_type == "Gemm" and (attributes.get("transA", 0) or attributes.get("alpha", 1.0) != 1.0):
        return None
    if node.op_type == "Gemm" and attributes.get("transB", 0):
        return stored.apply("Gather", classes, axis=0) if weight[1] == channels else None
    if node.op_type in ("Gemm", "MatMul") and len(weight) == 2 and weight[0] == channels:
        return stored.apply("Gather", classes, axis=1).transpose([1, 0])
    return None
