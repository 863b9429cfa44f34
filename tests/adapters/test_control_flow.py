"""If, Loop and Scan as plain nodes: each against ONNX Runtime on the file itself; what cannot be bounded is refused."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import convscope
from convscope.errors import RefusedInput, UnsafeFile, UnsupportedOperator

X = (2, 3, 8, 8)


def info(name: str, dims: list[int | str] | None = None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, dims)


def model(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], size: int | str = 8) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [info("x", ["N", 3, size, size])],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(v, n) for n, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def branch(op: str, dims: list[int | str] | None, *names: str) -> onnx.GraphProto:
    """``op`` on a tensor of the outer graph; both branches of a test use the same inner names."""
    return helper.make_graph([helper.make_node(op, list(names), ["inner"])], op, [], [info("inner", dims)])


def assert_same(made: onnx.ModelProto, x: np.ndarray) -> convscope.Graph:
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(["y"], {"x": x})[0]
    graph = convscope.load(made)
    name = graph.aliases.get("y", "y")
    found = graph.session([name], device="cpu").run(x)[name]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        np.testing.assert_allclose(
            graph.twin([name])(torch.from_numpy(x))[name].numpy(), expected, rtol=1e-5, atol=1e-6
        )
    assert not any(n.op_type in ("If", "Loop", "Scan") for n in graph.model.graph.node)
    return graph


def values(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=X).astype(np.float32)


@pytest.mark.parametrize("condition", [True, False])
def test_a_constant_condition_takes_its_branch(condition: bool) -> None:
    node = helper.make_node(
        "If", ["c"], ["y"], then_branch=branch("Abs", None, "x"), else_branch=branch("Neg", None, "x")
    )
    graph = assert_same(model([node], {"c": np.array(condition)}), values())
    assert [n.op_type for n in graph.model.graph.node] == ["Abs" if condition else "Neg"]


def test_a_condition_on_the_shape_is_decided_by_the_shape() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "two"], ["h"]),
        helper.make_node("Equal", ["h", "eight"], ["c"]),
        helper.make_node(
            "If", ["c"], ["y"], then_branch=branch("Abs", None, "x"), else_branch=branch("Flatten", None, "x")
        ),
    ]
    made = model(nodes, {"two": np.array(2), "eight": np.array(8)})
    assert [n.op_type for n in assert_same(made, values()).model.graph.node] == ["Abs"]


def test_where_the_picture_decides_both_branches_are_computed() -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], keepdims=0),
        helper.make_node("Greater", ["m", "zero"], ["c"]),
        helper.make_node(
            "If",
            ["c"],
            ["y"],
            then_branch=branch("Abs", ["N", 3, 8, 8], "x"),
            else_branch=branch("Neg", ["N", 3, 8, 8], "x"),
        ),
    ]
    made = model(nodes, {"zero": np.array(0, np.float32)})
    for offset in (-1.0, 1.0):
        assert_same(made, values() + np.float32(offset))


def test_branches_of_other_shapes_run_forward_alone() -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], keepdims=0),
        helper.make_node("Greater", ["m", "zero"], ["c"]),
        helper.make_node(
            "If",
            ["c"],
            ["y"],
            then_branch=branch("Abs", ["N", 3, 8, 8], "x"),
            else_branch=branch("Flatten", ["N", 192], "x"),
        ),
    ]
    graph = convscope.load(model(nodes, {"zero": np.array(0, np.float32)}))
    assert any("operator If" in note for note in graph.source.notes)
    x = values() + 1
    np.testing.assert_array_equal(graph.session(["y"]).run(x[:1])["y"], np.abs(x[:1]))
    with pytest.raises(UnsupportedOperator, match="operator If"):
        graph.twin(["y"])


def loop(rounds: str, keeps: onnx.NodeProto) -> onnx.NodeProto:
    """v -> 0.5 v + round, three times; each round's v is given out."""
    body = helper.make_graph(
        [
            keeps,
            helper.make_node("Mul", ["v", "half"], ["scaled"]),
            helper.make_node("Cast", ["i"], ["number"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["scaled", "number"], ["next"]),
            helper.make_node("Identity", ["next"], ["out"]),
        ],
        "body",
        [info("i", [], TensorProto.INT64), info("goes_on", [], TensorProto.BOOL), info("v")],
        [info("still", [], TensorProto.BOOL), info("next"), info("out")],
    )
    return helper.make_node("Loop", [rounds, "", "x"], ["last", "all"], body=body)


def test_a_loop_of_known_length_becomes_its_rounds() -> None:
    keeps = helper.make_node("Identity", ["goes_on"], ["still"])
    nodes = [loop("three", keeps), helper.make_node("ReduceSum", ["all", "axis"], ["y"], keepdims=0)]
    made = model(nodes, {"three": np.array(3), "half": np.array(0.5, np.float32), "axis": np.array([0])})
    assert_same(made, values())


def test_a_loop_that_ends_by_its_values_and_one_of_too_many_rounds_are_refused() -> None:
    ends = helper.make_node("Less", ["i", "two"], ["still"])
    weights = {"three": np.array(3), "half": np.array(0.5, np.float32), "two": np.array(2)}
    with pytest.raises(UnsupportedOperator, match="operator Loop"):
        convscope.load(model([loop("three", ends), helper.make_node("Identity", ["last"], ["y"])], weights))
    keeps = helper.make_node("Identity", ["goes_on"], ["still"])
    endless = model(
        [loop("many", keeps), helper.make_node("Identity", ["last"], ["y"])], {**weights, "many": np.array(2**40)}
    )
    with pytest.raises(UnsafeFile, match="1,099,511,627,776 rounds"):
        convscope.load(endless)


@pytest.mark.parametrize("direction", [0, 1])
def test_a_scan_over_rows_becomes_its_rounds(direction: int) -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["state", "row"], ["next"]), helper.make_node("Relu", ["next"], ["out"])],
        "body",
        [info("state"), info("row")],
        [info("next"), info("out")],
    )
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["start"], axes=[2], keepdims=0),
        helper.make_node(
            "Scan",
            ["start", "x"],
            ["last", "y"],
            body=body,
            num_scan_inputs=1,
            scan_input_axes=[2],
            scan_output_axes=[2],
            scan_input_directions=[direction],
            scan_output_directions=[direction],
        ),
    ]
    assert_same(model(nodes, {}), values())


