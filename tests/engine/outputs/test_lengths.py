"""A vector that is divided by its own length is an embedding, however the division is written; nothing else is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper
from torch import Tensor, nn

import convscope
from convscope.engine.graph.graph import Graph
from convscope.engine.outputs import read_outputs

from ...tiny import model

D = 12
RNG = np.random.default_rng(0)
CONSTANTS = {
    "w": RNG.normal(size=(3, D)).astype(np.float32),
    "eps": np.asarray(1e-12, np.float32),
    "two": np.asarray(2.0, np.float32),
    "one": np.asarray(1.0, np.float32),
    "half": np.asarray(0.5, np.float32),
    "minus": np.asarray(-0.5, np.float32),
    "zero": np.asarray(0.0, np.float32),
    "scale": np.asarray(64.0, np.float32),
    "last": np.asarray([-1]),
    "all": np.asarray([0, 1]),
    "shape": np.asarray([1, D]),
    "weights": RNG.normal(size=(D,)).astype(np.float32),
}
Step = tuple[Any, ...]


def vector_model(steps: list[Step]) -> Graph:
    """Steps (operator, inputs, output, attributes) on the vector v of 12 numbers; the last makes y."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["v"]),
        *(helper.make_node(op, reads.split(), [made], **dict(*more)) for op, reads, made, *more in steps),
    ]
    used = {name for node in nodes for name in node.input}
    return convscope.load(model(nodes, {k: v for k, v in CONSTANTS.items() if k in used}), check=False)


def norm(made: str = "n") -> Step:
    return ("ReduceL2", "v", made, {"axes": [-1], "keepdims": 1})


