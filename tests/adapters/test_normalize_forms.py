"""Forms that exporters write, small: what is normalized computes what the file does, picture by picture in a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

import convscope
from convscope.engine.graph.graph import Graph

from ..tiny import model

RNG = np.random.default_rng(0)
NCHW, NHWC, ONE = ("N", 3, 16, 16), ("N", 16, 16, 3), (1, 3, 16, 16)
Form = tuple[list[onnx.NodeProto], dict[str, np.ndarray], tuple[Any, ...], int]


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def node(op: str, inputs: str, outputs: str, **settings: Any) -> onnx.NodeProto:
    """Names with spaces between; ``-`` is one left out."""
    read, made = ([name if name != "-" else "" for name in names.split()] for names in (inputs, outputs))
    return helper.make_node(op, read, made, **settings)


def conv(source: str = "x") -> onnx.NodeProto:
    return node("Conv", f"{source} kernel", "c", pads=[1] * 4)


KERNEL = {"kernel": normal(8, 3, 3, 3)}


def split(opset: int) -> Form:
    pieces = {"num_outputs": 2} if opset >= 18 else {}
    return [conv(), node("Split", "c", "y rest", axis=1, **pieces)], KERNEL, NCHW, opset


def flattened(axis: int) -> Form:
    nodes = [
        node("Transpose", "x", "t", perm=[0, 3, 1, 2]), conv("t"), node("GlobalAveragePool", "c", "g"),
        node("Transpose", "g", "last", perm=[0, 2, 3, 1]), node("Flatten", "last", "y", axis=axis),
    ]  # fmt: skip
    return nodes, KERNEL, NHWC, 17


def recurrent(op: str, target: list[int]) -> Form:
    """A reader exported for one picture: time first, both directions put side by side behind it."""
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[op]
    weights = {
        **KERNEL, "line": np.array([1, 128, 16]), "joined": np.array(target),
        "W": normal(2, gates * 5, 128) / 8, "R": normal(2, gates * 5, 5), "head": normal(10, 4),
    }  # fmt: skip
    nodes = [
        conv(), node("Reshape", "c line", "l"), node("Transpose", "l", "steps", perm=[2, 0, 1]),
        node(op, "steps W R", "both", hidden_size=5, direction="bidirectional"),
        node("Transpose", "both", "beside", perm=[0, 2, 1, 3]), node("Reshape", "beside joined", "j"),
        node("MatMul", "j head", "s"), node("Transpose", "s", "y", perm=[1, 0, 2]),
    ]  # fmt: skip
    return nodes, weights, ONE, 17


def windows(back: list[int]) -> Form:
    """Swin's windows, cut out and put back, exported for one picture."""
    numbers = {"cut": [1, 4, 4, 4, 4, 8], "rows": [-1, 4, 4, 8], "grid": [1, 4, 4, 4, 4, -1], "back": back}
    nodes = [
        conv(), node("Transpose", "c", "t", perm=[0, 2, 3, 1]), node("Reshape", "t cut", "a"),
        node("Transpose", "a", "b", perm=[0, 1, 3, 2, 4, 5]), node("Reshape", "b rows", "w"),
        node("Mul", "w gain", "m"), node("Reshape", "m grid", "d"),
        node("Transpose", "d", "e", perm=[0, 1, 3, 2, 4, 5]), node("Reshape", "e back", "f"),
        node("Transpose", "f", "y", perm=[0, 3, 1, 2]),
    ]  # fmt: skip
    return nodes, {**KERNEL, "gain": normal(4, 4, 8), **{k: np.array(v) for k, v in numbers.items()}}, ONE, 17


def tokens_of_opset_9() -> Form:
    nodes = [
        conv(), node("Reshape", "c grid", "r"), node("Transpose", "r", "t", perm=[0, 2, 1]),
        node("Slice", "t", "y", starts=[1], ends=[9], axes=[1]),
    ]  # fmt: skip
    return nodes, {**KERNEL, "grid": np.array([0, 8, -1])}, NCHW, 9


def state_alone() -> Form:
    """Two LSTMs that give their last state and no sequence."""
    nodes = [conv(), node("Reshape", "c line", "l"), node("Transpose", "l", "steps", perm=[2, 0, 1])]
    weights = {**KERNEL, "line": np.array([0, 128, 16])}
    for i in range(2):
        weights |= {f"W{i}": normal(1, 20, 128) / 8, f"R{i}": normal(1, 20, 5)}
        nodes.append(node("LSTM", f"steps W{i} R{i}", f"- h{i}", hidden_size=5))
    nodes += [node("Concat", "h0 h1", "h", axis=2), node("Transpose", "h", "y", perm=[1, 0, 2])]
    return nodes, weights, NCHW, 17


def one_pixel() -> Form:
    nodes = [
        node("Transpose", "x", "t", perm=[0, 3, 1, 2]), conv("t"), node("Transpose", "c", "last", perm=[0, 2, 3, 1]),
        node("ReduceMean", "last axes", "mean", keepdims=0), node("Reshape", "mean pixel", "p", allowzero=1),
        node("Transpose", "p", "q", perm=[0, 3, 1, 2]), node("Conv", "q squeeze", "y"),
    ]  # fmt: skip
    weights = {"axes": np.array([1, 2]), "pixel": np.array([-1, 1, 1, 8]), "squeeze": normal(4, 8, 1, 1)}
    return nodes, {**KERNEL, **weights}, NHWC, 18


