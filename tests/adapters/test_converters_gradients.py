"""Gradients of the twin by finite differences in float64, at the points where they are easily wrong by value."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

import convscope
from convscope.adapters.twin.build import TwinFactory
from tests import tiny

Weights = dict[str, np.ndarray]
SHAPE = (1, 4, 5, 6)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(0, 0.5, shape).astype(np.float32)


W = {"w": normal(3, 4, 3, 3), "b": normal(3)}
STATISTICS = {"s": normal(4) + 2, "b": normal(4), "m": normal(4), "v": normal(4) ** 2 + 0.5}

POINTWISE = [
    "Relu",
    "LeakyRelu",
    "Elu",
    "Selu",
    "Celu",
    "ThresholdedRelu",
    "HardSigmoid",
    "HardSwish",
    "Sigmoid",
    "Tanh",
    "Softplus",
    "Softsign",
    "Erf",
    "Gelu",
    "Mish",
    "Softmax",
    "LogSoftmax",
]

SMOOTH: list[tuple[str, Weights, dict[str, Any]]] = [
    ("Conv", W, {"pads": [1, 1, 1, 1]}),
    ("Conv", W, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ("Conv", {"w": normal(8, 1, 3, 3)}, {"group": 4, "pads": [0, 1, 2, 0], "dilations": [1, 2]}),
    ("ConvTranspose", {"w": normal(4, 3, 3, 3), "b": normal(3)}, {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("ConvTranspose", {"w": normal(4, 3, 3, 3)}, {"pads": [0, 1, 1, 0], "output_padding": [0, 0]}),
    ("MaxPool", {}, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("MaxPool", {}, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    ("AveragePool", {}, {"kernel_shape": [3, 3], "pads": [0, 1, 2, 1], "count_include_pad": 1}),
    ("AveragePool", {}, {"kernel_shape": [2, 2], "dilations": [2, 1], "ceil_mode": 1}),
    ("LpPool", {}, {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 0, 0, 1]}),
    ("GlobalAveragePool", {}, {}),
    ("GlobalMaxPool", {}, {}),
    ("GlobalLpPool", {}, {"p": 3}),
    ("BatchNormalization", STATISTICS, {}),
    ("InstanceNormalization", {"s": STATISTICS["s"], "b": STATISTICS["b"]}, {}),
    ("GroupNormalization", {"s": STATISTICS["s"], "b": STATISTICS["b"]}, {"num_groups": 2}),
    ("LayerNormalization", {"s": normal(6), "b": normal(6)}, {}),
    ("LRN", {}, {"size": 3, "alpha": 0.5}),
    ("LpNormalization", {}, {"axis": 1}),
    ("MeanVarianceNormalization", {}, {}),
    ("PRelu", {"slope": normal(4, 1, 1)}, {}),
    *((op, {}, {}) for op in POINTWISE),
    ("Gelu", {}, {"approximate": "tanh"}),
    ("Clip", {"low": np.array(-0.5, np.float32), "high": np.array(0.7, np.float32)}, {}),
]

SMOOTH += [
    ("DeformConv", {"w": normal(3, 4, 2, 2), "o": normal(1, 8, 4, 5) / 3}, {}),
    ("Resize", {"": normal(0), "scales": np.array([1, 1, 2, 1.5], np.float32)}, {"mode": "linear"}),
    ("Resize", {"": normal(0), "scales": np.array([1, 1, 0.6, 1.5], np.float32)}, {"mode": "cubic"}),
    ("Resize", {"": normal(0), "scales": np.array([1, 1, 0.6, 2], np.float32)}, {"mode": "linear", "antialias": 1}),
    ("Resize", {"": normal(0), "scales": np.array([1, 1, 2, 2], np.float32)}, {"mode": "nearest"}),
    ("Pad", {"p": np.array([0, 0, 1, 2, 0, 0, 2, -1])}, {}),
    ("Pad", {"p": np.array([0, 0, 1, 2, 0, 0, 2, 1])}, {"mode": "reflect"}),
    ("CenterCropPad", {"s": np.array([7, 3])}, {"axes": [2, 3]}),
    ("GridSample", {"g": normal(1, 3, 3, 2)}, {}),
    ("Slice", {"a": np.array([-1]), "b": np.array([-9]), "c": np.array([2]), "d": np.array([-2])}, {}),
    ("Gather", {"i": np.array([1, -1, 1])}, {"axis": 2}),
    (
        "ScatterElements",
        {"i": np.zeros((1, 1, 2, 3), np.int64), "u": normal(1, 1, 2, 3)},
        {"axis": 1, "reduction": "add"},
    ),
    ("Einsum", {"w": normal(4, 3)}, {"equation": "nchw,ck->nkwh"}),
    ("MatMul", {"w": normal(6, 2)}, {}),
    ("CumSum", {"a": np.array(2)}, {"exclusive": 1, "reverse": 1}),
    ("CumProd", {"a": np.array(3)}, {}),
    *((f"Reduce{op}", {"a": np.array([1, -1])}, {}) for op in ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2")),
    ("ReduceLogSumExp", {"a": np.array([2])}, {"keepdims": 0}),
    ("DepthToSpace", {}, {"blocksize": 2, "mode": "CRD"}),
    ("Transpose", {}, {"perm": [0, 2, 3, 1]}),
    ("Expand", {"s": np.array([3, 1, 1, 1, 1])}, {}),
    ("Trilu", {}, {"upper": 0}),
]


def twin_of(op: str, weights: Weights, attributes: dict[str, Any], dtype: torch.dtype) -> Any:
    node = helper.make_node(op, ["x", *weights], ["y"], **attributes)
    opset = 26 if op == "CumProd" else 21
    weights = {name: value for name, value in weights.items() if name}  # "" leaves an input out
    graph = convscope.load(tiny.model([node], weights, ("N", *SHAPE[1:]), opset=opset), check=False)
    return graph.twin(["y"], dtype=dtype)


@pytest.mark.parametrize(("op", "weights", "attributes"), SMOOTH, ids=lambda v: v if isinstance(v, str) else "")
def test_gradient_equals_finite_differences(op: str, weights: Weights, attributes: dict[str, Any]) -> None:
    twin = twin_of(op, weights, attributes, torch.float64)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SHAPE, generator=generator, dtype=torch.float64).requires_grad_()
    assert twin.only(x).dtype == torch.float64
    assert torch.autograd.gradcheck(twin.only, x, fast_mode=True)


@pytest.mark.parametrize(
    ("names", "weights", "expected"),
    [
        (["low", "high"], {"low": 0.0, "high": 6.0}, [0, 0, 1, 0, 0]),
        (["low"], {"low": 0.0}, [0, 0, 1, 1, 1]),
        (["low"], {"low": 3.0}, [0, 0, 0, 1, 1]),
        (["", "high"], {"high": 6.0}, [1, 1, 1, 0, 0]),
    ],
)
def test_clip_has_gradient_zero_at_its_bounds_as_relu6_has(
    names: list[str], weights: dict[str, float], expected: list[int]
) -> None:
    node = helper.make_node("Clip", ["x", *names], ["y"])
    arrays = {k: np.array(v, np.float32) for k, v in weights.items()}
    graph = convscope.load(tiny.model([node], arrays, ("N", 1, 1, 5)), check=False)
    x = torch.tensor([-1.0, 0.0, 3.0, 6.0, 7.0]).reshape(1, 1, 1, 5).requires_grad_()
    (gradient,) = torch.autograd.grad(graph.twin(["y"]).only(x).sum(), x)
    assert gradient.flatten().tolist() == expected


def test_clip_with_computed_bounds_has_gradient_zero_at_them() -> None:
    nodes = [
        helper.make_node("ReduceMin", ["x"], ["low"], keepdims=0),
        helper.make_node("ReduceMax", ["x"], ["high"], keepdims=0),
        helper.make_node("Clip", ["x", "low", "high"], ["y"]),
    ]
    graph = convscope.load(tiny.model(nodes, {}, ("N", 1, 1, 3)), check=False)
    x = torch.tensor([-1.0, 0.5, 2.0]).reshape(1, 1, 1, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(graph.twin(["y"]).only(x).sum(), x)
    assert gradient.flatten().tolist() == [0, 1, 0]


@pytest.mark.parametrize(("op", "attributes"), [("LpPool", {"kernel_shape": [2, 2]}), ("GlobalLpPool", {})])
def test_lp_pooling_of_zeros_has_a_finite_gradient(op: str, attributes: dict[str, Any]) -> None:
    x = torch.zeros(SHAPE, requires_grad=True)
    (gradient,) = torch.autograd.grad(twin_of(op, {}, attributes, torch.float32).only(x).sum(), x)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("size", [(5, 6), (16, 9), (23, 40)])
@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
def test_same_padding_follows_the_image_size(size: tuple[int, int], auto_pad: str) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], auto_pad=auto_pad, strides=[2, 3])
    model = tiny.model([node], {"w": W["w"]}, ("N", 4, "H", "W"))
    graph = convscope.load(model, check=False)
    x = np.random.default_rng(0).normal(size=(2, 4, *size)).astype(np.float32)
    wanted = graph.session(["y"]).run(x)["y"]
    image = torch.from_numpy(x).contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(graph.twin(["y"]).only(image).numpy(), wanted, atol=1e-5)


def test_the_gradient_of_batch_norm_keeps_its_order_on_one_column_wide_maps_of_any_layout() -> None:
    """torch 2.13 takes the strides of (N, C, H, 1) for either layout and mixes the gradient up in silence."""
    statistics = {"s": np.full(4, 2.0), "b": np.zeros(4), "m": np.zeros(4), "v": np.ones(4)}
    weights = {k: v.astype(np.float32) for k, v in statistics.items()}
    node = helper.make_node("BatchNormalization", ["x", *weights], ["y"], epsilon=0.0)
    twin = TwinFactory(tiny.model([node], weights, ("N", 4, 7, 1)))(("y",), ("x",))
    x = torch.randn(2, 7, 4, 1).transpose(1, 2).requires_grad_(True)
    weighting = torch.randn(2, 4, 7, 1)
    (gradient,) = torch.autograd.grad((twin(x)["y"] * weighting).sum(), x)
    torch.testing.assert_close(gradient, 2 * weighting)


@pytest.mark.parametrize(
    "maker",
    [
        helper.make_node("ConstantOfShape", ["shape"], ["made"]),
        helper.make_node("Cast", ["whole"], ["made"], to=TensorProto.FLOAT),
        helper.make_node("EyeLike", ["whole"], ["made"], dtype=TensorProto.FLOAT),
    ],
    ids=lambda node: str(node.op_type),
)
def test_what_a_float64_twin_makes_of_whole_numbers_is_float64(maker: onnx.NodeProto) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["q"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["q", "square"], ["whole"]),
        helper.make_node("Shape", ["whole"], ["shape"]),
        maker,
        helper.make_node("MatMul", ["x", "made"], ["y"]),
    ]
    model = tiny.model(nodes, {"square": np.array([4, 4])}, ("N", 1, 4, 4))
    twin = TwinFactory(model)(("y",), ("x",), dtype=torch.float64)
    assert twin.only(torch.ones(1, 1, 4, 4, dtype=torch.float64)).dtype == torch.float64
