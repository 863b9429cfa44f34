"""The onnx package's nine light zoo graphs, with seeded weights in place of their constants."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NAMES = tuple(sorted(p.stem.removeprefix("light_") for p in LIGHT.glob("light_*.onnx")))


def light_model(name: str, seed: int = 0) -> onnx.ModelProto:
    """The graph with every ConstantOfShape weight drawn at random, scaled by its fan-in."""
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    rng = np.random.default_rng(seed)
    graph = model.graph
    values = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    positive = {n for node in graph.node if node.op_type == "BatchNormalization" for n in node.input[4:5]}
    kept = []
    for node in graph.node:
        if node.op_type != "ConstantOfShape" or node.input[0] not in values:
            kept.append(node)
            continue
        shape = tuple(int(n) for n in values[node.input[0]])
        if len(shape) > 1:
            weight = rng.normal(0, np.sqrt(2 / max(int(np.prod(shape[1:])), 1)), shape)
        else:
            weight = rng.uniform(0.5, 1.5, shape) if node.output[0] in positive else rng.normal(0.1, 0.3, shape)
        graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), node.output[0]))
    del graph.node[:]
    graph.node.extend(kept)
    return model
