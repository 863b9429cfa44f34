"""Sizes that would come from the values of pixels are refused wherever in the file they are computed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from convscope.adapters.load import load_here
from convscope.errors import UnsafeFile

SIDE = 16
Nodes = list[onnx.NodeProto]


def brightest(domain: str = "") -> Nodes:
    """``n``: the picture's brightest pixel as a vector of one whole number."""
    return [
        helper.make_node("ReduceMax", ["x"], ["m"], domain=domain, keepdims=0),
        helper.make_node("Cast", ["m"], ["i"], domain=domain, to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["i", "zero"], ["n"], domain=domain),
    ]


def filled(source: str = "n", domain: str = "", tag: str = "") -> Nodes:
    """``s``: the sum of so many values."""
    return [
        helper.make_node("ConstantOfShape", [source], [f"big{tag}"], domain=domain),
        helper.make_node("ReduceSum", [f"big{tag}"], [f"s{tag}"], domain=domain, keepdims=0),
    ]


def branch(name: str, nodes: Nodes) -> onnx.GraphProto:
    return helper.make_graph(
        nodes, name, [], [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, [])]
    )


def model(front: Nodes, functions: tuple[onnx.FunctionProto, ...] = (), domain: str = "") -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(4, 3, 3, 3)).astype(np.float32), "zero": np.array([0]), "last": np.array([-1]),
        "ax": np.array([1]), "limit": np.float32(0), "few": np.array([4]), "bins": np.array(8), "rate": np.array(8000),
        "low": np.float32(0), "high": np.float32(4000),
    }  # fmt: skip
    nodes = [
        *front,
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "s"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid(domain, 17), *(helper.make_opsetid(f.domain, 1) for f in functions)]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=8)


def in_a_function(number: str) -> onnx.ModelProto:
    own = helper.make_function("own", "Fill", ["n"], ["s"], filled(), [helper.make_opsetid("", 17)])
    front = brightest() if number == "n" else []
    return model([*front, helper.make_node("Fill", [number], ["s"], domain="own")], (own,))


def in_a_branch(source: str) -> onnx.ModelProto:
    front = [*brightest(), helper.make_node("Greater", ["m", "limit"], ["bright"])]
    branches = {f"{kind}_branch": branch(kind, filled(source, tag=kind)) for kind in ("then", "else")}
    return model([*front, helper.make_node("If", ["bright"], ["s"], **branches)])


def in_the_other_spelling(source: str) -> onnx.ModelProto:
    return model([*brightest("ai.onnx"), *filled(source, "ai.onnx")], domain="ai.onnx")


def of_a_transform(length: str) -> onnx.ModelProto:
    nodes = [
        *brightest()[:2],
        helper.make_node("ReduceMean", ["x"], ["r"], axes=[1, 2], keepdims=0),
        helper.make_node("Unsqueeze", ["r", "last"], ["u"]),
        helper.make_node("Squeeze", ["few"], ["four"]),
        helper.make_node("DFT", ["u", length], ["f"], axis=1),
        helper.make_node("ReduceSum", ["f"], ["s"], keepdims=0),
    ]
    return model(nodes)


def of_a_filter_bank(length: str) -> onnx.ModelProto:
    nodes = [
        *brightest()[:2],
        helper.make_node("Squeeze", ["few"], ["four"]),
        helper.make_node("MelWeightMatrix", ["bins", length, "rate", "low", "high"], ["f"]),
        helper.make_node("ReduceSum", ["f"], ["s"], keepdims=0),
    ]
    return model(nodes)


@pytest.mark.parametrize(
    ("make", "of_pixels", "constant"),
    [
        (in_a_function, "n", "few"),
        (in_a_branch, "n", "few"),
        (in_the_other_spelling, "n", "few"),
        (of_a_transform, "i", "four"),
        (of_a_filter_bank, "i", "four"),
    ],
)
def test_a_size_of_pixels_is_refused_and_its_harmless_twin_loads(
    make: Callable[[str], onnx.ModelProto], of_pixels: str, constant: str
) -> None:
    with pytest.raises(UnsafeFile, match="computes the size of its result from the picture's values"):
        load_here(make(of_pixels), check=False)
    assert load_here(make(constant), check=False).layers


def looped(carried_on: str) -> onnx.ModelProto:
    """Each round fills as many values as it was handed, and hands on another number."""
    body = helper.make_graph(
        [
            *filled("carried", tag="in"),
            helper.make_node("Identity", [carried_on], ["next"]),
            helper.make_node("Identity", ["on"], ["still"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.INT64, [1]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.INT64, [1]),
            helper.make_tensor_value_info("sin", TensorProto.FLOAT, []),
        ],
    )
    nodes = [
        *brightest(),
        helper.make_node("Loop", ["rounds", "", "few"], ["end", "all"], body=body),
        helper.make_node("ReduceSum", ["all"], ["s"], keepdims=0),
    ]
    made = model(nodes)
    made.graph.initializer.append(numpy_helper.from_array(np.array(3), "rounds"))
    return made


def test_a_size_that_only_later_rounds_of_a_loop_take_from_pixels_is_refused() -> None:
    """In the first round the carried number is a constant; the round hands on the pixels' one."""
    with pytest.raises(UnsafeFile, match="computes the size of its result from the picture's values"):
        load_here(looped("n"), check=False)
    assert load_here(looped("few"), check=False).layers
