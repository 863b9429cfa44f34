"""Normalization with tensors that have more rows than the batch, and with sequences of pieces."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from convscope import load
from convscope.engine.executors.session import Session

RNG = np.random.default_rng(0)


def model(nodes: list, weights: dict[str, np.ndarray], opset: int = 17) -> ModelProto:
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    initializers = [numpy_helper.from_array(v, k) for k, v in weights.items()]
    graph = helper.make_graph(nodes, "g", [image], [output], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def assert_same(original: ModelProto, batch: int) -> None:
    x = RNG.normal(size=(batch, 3, 8, 8)).astype(np.float32)
    expected = Session(original, device="cpu").run(x)["y"]
    copy = ModelProto()
    copy.CopyFrom(original)
    graph = load(copy)  # compares every tensor of the two executors
    np.testing.assert_allclose(graph.session(["y"], device="cpu").run(x)["y"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rest", [[4, 3, 4, 4], [-1, 3, 4, 4]])
def test_windows_of_every_image_are_rows_that_go_back_to_their_image(rest: list[int]) -> None:
    """(4 * batch, 3, 4, 4) -> (batch, 4, 3, 4, 4): the zero that copies the first axis would be wrong here."""
    nodes = [
        helper.make_node("Reshape", ["x", "windows"], ["w"]),
        helper.make_node("Sigmoid", ["w"], ["s"]),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["rows"]),
        helper.make_node("Concat", ["rows", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["s", "target"], ["y"]),
    ]
    weights = {
        "windows": np.array([-1, 3, 4, 4]),
        "first": np.array([0]),
        "rest": np.array(rest),
    }
    assert_same(model(nodes, weights), 2)


@pytest.mark.parametrize("opset", [12, 17])
@pytest.mark.parametrize(
    ("sizes", "keep"), [(np.array([1, 2]), 1), (np.array(2), 1), (None, 1), (None, 0)], ids=["sizes", "chunk", "1", "0"]
)
def test_pieces_taken_from_a_sequence_are_split(sizes: np.ndarray | None, keep: int, opset: int) -> None:
    last = 1 if sizes is not None else 2
    inputs = ["x", "sizes"] if sizes is not None else ["x"]
    nodes = [
        helper.make_node("SplitToSequence", inputs, ["pieces"], axis=1, keepdims=keep),
        helper.make_node("SequenceAt", ["pieces", "zero"], ["a"]),
        helper.make_node("SequenceAt", ["pieces", "minus"], ["b"]),
        helper.make_node("SequenceAt", ["pieces", "last"], ["c"]),  # the same piece again
        helper.make_node("ReduceMax", ["b"], ["m"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["a", "c"], ["ac"]),
        helper.make_node("Add", ["ac", "m"], ["y"]),
    ]
    weights = {"zero": np.array(0), "minus": np.array(-1), "last": np.array(last)}
    if sizes is not None:
        weights["sizes"] = sizes
    original = model(nodes, weights, opset)
    assert_same(original, 2)
    graph = load(original, check=False)
    assert not {n.op_type for n in graph.model.graph.node} & {"SplitToSequence", "SequenceAt"}
    assert graph.layer("c").tensor == graph.layer("b").tensor


def test_weights_standardized_by_a_batch_norm_in_training_mode_are_constants() -> None:
    """timm's ScaledStdConv2d normalizes its own weight so; unused results of such a node must not be cut off."""
    nodes = [
        helper.make_node(
            "BatchNormalization", ["w", "one", "zero", "zero", "one"], ["v", "mean", "var"], name="std", training_mode=1
        ),
        helper.make_node("Reshape", ["v", "shape"], ["weight"]),
        helper.make_node("Conv", ["x", "weight"], ["y"], kernel_shape=[2, 2]),
    ]
    weights = {
        "w": RNG.normal(size=(1, 4, 12)).astype(np.float32),
        "one": np.ones(4, np.float32),
        "zero": np.zeros(4, np.float32),
        "shape": np.array([4, 3, 2, 2]),
    }
    original = model(nodes, weights)
    assert_same(original, 1)
    assert [n.op_type for n in load(original, check=False).model.graph.node] == ["Conv"]


def test_a_transpose_over_an_axis_of_one_is_right_at_every_image_size() -> None:
    """Attention with one head on the windows of an image; a Reshape to the shape at the default size would not be."""
    nodes = [
        helper.make_node("Reshape", ["x", "windows"], ["w"]),
        helper.make_node("Shape", ["w"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["rows"]),
        helper.make_node("Concat", ["rows", "heads"], ["target"], axis=0),
        helper.make_node("Reshape", ["w", "target"], ["h"]),
        helper.make_node("Transpose", ["h"], ["t"], perm=[0, 2, 1, 3]),
        helper.make_node("Sigmoid", ["t"], ["y"]),
    ]
    original = model(
        nodes,
        {"windows": np.array([-1, 3, 4, 4]), "first": np.array([0]), "heads": np.array([-1, 1, 16])},
    )
    for axis in (2, 3):
        original.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"side{axis}"
    copy = ModelProto()
    copy.CopyFrom(original)
    graph = load(copy, size=(8, 8))
    assert graph.layer("h").shape == (None, 3, 1, 16)
    x = RNG.normal(size=(2, 3, 16, 8)).astype(np.float32)
    found = graph.session(["y"], device="cpu").run(x)["y"]
    np.testing.assert_array_equal(found, Session(original, device="cpu").run(x)["y"])
