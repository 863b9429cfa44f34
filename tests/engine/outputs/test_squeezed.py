"""Outputs whose axes of one were squeezed away say what they said before."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import NodeProto, helper

import convscope
from convscope.engine.graph.graph import Graph
from convscope.engine.outputs import Question, read_outputs
from convscope.engine.runs import predict

from ...tiny import model

RNG = np.random.default_rng(5)
WEIGHTS = {"w": RNG.normal(size=(4, 3, 3, 3)).astype(np.float32), "one": np.array([1]), "flat": np.array([-1])}
node = helper.make_node
ENDS: dict[str, tuple[int, list[NodeProto], str]] = {  # numbers, what follows (N, K), decoder
    "(N,) sigmoid": (1, [node("Sigmoid", ["k"], ["s"]), node("Squeeze", ["s", "one"], ["y"])], "sigmoid"),
    "(N,) value": (1, [node("Squeeze", ["k", "one"], ["y"])], "regression"),
    "() value": (1, [node("Squeeze", ["k"], ["y"])], "regression"),
    "(-1,) value": (1, [node("Reshape", ["k", "flat"], ["y"])], "regression"),
    "(K,) softmax": (4, [node("Softmax", ["k"], ["s"], axis=1), node("Squeeze", ["s"], ["y"])], "softmax"),
    "(K,) sigmoids": (4, [node("Sigmoid", ["k"], ["s"]), node("Squeeze", ["s"], ["y"])], "sigmoids"),
    "(K,) numbers": (4, [node("Squeeze", ["k"], ["y"])], "values"),
    "() computed": (1, [node("Squeeze", ["k"], ["s"]), node("Exp", ["s"], ["y"])], "regression"),
    "(K,) computed": (4, [node("Squeeze", ["k"], ["s"]), node("Exp", ["s"], ["y"])], "values"),
    "(N,) computed": (1, [node("Squeeze", ["k", "one"], ["s"]), node("Exp", ["s"], ["y"])], "regression"),
}  # fmt: skip


def net(end: str) -> Graph:
    """A convolution, its mean, numbers (N, K), and the end."""
    count, last, _ = ENDS[end]
    nodes = [
        node("Conv", ["x", "w"], ["c"]), node("GlobalAveragePool", ["c"], ["p"]), node("Flatten", ["p"], ["f"]),
        node("MatMul", ["f", "m"], ["k"]), *last,
    ]  # fmt: skip
    return convscope.load(model(nodes, {**WEIGHTS, "m": RNG.normal(size=(4, count)).astype(np.float32)}), check=False)


@pytest.mark.parametrize("end", ENDS)
def test_they_are_read_answered_and_explained_for_every_picture(end: str) -> None:
    graph = net(end)
    _, _, decoder = ENDS[end]
    reading = read_outputs(graph)
    assert reading.decoder == decoder and reading.unread == ()
    pictures = [RNG.random((16, 16, 3)).astype(np.float32) for _ in range(3)]
    session = onnxruntime.InferenceSession(graph.model.SerializeToString())
    for picture, told in zip(
        pictures, predict.run(graph, pictures, predict.Options(top=9)).content["images"], strict=True
    ):
        (expected,) = session.run(None, {"x": picture.transpose(2, 0, 1)[None]})
        if "values" in told:
            found = {row["index"]: row["value"] for row in told["values"]}
        else:
            found = {row["index"]: row["probability"] for row in told["predictions"]}
        wanted = {0: 1 - float(np.ravel(expected)[0]), 1: float(np.ravel(expected)[0])} if decoder == "sigmoid" else {}
        wanted = wanted or dict(enumerate(np.ravel(expected).tolist()))
        assert found and found.keys() <= wanted.keys()
        assert [found[i] for i in found] == pytest.approx([wanted[i] for i in found], rel=1e-4, abs=1e-6)
    maps = [convscope.explain(graph, picture) for picture in pictures]
    assert all(np.isfinite(one.score) and one.heatmap.shape == (16, 16) for one in maps)
    if decoder == "regression":
        rows = {reading.tensors[0]: np.float32(2.0)}
        (target,) = reading.targets(rows, Question(to=0.5))
        assert target.score(rows) == pytest.approx(-2.25)
