"""Every row of the gradient table against finite differences in float64; ties and edges against torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from convscope.adapters.twin.build import TwinFactory
from convscope.engine.export.backward import backward
from convscope.engine.export.expand import EXPANDED
from convscope.engine.export.gradients import CONSTANT, GRADIENTS
from convscope.engine.export.gradients.quantization import QUANTIZATION
from convscope.engine.export.trace import Trace
from convscope.engine.export.writer import Writer

from ...single_node import model_of
from .one_node import Truth, finite_difference_error, outputs_of, written

Make = Callable[[np.random.Generator], Sequence[Any]]  # arrays, numbers, or None for an omitted input


@dataclass(frozen=True)
class Row:
    """One case of one operator."""

    op: str
    make: Make
    attributes: dict[str, Any] = field(default_factory=dict)
    wanted: int = 0
    outputs: int = 1
    seeded: int | None = None
    opset: int = 18
    computed: bool = False

    def __str__(self) -> str:
        shown = ",".join(f"{k}={v}" for k, v in self.attributes.items())
        return f"{self.op}-{self.opset}({shown})d{self.wanted}".replace(" ", "")


def normal(*shape: int) -> Make:
    """Values away from the kinks of the common functions."""
    return lambda rng: [_off(rng.normal(0, 2, shape))]


def _off(values: np.ndarray) -> np.ndarray:
    near = np.abs(values - np.round(values)) < 0.02  # kinks lie at whole numbers and halves
    return (values + 0.05 * near).astype(np.float32)


def uniform(low: float, high: float, *shape: int) -> Make:
    return lambda rng: [rng.uniform(low, high, shape).astype(np.float32)]


def arrays(*shapes: tuple[int, ...], fixed: Sequence[Any] = ()) -> Make:
    return lambda rng: [*(_off(rng.normal(0, 1, s)) for s in shapes), *fixed]


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def distinct(*shape: int) -> Make:
    """Values without ties."""
    return lambda rng: [(rng.permutation(int(np.prod(shape))).reshape(shape) / 7.0 - 2).astype(np.float32)]


def with_zeros(*places: tuple[int, int, int]) -> Make:
    """Values around one, zero at the places; products over the axes 1 and 2."""

    def make(rng: np.random.Generator) -> list[Any]:
        values = rng.uniform(0.5, 1.5, (2, 3, 4)).astype(np.float32)
        for place in places:
            values[place] = 0
        return [values, ints(1, -1)]

    return make


IMAGE = (2, 3, 7, 6)
POINTWISE = [
    *(Row(op, normal(2, 9)) for op in (
        "Identity", "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Sigmoid", "Tanh", "Softplus", "Softsign",
        "HardSigmoid", "HardSwish", "Mish", "Erf", "Exp", "Neg", "Abs", "Sin", "Cos", "Sinh", "Cosh", "Atan", "Asinh",
        "ThresholdedRelu",
    )),
    Row("LeakyRelu", normal(2, 9), {"alpha": 0.3}),
    Row("Elu", normal(2, 9), {"alpha": 0.7}),
    Row("Selu", normal(2, 9), {"alpha": 1.2, "gamma": 0.8}),
    Row("Celu", normal(2, 9), {"alpha": 0.6}),
    Row("HardSigmoid", normal(2, 9), {"alpha": 0.3, "beta": 0.4}),
    Row("ThresholdedRelu", normal(2, 9), {"alpha": 0.5}),
    Row("Shrink", normal(2, 9), {"lambd": 0.5, "bias": 0.5}),
    Row("Gelu", normal(2, 9), opset=20),
    Row("Gelu", normal(2, 9), {"approximate": "tanh"}, opset=20),
    Row("Swish", normal(2, 9), {"alpha": 1.3}, opset=24),
    Row("Tan", uniform(-1, 1, 2, 9)), Row("Asin", uniform(-0.9, 0.9, 2, 9)), Row("Acos", uniform(-0.9, 0.9, 2, 9)),
    Row("Atanh", uniform(-0.9, 0.9, 2, 9)), Row("Acosh", uniform(1.2, 4, 2, 9)), Row("Log", uniform(0.3, 4, 2, 9)),
    Row("Sqrt", uniform(0.3, 4, 2, 9)), Row("Reciprocal", uniform(0.3, 4, 2, 9)),
    Row("Clip", lambda rng: [_off(rng.normal(0, 4, (2, 9))), np.float32(0), np.float32(6)]),
    Row("Clip", lambda rng: [_off(rng.normal(0, 4, (2, 9))), np.float32(-1)]),
    Row("Clip", lambda rng: [_off(rng.normal(0, 4, (2, 9))), None, np.float32(1)]),
    Row("Dropout", normal(2, 9)),
    Row("Cast", normal(2, 9), {"to": 1}),
    Row("CastLike", arrays((2, 9), (1,))),
    Row("PRelu", arrays(IMAGE, (3, 1, 1))),
    Row("PRelu", arrays(IMAGE, (3, 1, 1)), wanted=1, computed=True),
]  # fmt: skip
ARITHMETIC = [
    *(Row(op, arrays((2, 3, 4), other), wanted=i, computed=True)
      for op in ("Add", "Sub", "Mul", "Sum", "Mean", "Max", "Min")
      for i, other in ((0, (2, 3, 4)), (1, (3, 1)), (1, (1,)), (1, (2, 1, 4)))),
    Row("Div", lambda rng: [_off(rng.normal(size=(2, 3))), rng.uniform(1, 2, (3,)).astype(np.float32)], computed=True),
    Row("Div", lambda rng: [_off(rng.normal(size=(2, 3))), rng.uniform(1, 2, (3,)).astype(np.float32)], wanted=1,
        computed=True),
    Row("Add", arrays((3, 1), (2, 3, 4)), computed=True),
    Row("Mod", lambda rng: [rng.uniform(3.1, 3.9, (2, 1)).astype(np.float32), floats(1, 2, 3)], {"fmod": 1}),
    Row("Max", arrays((2, 4), (2, 4), (4,), (2, 1)), wanted=2, computed=True),
    Row("Pow", lambda rng: [rng.uniform(0.5, 2, (2, 5)).astype(np.float32), np.float32(2)]),
    Row("Pow", lambda rng: [rng.uniform(0.5, 2, (2, 5)).astype(np.float32), np.float32(0.5)]),
    Row("Pow", lambda rng: [rng.uniform(0.5, 2, (2, 5)).astype(np.float32), floats(1, 2, 3, -1, 0.3)]),
    Row("Where", lambda rng: [np.array([True, False, True]), *arrays((2, 3), (3,))(rng)], wanted=1, computed=True),
    Row("Where", lambda rng: [np.array([True, False, True]), *arrays((2, 3), (3,))(rng)], wanted=2, computed=True),
]  # fmt: skip
MATRICES = [
    Row("MatMul", arrays((2, 3), (3, 4))),
    Row("MatMul", arrays((2, 5, 3), (3, 4)), wanted=1, computed=True),
    Row("MatMul", arrays((2, 2, 5, 3), (2, 2, 3, 4)), wanted=1, computed=True),
    Row("MatMul", arrays((5, 3), (2, 3, 4)), computed=True),
    *(Row("Gemm", arrays((4, 3) if a else (3, 4), (5, 4) if b else (4, 5), (5,)),
          {"transA": a, "transB": b, "alpha": 0.7, "beta": 1.3}, wanted=i, computed=True)
      for a in (0, 1) for b in (0, 1) for i in (0, 1, 2)),
    Row("Einsum", arrays((2, 3, 4), (2, 4, 5)), {"equation": "bij,bjk->bik"}, wanted=1, computed=True),
    Row("Einsum", arrays((2, 3, 4), (3, 5)), {"equation": "nhw,hk->nkw"}),
    *(Row("Einsum", arrays(*shapes), {"equation": equation}, wanted=i, computed=True)
      for equation, shapes in (
        ("ij->i", ((3, 4),)),  # what one operand alone has is summed
        ("bij,kj->b", ((2, 3, 4), (5, 4))),
        ("ij,jk", ((2, 3), (3, 4))),  # the result's letters are not said
        ("...ij,...jk->...ik", ((2, 3, 4), (2, 4, 5))),
        ("bij,bjk->bik", ((1, 3, 4), (2, 4, 5))),  # sizes of one are broadcast
        ("bij,bij->bj", ((2, 3, 4), (2, 1, 4))),
      ) for i in range(len(shapes))),
]  # fmt: skip
WINDOWS = [
    *(Row("Conv", arrays((2, 4, *size), (6, 4 // group, *kernel), (6,)), {"group": group, **attributes})
      for size, kernel, group, attributes in (
        ((7, 6), (3, 3), 1, {}),
        ((7, 6), (3, 3), 2, {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
        ((8, 9), (3, 2), 1, {"pads": [1, 0, 0, 2], "strides": [2, 3]}),
        ((9, 8), (3, 3), 1, {"dilations": [2, 2], "pads": [2, 2, 2, 2]}),
        ((9, 8), (2, 3), 1, {"dilations": [2, 1], "strides": [3, 2], "pads": [0, 1, 2, 0]}),
        ((8, 7), (3, 3), 1, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ((8, 7), (2, 4), 1, {"auto_pad": "SAME_LOWER", "strides": [2, 3]}),
        ((8, 7), (2, 4), 1, {"auto_pad": "SAME_UPPER"}),
        ((8, 7), (1, 1), 1, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ((8, 7), (3, 3), 1, {"auto_pad": "VALID", "strides": [2, 2]}),
        ((9,), (3,), 1, {"strides": [2], "pads": [1, 0]}),
        ((4, 5, 4), (2, 3, 2), 1, {"strides": [2, 1, 2], "pads": [1, 0, 1, 0, 1, 0]}),
      )),
    Row("Conv", arrays((2, 4, 7, 7), (4, 1, 3, 3)), {"group": 4, "pads": [1] * 4, "strides": [2, 2]}),
    *(Row("ConvTranspose", arrays((2, 4, 5, 4), (4, 6 // group, 3, 3), (6,)), {"group": group, **attributes})
      for group, attributes in (
        (1, {}), (2, {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
        (1, {"strides": [2, 3], "pads": [0, 1, 1, 0]}), (1, {"dilations": [2, 1], "strides": [2, 2]}),
        (1, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}), (1, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
        (1, {"output_shape": [10, 9], "strides": [2, 2]}),
        (1, {"auto_pad": "SAME_UPPER", "strides": [2, 3], "output_padding": [1, 2]}),
        (2, {"output_shape": [10, 11], "strides": [2, 3], "output_padding": [0, 2]}),
      )),
    *(Row("MaxPool", distinct(*size), attributes)
      for size, attributes in (
        (IMAGE, {"kernel_shape": [2, 2], "strides": [2, 2]}),
        (IMAGE, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        (IMAGE, {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 0, 1], "ceil_mode": 1}),
        (IMAGE, {"kernel_shape": [2, 2], "dilations": [2, 2]}),
        (IMAGE, {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
        ((2, 3, 9), {"kernel_shape": [3], "strides": [2]}),
      )),
    *(Row("AveragePool", arrays(size), attributes, opset=19)
      for size, attributes in (
        (IMAGE, {"kernel_shape": [2, 2], "strides": [2, 2]}),
        (IMAGE, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        (IMAGE, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
        (IMAGE, {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 0, 1], "ceil_mode": 1}),
        (IMAGE, {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 0, 1], "ceil_mode": 1,
                 "count_include_pad": 1}),
        (IMAGE, {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        (IMAGE, {"kernel_shape": [3, 3], "auto_pad": "SAME_LOWER", "strides": [1, 1]}),
        (IMAGE, {"kernel_shape": [2, 2], "dilations": [2, 1], "pads": [1, 0, 1, 0]}),
        ((2, 3, 9), {"kernel_shape": [3], "strides": [2]}),
      )),
    *(Row("LpPool", distinct(*size), attributes)
      for size, attributes in (
        (IMAGE, {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 0, 1], "p": 3}),
        ((2, 3, 9), {"kernel_shape": [3], "strides": [1]}),
      )),
    Row("MaxUnpool", arrays((2, 2, 2, 3), fixed=[np.stack([24 * i + np.arange(6) * 4 % 23 for i in range(4)]).reshape(
        2, 2, 2, 3)]), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    Row("Col2Im", arrays((2, 12, 20), fixed=[ints(5, 6), ints(2, 2)])),
    Row("Col2Im", arrays((2, 18, 6), fixed=[ints(5, 6), ints(3, 2)]),
        {"strides": [2, 2], "pads": [1, 0, 1, 0], "dilations": [1, 2]}),
    Row("GlobalLpPool", distinct(*IMAGE), {"p": 3}),
    Row("GlobalAveragePool", arrays(IMAGE)),
    Row("GlobalMaxPool", distinct(*IMAGE)),
]  # fmt: skip
REDUCTIONS = [
    *(Row(op, distinct(2, 3, 4), {"axes": [1, -1], "keepdims": keep}, opset=17)
      for op in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp")
      for keep in (0, 1)),
    *(Row(op, arrays((2, 3, 4), fixed=[ints(2)])) for op in ("ReduceMean", "ReduceSum", "ReduceL2")),
    Row("ReduceSum", arrays((2, 3, 4)), {"keepdims": 0}),
    Row("ReduceMax", distinct(2, 3, 4), {"keepdims": 0}),
    Row("ReduceProd", with_zeros(), {"keepdims": 0}),
    Row("ReduceProd", with_zeros((0, 1, 2)), {"keepdims": 1}),
    Row("ReduceProd", with_zeros((0, 1, 2), (1, 0, 0), (1, 2, 3))),
    Row("ReduceLogSum", lambda rng: [rng.uniform(1, 2, (2, 3)).astype(np.float32), ints(1)]),
    *(Row(op, arrays((2, 3, 4)), {"axis": axis}) for op in ("Softmax", "LogSoftmax") for axis in (-1, 1)),
    Row("CumSum", arrays((2, 5), fixed=[np.int64(1)])),
    Row("CumSum", arrays((2, 5), fixed=[np.int64(1)]), {"exclusive": 1, "reverse": 1}),
    Row("TopK", lambda rng: [*distinct(2, 7)(rng), ints(3)], {"axis": 1}, outputs=2, seeded=1),
]  # fmt: skip
NORMALIZATIONS = [
    Row("BatchNormalization", lambda rng: [*arrays(IMAGE, (3,), (3,), (3,))(rng),
                                           rng.uniform(0.5, 2, 3).astype(np.float32)], {"epsilon": 0.01}),
    Row("LayerNormalization", arrays((2, 3, 8), (8,), (8,))),
    Row("LayerNormalization", arrays((2, 3, 4), (3, 4)), {"axis": 1, "epsilon": 0.1}),
    Row("RMSNormalization", arrays((2, 3, 8), (8,)), opset=23),
    Row("InstanceNormalization", arrays(IMAGE, (3,), (3,))),
    Row("GroupNormalization", arrays((2, 4, 3, 3), (4,), (4,)), {"num_groups": 2}, opset=21),
    Row("LpNormalization", arrays((2, 3, 4)), {"axis": 1}),
    Row("LpNormalization", arrays((2, 3, 4)), {"axis": -1, "p": 1}),
    Row("MeanVarianceNormalization", arrays(IMAGE), {"axes": [2, 3]}),
    Row("LRN", arrays((2, 7, 2, 3)), {"size": 5, "alpha": 0.5, "beta": 0.75, "bias": 2.0}),
    Row("LRN", arrays((2, 6, 2, 3)), {"size": 3}),
]  # fmt: skip
SHAPES = [
    Row("Reshape", arrays((2, 3, 4), fixed=[ints(0, -1)])),
    Row("Flatten", arrays((2, 3, 4)), {"axis": 2}),
    Row("Squeeze", arrays((2, 1, 4), fixed=[ints(1)])),
    Row("Unsqueeze", arrays((2, 4), fixed=[ints(1, -1)])),
    Row("Transpose", arrays((2, 3, 4)), {"perm": [2, 0, 1]}),
    Row("Transpose", arrays((2, 3, 4))),
    Row("Expand", arrays((2, 1, 4), fixed=[ints(3, 2, 3, 1)])),
    Row("Tile", arrays((2, 3), fixed=[ints(2, 3)])),
    *(Row("Concat", arrays((2, 3, 4), (2, 1, 4), (2, 2, 4)), {"axis": 1}, wanted=i, computed=True) for i in (0, 1, 2)),
    Row("Split", arrays((2, 6), fixed=[ints(1, 3, 2)]), {"axis": 1}, outputs=3),
    Row("Split", arrays((2, 7)), {"axis": -1, "num_outputs": 3}, outputs=3),
    Row("Split", arrays((2, 6), fixed=[ints(1, 3, 2)]), {"axis": 1}, outputs=3, seeded=1),
    Row("Slice", arrays((3, 5, 4), fixed=[ints(1, 0), ints(4, 2**62), ints(1, 2)])),
    Row("Slice", arrays((3, 5, 4), fixed=[ints(-4), ints(-1), ints(1)])),
    Row("Slice", arrays((3, 5, 4), fixed=[ints(-9), ints(3), ints(1)])),
    Row("Slice", arrays((3, 5, 4), fixed=[ints(4, 0), ints(-9, 4), ints(1, 2), ints(-2, 3)])),
    Row("Gather", arrays((3, 5), fixed=[ints(4, 0, 4, -2)]), {"axis": 1}),
    Row("Gather", arrays((3, 5), fixed=[np.int64(2)]), {"axis": 0}),
    Row("Gather", arrays((3, 5, 2), fixed=[np.int64(-1)]), {"axis": 1}),
    Row("GatherElements", arrays((3, 2), fixed=[np.array([[0, 2], [2, 2]])]), {"axis": 0}),
    Row("GatherND", arrays((3, 2), fixed=[np.array([[0, 1], [2, 0], [0, 1]])])),
    Row("Compress", arrays((3, 4), fixed=[np.array([True, False, True])]), {"axis": 0}),
    Row("Pad", arrays((2, 3, 4), fixed=[ints(0, 1, 2, 0, 0, 1)])),
    Row("Pad", arrays((2, 5, 4), fixed=[ints(0, -1, 2, 0, 1, -1)])),
    Row("Pad", arrays((2, 3, 4), fixed=[ints(1, 2), np.float32(3), ints(-1)])),
    Row("Pad", arrays((2, 3, 4), fixed=[ints(0, 2, 1, 0, 1, 2)]), {"mode": "reflect"}),
    Row("Pad", arrays((2, 3, 4), fixed=[ints(0, 2, 1, 0, 1, 2)]), {"mode": "edge"}),
    *(Row("DepthToSpace", arrays((2, 8, 2, 3)), {"blocksize": 2, "mode": mode}) for mode in ("DCR", "CRD")),
    Row("SpaceToDepth", arrays((2, 2, 4, 6)), {"blocksize": 2}),
    Row("Trilu", arrays((3, 4))),
    Row("ReverseSequence", arrays((4, 2, 3), fixed=[ints(3, 2)]), {"time_axis": 0, "batch_axis": 1}),
    Row("ScatterElements", arrays((3, 3), fixed=[np.array([[0, 2, 1]]), floats(1, 2, 3)[None]])),
    Row("ScatterElements", lambda rng: [rng.normal(size=(3, 3)).astype(np.float32), np.array([[0, 2, 1]]),
                                        rng.normal(size=(1, 3)).astype(np.float32)], wanted=2, computed=True),
    Row("ScatterND", arrays((4, 2), fixed=[np.array([[1], [3]]), np.ones((2, 2), np.float32)])),
    Row("ScatterND", lambda rng: [rng.normal(size=(4, 2)).astype(np.float32), np.array([[1], [3]]),
                                  rng.normal(size=(2, 2)).astype(np.float32)], wanted=2, computed=True),
    *(Row("Resize", arrays((2, 3, 4, 5), fixed=[None, scales, sizes]), attributes)
      for scales, sizes, attributes in (
        (floats(1, 1, 2, 2), None, {"mode": "nearest", "coordinate_transformation_mode": "asymmetric",
                                    "nearest_mode": "floor"}),
        (floats(1, 1, 2, 3), None, {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}),
        (floats(1, 1, 1.5, 0.7), None, {"mode": "linear"}),
        (None, ints(2, 3, 7, 3), {"mode": "linear", "coordinate_transformation_mode": "align_corners"}),
        (None, ints(2, 3, 8, 9), {"mode": "cubic"}),
        (None, ints(2, 3, 7, 8), {"mode": "nearest"}),
        (None, ints(2, 3, 2, 3), {"mode": "linear", "antialias": 1}),
        (floats(1.7), None, {"mode": "linear", "axes": [-1]}),
        (None, ints(7, 3), {"mode": "cubic", "axes": [3, 2]}),
        (floats(1, 2, 2, 1), None, {"mode": "nearest", "coordinate_transformation_mode": "asymmetric",
                                    "nearest_mode": "floor"}),
      )),
    Row("Resize", arrays((2, 3, 5), fixed=[None, None, ints(2, 3, 8)]), {"mode": "linear"}),
    Row("Resize", arrays((1, 2, 2, 3, 4), fixed=[None, floats(1, 1, 2, 1, 2)]), {"mode": "linear"}),
]  # fmt: skip


def sampled(picture: tuple[int, ...], grid: tuple[int, ...]) -> Make:
    """A picture, and places within it and around it."""
    return lambda rng: [rng.normal(size=picture).astype(np.float32), rng.uniform(-1.6, 1.6, grid).astype(np.float32)]


def regions(rng: np.random.Generator) -> list[Any]:
    """Features, and regions within, across the border, smaller than a pixel; of the second picture twice."""
    whole = np.array([[1, 2, 9, 14], [-3, 0, 25, 6], [4, 4, 4.2, 4.3], [5, 3, 13, 11]])
    places = whole + rng.uniform(0.3, 0.6, (4, 4))
    return [rng.normal(size=(2, 3, 10, 9)).astype(np.float32), places.astype(np.float32), ints(0, 1, 1, 0)]


def deformed(group: int, shared: int) -> Make:
    """A picture of 6 x 7, weights of 3 x 2, offsets, bias, mask, for the attributes below."""
    shapes = (2, 4, 6, 7), (6, 4 // group, 3, 2), (2, shared * 12, 3, 6), (6,), (2, shared * 6, 3, 6)
    return lambda rng: [rng.normal(size=shape).astype(np.float32) for shape in shapes]


SAMPLING = [
    *(Row("GridSample", sampled((2, 3, 5, 4), (2, 3, 4, 2)),
          {"mode": mode, "padding_mode": padding, "align_corners": corners}, wanted=i, opset=20, computed=True)
      for mode in ("linear", "nearest", "cubic") for padding in ("zeros", "border", "reflection")
      for corners in (0, 1) for i in (0, 1)),
    *(Row("GridSample", sampled((2, 2, 3, 5, 3), (2, 2, 3, 2, 3)), wanted=i, opset=20, computed=True) for i in (0, 1)),
    Row("GridSample", sampled((2, 3, 5, 4), (2, 3, 4, 2)), {"mode": "bicubic"}, opset=16),
    Row("AffineGrid", arrays((2, 2, 3), fixed=[ints(2, 3, 4, 5)]), opset=20),
    Row("AffineGrid", arrays((2, 3, 4), fixed=[ints(2, 3, 4, 5, 2)]), {"align_corners": 1}, opset=20),
    *(Row("RoiAlign", regions,
          {"output_height": 3, "output_width": 2, "sampling_ratio": ratio, "spatial_scale": 0.5,
           "coordinate_transformation_mode": mode}, wanted=i, opset=16, computed=True)
      for ratio in (0, 2) for mode in ("half_pixel", "output_half_pixel") for i in (0, 1)),
    *(Row("DeformConv", deformed(group, shared),
          {"strides": [2, 1], "pads": [1, 0, 1, 1], "dilations": [1, 2], "group": group, "offset_group": shared},
          wanted=i, opset=19, computed=True)
      for group, shared in ((1, 1), (2, 2), (1, 2)) for i in (0, 2, 4)),
]  # fmt: skip
WRITTEN_OUT = [
    *(Row("Attention", arrays((2, 3, 5, 4), (2, 3, 6, 4), (2, 3, 6, 4)), wanted=i, opset=23, computed=True)
      for i in (0, 1, 2)),
    *(Row("Attention", arrays((2, 3, 5, 4), (2, 3, 6, 4), (2, 3, 6, 4), (5, 6)),
          {"is_causal": 1, "softcap": 2.0, "scale": 0.3}, wanted=i, opset=24, computed=True) for i in (0, 3)),
    Row("Attention", lambda rng: [*arrays((2, 5, 12), (2, 6, 4), (2, 6, 4))(rng), rng.random((5, 6)) > 0.3],
        {"q_num_heads": 3, "kv_num_heads": 1}, opset=23),
    Row("RotaryEmbedding", arrays((2, 3, 5, 8), (2, 5, 2), (2, 5, 2)), {"rotary_embedding_dim": 4, "interleaved": 1},
        opset=23),
    Row("RotaryEmbedding", lambda rng: [*arrays((2, 5, 24), (10, 4), (10, 4))(rng), rng.integers(0, 10, (2, 5))],
        {"num_heads": 3}, opset=23),
    Row("CenterCropPad", arrays((2, 3, 7, 8), fixed=[ints(10, 5)]), {"axes": [2, 3]}),
]  # fmt: skip
SPECTRA = [
    *(Row("DFT", arrays(shape, fixed=[None if length is None else np.int64(length), *([np.int64(1)] * (opset > 17))]),
          {**attributes, **({} if opset > 17 else {"axis": 1})}, opset=opset)
      for opset in (17, 20) for shape, length, attributes in (
        ((2, 6, 1), None, {}), ((2, 6, 3, 2), 4, {}), ((2, 6, 1), 9, {"onesided": 1}), ((2, 6, 2), 9, {"inverse": 1}),
      )),
]  # fmt: skip
ROWS = [
    *POINTWISE, *ARITHMETIC, *MATRICES, *WINDOWS, *REDUCTIONS, *NORMALIZATIONS, *SHAPES, *SAMPLING, *SPECTRA,
    *WRITTEN_OUT,
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_written_gradient_is_the_derivative(row: Row) -> None:
    for seed in range(3):
        inputs = row.make(np.random.default_rng(seed))
        error = finite_difference_error(
            row.op, inputs, row.attributes, wanted=row.wanted, outputs=row.outputs, seeded=row.seeded,
            opset=row.opset, computed=row.computed, seed=seed,
        )  # fmt: skip
        assert error < 2e-4


def test_every_row_of_the_table_is_tested() -> None:
    elsewhere = {"QuickGelu", "LSTM", "GRU", "RNN", "DynamicQuantizeLSTM", *QUANTIZATION}
    assert {row.op for row in ROWS} | elsewhere == set(GRADIENTS) | EXPANDED
    assert not CONSTANT & set(GRADIENTS)


_EDGES: dict[str, tuple[list[float], list[Any], dict[str, Any]]] = {
    "Relu": ([-1, 0, 1], [], {}),
    "ReLU6": ([-1, 0, 3, 6, 7], [np.float32(0), np.float32(6)], {}),
    "Clip": ([-1, 0, 3, 6, 7], [np.float32(0)], {}),
    "LeakyRelu": ([-1, 0, 1], [], {}),
    "PRelu": ([-1, 0, 1], [floats(0.3)], {}),
    "Elu": ([-1, 0, 1], [], {"alpha": 0.5}),
    "Selu": ([-1, 0, 1], [], {}),
    "Celu": ([-1, 0, 1], [], {"alpha": 0.5}),
    "HardSigmoid": ([-3, -2.5, 0, 2.5, 3], [], {}),
    "HardSwish": ([-4, -3, 0, 3, 4], [], {}),
    "Abs": ([-1, 0, 1], [], {}),
    "ThresholdedRelu": ([0, 1, 2], [], {}),
    "Softplus": ([-100, -20, 0, 20, 100], [], {}),
    "Max": ([-1, 0, 1], [floats(0)], {}),
    "Min": ([-1, 0, 1], [floats(0)], {}),
    "LpNormalization": ([0, 0, 0], [], {"axis": 1}),
    "ReduceMax": ([1, 2, 2], [ints(1)], {}),
    "ReduceMin": ([1, 1, 2], [ints(1)], {}),
    "ReduceL2": ([0, 0, 0], [ints(1)], {}),
}


@pytest.mark.parametrize("name", _EDGES)
def test_at_a_kink_the_gradient_is_torch_s(name: str) -> None:
    values, rest, attributes = _EDGES[name]
    x = np.array([values], dtype=np.float32)
    model = model_of("Clip" if name == "ReLU6" else name, [x, *rest], attributes)
    upstream = [np.ones_like(v) for v in outputs_of(model, [x, *rest])]
    found = written(model, [x, *rest], "i0", upstream)
    np.testing.assert_allclose(found, Truth(model, [x, *rest], "i0", upstream).autograd(), atol=1e-6)


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1], "ceil_mode": 1},
    ],
    ids=str,
)
def test_of_equal_values_the_first_wins_in_a_pool_as_in_torch(attributes: dict[str, Any]) -> None:
    x = np.random.default_rng(0).integers(0, 2, (2, 2, 6, 6)).astype(np.float32)  # ties everywhere
    model = model_of("MaxPool", [x], attributes)
    (y,) = outputs_of(model, [x])
    upstream = [np.random.default_rng(1).normal(size=y.shape).astype(np.float32)]
    found = written(model, [x], "i0", upstream)
    np.testing.assert_allclose(found, Truth(model, [x], "i0", upstream).autograd(), atol=1e-5)


@st.composite
def _windows(draw: st.DrawFn) -> tuple[tuple[int, int], dict[str, Any]]:
    kernel = [draw(st.integers(1, 3)) for _ in range(2)]
    strides = [draw(st.integers(1, 3)) for _ in range(2)]
    dilations = [draw(st.integers(1, 2)) for _ in range(2)]
    pads = [draw(st.integers(0, (k - 1) * d)) for k, d in zip(kernel * 2, dilations * 2, strict=True)]
    size = (draw(st.integers(6, 10)), draw(st.integers(6, 10)))
    return size, {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": pads}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(_windows(), st.sampled_from(["Conv", "ConvTranspose", "MaxPool", "AveragePool"]), st.booleans())
def test_any_window_has_the_right_gradient(window: tuple[tuple[int, int], dict[str, Any]], op: str, flag: bool) -> None:
    size, attributes = window
    rng = np.random.default_rng(0)
    inputs = [*distinct(1, 2, *size)(rng)]
    if op.startswith("Conv"):
        inputs.append(rng.normal(size=(2, 2, *attributes["kernel_shape"])).astype(np.float32))
    elif op == "AveragePool":
        attributes = {**attributes, "count_include_pad": int(flag)}
    if op != "ConvTranspose" and any(
        p >= k for p, k in zip(attributes["pads"], attributes["kernel_shape"] * 2, strict=True)
    ):
        attributes = {**attributes, "pads": [0] * 4}  # a pool whose window holds padding alone
    if op == "ConvTranspose" and any(
        (n - 1) * s + (k - 1) * d + 1 - a - b < 1
        for n, s, k, d, a, b in zip(
            size, attributes["strides"], attributes["kernel_shape"], attributes["dilations"], attributes["pads"][:2],
            attributes["pads"][2:], strict=True,
        )
    ):  # fmt: skip
        return
    assert finite_difference_error(op, inputs, attributes, opset=19) < 2e-4


def test_one_file_holds_for_every_image_size() -> None:
    """The nodes are written from one example and run on others."""
    weight = np.random.default_rng(0).normal(size=(3, 2, 3, 3)).astype(np.float32)
    example = np.zeros((2, 2, 8, 8), dtype=np.float32)
    model = model_of("Conv", [example, weight], {"strides": [2, 2], "pads": [1, 1, 0, 0]})
    for dim in model.graph.input[0].type.tensor_type.shape.dim:
        dim.ClearField("dim_value")
    twin = TwinFactory(model)(("y0",), ("i0",))
    writer = Writer(18)
    found = backward(model.graph.node, writer, Trace(model, {"i0": example}), "i0", {"y0": writer.value("y0")})
    model.graph.node.extend(writer.nodes)
    model.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in writer.constants.items())
    model.graph.output.append(helper.make_empty_tensor_value_info(found.gradient.name))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for shape in ((1, 2, 8, 8), (3, 2, 9, 12), (1, 2, 11, 7)):
        x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
        point = torch.from_numpy(x).requires_grad_()
        (expected,) = torch.autograd.grad((twin.only(point) ** 2).sum() / 2, point)
        np.testing.assert_allclose(session.run(None, {"i0": x})[1], expected.numpy(), rtol=1e-4, atol=1e-4)


def test_a_value_that_only_takes_the_picture_s_data_type_is_a_constant() -> None:
    """torch's exporter writes the scale of a group norm so."""
    x = np.random.default_rng(0).normal(size=(2, 3, 7)).astype(np.float32)
    model = model_of("InstanceNormalization", [x, np.ones(3, np.float32), np.zeros(3, np.float32)], {})
    node = model.graph.node.pop()
    cast = helper.make_node("CastLike", ["i1", "i0"], ["scale"], "cast")
    node.input[1] = "scale"
    model.graph.node.extend([cast, node])
    upstream = [np.random.default_rng(1).normal(size=x.shape).astype(np.float32)]
    expected = Truth(model, [x], "i0", upstream).autograd()
    np.testing.assert_allclose(written(model, [x], "i0", upstream), expected, atol=1e-5 * np.abs(expected).max())