SQUARES: list[Step] = [("Mul", "v v", "q"), ("ReduceSum", "q last", "s")]
SPELLINGS: dict[str, list[Step]] = {
    "one operator": [("LpNormalization", "v", "y", {"axis": -1, "p": 2})],
    "torch's F.normalize": [norm(), ("Clip", "n eps", "c"), ("Expand", "c shape", "e"), ("Div", "v e", "y")],
    "a quotient with the norm": [norm(), ("Div", "v n", "y")],
    "the norm kept from zero": [norm(), ("Max", "n eps", "c"), ("Div", "v c", "y")],
    "something added to the norm": [norm(), ("Add", "n eps", "c"), ("Div", "v c", "y")],
    "the inverse norm": [norm(), ("Reciprocal", "n", "r"), ("Mul", "r v", "y")],
    "one by the norm": [norm(), ("Div", "one n", "r"), ("Mul", "v r", "y")],
    "the sum of squares' root": [*SQUARES, ("Sqrt", "s", "n"), ("Div", "v n", "y")],
    "an operator for the sum of squares": [
        ("ReduceSumSquare", "v", "s", {"axes": [1], "keepdims": 1}), ("Sqrt", "s", "n"), ("Div", "v n", "y"),
    ],
    "squares by Pow, a root by Pow": [
        ("Pow", "v two", "q"), ("ReduceSum", "q last", "s"), ("Pow", "s half", "n"), ("Div", "v n", "y"),
    ],
    "torch's vector_norm": [
        ("Abs", "v", "a"), ("Pow", "a two", "q"), ("ReduceSum", "q last", "s"), ("Pow", "s half", "n"),
        ("Div", "v n", "y"),
    ],
    "the inverse root by Pow": [*SQUARES, ("Pow", "s minus", "r"), ("Mul", "v r", "y")],
    "TensorFlow's l2_normalize": [
        *SQUARES, ("Max", "s eps", "m"), ("Sqrt", "m", "t"), ("Reciprocal", "t", "r"), ("Mul", "v r", "y"),
    ],
    "something added under the root": [
        *SQUARES, ("Add", "s eps", "m"), ("Sqrt", "m", "t"), ("Div", "one t", "r"), ("Mul", "r v", "y"),
    ],
    "a zero norm that becomes one": [
        norm(), ("Equal", "n zero", "none"), ("Where", "none one n", "c"), ("Div", "v c", "y"),
    ],
    "a face network's scale behind it": [norm(), ("Div", "v n", "u"), ("Mul", "u scale", "y")],
    "moved behind it": [norm(), ("Div", "v n", "u"), ("Reshape", "u shape", "y")],
    "the root of the mean of squares": [
        ("Mul", "v v", "q"), ("ReduceMean", "q", "s", {"axes": [-1], "keepdims": 1}), ("Sqrt", "s", "n"),
        ("Div", "v n", "y"),
    ],
}  # fmt: skip
OTHERS: dict[str, list[Step]] = {
    "a quotient with the sum of squares": [*SQUARES, ("Div", "v s", "y")],
    "a product with the norm": [norm(), ("Mul", "v n", "y")],
    "a product with the root": [*SQUARES, ("Sqrt", "s", "t"), ("Mul", "v t", "y")],
    "another vector's length": [
        ("Mul", "v weights", "u"), ("ReduceL2", "u", "n", {"axes": [-1], "keepdims": 1}), ("Div", "v n", "y"),
    ],
    "squares less their mean": [
        ("ReduceMean", "v", "m", {"axes": [-1], "keepdims": 1}), ("Sub", "v m", "c"), ("Mul", "c c", "q"),
        ("ReduceSum", "q last", "s"), ("Sqrt", "s", "n"), ("Div", "v n", "y"),
    ],
    "the length of the whole batch": [
        *SQUARES[:1], ("ReduceSum", "q all", "s"), ("Sqrt", "s", "n"), ("Div", "v n", "y"),
    ],
    "the vector added to its length": [norm(), ("Add", "n v", "c"), ("Div", "v c", "y")],
    "a scale of each number behind it": [norm(), ("Div", "v n", "u"), ("Mul", "u weights", "y")],
    "a plain vector": [("Identity", "v", "y")],
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_vector_divided_by_its_length_is_an_embedding_however_that_is_written(spelling: str) -> None:
    graph = vector_model(SPELLINGS[spelling])
    reading: Any = read_outputs(graph)
    assert reading.form == "embedding" and "divided by its own length" in reading.reason
    x = RNG.random((1, *graph.inputs[0].shape[1:])).astype(np.float32)
    rows = {name: value[0] for name, value in graph.session(list(reading.tensors)).run(x).items()}
    vector = x.mean((2, 3)) @ CONSTANTS["w"]
    answer = reading.answer(rows)
    assert answer.norm == pytest.approx(float(np.linalg.norm(vector)), rel=1e-4)  # of the vector, not 1
    own = vector[0] / np.linalg.norm(vector)
    given = answer.vector / np.linalg.norm(answer.vector)
    assert given == pytest.approx(own, abs=1e-5)
    (output,) = graph.session([reading.output]).run(x).values()
    assert np.array_equal(answer.vector, output.reshape(-1))  # what the file gives


@pytest.mark.parametrize("spelling", OTHERS)
def test_what_is_divided_by_anything_else_is_no_unit_vector(spelling: str) -> None:
    assert read_outputs(vector_model(OTHERS[spelling])).decoder == "values"


class Head(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.features, self.how = nn.Conv2d(3, D, 3), how

    def forward(self, x: Tensor) -> Tensor:
        v = self.features(x).mean((2, 3)) @ torch.eye(D)[:, :10]
        if self.how == "normalize":
            return nn.functional.normalize(v, dim=1)
        if self.how == "norm":
            return v / v.norm(p=2, dim=1, keepdim=True)
        if self.how == "rsqrt":
            return v * torch.rsqrt(v.square().sum(1, keepdim=True) + 1e-10)
        return v / v.pow(2).sum(-1, keepdim=True).sqrt().clamp(min=1e-6)


@pytest.mark.parametrize("how", ["normalize", "norm", "rsqrt", "roots"])
def test_what_torch_exports_is_found(how: str) -> None:
    torch.manual_seed(0)
    graph = convscope.load(Head(how).eval(), example_input=torch.zeros(1, 3, 8, 8), check=False)
    assert read_outputs(graph).form == "embedding"


def test_a_unit_vector_of_a_thousand_numbers_or_named_as_classes_is_no_classification() -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "big"], ["v"]),
        helper.make_node("ReduceL2", ["v"], ["n"], axes=[1], keepdims=1),
        helper.make_node("Div", ["v", "n"], ["class_token"]),
    ]
    big = {"big": RNG.normal(size=(3, 1000)).astype(np.float32)}
    graph = convscope.load(model(nodes, big, outputs=("class_token",)), check=False)
    assert read_outputs(graph).form == "embedding"
