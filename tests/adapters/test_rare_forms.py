"""Forms that few exporters write, each against ONNX Runtime on the original.

Sparse weights, functions of another opset, numbers of four and eight bits, batches of several, values of inputs.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import convscope
from convscope.engine.graph.graph import Graph
from convscope.errors import RefusedInput
from tests import tiny

RNG = np.random.default_rng(0)
CONV = helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1])
KERNEL = RNG.normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32)
THINNED = np.where(RNG.random(KERNEL.shape) < 0.7, 0, KERNEL).astype(np.float32)


def same(original: onnx.ModelProto, batch: int = 2, tolerance: float = 1e-4) -> Graph:
    """Loads the model and compares both executors with the original in ONNX Runtime."""
    shape = [d.dim_value for d in original.graph.input[0].type.tensor_type.shape.dim]
    kind = helper.tensor_dtype_to_np_dtype(original.graph.input[0].type.tensor_type.elem_type)
    pixels = (
        RNG.normal(0, 1, (batch, *shape[1:])) if np.dtype(kind).kind == "f" else RNG.integers(0, 99, (batch, 3, 8, 8))
    )
    x = pixels.astype(kind)
    session = onnxruntime.InferenceSession(original.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.run(["y"], {"x": x})[0]
    copy = onnx.ModelProto()
    copy.CopyFrom(original)
    graph = convscope.load(copy)
    fed = x.astype(np.float32)
    bound = tolerance * float(np.abs(wanted).max())
    np.testing.assert_allclose(graph.session(["y"], device="cpu").run(fed)["y"], wanted, tolerance, bound)
    np.testing.assert_allclose(graph.twin(["y"]).only(torch.from_numpy(fed)).numpy(), wanted, tolerance, bound)
    return graph


def sparse(name: str, dense: np.ndarray) -> onnx.SparseTensorProto:
    places = np.flatnonzero(dense)
    values = numpy_helper.from_array(dense.ravel()[places], name)
    return helper.make_sparse_tensor(values, numpy_helper.from_array(places.astype(np.int64)), dense.shape)


@pytest.mark.parametrize("form", ["weight", "default", "node"])
def test_a_sparse_weight_is_its_dense_self_as_an_initializer_as_a_default_and_as_a_node(form: str) -> None:
    nodes = [CONV, helper.make_node("Relu", ["c"], ["y"])]
    if form == "node":
        nodes.insert(0, helper.make_node("Constant", [], ["w"], sparse_value=sparse("", THINNED)))
    made = tiny.model(nodes, {}, ("N", 3, 8, 8))
    if form != "node":
        made.graph.sparse_initializer.append(sparse("w", THINNED))
    if form == "default":
        made.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, KERNEL.shape))
    graph = same(made)
    assert graph.layers[0].parameters == KERNEL.size
    assert not graph.source.notes


def test_an_operator_without_axes_given_as_an_empty_list_squeezes_all_as_onnx_runtime() -> None:
    pooled = [
        CONV,
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Squeeze", ["g", "none"], ["y"]),
    ]
    same(tiny.model(pooled, {"w": KERNEL, "none": np.zeros(0, np.int64)}, ("N", 3, 8, 8)))


def function(opset: int, nodes: list[onnx.NodeProto]) -> onnx.FunctionProto:
    return helper.make_function("own", "Act", ["a"], ["r"], nodes, [helper.make_opsetid("", opset)])


def with_function(own: onnx.FunctionProto, opset: int) -> onnx.ModelProto:
    made = tiny.model(
        [CONV, helper.make_node("Act", ["c"], ["y"], domain="own")], {"w": KERNEL}, ("N", 3, 8, 8), opset=opset
    )
    made.functions.append(own)
    made.opset_import.append(helper.make_opsetid("own", 1))
    return made


def test_a_function_written_for_another_opset_is_written_out() -> None:
    same(with_function(function(13, [helper.make_node("Relu", ["a"], ["r"])]), 17))


def test_a_function_whose_operators_have_changed_since_is_converted() -> None:
    """ONNX Runtime ignores the function's own opset and refuses it, so the expected values are from its later form."""
    old = [helper.make_node("ReduceMean", ["a"], ["m"], axes=[2, 3]), helper.make_node("Sub", ["a", "m"], ["r"])]
    graph = convscope.load(with_function(function(13, old), 18))
    x = RNG.normal(size=(1, 3, 8, 8)).astype(np.float32)
    found = graph.session(["c", "y"], device="cpu").run(x)
    np.testing.assert_allclose(found["y"], found["c"] - found["c"].mean((2, 3), keepdims=True), atol=1e-6)


