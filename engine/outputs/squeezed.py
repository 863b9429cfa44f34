"""Outputs without their axes of one: what ``squeeze`` made (N,) or (K,) is read where it still was (N, K).

Networks of one number, or of one picture, often end so. Before it their values are those of any vector.
"""

from __future__ import annotations

import onnx

from ..graph.graph import Graph
from ..graph.index import Index
from ..graph.layers import TensorSpec

_SAME = frozenset({"Identity", "Cast", "Squeeze", "Reshape"})


def before_squeezing(graph: Graph, spec: TensorSpec) -> TensorSpec:
    """The vectors (N, K), also (N, K, 1, 1), that a flat output's values were taken from; else the output itself."""
    shapes = {layer.tensor: layer.shape for layer in graph.layers}
    name, node = spec.name, graph.index.producer.get(spec.name)
    while len(spec.shape) < 2 and node is not None and _flattens(node, graph.index):
        name = node.input[0]
        shape = shapes.get(name, ())
        if len(shape) >= 2 and shape[0] is None and None not in shape[1:] and sum(s != 1 for s in shape[1:]) <= 1:
            return TensorSpec(name, shape, spec.dtype)
        node = graph.index.producer.get(name)
    return spec


def _flattens(node: onnx.NodeProto, index: Index) -> bool:
    """Whether a node keeps every value and leaves one axis or none."""
    if node.op_type != "Reshape":
        return node.op_type in _SAME
    target = index.constant(node.input[1])
    return target is not None and target.size <= 1
