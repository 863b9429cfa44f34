"""Where the class logits are, and that no second softmax is taken of what is a probability already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import convscope
from convscope.engine.graph.graph import Graph
from convscope.engine.graph.labels import predictions
from tests import tiny

CLASSES = 4


def network(head: list[onnx.NodeProto], weights: Mapping[str, Any] | None = None, four: bool = False) -> Graph:
    """Convolution, global average and a dense layer with large weights, so that a softmax saturates; then the head.

    The logits are ``l``, (N, K), or (N, K, 1, 1) with ``four``.
    """
    rng = np.random.default_rng(0)
    values = {
        "w": rng.normal(0, 1, (6, 3, 3, 3)).astype(np.float32),
        "k": rng.normal(0, 30, (CLASSES, 6, 1, 1)).astype(np.float32),
        **{name: np.asarray(value) for name, value in (weights or {}).items()},
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Conv", ["g", "k"], ["l" if four else "l4"]),
        *([] if four else [helper.make_node("Flatten", ["l4"], ["l"])]),
        *head,
    ]
    return convscope.load(tiny.model(nodes, values, opset=13), check=False)


def node(op: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], **attributes)


SUM = {"one": np.array([1], np.int64)}
FOUND: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
    "plain": ([node("Softmax", "l", "y", axis=1)], {}),
    "reshaped": ([node("Softmax", "l", "p", axis=1), node("Reshape", "p s", "y")], {"s": np.array([-1, 4], np.int64)}),
    "clipped": (
        [node("Softmax", "l", "p", axis=-1), node("Clip", "p low high", "y")],
        {"low": np.float32(1e-7), "high": np.float32(1 - 1e-7)},
    ),
    "there and back": ([node("Softmax", "l", "p"), node("Unsqueeze", "p two", "u"), node("Squeeze", "u two", "y")],
                       {"two": np.array([2], np.int64)}),
    "written out": ([node("Exp", "l", "e"), node("ReduceSum", "e one", "t"), node("Div", "e t", "y")], SUM),
    "written out, stable": (
        [node("ReduceMax", "l", "m", axes=[1]), node("Sub", "l m", "d"), node("Exp", "d", "e"),
         node("ReduceSum", "e one", "t"), node("Div", "e t", "y")],
        SUM,
    ),
    "written out, times the inverse": (
        [node("Exp", "l", "e"), node("ReduceSum", "e one", "t"), node("Reciprocal", "t", "i"), node("Mul", "e i", "y")],
        SUM,
    ),
    "its logarithm": ([node("Softmax", "l", "p", axis=1), node("Log", "p", "y")], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_a_softmax_is_found_however_it_is_written_and_whatever_follows(name: str) -> None:
    nodes, weights = FOUND[name]
    graph = network(nodes, weights)
    assert graph.logits == "l"
    assert graph.head().kind == ("log softmax" if "logarithm" in name else "softmax")


@pytest.mark.parametrize("four", ["Flatten", "Squeeze"])
def test_a_softmax_over_maps_of_one_pixel_is_found_behind_what_flattens_it(four: str) -> None:
    rest: dict[str, Any] = {"axes": np.array([2, 3], np.int64)} if four == "Squeeze" else {}
    nodes = [node("Softmax", "l", "p", axis=1), node(four, "p axes" if rest else "p", "y")]
    graph = network(nodes, rest, four=True)
    x = np.random.default_rng(1).random((1, 3, 16, 16), dtype=np.float32)
    assert (graph.logits, graph.head().moved) == ("l", True)
    expected = graph.session(["y"]).run(x)["y"][0]
    logits = graph.session(["l"]).run(x)["l"][0].reshape(-1)
    assert [p.probability for p in predictions(graph, logits, 4)] == pytest.approx(sorted(expected, reverse=True))


SIGMOIDS = {
    "plain": [node("Sigmoid", "l", "y")],
    "flattened": [node("Sigmoid", "l", "p"), node("Flatten", "p", "y")],
    "written out": [
        node("Neg", "l", "n"),
        node("Exp", "n", "e"),
        node("Add", "e unit", "a"),
        node("Reciprocal", "a", "y"),
    ],
    "written as a quotient": [
        node("Mul", "minus l", "n"),
        node("Exp", "n", "e"),
        node("Add", "unit e", "a"),
        node("Div", "unit a", "y"),
    ],
}


@pytest.mark.parametrize("name", SIGMOIDS)
def test_a_sigmoid_is_found_however_it_is_written(name: str) -> None:
    graph = network(SIGMOIDS[name], {"unit": np.float32(1), "minus": np.float32(-1)})
    assert (graph.logits, graph.head().kind) == ("l", "sigmoid")


def test_a_sigmoid_is_found_behind_the_mean_of_one_frame() -> None:
    """As silero's detectors of speech end."""
    nodes = [node("Sigmoid", "l", "p"), node("ReduceMean", "p", "y", axes=[2, 3], keepdims=0)]
    graph = network(nodes, four=True)
    assert (graph.logits, graph.head().kind) == ("l", "sigmoid")


NOT_FOUND: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
    "over the batch": ([node("Softmax", "l", "y", axis=0)], {}),
    "a quotient by another sum": (
        [node("Exp", "l", "e"), node("Exp", "l4", "f"), node("ReduceSum", "f", "t", keepdims=0),
         node("Div", "e t", "y")],
        {},
    ),
    "a mean of two": (
        [node("Softmax", "l", "p", axis=1), node("Sigmoid", "l", "q"), node("Add", "p q", "y")],
        {},
    ),
    "a mean of the classes": ([node("Sigmoid", "l", "p"), node("ReduceMean", "p", "y", axes=[1])], {}),
    "turned": ([node("Softmax", "l", "p", axis=1), node("Unsqueeze", "p zero", "u"), node("Transpose", "u", "y")],
               {"zero": np.array([0], np.int64)}),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_FOUND)
def test_what_is_no_head_over_the_classes_is_left_alone(name: str) -> None:
    nodes, weights = NOT_FOUND[name]
    graph = network(nodes, weights)
    assert (graph.logits, graph.head().kind) == ("y", None)


def test_probabilities_whose_logits_cannot_be_reached_are_shown_as_they_are() -> None:
    halves = [node("Softmax", "l", "p", axis=1), node("Softmax", "g2", "q", axis=1)]
    nodes = [node("Neg", "l", "g2"), *halves, node("Mean", "p q", "y")]
    graph = network(nodes)
    x = np.random.default_rng(1).random((1, 3, 16, 16), dtype=np.float32)
    values = graph.session(["y"]).run(x)["y"][0]
    assert graph.head().kind is None
    assert [p.probability for p in predictions(graph, values, 4)] == pytest.approx(sorted(values, reverse=True))


def test_a_softmax_over_a_tensor_of_unknown_shape_is_found_by_its_axis() -> None:
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Greater", ["m", "floors"], ["c"]),
        helper.make_node("Compress", ["sides", "c"], ["target"]),  # as many sides as the picture decides
        helper.make_node("Reshape", ["p", "target"], ["l"]),
        helper.make_node("Softmax", ["l"], ["y"], axis=1),
    ]
    weights = {"floors": np.array([-9, -9], np.float32), "sides": np.array([-1, 3])}
    graph = convscope.load(tiny.model(nodes, weights), check=False)
    assert (graph.logits, graph.head().kind) == ("l", "softmax")
