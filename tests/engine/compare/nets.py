"""A tiny VGG-like network whose every setting can be changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

import convscope
from convscope.engine.graph.graph import Graph
from convscope.engine.graph.preprocessing import Preprocessing
from tests.tiny import model


def weights(seed: int = 0) -> dict[str, np.ndarray]:
    """conv1 (8) - bn1 - conv2 (12) - conv3 (16) - fc (5), for pictures of 18 x 18."""
    rng = np.random.default_rng(seed)

    def normal(*dims: int) -> np.ndarray:
        return rng.normal(0, (2 / np.prod(dims[1:])) ** 0.5, dims).astype(np.float32)

    return {
        "conv1.weight": normal(8, 3, 3, 3),
        "conv1.bias": rng.normal(0, 0.1, 8).astype(np.float32),
        "bn.scale": rng.uniform(0.5, 1.5, 8).astype(np.float32),
        "bn.bias": rng.normal(0, 0.1, 8).astype(np.float32),
        "bn.mean": rng.normal(0, 0.1, 8).astype(np.float32),
        "bn.var": rng.uniform(0.01, 0.05, 8).astype(np.float32),
        "conv2.weight": normal(12, 8, 3, 3),
        "conv2.bias": rng.normal(0, 0.1, 12).astype(np.float32),
        "conv3.weight": normal(16, 12, 3, 3),
        "conv3.bias": rng.normal(0, 0.1, 16).astype(np.float32),
        "fc.weight": normal(5, 16 * 5 * 5),
        "fc.bias": rng.normal(0, 0.1, 5).astype(np.float32),
    }


def vgg(values: dict[str, np.ndarray] | None = None, size: int | str = 18, **change: Any) -> onnx.ModelProto:
    """The network; ``change``: node__attribute=value, or relu2, pool1, pool2 = an operator."""
    # pooled: the head sees the mean of each map, so that maps of any size run
    values = dict(values or weights())
    pooled = change.pop("pooled", False)
    if pooled:
        values["fc.weight"] = values["fc.weight"][:, :16]
    options: dict[str, dict[str, Any]] = {
        "conv1": {"pads": [1, 1, 1, 1]},
        "bn": {"epsilon": 1e-3},
        "pool1": {"kernel_shape": [2, 2], "strides": [2, 2]},
        "conv2": {"pads": [1, 1, 1, 1]},
        "conv3": {"pads": [1, 1, 1, 1]},
        "pool2": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        "relu2": {},
    }
    ops = {"relu2": change.pop("relu2", "Relu"), "pool1": change.pop("pool1", "MaxPool")}
    ops["pool2"] = change.pop("pool2", "AveragePool")
    for key, value in change.items():
        place, _, name = key.partition("__")
        options[place][name] = value

    def node(op: str, inputs: list[str], name: str) -> onnx.NodeProto:
        return helper.make_node(op, inputs, [name], f"/{name}/{op}", **options.get(name, {}))

    def conv(name: str, source: str) -> onnx.NodeProto:
        bias = [f"{name}.bias"] if f"{name}.bias" in values else []
        return node("Conv", [source, f"{name}.weight", *bias], name)

    nodes = [
        conv("conv1", "x"),
        node("BatchNormalization", ["conv1", "bn.scale", "bn.bias", "bn.mean", "bn.var"], "bn"),
        node("Relu", ["bn"], "relu1"),
        node(ops["pool1"], ["relu1"], "pool1"),
        conv("conv2", "pool1"),
        *([node(ops["relu2"], ["conv2"], "relu2")] if ops["relu2"] else []),
        conv("conv3", "relu2" if ops["relu2"] else "conv2"),
        node("Relu", ["conv3"], "relu3"),
        node(ops["pool2"], ["relu3"], "pool2"),
        *([node("GlobalAveragePool", ["pool2"], "gap")] if pooled else []),
        node("Flatten", ["gap" if pooled else "pool2"], "flat"),
        helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["fc"], "/fc/Gemm", transB=1),
        helper.make_node("Softmax", ["fc"], ["y"], "/softmax/Softmax", axis=1),
    ]
    return model(nodes, values, ("N", 3, size, size))


CAFFE = Preprocessing(0, 255, (103.939, 116.779, 123.68), (58.0,), "BGR")


def load(proto: onnx.ModelProto, preprocessing: Preprocessing | str = CAFFE) -> Graph:
    """Without the check of the executors, which other tests make."""
    return convscope.load(proto, preprocessing=preprocessing, check=False)
