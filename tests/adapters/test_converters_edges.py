"""Edges where converters were found wrong once, and forms that have to be refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper

import convscope
from convscope.errors import UnsupportedOperator
from tests import tiny
from tests.single_node import Inputs, difference, model_of, twin_values

X = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


@pytest.mark.parametrize("op", ["ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceMean", "ReduceMax"])
def test_the_reduction_of_one_number(op: str) -> None:
    expected = {"ReduceSumSquare": 4.0, "ReduceLogSum": np.log(2.0)}.get(op, 2.0)
    (found,) = twin_values(model_of(op, [number(2.0)], {"keepdims": 0}), [number(2.0)])
    assert found.shape == ()
    assert float(found) == pytest.approx(expected)


EDGES: dict[str, tuple[str, Inputs, dict[str, Any], int]] = {
    "a sum that leaves out its own infinity": (
        "CumSum", [floats(1, np.inf, 2), np.array(0)], {"exclusive": 1}, 14,
    ),
    "clipping whole numbers beyond 2 to the 24": (
        "Clip", [np.array([2**24 + 1, -5, 2**40 + 1]), np.array(0), np.array(2**33 + 1)], {}, 13,
    ),
    "the largest of truths": ("ReduceMax", [np.array([[True, False], [False, False]]), np.array([1])], {}, 20),
    "a range that runs the wrong way": ("Range", [np.array(3), np.array(1), np.array(2)], {}, 11),
    "a range of fractions": ("Range", [number(0.1), number(2), number(0.3)], {}, 11),
    "a slice backwards from before the start": (
        "Slice", [floats(1, 2, 3), np.array([-9]), np.array([-9]), np.array([0]), np.array([-1])], {}, 13,
    ),
    "a slice backwards as far as it goes": (
        "Slice", [floats(1, 2, 3), np.array([-1]), np.array([2**63 - 1]), np.array([0]), np.array([-2])], {}, 13,
    ),
    "seven tenths of ten": ("Resize", [X.reshape(1, 1, 1, 12)[..., :10], None, floats(1, 1, 1, 0.7)], {}, 18),
    "four divided by eight tenths": (
        "Resize", [X, None, floats(1, 1, 3, 0.8)],
        {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}, 18,
    ),
    "nearest, half a pixel, rounded up": ("Resize", [X, None, floats(1, 1, 2, 2)], {"nearest_mode": "ceil"}, 18),
    "nearest in opset 10, to a smaller size": ("Resize", [X, floats(1, 1, 0.6, 0.6)], {}, 10),
    "a scale that is rounded away": ("Resize", [X, None, floats(1, 1, 1.1, 1.2)], {"mode": "linear"}, 18),
    "a transposed convolution with gaps": (
        "ConvTranspose", [X, np.ones((1, 2, 1, 2), np.float32)], {"strides": [3, 3], "auto_pad": "SAME_UPPER"}, 11,
    ),
    "a transposed convolution with gaps up to a size": (
        "ConvTranspose", [X, np.ones((1, 2, 1, 1), np.float32)], {"strides": [3, 3], "output_shape": [9, 12]}, 11,
    ),
    "antialiasing at the border": ("Resize", [X, None, floats(1, 1, 0.5, 0.6)], {"mode": "linear", "antialias": 1}, 18),
}  # fmt: skip


@pytest.mark.parametrize("name", EDGES)
def test_edges_equal_onnx_runtime(name: str) -> None:
    op, inputs, attributes, opset = EDGES[name]
    arrays = [None if value is None else np.ascontiguousarray(value).reshape(value.shape) for value in inputs]
    for computed in (False, True):
        assert difference(op, arrays, attributes, 1, opset, computed) == ""


def test_a_number_out_of_a_vector_by_a_computed_index() -> None:
    assert difference("Gather", [floats(1, 2, 3), np.array(-2)], {}, 1, 13, computed=True) == ""
    assert difference("GatherND", [floats(1, 2, 3), np.array([-2])], {}, 1, 13, computed=True) == ""


def test_space_to_depth_in_the_order_of_opset_28() -> None:
    x = np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4)
    (found,) = twin_values(model_of("SpaceToDepth", [x], {"blocksize": 2, "mode": "CRD"}, opset=28), [x])
    torch.testing.assert_close(torch.from_numpy(found), torch.pixel_unshuffle(torch.from_numpy(x), 2))


REFUSED: dict[str, tuple[str, Inputs, dict[str, Any], int, str]] = {
    "dropout that trains": ("Dropout", [X, number(0.5), np.array(True)], {}, 13, "training"),
    "arithmetic that torch lacks": ("Add", [X.astype(np.uint16), X.astype(np.uint16)], {}, 14, "UInt16"),
    "a pool that skips pixels": (
        "MaxPool", [X], {"kernel_shape": [1, 1], "strides": [3, 3], "auto_pad": "SAME_UPPER"}, 12, "SAME padding",
    ),
    "a cut without a resize": (
        "Resize", [X, floats(0, 0, 0.2, 0, 1, 1, 0.8, 1), floats(1, 1, 1, 2)],
        {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}, 13, "keeps its size",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_converted_is_refused_by_the_operators_name(name: str) -> None:
    op, inputs, attributes, opset, why = REFUSED[name]
    with pytest.raises(UnsupportedOperator, match=f"operator {op}.*{why}"):
        twin_values(model_of(op, inputs, attributes, 1, opset), inputs)


def test_casts_to_float16_inside_a_model_are_computed_in_float32() -> None:
    weight = np.random.default_rng(0).normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["w"], ["narrow"], to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["half", "narrow"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Cast", ["r"], ["y"], to=TensorProto.FLOAT),
    ]
    graph = convscope.load(tiny.model(nodes, {"w": weight}))
    assert [node.op_type for node in graph.model.graph.node] == ["Conv", "Relu"]
    assert any("float16" in note for note in graph.source.notes)
    x = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    twin = graph.twin([graph.outputs[0].name], dtype=torch.float64)
    expected = torch.relu(torch.nn.functional.conv2d(x, torch.from_numpy(weight).double()))
    torch.testing.assert_close(twin.only(x), expected, rtol=1e-2, atol=1e-3)
