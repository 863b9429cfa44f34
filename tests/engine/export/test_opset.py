"""Models of old operator sets become models of opset 17 that compute the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

import convscope
from convscope.engine.export.opset import RAISED, raised

from ...single_node import model_of
from ...tiny import small_cnn

X = np.random.default_rng(0).normal(size=(2, 4, 6, 6)).astype(np.float32)
FLOATS = np.array([1, 1, 2, 2], dtype=np.float32)
CASES: list[tuple[str, int, list[Any], dict[str, Any], int]] = [
    ("Softmax", 11, [X], {}, 1),
    ("Softmax", 9, [X], {"axis": 3}, 1),
    ("LogSoftmax", 12, [X], {"axis": 2}, 1),
    ("Hardmax", 12, [X], {"axis": 1}, 1),
    ("Squeeze", 11, [X[:, :1]], {"axes": [1]}, 1),
    ("Unsqueeze", 9, [X], {"axes": [0, 3]}, 1),
    ("ReduceSum", 11, [X], {"axes": [1, 2], "keepdims": 0}, 1),
    ("ReduceMean", 9, [X], {"axes": [2, 3]}, 1),
    ("Split", 11, [X], {"axis": 1, "split": [1, 3]}, 2),
    ("Split", 9, [X], {"axis": 2}, 2),
    ("Dropout", 9, [X], {"ratio": 0.5}, 1),
    ("Clip", 9, [X], {"min": 0.0, "max": 1.0}, 1),
    ("Clip", 7, [X], {"max": 1.0}, 1),
    ("Pad", 9, [X], {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "value": 0.5}, 1),
    ("Slice", 9, [X], {"starts": [1, 0], "ends": [3, 9], "axes": [1, 2]}, 1),
    ("TopK", 9, [X], {"k": 2, "axis": 3}, 2),
    ("Upsample", 7, [X], {"scales": [1.0, 1.0, 2.0, 2.0], "mode": "nearest"}, 1),
    ("Upsample", 9, [X, FLOATS], {"mode": "linear"}, 1),
    ("Resize", 10, [X, FLOATS], {"mode": "nearest"}, 1),
    ("Resize", 10, [X, np.array([1, 1, 0.5, 0.5], np.float32)], {"mode": "nearest"}, 1),
    ("MaxPool", 7, [X], {"kernel_shape": [2, 2]}, 1),
]


def outputs(model: onnx.ModelProto) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(_of(session))}))


def _of(session: Any) -> np.ndarray:
    return X[:, :1] if session.get_inputs()[0].shape[1] == 1 else X


@pytest.mark.parametrize(("op", "opset", "inputs", "attributes", "count"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES])
def test_a_raised_node_computes_the_same(
    op: str, opset: int, inputs: list[Any], attributes: dict[str, Any], count: int
) -> None:
    model = model_of(op, inputs, attributes, count, opset)
    new = raised(model, {"i0": 4})
    assert next(e.version for e in new.opset_import if not e.domain) == RAISED
    for found, expected in zip(outputs(new), outputs(model), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_graph_within_a_node_is_not_raised() -> None:
    inner = helper.make_graph([], "inner", [], [])
    model = model_of("Relu", [X], {}, 1, 11)
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], "if", then_branch=inner, else_branch=inner))
    with pytest.raises(convscope.RefusedInput, match="If of opset 11"):
        raised(model, {})


@pytest.mark.parametrize("opset", [9, 11, 13, 16, 18, 21])
def test_a_model_of_any_opset_is_exported(opset: int, tmp_path: Path) -> None:
    graph = convscope.load(small_cnn(opset=opset))
    done = convscope.export(graph, tmp_path / "out.onnx", layer="conv1")
    assert done.verification.difference < 1e-5 and done.verification.output_difference < 1e-6