QUANTIZED = [
    helper.make_node("QuantizeLinear", ["x", "s"], ["q"], output_dtype=0),
    helper.make_node("DequantizeLinear", ["q", "s"], ["d"]),
    helper.make_node("Conv", ["d", "w"], ["y"]),
]


@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2])
def test_what_is_rounded_to_four_bits_and_to_floats_of_eight_bits_has_a_twin_with_gradients(kind: int) -> None:
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in QUANTIZED]
    nodes[0].attribute[0].i = kind
    graph = same(tiny.model(nodes, {"w": KERNEL, "s": np.array(0.3, np.float32)}, ("N", 3, 8, 8), opset=21))
    assert not graph.opaque
    x = torch.zeros(1, 3, 8, 8, requires_grad=True)
    graph.twin(["y"]).only(x).sum().backward()
    assert x.grad is not None and bool(x.grad.any())


def test_a_cast_to_floats_of_eight_bits_rounds() -> None:
    there, back = TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT
    nodes = [
        helper.make_node("Cast", ["x"], ["q"], to=there),
        helper.make_node("Cast", ["q"], ["d"], to=back),
        helper.make_node("Conv", ["d", "w"], ["y"]),
    ]
    assert not same(tiny.model(nodes, {"w": KERNEL}, ("N", 3, 8, 8), opset=21)).opaque


@pytest.mark.parametrize("kind", [ml_dtypes.int4, ml_dtypes.float8_e4m3fn])
def test_weights_of_four_bits_and_floats_of_eight_bits_are_dequantized(kind: Any) -> None:
    whole = numpy_helper.from_array(np.round(KERNEL * 9).astype(np.float32).astype(kind), "whole")
    nodes = [
        helper.make_node("DequantizeLinear", ["whole", "s"], ["w"]),
        CONV,
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    made = tiny.model(nodes, {"s": np.array(0.1, np.float32)}, ("N", 3, 8, 8), opset=21)
    made.graph.initializer.append(whole)
    same(made)


def test_dequantized_halves_are_computed_as_all_halves_are() -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["whole", "s"], ["w"], output_dtype=TensorProto.FLOAT16),
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["h", "w"], ["c"]),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]
    weights: dict[str, np.ndarray] = {"whole": np.round(KERNEL * 90).astype(np.int8), "s": np.array(0.01, np.float32)}
    same(tiny.model(nodes, weights, ("N", 3, 8, 8), opset=23), tolerance=5e-3)


def test_whole_numbers_are_resized_as_onnx_runtime_does_it() -> None:
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["r"], mode="linear"),
        helper.make_node("Cast", ["r"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["f", "w"], ["y"]),
    ]
    made = tiny.model(nodes, {"w": KERNEL, "scales": np.array([1, 1, 2, 2], np.float32)}, ("N", 3, 8, 8), opset=18)
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    same(made)


LIKE_ROWS = np.tile(RNG.normal(size=(1, 1, 64)).astype(np.float32), (4, 1, 1))
ADDED = np.tile(RNG.normal(size=(1, 4, 64)).astype(np.float32), (4, 1, 1))


@pytest.mark.parametrize(
    ("middle", "weights"),
    [
        ([helper.make_node("Concat", ["k", "r"], ["t"], axis=1)], {"k": LIKE_ROWS}),
        ([helper.make_node("Add", ["k", "r"], ["t"])], {"k": ADDED}),
        ([helper.make_node("ReduceMean", ["r"], ["m"], axes=[2]), helper.make_node("Expand", ["m", "k"], ["e"]),
          helper.make_node("Mul", ["e", "r"], ["t"])], {"k": np.array([4, 4, 64])}),
    ],
    ids=["token", "embedding", "expand"],
)  # fmt: skip
def test_what_a_file_for_a_batch_of_four_holds_four_times_alike_serves_one_picture(
    middle: list[onnx.NodeProto], weights: dict[str, np.ndarray]
) -> None:
    nodes = [
        CONV,
        helper.make_node("Reshape", ["c", "rows"], ["r"]),
        *middle,
        helper.make_node("ReduceMean", ["t"], ["y"], axes=[1], keepdims=0),
    ]
    made = tiny.model(nodes, {"w": KERNEL, "rows": np.array([4, 4, 64]), **weights}, (4, 3, 8, 8))
    graph = same(made, batch=4)
    x = RNG.normal(size=(3, 3, 8, 8)).astype(np.float32)
    session = graph.session(["y"], device="cpu")
    together, alone = session.run(x)["y"], np.concatenate([session.run(one[None])["y"] for one in x])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_a_file_that_takes_two_pictures_apart_is_refused_with_their_number() -> None:
    nodes = [
        CONV,
        helper.make_node("Split", ["c", "s"], ["a", "b"], axis=0),
        helper.make_node("Sub", ["a", "b"], ["y"]),
    ]
    with pytest.raises(RefusedInput, match="made for 2 pictures at once"):
        convscope.load(tiny.model(nodes, {"w": KERNEL, "s": np.array([1, 1])}, (2, 3, 8, 8)))


