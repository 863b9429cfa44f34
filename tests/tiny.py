"""Tiny models built in code, with seeded weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def model(
    nodes: Sequence[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    shape: Sequence[int | str | None] = ("N", 3, 16, 16),
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
    input_name: str = "x",
) -> onnx.ModelProto:
    """A model of one image input; output shapes are left open."""
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def small_cnn(seed: int = 0, classes: int = 5, opset: int = 17) -> onnx.ModelProto:
    """conv1 - bn1 - relu1 - pool1 - conv2 - relu2 - global average - fc - softmax on (N, 3, 16, 16)."""
    rng = np.random.default_rng(seed)

    def normal(*dims: int) -> np.ndarray:
        return rng.normal(0, 0.3, dims).astype(np.float32)

    weights = {
        "conv1.weight": normal(8, 3, 3, 3),
        "conv1.bias": normal(8),
        "bn1.weight": rng.uniform(0.5, 1.5, 8).astype(np.float32),
        "bn1.bias": normal(8),
        "bn1.running_mean": normal(8),
        "bn1.running_var": rng.uniform(0.5, 1.5, 8).astype(np.float32),
        "conv2.weight": normal(12, 8, 3, 3),
        "conv2.bias": normal(12),
        "fc.weight": normal(classes, 12),
        "fc.bias": normal(classes),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv1.weight", "conv1.bias"], ["c1"], "/conv1/Conv", pads=[1, 1, 1, 1]),
        helper.make_node(
            "BatchNormalization",
            ["c1", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"],
            ["b1"],
            "/bn1/BatchNormalization",
        ),
        helper.make_node("Relu", ["b1"], ["r1"], "/relu1/Relu"),
        helper.make_node("MaxPool", ["r1"], ["p1"], "/pool1/MaxPool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "conv2.weight", "conv2.bias"], ["c2"], "/conv2/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"], "/relu2/Relu"),
        helper.make_node("GlobalAveragePool", ["r2"], ["g"], "/gap/GlobalAveragePool"),
        helper.make_node("Flatten", ["g"], ["f"], "/flatten/Flatten"),
        helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], ["logits"], "/fc/Gemm", transB=1),
        helper.make_node("Softmax", ["logits"], ["y"], "/softmax/Softmax", axis=1),
    ]
    return model(nodes, weights, opset=opset)
