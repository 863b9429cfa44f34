"""Every CNN operator at every opset from 7 on: the twin against ONNX Runtime (the reference where it has none)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import convscope
from convscope.errors import ConvscopeError, UnsupportedOperator
from tests import tiny

NEWEST = onnx.defs.onnx_opset_version()
Weights = dict[str, np.ndarray]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def whole(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@dataclass
class Case:
    """One form of an operator; ``build(opset)`` gives its node inputs after x, attributes and weights."""

    op: str
    build: Callable[[int], tuple[list[str], dict[str, Any], Weights]]
    first: int = 7
    outputs: int = 1
    label: str = ""
    shape: tuple[int, ...] = (2, 4, 9, 10)
    last: int = NEWEST
    scale: float = field(default=1.0)


def plain(op: str, weights: Weights | None = None, first: int = 7, **attributes: Any) -> Case:
    """An operator whose form never changed."""
    given = weights or {}
    options = {k: attributes.pop(k) for k in ("label", "outputs", "shape", "last", "scale") if k in attributes}
    return Case(op, lambda opset: (list(given), attributes, given), first, **options)


def as_input_from(op: str, since: int, name: str, values: list[int], label: str = "", **more: Any) -> Case:
    """Integers that were an attribute before opset ``since`` and are an input from it on."""

    def build(opset: int) -> tuple[list[str], dict[str, Any], Weights]:
        if opset < since:
            return [], {name: values, **more}, {}
        return [name], dict(more), {name: whole(*values)}

    return Case(op, build, label=label)


def clip(low: float | None, high: float | None, label: str) -> Case:
    def build(opset: int) -> tuple[list[str], dict[str, Any], Weights]:
        bounds = {k: v for k, v in (("min", low), ("max", high)) if v is not None}
        if opset < 11:
            return [], bounds, {}
        names = ["min" if low is not None else "", "max"] if high is not None else ["min"]
        return names, {}, {k: np.array(v, np.float32) for k, v in bounds.items()}

    return Case("Clip", build, label=label)


def group_norm(opset: int) -> tuple[list[str], dict[str, Any], Weights]:
    size = 2 if opset < 21 else 4
    weights = {"s": normal(size) + 1, "b": normal(size, seed=1)}
    return ["s", "b"], {"num_groups": 2}, weights


def upsample(opset: int) -> tuple[list[str], dict[str, Any], Weights]:
    if opset < 9:
        return [], {"scales": [1.0, 1.0, 2.0, 2.0], "mode": "nearest"}, {}
    return ["s"], {"mode": "nearest"}, {"s": floats(1, 1, 2, 2)}


def resize(opset: int) -> tuple[list[str], dict[str, Any], Weights]:
    scales = {"s": floats(1, 1, 2, 2)}
    if opset < 11:
        return ["s"], {"mode": "linear"}, scales
    attributes = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return (["roi", "s"], attributes, {"roi": floats(), **scales}) if opset < 13 else (["", "s"], attributes, scales)


def pad(opset: int) -> tuple[list[str], dict[str, Any], Weights]:
    pads = [0, 0, 1, 2, 0, 0, 3, 1]
    return ([], {"pads": pads}, {}) if opset < 11 else (["p"], {}, {"p": whole(*pads)})


def slices(opset: int) -> tuple[list[str], dict[str, Any], Weights]:
    if opset < 10:
        return [], {"starts": [1, 2], "ends": [7, 9], "axes": [2, 3]}, {}
    return ["a", "b", "c", "d"], {}, {"a": whole(1, 2), "b": whole(7, 9), "c": whole(2, 3), "d": whole(2, 1)}


def split(opset: int) -> tuple[list[str], dict[str, Any], Weights]:
    if opset < 13:
        return [], {"axis": 1, "split": [1, 3]}, {}
    return ["s"], {"axis": 1}, {"s": whole(1, 3)}


W, B = {"w": normal(6, 4, 3, 3)}, {"b": normal(6)}
BN = {"s": normal(4) + 1, "b": normal(4, seed=1), "m": normal(4, seed=2), "v": normal(4, seed=3) ** 2 + 0.5}

CASES = [
    plain("Conv", {**W, **B}, pads=[1, 1, 1, 1]),
    plain("Conv", W, auto_pad="SAME_UPPER", strides=[2, 2], label="same upper"),
    plain("Conv", W, auto_pad="SAME_LOWER", strides=[2, 2], label="same lower"),
    plain("Conv", W, pads=[0, 1, 2, 1], dilations=[2, 1], label="asymmetric"),
    plain("Conv", {"w": normal(8, 1, 3, 3)}, group=4, label="depthwise"),
    plain("Conv", {"w": normal(6, 4, 3)}, shape=(2, 4, 12), label="1-D"),
    plain("Conv", {"w": normal(3, 4, 2, 3, 3)}, shape=(1, 4, 5, 6, 7), label="3-D"),
    plain("ConvTranspose", {"w": normal(4, 6, 3, 3), **B}, strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
    plain("ConvTranspose", {"w": normal(4, 3, 3, 3)}, group=2, pads=[0, 1, 1, 0], label="groups, asymmetric"),
    plain("ConvTranspose", {"w": normal(4, 6, 3, 3)}, strides=[2, 2], output_shape=[18, 20], label="output shape"),
    plain("ConvTranspose", {"w": normal(4, 6, 3, 3)}, strides=[2, 2], auto_pad="SAME_UPPER", label="same upper"),
    plain("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    plain("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1], label="asymmetric"),
    plain("MaxPool", kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER", label="same upper"),
    plain("MaxPool", first=8, kernel_shape=[3, 3], strides=[2, 2], outputs=2, label="indices"),
    plain("MaxPool", first=8, kernel_shape=[3, 2], pads=[2, 1, 1, 1], outputs=2, storage_order=1, label="columns"),
    plain("MaxPool", first=10, kernel_shape=[3, 3], dilations=[2, 2], label="dilated"),
    plain("MaxPool", first=10, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, pads=[1, 1, 1, 1], label="ceil"),
    plain("MaxPool", kernel_shape=[3], pads=[2, 2], shape=(2, 4, 12), label="1-D, pad beyond half"),
    plain("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    plain("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1, label="pads counted"),
    plain("AveragePool", kernel_shape=[3, 3], pads=[0, 1, 2, 1], label="asymmetric"),
    plain("AveragePool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER", label="same lower"),
    plain("AveragePool", first=10, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, label="ceil"),
    plain("AveragePool", first=19, kernel_shape=[3, 2], dilations=[2, 1], pads=[1, 0, 1, 1], label="dilated"),
    plain("LpPool", kernel_shape=[2, 2], strides=[2, 2], p=2),
    plain("GlobalAveragePool"),
    plain("GlobalMaxPool"),
    plain("GlobalLpPool", p=2),
    plain("BatchNormalization", BN, epsilon=1e-3),
    plain("InstanceNormalization", {"s": BN["s"], "b": BN["b"]}),
    Case("GroupNormalization", group_norm, first=18),
    plain("LayerNormalization", {"s": normal(10) + 1, "b": normal(10)}, first=17),
    plain("RMSNormalization", {"s": normal(10) + 1}, first=23),
    plain("LRN", size=3, alpha=0.5),
    plain("LpNormalization", axis=1, p=2),
    plain("MeanVarianceNormalization", first=9),
]
BOXES = floats(0.5, 1.2, 7.3, 8.1, -1, -1, 12.2, 3.3).reshape(2, 4)
POSITIONS = np.tile(np.arange(9), (2, 1))
CASES += [
    *(
        plain(op)
        for op in ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Elu", "Selu", "LeakyRelu", "HardSigmoid")
    ),
    plain("Erf", first=9),
    plain("HardSwish", first=14),
    plain("Mish", first=18),
    plain("Gelu", first=20),
    plain("Gelu", first=20, approximate="tanh", label="tanh"),
    plain("Swish", first=24, alpha=1.5),
    plain("Celu", first=12, alpha=1.5),
    plain("ThresholdedRelu", first=10, alpha=0.3),
    plain("Shrink", first=9, lambd=0.3, bias=0.1),
    plain("PRelu", {"slope": normal(4, 1, 1)}),
    plain("PRelu", {"slope": normal(10, 1)}, shape=(2, 10, 10, 6), label="slope along the height"),
    clip(0.0, 6.0, ""),
    clip(None, 0.5, "above only"),
    clip(-0.25, None, "below only"),
    plain("Softmax", axis=1),
    plain("LogSoftmax", axis=1),
    plain("Hardmax", axis=1),
    Case("Resize", resize, first=10),
    Case("Upsample", upsample, last=9),
    Case("Pad", pad),
    Case("Slice", slices),
    Case("Split", split, outputs=2),
    as_input_from("ReduceMean", 18, "axes", [2, 3]),
    as_input_from("ReduceMax", 18, "axes", [-1], keepdims=0),
    as_input_from("ReduceSum", 13, "axes", [2, 3], keepdims=0),
    as_input_from("ReduceL2", 18, "axes", [1]),
    as_input_from("Unsqueeze", 13, "axes", [1]),
    plain("Add", {"b": normal(4, 1, 1)}),
    plain("Mul", {"b": normal(4, 1, 1)}),
    plain("Sub", {"b": normal(4, 1, 1)}),
    plain("Div", {"b": normal(4, 1, 1) + 3}),
    plain("MatMul", {"w": normal(10, 5)}),
    plain("Gemm", {"w": normal(5, 10), "b": normal(5)}, shape=(2, 10), transB=1),
    plain("Flatten"),
    plain("Transpose", perm=[0, 2, 3, 1]),
    plain("Reshape", {"s": whole(0, -1)}),
    plain("Concat", {"b": np.repeat(normal(1, 2, 9, 10), 2, 0)}, axis=1),
    plain("DepthToSpace", blocksize=2),
    plain("SpaceToDepth", blocksize=2, shape=(2, 4, 6, 8)),
    plain("Sum", {"b": normal(4, 1, 1)}),
]


CASES += [
    plain("RoiAlign", {"r": BOXES, "i": whole(0, 0)}, first=10, output_height=3, output_width=2, spatial_scale=0.5),
    plain("RoiAlign", {"r": BOXES, "i": whole(0, 0)}, first=10, mode="max", sampling_ratio=2, label="maximum"),
    plain("MaxRoiPool", {"r": np.insert(BOXES, 0, 0, axis=1)}, pooled_shape=[2, 3]),
    plain("ReverseSequence", {"l": whole(3, 1)}, first=10, batch_axis=0, time_axis=1),
    plain("Attention", {"k": normal(2, 2, 7, 10), "v": normal(2, 2, 7, 5)}, first=23, is_causal=1),
    plain("RotaryEmbedding", {"c": normal(9, 5), "s": normal(9, 5, seed=1), "p": POSITIONS}, first=23),
]


def model_of(case: Case, opset: int) -> onnx.ModelProto:
    names, attributes, weights = case.build(opset)
    outputs = [f"y{i}" for i in range(case.outputs)]
    node = helper.make_node(case.op, ["x", *names], outputs, f"/{case.op}", **attributes)
    model = tiny.model([node], weights, ("N", *case.shape[1:]), outputs, opset)
    if case.op == "MaxPool" and case.outputs == 2:
        model.graph.output[1].type.tensor_type.elem_type = TensorProto.INT64
    return model


def expected(case: Case, opset: int, x: np.ndarray) -> dict[str, np.ndarray] | None:
    """ONNX Runtime's values; where it lacks this opset, those of the newest older opset with the same node.

    From 7 on, a later version of these operators with the same inputs and attributes only takes more data types.
    Operators that ONNX Runtime has at no version are left to the reference implementation.
    """
    names, attributes, _ = case.build(opset)
    for older in range(opset, case.first - 1, -1):
        if case.build(older)[:2] != (names, attributes):
            break
        model = model_of(case, older)
        outputs = [o.name for o in model.graph.output]
        try:
            graph = convscope.load(model, check=False)
            return graph.session(outputs).run(x.reshape(len(x), *(s or -1 for s in graph.inputs[0].shape[1:])))
        except ConvscopeError:
            continue
    model = model_of(case, opset)
    try:
        values = ReferenceEvaluator(model).run(None, {"x": x})
    except (NotImplementedError, TypeError, RuntimeError, LookupError, ValueError):
        return None
    return dict(zip([o.name for o in model.graph.output], values, strict=True))


def outcome(case: Case, opset: int) -> str:
    """'equal', 'unsupported', 'no oracle', or what differs."""
    model = model_of(case, opset)
    x = np.random.default_rng(7).normal(0, 1, case.shape).astype(np.float32)
    graph = convscope.load(model, check=False)
    try:
        actual = graph.twin([o.name for o in model.graph.output])(torch.from_numpy(x))
    except UnsupportedOperator:
        return "unsupported"
    wanted = expected(case, opset, x)
    if wanted is None:
        return "no oracle"
    for name, value in wanted.items():
        given = actual[name].detach().numpy().astype(np.float64)
        if given.shape != value.shape:
            return f"{name}: shape {given.shape} instead of {value.shape}"
        worst = float(np.abs(given - value).max() / max(float(np.abs(value).max()), 1e-12))
        if not worst <= 1e-4:
            return f"{name}: differs by {worst:.1e}"
    return "equal"


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.op} {c.label}".strip())
def test_operator_equals_onnx_runtime_at_every_opset(case: Case) -> None:
    outcomes = {opset: outcome(case, opset) for opset in range(case.first, case.last + 1)}
    assert {opset: text for opset, text in outcomes.items() if text != "equal"} == {}