def test_the_value_that_an_input_is_given_is_no_parameter() -> None:
    other = helper.make_node("Conv", ["other", "w"], ["o"], pads=[1, 1, 1, 1])
    nodes = [CONV, other, helper.make_node("Sub", ["c", "o"], ["y"])]
    made = tiny.model(nodes, {"w": KERNEL}, ("N", 3, 8, 8))
    made.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, ["N", 3, 8, 8]))
    assert sum(layer.parameters for layer in convscope.load(made).layers) == KERNEL.size


def test_a_branch_that_hangs_on_the_number_of_the_round_is_taken_in_a_network_that_asks_no_size() -> None:
    def info(name: str, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, None if kind == TensorProto.FLOAT else [])

    negated = helper.make_graph([helper.make_node("Neg", ["s"], ["n"])], "then", [], [info("n")])
    doubled = helper.make_graph([helper.make_node("Add", ["s", "s"], ["d"])], "else", [], [info("d")])
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["goes"]), helper.make_node("Equal", ["i", "one"], ["is"]),
         helper.make_node("If", ["is"], ["t"], then_branch=negated, else_branch=doubled)],
        "body", [info("i", TensorProto.INT64), info("on", TensorProto.BOOL), info("s")],
        [info("goes", TensorProto.BOOL), info("t")], [numpy_helper.from_array(np.array(1), "one")],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["rounds", "start", "c"], ["y"], body=body)
    made = tiny.model([CONV, loop], {"w": KERNEL, "rounds": np.array(3), "start": np.array(True)}, ("N", 3, 8, 8))
    assert not same(made).opaque


def test_a_division_by_zero_that_a_product_with_zero_follows_is_no_multiple_of_its_input() -> None:
    """Of the two channels that are divided by zero and multiplied by it the file makes NaN, and of no other."""
    nodes = [
        helper.make_node("Div", ["c", "k"], ["d"]),
        helper.make_node("Max", ["d", "least"], ["e"]),
        helper.make_node("Div", ["e", "k"], ["g"]),
        helper.make_node("Mul", ["g", "k"], ["h"]),
        helper.make_node("Add", ["h", "k"], ["y"]),
    ]
    holed = np.array([0, 1, 2, 3], np.float32).reshape(4, 1, 1)
    original = tiny.model([CONV, *nodes], {"w": KERNEL, "k": holed, "least": np.array(-9, np.float32)}, ("N", 3, 8, 8))
    x = RNG.normal(size=(2, 3, 8, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(original.SerializeToString(), providers=["CPUExecutionProvider"])
    found = convscope.load(original).session(["y"], device="cpu").run(x)["y"]
    np.testing.assert_allclose(found, session.run(["y"], {"x": x})[0], rtol=1e-4)


def test_a_product_of_whole_numbers_with_a_bias_stays_a_product() -> None:
    nodes = [
        CONV,
        helper.make_node("ReduceMax", ["c"], ["m"], axes=[2, 3], keepdims=0),
        helper.make_node("Cast", ["m"], ["i"], to=TensorProto.INT32),
        helper.make_node("MatMul", ["i", "k"], ["p"]),
        helper.make_node("Add", ["p", "b"], ["s"]),
        helper.make_node("Cast", ["s"], ["y"], to=TensorProto.FLOAT),
    ]
    weights = {"w": KERNEL, "k": np.arange(20, dtype=np.int32).reshape(4, 5), "b": np.arange(5, dtype=np.int32)}
    same(tiny.model(nodes, weights, ("N", 3, 8, 8)))


def test_dropout_whose_mode_is_computed_is_not_left_out() -> None:
    nodes = [
        CONV,
        helper.make_node("ReduceMax", ["c"], ["m"], keepdims=0),
        helper.make_node("Greater", ["m", "half"], ["trains"]),
        helper.make_node("Dropout", ["c", "half", "trains"], ["y"]),
    ]
    with pytest.raises(RefusedInput, match="training mode"):
        convscope.load(tiny.model(nodes, {"w": KERNEL, "half": np.array(0.5, np.float32)}, ("N", 3, 8, 8)))


def counted(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray]) -> list[tuple[int, int]]:
    """(parameters, multiply-adds) of each layer."""
    graph = convscope.load(tiny.model(nodes, weights, ("N", 3, 8, 8)), check=False)
    return [(layer.parameters, layer.macs) for layer in graph.layers]


def test_the_bias_and_the_slope_of_a_single_channel_are_parameters() -> None:
    one = {"k": KERNEL[:1], "b": np.ones(1, np.float32), "s": np.ones((1, 1, 1), np.float32)}
    nodes = [helper.make_node("Conv", ["x", "k", "b"], ["c"]), helper.make_node("PRelu", ["c", "s"], ["y"])]
    assert counted(nodes, one) == [(28, 27 * 36), (1, 0)]
    apart = [helper.make_node("Conv", ["x", "k"], ["c"]), helper.make_node("Add", ["c", "s"], ["y"])]
    assert counted(apart, one)[-1] == (28, 27 * 36)


def test_single_numbers_that_rescale_are_no_parameters_though_they_are_written_out_for_each_channel() -> None:
    numbers = {"w": KERNEL, "half": np.array(127.5, np.float32), "one": np.array(1, np.float32)}
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Div", ["r", "half"], ["d"]),
        helper.make_node("Sub", ["d", "one"], ["s"]),
        helper.make_node("Conv", ["s", "w"], ["c"]),
        helper.make_node("Add", ["c", "one"], ["y"]),
    ]
    assert sum(parameters for parameters, _ in counted(nodes, numbers)) == KERNEL.size


