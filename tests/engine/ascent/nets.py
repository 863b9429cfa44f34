"""Tiny networks for ascent: a trained-looking one, and one with filters that cannot be woken."""

from __future__ import annotations

import numpy as np
from onnx import helper

import convscope
from convscope.engine.graph.graph import Graph

from ...tiny import model, small_cnn


def small(seed: int = 0) -> Graph:
    """conv1 - bn1 - relu1 - pool1 - conv2 - relu2 - global average - fc, any picture size."""
    return convscope.load(small_cnn(seed), preprocessing="torch", check=False)


def with_silent_filters() -> Graph:
    """One convolution with a ReLU. Unit 0 lives, unit 1 is zero with bias -1, unit 2 wakes for bright red only."""
    weight = np.zeros((3, 3, 3, 3), dtype=np.float32)
    weight[0] = np.random.default_rng(0).normal(0, 1, (3, 3, 3))
    weight[2, 0] = 1.0
    bias = np.array([0.0, -1.0, -7.5], dtype=np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"], "relu"),
    ]
    made = model(nodes, {"w": weight, "b": bias}, shape=("N", 3, None, None))
    return convscope.load(made, preprocessing="unit", check=False)
