"""Quantized models: values against ONNX Runtime, gradients straight through the rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

import convscope
from convscope.adapters.verify import verify
from convscope.errors import UnsupportedOperator
from tests import tiny

Nodes = list[onnx.NodeProto]
Weights = dict[str, np.ndarray]


def number(value: float, kind: type = np.float32) -> np.ndarray:
    return np.array(value, kind)


def step(kind: type = np.uint8, zero: int = 128) -> Weights:
    return {"s": number(0.02), "z": number(zero, kind)}


def quantized(name: str, *, into: str) -> onnx.NodeProto:
    return helper.make_node("QuantizeLinear", [name, "s", "z"], [into])


def dequantized(name: str, *, scale: str = "s", zero: str = "z", into: str = "y") -> onnx.NodeProto:
    return helper.make_node("DequantizeLinear", [name, scale, zero], [into])


def weights_of(kind: type) -> np.ndarray:
    return np.random.default_rng(1).integers(-90, 90, (5, 3, 3, 3)).astype(kind)


def compare(nodes: Nodes, weights: Weights, opset: int, tolerance: float = 1e-5) -> None:
    model = tiny.model(nodes, weights, ("N", 3, 8, 8), opset=opset)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    graph = convscope.load(model, check=False)
    x = np.random.default_rng(0).normal(0, 1.5, (2, 3, 8, 8)).astype(np.float32)
    wanted = graph.session(["y"]).run(x)["y"]
    given = graph.twin(["y"])(torch.from_numpy(x))["y"].numpy().astype(np.float64)
    assert given.shape == wanted.shape
    assert np.abs(given - wanted).max() <= tolerance * max(1.0, float(np.abs(wanted).max()))


@pytest.mark.parametrize("opset", [10, 13, 19, 21, 23, 25])
@pytest.mark.parametrize(("kind", "zero"), [(np.uint8, 128), (np.int8, -3), (np.uint8, 0)])
def test_quantize_then_dequantize_per_tensor(opset: int, kind: type, zero: int) -> None:
    compare([quantized("x", into="q"), dequantized("q")], step(kind, zero), opset)


@pytest.mark.parametrize("kind", [np.uint16, np.int16])
def test_sixteen_bits(kind: type) -> None:
    compare([quantized("x", into="q"), dequantized("q")], step(kind, 7), 21)


@pytest.mark.parametrize("opset", [13, 19, 21])
def test_scales_per_channel(opset: int) -> None:
    weights: Weights = {"s": np.array([0.1, 0.02, 0.5], np.float32), "z": np.array([1, 2, 3], np.uint8)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=1),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=1),
    ]
    compare(nodes, weights, opset)


def test_dynamic_quantization() -> None:
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "t", "o"]), dequantized("q", scale="t", zero="o")]
    compare(nodes, {}, 13)


@pytest.mark.parametrize("per_channel", [False, True])
def test_qlinear_conv(per_channel: bool) -> None:
    scale = np.linspace(0.01, 0.03, 5, dtype=np.float32) if per_channel else number(0.02)
    zero = np.zeros(5, np.int8) if per_channel else number(0, np.int8)
    weights: Weights = {
        **step(),
        "w": weights_of(np.int8),
        "ws": scale,
        "wz": zero,
        "ys": number(0.5),
        "yz": number(100, np.uint8),
    }
    weights["b"] = np.arange(5, dtype=np.int32) * 300
    inputs = ["q", "s", "z", "w", "ws", "wz", "ys", "yz", "b"]
    nodes = [
        quantized("x", into="q"),
        helper.make_node("QLinearConv", inputs, ["c"], pads=[1, 0, 1, 2], strides=[2, 1]),
        dequantized("c", scale="ys", zero="yz"),
    ]
    compare(nodes, weights, 13)


def test_integer_convolution() -> None:
    weights: Weights = {**step(), "w": weights_of(np.int8), "wz": number(0, np.int8)}
    nodes = [
        quantized("x", into="q"),
        helper.make_node("ConvInteger", ["q", "w", "z", "wz"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Cast", ["c"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    compare(nodes, weights, 13)


def test_integer_and_qlinear_matrix_products() -> None:
    matrix = np.random.default_rng(1).integers(-90, 90, (8, 4)).astype(np.int8)
    weights: Weights = {**step(), "w": matrix, "ws": number(0.01), "wz": number(2, np.int8), "ys": number(0.2)}
    nodes = [
        quantized("x", into="q"),
        helper.make_node("MatMulInteger", ["q", "w", "z", "wz"], ["c"]),
        helper.make_node("Cast", ["c"], ["y"], to=onnx.TensorProto.FLOAT),
    ]
    compare(nodes, weights, 13)
    nodes[1:] = [
        helper.make_node("QLinearMatMul", ["q", "s", "z", "w", "ws", "wz", "ys", "z"], ["c"]),
        dequantized("c", scale="ys"),
    ]
    compare(nodes, weights, 13)


RESULT = ["ys", "yz"]
Q, R = ["q", "s", "z"], ["r", "s", "z"]


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("QLinearAdd", [*Q, *R, *RESULT], {}),
        ("QLinearMul", [*Q, *R, *RESULT], {}),
        ("QLinearGlobalAveragePool", [*Q, *RESULT], {}),
        ("QLinearLeakyRelu", [*Q, *RESULT], {"alpha": 0.2}),
        ("QLinearSigmoid", [*Q, *RESULT], {}),
        ("QLinearConcat", [*RESULT, *Q, *R], {"axis": 1}),
    ],
)
def test_operators_of_onnx_runtimes_quantizer(op: str, inputs: list[str], attributes: dict[str, Any]) -> None:
    weights: Weights = {**step(), "ys": number(0.013), "yz": number(120, np.uint8)}
    nodes = [
        quantized("x", into="q"),
        helper.make_node("Cos", ["x"], ["cosine"]),
        quantized("cosine", into="r"),
        helper.make_node(op, inputs, ["c"], domain="com.microsoft", **attributes),
        dequantized("c", scale="ys", zero="yz"),
    ]
    compare(nodes, weights, 13)


@pytest.mark.parametrize("is_turned", [0, 1])
@pytest.mark.parametrize("has_bias", [False, True])
def test_the_dense_layer_of_onnx_runtimes_quantizer(is_turned: int, has_bias: bool) -> None:
    rng = np.random.default_rng(4)
    matrix = rng.integers(-100, 100, (5, 192) if is_turned else (192, 5)).astype(np.int8)
    weights: Weights = {
        **step(),
        "w": matrix,
        "ws": number(0.01),
        "wz": number(3, np.int8),
        "b": rng.integers(-2000, 2000, 5).astype(np.int32),
        "ys": number(0.3),
        "yz": number(120, np.uint8),
    }
    inputs = ["q", "s", "z", "w", "ws", "wz", "b" if has_bias else "", "ys", "yz"]
    nodes = [
        quantized("x", into="r"),
        helper.make_node("Flatten", ["r"], ["q"]),
        helper.make_node("QGemm", inputs, ["c"], domain="com.microsoft", transB=is_turned),
        dequantized("c", scale="ys", zero="yz"),
    ]
    compare(nodes, weights, 13)


def test_gradient_passes_the_rounding_and_stops_where_values_are_clipped() -> None:
    nodes = [quantized("x", into="q"), dequantized("q")]
    graph = convscope.load(tiny.model(nodes, step(), ("N", 3, 8, 8), opset=13), check=False)
    x = torch.linspace(-4, 4, 192).reshape(1, 3, 8, 8).requires_grad_()
    (gradient,) = torch.autograd.grad(graph.twin(["y"])(x)["y"].sum(), x)
    inside = (x >= -128 * 0.02) & (x <= 127 * 0.02)
    torch.testing.assert_close(gradient, inside.float())


def test_a_quantized_network_is_verified_by_the_gradient_of_what_it_rounds() -> None:
    nodes = [
        quantized("x", into="q"),
        dequantized("q", into="d"),
        helper.make_node("Conv", ["d", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Sigmoid", ["c"], ["y"]),
    ]
    weights = {**step(), "w": weights_of(np.float32) / 500}
    result = verify(convscope.load(tiny.model(nodes, weights, ("N", 3, 8, 8), opset=13), check=False))
    assert result.ok
    assert result.gradient_rel is not None and result.gradient_rel < 1e-6


@pytest.mark.parametrize("weights", [{"s": np.full((3, 2), 0.1, np.float32)}])
def test_blocked_scales_are_refused_by_name(weights: Weights) -> None:
    node = helper.make_node("QuantizeLinear", ["x", "s"], ["q"], axis=1, block_size=2)
    graph = convscope.load(
        tiny.model([node, helper.make_node("DequantizeLinear", ["q", "s"], ["y"], block_size=2)], weights, opset=21),
        check=False,
    )
    with pytest.raises(UnsupportedOperator, match="blocked"):
        graph.twin(["y"])
