"""One node in both executors: the twin's converter against ONNX Runtime, nothing normalized."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper

from convscope.adapters.twin.build import TwinFactory

Inputs = Sequence[np.ndarray | None]


def model_of(
    op: str, inputs: Inputs, attributes: dict[str, Any], outputs: int = 1, opset: int = 18, computed: bool = False
) -> onnx.ModelProto:
    """A model of one node 'node'; inputs i0, i1, ... (None: omitted), outputs y0, y1, ...

    Args:
        computed: every input is fed; otherwise those after the first are weights.
    """
    names = [f"i{k}" if value is not None else "" for k, value in enumerate(inputs)]
    results = [f"y{k}" for k in range(outputs)]
    given = [(n, v) for n, v in zip(names, inputs, strict=True) if v is not None]
    fed, fixed = (given, []) if computed else (given[:1], given[1:])
    graph = helper.make_graph(
        [helper.make_node(op, names, results, "node", **attributes)],
        "single",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in fed],
        [helper.make_empty_tensor_value_info(name) for name in results],
        [numpy_helper.from_array(v, n) for n, v in fixed],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def runtime_values(model: onnx.ModelProto, inputs: Inputs) -> list[np.ndarray]:
    """ONNX Runtime's outputs, without its own rewriting of the graph."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3  # it warns of its own shape inference where pooling is rounded up
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, _feeds(model, inputs)))


def twin_values(model: onnx.ModelProto, inputs: Inputs) -> list[np.ndarray]:
    """The twin's outputs."""
    feeds = {name: torch.from_numpy(value) for name, value in _feeds(model, inputs).items()}
    twin = TwinFactory(model)(tuple(o.name for o in model.graph.output), tuple(feeds))
    with torch.no_grad():
        return [value.numpy() for value in twin(feeds).values()]


def difference(
    op: str, inputs: Inputs, attributes: dict[str, Any], outputs: int = 1, opset: int = 18, computed: bool = False
) -> str:
    """What differs between the executors, with the node; "" where nothing does. Arguments as for `model_of`."""
    model = model_of(op, inputs, attributes, outputs, opset, computed)
    pairs = zip(twin_values(model, inputs), runtime_values(model, inputs), strict=True)
    for found, wanted in pairs:
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            problem = f"{found.dtype}{found.shape} instead of {wanted.dtype}{wanted.shape}"
        elif not np.allclose(found.astype(float), wanted.astype(float), rtol=1e-4, atol=1e-5, equal_nan=True):
            problem = f"values {found.ravel()[:6]} instead of {wanted.ravel()[:6]}"
        else:
            continue
        shown = [None if v is None else v.tolist() if v.size < 10 else v.shape for v in inputs]
        return f"{op}-{opset} {shown} {attributes}: {problem}"
    return ""


def _feeds(model: onnx.ModelProto, inputs: Inputs) -> dict[str, np.ndarray]:
    return {i.name: np.asarray(inputs[int(i.name[1:])]) for i in model.graph.input}