@pytest.mark.parametrize("equation", ["nchw,cd->ndhw", "nc...,cd->nd..."])
def test_the_multiply_adds_of_a_sum_of_products_are_counted(equation: str) -> None:
    nodes = [helper.make_node("Einsum", ["x", "k"], ["y"], equation=equation)]
    assert counted(nodes, {"k": np.ones((3, 5), np.float32)})[0] == (15, 5 * 3 * 64)


def test_the_multiply_adds_of_a_recurrence_are_counted() -> None:
    weights = {
        "rows": np.array([8, -1, 24]), "i": np.zeros((1, 20, 24), np.float32), "h": np.zeros((1, 20, 5), np.float32)
    }  # fmt: skip
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[2, 0, 1, 3]),
        helper.make_node("Reshape", ["t", "rows"], ["r"]),
        helper.make_node("LSTM", ["r", "i", "h"], ["y"], hidden_size=5),
    ]
    assert (620 - 40, 8 * 20 * (24 + 5)) in counted(nodes, weights)


def test_places_are_followed_through_a_sum_whose_equation_has_dots() -> None:
    nodes = [
        CONV,
        helper.make_node("Transpose", ["c"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("Einsum", ["t", "k"], ["y"], equation="...c, cd -> ...d"),
    ]
    graph = convscope.load(tiny.model(nodes, {"w": KERNEL, "k": np.ones((4, 6), np.float32)}, ("N", 3, 8, 8)))
    assert graph.layer("y").receptive_field.size == (3, 3)
    assert not any("cannot be followed" in note for note in graph.source.notes)


def stating(mean: str, std: str) -> Graph:
    made = tiny.small_cnn()
    made.metadata_props.add(key="mean", value=mean)
    made.metadata_props.add(key="std", value=std)
    return convscope.load(made, check=False)


def test_a_stated_mean_of_bytes_is_of_pixels_from_0_to_255() -> None:
    bytes_, unit = (
        stating("[123.675, 116.28, 103.53]", "[58.395, 57.12, 57.375]"),
        stating("[0.485, 0.456, 0.406]", "[0.229, 0.224, 0.225]"),
    )
    picture = RNG.random((1, 3, 16, 16), dtype=np.float32)
    np.testing.assert_allclose(
        bytes_.preprocessing.normalize(picture), unit.preprocessing.normalize(picture), atol=1e-4
    )
    assert stating("[0, 0, 0]", "[255, 255, 255]").preprocessing.high == 255.0


def test_a_stated_mean_of_another_number_of_channels_is_ignored_and_that_is_said() -> None:
    graph = stating("[0.1, 0.2]", "[1, 1]")
    assert graph.preprocessing.found == "assumed"
    assert any("has 2 channels, and the network's input 3" in note for note in graph.source.notes)