def test_a_flow_inside_a_flow_comes_out_too() -> None:
    inner = helper.make_node(
        "If", ["c"], ["inner"], then_branch=branch("Abs", None, "x"), else_branch=branch("Neg", None, "x")
    )
    outer = helper.make_graph([inner], "outer", [], [info("inner")])
    node = helper.make_node("If", ["c"], ["y"], then_branch=outer, else_branch=branch("Exp", None, "x"))
    assert_same(model([node], {"c": np.array(True)}), values())


def test_a_hostile_condition_is_refused_in_a_line() -> None:
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch("Abs", None, "x"))
    with pytest.raises(RefusedInput):
        convscope.load(model([node], {"c": np.array(True)}))


def by_height(limit: int) -> onnx.ModelProto:
    """Relu of a convolution where the picture is higher than ``limit``, else its negative."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "axis"], ["high"]),
        helper.make_node("Greater", ["high", "limit"], ["is_high"]),
        helper.make_node(
            "If", ["is_high"], ["y"], then_branch=branch("Relu", None, "c"), else_branch=branch("Neg", None, "c")
        ),
    ]
    weights = {"w": values()[:, :, :3, :3], "axis": np.array(2), "limit": np.array(limit)}
    return model(nodes, weights, "side")


def test_a_side_that_decides_a_branch_is_fixed_and_said_and_another_size_is_imported_anew() -> None:
    for size in ((16, 24), (32, 24)):
        graph = convscope.load(by_height(20), size=size)
        assert graph.inputs[0].shape == (None, 3, size[0], None)
        assert any(f"height decides what 'y' (If) does, and is fixed at {size[0]}" in n for n in graph.source.notes)
        x = np.random.default_rng(0).normal(size=(1, 3, *size)).astype(np.float32)
        session = onnxruntime.InferenceSession(by_height(20).SerializeToString(), providers=["CPUExecutionProvider"])
        name = graph.aliases.get("y", "y")
        found = graph.session([name], device="cpu").run(x)[name]
        np.testing.assert_allclose(found, session.run(["y"], {"x": x})[0], rtol=1e-5, atol=1e-6)


def test_a_file_whose_sides_both_decide_is_tried_at_other_sizes_where_the_first_does_not_run() -> None:
    made = by_height(20)
    del made.graph.output[:]
    made.graph.node.extend([
        helper.make_node("Gather", ["sizes", "axis3"], ["wide"]),
        helper.make_node("Greater", ["wide", "limit"], ["is_wide"]),
        helper.make_node(
            "If", ["is_wide"], ["z"], then_branch=branch("Relu", None, "y"), else_branch=branch("Neg", None, "y")
        ),
        helper.make_node("AveragePool", ["z"], ["p"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Add", ["p", "places"], ["sum"]),
    ])  # fmt: skip
    channels = convscope.load(by_height(20), size=16).layers[0].shape[1]
    places = np.zeros((1, channels or 1, 64, 64), np.float32)
    made.graph.initializer.extend(
        [numpy_helper.from_array(np.array(3), "axis3"), numpy_helper.from_array(places, "places")]
    )
    made.graph.output.append(helper.make_tensor_value_info("sum", onnx.TensorProto.FLOAT, None))
    graph = convscope.load(made)
    assert graph.inputs[0].shape == (None, 3, 256, 256) and graph.decided == (2, 3)
    assert any("256x256 is taken: the first usual size that it runs at, after 224x224" in n for n in graph.source.notes)


def test_a_branch_that_hangs_on_the_number_of_channels_leaves_the_sides_open() -> None:
    made = by_height(20)
    next(t for t in made.graph.initializer if t.name == "axis").CopyFrom(numpy_helper.from_array(np.array(1), "axis"))
    assert convscope.load(made, size=(16, 24)).inputs[0].shape == (None, 3, None, None)


def test_the_side_that_a_scan_goes_along_is_fixed() -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["state", "column"], ["sum"]), helper.make_node("Identity", ["sum"], ["out"])],
        "body",
        [info("state"), info("column")],
        [info("sum"), info("out")],
    )
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("ReduceMean", ["c"], ["rows"], axes=[2], keepdims=0),
        helper.make_node("ReduceMean", ["rows"], ["start"], axes=[2], keepdims=0),
        helper.make_node(
            "Scan", ["start", "rows"], ["end", "y"], body=body, num_scan_inputs=1, scan_input_axes=[2],
            scan_output_axes=[2],
        ),
    ]  # fmt: skip
    graph = convscope.load(model(nodes, {"w": values()[:, :, :1, :1]}, "side"), size=(12, 10))
    assert graph.inputs[0].shape == (None, 3, None, 10)