def biased(*shape: int) -> Form:
    nodes = [conv(), node("GlobalAveragePool", "c", "g"), node("Flatten", "g", "f"), node("MatMul", "f dense", "m"),
             node("Add", "m bias", "y")]  # fmt: skip
    return nodes, {**KERNEL, "dense": normal(8, 5), "bias": normal(*shape)}, NCHW, 17


def of_constants(op: str, opset: int) -> Form:
    read = "value" if op == "Softmax" else "value one one one one"
    nodes = [conv(), node(op, read, "k"), node("Add", "c k", "y")]
    return nodes, {**KERNEL, "value": normal(1, 8, 16, 16), "one": np.abs(normal(8)) + 1}, NCHW, opset


def padded_pool(opset: int) -> Form:
    nodes = [conv(), node("Pad", "c pads", "p"), node("MaxPool", "p", "y", kernel_shape=[3, 3], strides=[2, 2])]
    return nodes, {**KERNEL, "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}, NCHW, opset


FORMS: dict[str, Form] = {
    **{f"split whose last piece is unread, opset {n}": split(n) for n in (13, 18)},
    **{f"flatten at {axis} behind a transpose": flattened(axis) for axis in (1, 3, -1)},
    **{f"{op} of both directions, time first": recurrent(op, [0, 0, -1]) for op in ("GRU", "LSTM", "RNN")},
    "windows put back with -1": windows([1, 16, 16, -1]),
    "windows put back in numbers": windows([1, 16, 16, 8]),
    "tokens sliced by attributes": tokens_of_opset_9(),
    "LSTMs with their states alone": state_alone(),
    "one pixel with allowzero": one_pixel(),
    "bias as a row": biased(1, 5),
    "softmax of a constant over the tail": of_constants("Softmax", 11),
    "batch-norm of a constant": of_constants("BatchNormalization", 13),
    **{f"max-pool of a pad, opset {n}": padded_pool(n) for n in (11, 18)},
}


def source_values(made: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """What the file gives for each picture by itself, as it is written."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(made.SerializeToString(), options)
    rows: list[Any] = [session.run(["y"], {"x": x[i : i + 1]})[0] for i in range(len(x))]
    return np.concatenate(rows)


@pytest.mark.parametrize("name", FORMS)
def test_both_executors_give_for_three_pictures_what_the_file_gives_for_each(name: str) -> None:
    nodes, weights, shape, opset = FORMS[name]
    made = model(nodes, weights, shape, opset=opset)
    graph: Graph = convscope.load(made)
    x = normal(3, *(n for n in shape[1:] if isinstance(n, int)))
    expected = source_values(made, x)
    picture = graph.inputs[0].name
    feeds = {picture: np.ascontiguousarray(x.transpose(graph.permuted.get(picture, range(4))))}
    output = graph.outputs[0].name
    axes = graph.permuted.get(output, range(expected.ndim))
    found = graph.session([output], device="cpu").run(feeds)[output]
    np.testing.assert_allclose(found, expected.transpose(axes), atol=1e-5)
    with torch.no_grad():
        twin = graph.twin([output])({name: torch.from_numpy(value) for name, value in feeds.items()})[output]
    np.testing.assert_allclose(twin.numpy(), expected.transpose(axes), atol=1e-4)


def test_a_bias_of_another_rank_keeps_its_axis() -> None:
    nodes, weights, shape, opset = biased(1, 1, 5)
    graph = convscope.load(model(nodes, weights, shape, opset=opset))
    assert graph.session(["y"], device="cpu").run({"x": normal(3, 3, 16, 16)})["y"].shape == (1, 3, 5)


def test_an_lstm_that_gives_its_state_alone_has_its_weights_counted() -> None:
    nodes, weights, shape, opset = FORMS["LSTMs with their states alone"]
    graph = convscope.load(model(nodes, weights, shape, opset=opset))
    counted = [layer.parameters for layer in graph.layers if layer.op == "LSTM"]
    assert counted == [weights["W0"].size + weights["R0"].size] * 2


def test_a_reshape_to_sizes_that_the_file_computes_is_known_where_inference_does_not_even_know_its_rank() -> None:
    """As Paddle's first exporter writes a flatten: the shape as int32, cut, joined with a constant and cast."""
    weights = {
        "w": normal(4, 3, 3, 3), "m": normal(4, 2), "zero": np.array([0]), "one": np.array([1]),
        "four": np.array([4], np.int32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Shape", ["p"], ["s"]),
        helper.make_node("Cast", ["s"], ["t"], to=TensorProto.INT32),
        helper.make_node("Slice", ["t", "zero", "one", "zero", "one"], ["n"]),
        helper.make_node("Cast", ["n"], ["n64"], to=TensorProto.INT64),
        helper.make_node("Cast", ["four"], ["four64"], to=TensorProto.INT64),
        helper.make_node("Concat", ["n64", "four64"], ["to"], axis=-1),
        helper.make_node("Reshape", ["p", "to"], ["f"]),
        helper.make_node("MatMul", ["f", "m"], ["y"]),
    ]
    graph = convscope.load(model(nodes, weights, ("N", 3, 16, 16), opset=11), check=False)
    assert [layer.shape for layer in graph.layers][-1] == (None, 2)
    assert graph.outputs[0].shape == (None, 2)
