"""Gradients of quantized values and of operators on them: straight through the rounding, as the twin's are."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import convscope
from convscope.engine.export.gradients.quantization import QUANTIZATION

from ...tiny import model as tiny_model
from .one_node import Truth, outputs_of, written


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


MICROSOFT = "com.microsoft"


def _quantized(zero: np.ndarray, scale: np.ndarray, axis: int) -> onnx.ModelProto:
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["i0", "scale", "zero"], ["q"], "quantize", axis=axis),
            helper.make_node("Reshape", ["q", "shape"], ["r"], "reshape"),
            helper.make_node("Reshape", ["r", "back"], ["s"], "back"),
            helper.make_node("DequantizeLinear", ["s", "scale", "zero"], ["y0"], "dequantize", axis=axis),
        ],
        "quantized",
        [helper.make_tensor_value_info("i0", 1, (2, 3, 5))],
        [helper.make_tensor_value_info("y0", 1, (2, 3, 5))],
        [
            numpy_helper.from_array(scale, "scale"),
            numpy_helper.from_array(zero, "zero"),
            numpy_helper.from_array(ints(6, 5), "shape"),
            numpy_helper.from_array(ints(2, 3, 5), "back"),
        ],
        value_info=[helper.make_tensor_value_info(n, 3 if zero.dtype == np.int8 else 2, None) for n in "qrs"],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize(
    ("zero", "scale", "axis"),
    [
        (np.uint8(3), np.float32(0.01), 1),
        (np.int8(-5), np.float32(0.02), 1),
        (np.array([1, 2, 3], np.uint8), floats(0.01, 0.02, 0.005), 1),
    ],
    ids=str,
)
def test_a_gradient_goes_straight_through_quantized_values_where_they_are_not_clipped(
    zero: Any, scale: Any, axis: int
) -> None:
    x = np.random.default_rng(0).normal(0, 2, (2, 3, 5)).astype(np.float32)
    model = _quantized(np.asarray(zero), np.asarray(scale), axis)
    upstream = [np.random.default_rng(1).normal(size=x.shape).astype(np.float32)]
    found = written(model, [x], "i0", upstream)
    assert 0 < np.count_nonzero(found) < found.size
    np.testing.assert_allclose(found, np.where(found != 0, upstream[0], 0), rtol=1e-5)
    np.testing.assert_allclose(found, Truth(model, [x], "i0", upstream).autograd(), rtol=1e-5)


def test_arithmetic_on_quantized_values_is_refused_and_not_taken_for_a_constant() -> None:
    model = _quantized(np.asarray(np.uint8(3)), np.asarray(np.float32(0.01)), 1)
    model.graph.node[1].CopyFrom(helper.make_node("BitwiseNot", ["q"], ["r"], "not"))
    with pytest.raises(convscope.RefusedInput, match="operator BitwiseNot"):
        written(model, [np.zeros((2, 3, 5), np.float32)], "i0", [np.zeros((2, 3, 5), np.float32)])


def node(op: str, inputs: str, into: str, **attributes: Any) -> onnx.NodeProto:
    domain = MICROSOFT if op.startswith("Q") and op not in ("QuantizeLinear", "QLinearConv", "QLinearMatMul") else None
    return helper.make_node(
        op, [n if n != "-" else "" for n in inputs.split()], into.split(), domain=domain, **attributes
    )


RNG = np.random.default_rng(5)
WEIGHTS: dict[str, Any] = {
    "s": np.float32(0.02), "z": np.uint8(120), "s2": np.float32(0.0307), "z2": np.uint8(100), "t": np.float32(0.1),
    "u": np.uint8(90), "none": np.uint8(0), "w": RNG.integers(-90, 90, (6, 3, 3, 3)).astype(np.int8),
    "ws": np.float32(0.01), "wz": np.int8(3), "each": np.linspace(0.01, 0.03, 6, dtype=np.float32),
    "zeros": np.zeros(6, np.int8), "b": RNG.integers(-2000, 2000, 6).astype(np.int32),
    "m": RNG.integers(-90, 90, (8, 5)).astype(np.int8), "ms": np.float32(0.01), "mz": np.int8(2),
    "mb": RNG.integers(-2000, 2000, 5).astype(np.int32), "k": RNG.integers(0, 255, (3, 1, 1)).astype(np.uint8),
}  # fmt: skip
FIRST = node("QuantizeLinear", "i0 s z", "q")
SECOND = [node("Sin", "i0", "r"), node("QuantizeLinear", "r s2 z2", "p")]
LAST = node("DequantizeLinear", "c t u", "y0")
DYNAMIC = node("DynamicQuantizeLinear", "i0", "q ds dz")
FLOATED = [node("Cast", "c", "cf", to=1), node("Mul", "cf ds", "y0")]
CHAINS: dict[str, list[onnx.NodeProto]] = {
    "DynamicQuantizeLinear": [DYNAMIC, node("DequantizeLinear", "q ds dz", "y0")],
    "DynamicQuantizeLinear of a ReLU": [
        node("Relu", "i0", "r"), node("DynamicQuantizeLinear", "r", "q ds dz"),
        node("DequantizeLinear", "q ds dz", "y0"),
    ],
    "ConvInteger": [DYNAMIC, node("ConvInteger", "q w dz wz", "c", pads=[1, 0, 1, 2], strides=[2, 1]), *FLOATED],
    "MatMulInteger": [DYNAMIC, node("MatMulInteger", "q m dz mz", "c"), *FLOATED],
    "QLinearConv": [FIRST, node("QLinearConv", "q s z w ws wz t u b", "c", pads=[1, 0, 1, 2], strides=[2, 1]), LAST],
    "QLinearConv a channel": [FIRST, node("QLinearConv", "q s z w each zeros t u b", "c"), LAST],
    "QLinearConv clipped": [
        FIRST, node("QLinearConv", "q s z w each zeros s z2", "c"), node("DequantizeLinear", "c s z2", "y0"),
    ],
    "QLinearMatMul": [FIRST, node("QLinearMatMul", "q s z m ms mz t u", "c"), LAST],
    "QLinearMatMul of two": [
        FIRST, *SECOND, node("Transpose", "p", "pt", perm=[0, 1, 3, 2]),
        node("QLinearMatMul", "q s z pt s2 z2 t u", "c"), LAST,
    ],
    "QGemm": [node("Slice", "i0 from to", "i"), node("Reshape", "i flat", "j"), node("QuantizeLinear", "j s z", "q"),
              node("QGemm", "q s z m ms mz mb t u", "c"), LAST],
    "QGemm real": [node("Reshape", "i0 flat", "j"), node("QuantizeLinear", "j s z", "q"),
                   node("QGemm", "q s z m ms mz mb", "y0", alpha=0.5)],
    "QLinearAdd": [FIRST, *SECOND, node("QLinearAdd", "q s z p s2 z2 t u", "c"), LAST],
    "QLinearAdd of a constant": [
        FIRST, node("QLinearAdd", "q s z k s2 z2 s z", "c"), node("DequantizeLinear", "c s z", "y0"),
    ],
    "QLinearMul": [FIRST, *SECOND, node("QLinearMul", "q s z p s2 z2 t u", "c"), LAST],
    "QLinearGlobalAveragePool": [
        FIRST, node("QLinearGlobalAveragePool", "q s z s z", "c"), node("DequantizeLinear", "c s z", "y0"),
    ],
    "QLinearLeakyRelu": [
        FIRST, node("QLinearLeakyRelu", "q s z s z2", "c", alpha=0.1), node("DequantizeLinear", "c s z2", "y0"),
    ],
    "QLinearSigmoid": [
        FIRST, node("QLinearSigmoid", "q s z s none", "c"), node("DequantizeLinear", "c s none", "y0"),
    ],
    "QLinearConcat": [FIRST, *SECOND, node("QLinearConcat", "t u q s z p s2 z2", "c", axis=1), LAST],
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_the_gradient_of_a_chain_of_whole_numbers_is_the_twin_s(name: str) -> None:
    used = {n for one in CHAINS[name] for n in one.input}
    constants = {**WEIGHTS, "from": ints(0, 0, 0), "to": ints(2, 3, 4), "flat": ints(-1, 8)}
    model = tiny_model(
        CHAINS[name], {n: v for n, v in constants.items() if n in used}, (2, 3, 8, 8), ("y0",), input_name="i0"
    )
    model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    x = np.random.default_rng(0).normal(0, 1.5, (2, 3, 8, 8)).astype(np.float32)
    upstream = [np.random.default_rng(1).normal(size=v.shape).astype(np.float32) for v in outputs_of(model, [x])]
    expected = Truth(model, [x], "i0", upstream).autograd()
    assert np.count_nonzero(expected)
    np.testing.assert_allclose(written(model, [x], "i0", upstream), expected, atol=1e-6 * np.abs(expected).max())


def test_every_quantized_operator_is_tested() -> None:
    assert {one.op_type for chain in CHAINS.values() for one in chain} >= set(QUANTIZATION)
