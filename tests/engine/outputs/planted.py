"""Graphs whose outputs are known in advance: constants, plus nothing times the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import convscope
from convscope.engine.graph.graph import Graph

SIZE = 64


def planted(
    outputs: Mapping[str, np.ndarray],
    *,
    size: int = SIZE,
    heads: Mapping[str, str] | None = None,
    labels: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Graph:
    """A graph that gives these outputs for every picture; ``heads`` puts an operator behind one (Softmax, Sigmoid).

    Each output depends on the picture by a term that is zero, so that nothing can be folded away.
    """
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["map"]),
        helper.make_node("Relu", ["map"], ["features"]),
        helper.make_node("ReduceMean", ["features", "axes"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "nothing"], ["zero"]),
    ]
    weights = [
        numpy_helper.from_array(np.full((1, 3, 1, 1), 0.3, np.float32), "kernel"),
        numpy_helper.from_array(np.asarray([1, 2, 3]), "axes"),
        numpy_helper.from_array(np.asarray(0.0, np.float32), "nothing"),
    ]
    infos = []
    for name, value in outputs.items():
        weights += [
            numpy_helper.from_array(np.asarray([1] * value.ndim), f"{name}/ones"),
            numpy_helper.from_array(value.astype(np.float32), f"{name}/values"),
        ]
        head = (heads or {}).get(name)
        nodes += [
            helper.make_node("Reshape", ["zero", f"{name}/ones"], [f"{name}/zero"]),
            helper.make_node("Add", [f"{name}/zero", f"{name}/values"], [f"{name}/raw" if head else name]),
        ]
        if head:
            nodes.append(helper.make_node(head, [f"{name}/raw"], [name]))
            if head == "Softmax":
                nodes[-1].attribute.append(helper.make_attribute("axis", -1 if value.ndim == 3 else 1))
        infos.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(value.shape)))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, size, size])
    model = helper.make_model(
        helper.make_graph(nodes, "planted", [image], infos, weights), opset_imports=[helper.make_opsetid("", 18)]
    )
    model.ir_version = 10
    helper.set_model_props(model, dict(metadata or {}))
    return convscope.load(onnx.load_from_string(model.SerializeToString()), check=False, labels=labels)
