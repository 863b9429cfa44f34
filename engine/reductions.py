"""Per-unit reductions inside the graph: a 512 x 28 x 28 tensor never leaves the session when 512 maxima will do.

For every layer these are appended to the submodel as ONNX nodes and become its outputs, each (N, C):
mean, max, the flat position of the max in the plane, the share of zeros, and the mean of squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .graph import Graph
from .layers import Layer
from .session import Session

STATISTICS = ("mean", "max", "argmax", "zeros", "square")


def reduced_session(graph: Graph, layers: Sequence[Layer], *, device: str = "auto") -> Session:
    """A session whose outputs are ``output_name(layer, statistic)`` for every layer and statistic."""
    return Session(with_reductions(graph, layers), device)


def output_name(layer: Layer, statistic: str) -> str:
    """The name of a reduction's output."""
    return f"convscope/{layer.index}/{statistic}"


def with_reductions(graph: Graph, layers: Sequence[Layer]) -> onnx.ModelProto:
    """The model cut at the layers, with the reductions in place of the layers as its outputs."""
    model = graph.submodel(list(dict.fromkeys(layer.tensor for layer in layers)))
    opset = next(e.version for e in model.opset_import if e.domain in ("", "ai.onnx"))
    del model.graph.output[:]
    for layer in layers:
        model.graph.node.extend(_nodes(model.graph, layer, opset))
        for statistic in STATISTICS:
            kind = TensorProto.INT64 if statistic == "argmax" else TensorProto.FLOAT
            model.graph.output.append(helper.make_tensor_value_info(output_name(layer, statistic), kind, None))
    return model


def _nodes(graph: onnx.GraphProto, layer: Layer, opset: int) -> list[onnx.NodeProto]:
    prefix = f"convscope/{layer.index}"
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, value: np.ndarray) -> str:
        graph.initializer.append(numpy_helper.from_array(value, f"{prefix}/{name}"))
        return f"{prefix}/{name}"

    def add(op: str, inputs: list[str], result: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [result], result, **attributes))
        return result

    rank, axis = len(layer.shape), layer.channel_axis
    source = layer.tensor
    if axis not in (None, 1):
        order = [0, axis, *(a for a in range(1, rank) if a != axis)]
        source = add("Transpose", [source], f"{prefix}/channels_first", perm=order)
    # (N, C, places): rank 2 layers have one place
    flat = add("Reshape", [source, constant("flat", np.array([0, 0, -1]))], f"{prefix}/flat_values")
    zero = add("Equal", [flat, constant("zero", np.array(0, np.float32))], f"{prefix}/is_zero")
    share = add("Cast", [zero], f"{prefix}/is_zero_float", to=TensorProto.FLOAT)
    squares = add("Mul", [flat, flat], f"{prefix}/squares")

    def reduce(op: str, name: str, result: str) -> None:
        if opset >= 18:
            add(op, [name, constant(f"axes_{result}", np.array([2]))], f"{prefix}/{result}", keepdims=0)
        else:
            add(op, [name], f"{prefix}/{result}", axes=[2], keepdims=0)

    reduce("ReduceMean", flat, "mean")
    reduce("ReduceMax", flat, "max")
    reduce("ReduceMean", share, "zeros")
    reduce("ReduceMean", squares, "square")
    add("ArgMax", [flat], f"{prefix}/argmax", axis=2, keepdims=0)
    return nodes
