"""What is known of every operator: one row each, read by everything that has to tell operators apart.

A trait that a row leaves out is None, which means *unknown*, never harmless: who asks for a trait has to do the careful
thing where it is None (see the whole picture, run pictures one by one, keep the node).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import onnx

MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Operator:
    """A row of the table.

    Attributes:
        family: "convolution", "dense", "pool" (a sliding window), "global pool", "activation", "function" (other
            elementwise functions of one tensor), "arithmetic" (of several tensors), "logic" (results that are no
            numbers to explain), "softmax", "normalization", "reduction", "movement", "sampling", "quantization",
            "scan" (running sums), "recurrent", "size", "constant", "selection" (indices, order statistics),
            "attention", "signal", "chance".
        positions: what one row and column of the result reads of the first input: "kept" the same row and column,
            "window" a window about it, "moved" others that its attributes tell, "all" the whole picture.
        batch: "separate" where a picture's result does not depend on the other pictures of its batch, "by axis"
            where that depends on the operator's axes, shapes or mode, "mixed" where it does depend.
        elementwise: each value of the result comes from one value of each input.
        broadcasts: its inputs are broadcast against one another.
        linear: affine in its first input while the others stay.
        preserves: the result holds every value of the first input once, moved or in another type at most.
        neutral: only moves, drops, repeats or retypes values, and exporters differ in whether they write it.
        gate: holds a gradient back where its input is out of a range, and is the identity inside it.
        rectifier: a gate that is meant by "ReLU" in guided backpropagation and its like.
        signed: its values are those before an activation, of either sign.
        head: "softmax", "log softmax" or "sigmoid": makes probabilities of logits.
        range: least and largest value of its result.
        channels: axis of the channels in the result: "first" axis 1, "last" the last axis, "kept" the input's.
        gradient: whether there is a gradient through it.
        exact: whether a value's bits are the same in every place of the batch on a CPU: True for what IEEE 754 rounds
            alike everywhere, and for what was measured to be so.
        numbers: the places of inputs that are read as numbers (sizes, axes, positions).
        folds: how large a result of constants can be: "bounded" by the inputs, or "growing" with a number in them.
        unguided: the places of inputs that no gradient passes, while it passes others.
        chance: its result is drawn by chance; of Dropout in training mode, the only form without a converter.
    """

    family: str | None = None
    positions: str | None = None
    batch: str | None = None
    elementwise: bool | None = None
    broadcasts: bool | None = None
    linear: bool | None = None
    preserves: bool | None = None
    neutral: bool | None = None
    gate: bool | None = None
    rectifier: bool | None = None
    signed: bool | None = None
    head: str | None = None
    range: tuple[float, float] | None = None
    channels: str | None = None
    gradient: bool | None = None
    exact: bool | None = None
    numbers: tuple[int, ...] | None = None
    folds: str | None = None
    unguided: tuple[int, ...] | None = None
    chance: bool | None = None


UNKNOWN = Operator()
OPERATORS: dict[tuple[str, str], Operator] = {}


def operator(node: onnx.NodeProto) -> Operator:
    """The node's row; `UNKNOWN` where there is none."""
    return OPERATORS.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type), UNKNOWN)


def named(op: str) -> Operator:
    """The row of an operator of ONNX itself by its name; `UNKNOWN` where there is none."""
    return OPERATORS.get(("", op), UNKNOWN)


def names(chosen: Callable[[Operator], Any]) -> tuple[str, ...]:
    """The names of ONNX's own operators whose row is chosen, in the table's order."""
    return tuple(op for (domain, op), row in OPERATORS.items() if not domain and chosen(row))


def _rows(family: str, ops: str, domain: str = "", **traits: Any) -> None:
    for op in ops.split():
        OPERATORS[domain, op] = Operator(family, **traits)


def _also(ops: str, domain: str = "", **traits: Any) -> None:
    for op in ops.split():
        OPERATORS[domain, op] = replace(OPERATORS[domain, op], **traits)


_ELEMENTWISE: dict[str, Any] = {"positions": "kept", "batch": "separate", "elementwise": True, "channels": "kept"}
_ONE = {**_ELEMENTWISE, "broadcasts": False}
_MANY = {**_ELEMENTWISE, "broadcasts": True}
_MOVED: dict[str, Any] = {"positions": "moved", "exact": True, "linear": True, "gradient": True}

# Functions of one tensor, value by value.
_rows(
    "activation",
    "Relu Clip ThresholdedRelu LeakyRelu HardSigmoid HardSwish Softsign",
    **_ONE,
    gradient=True,
    exact=True,
)
_rows("activation", "Elu Selu Celu Gelu Sigmoid Tanh Softplus Mish Swish Erf", **_ONE, gradient=True)
_rows("activation", "PRelu", **_MANY, gradient=True, exact=True)
_rows("activation", "Shrink", **_ONE, gradient=True, exact=True)
_rows("activation", "Gelu QuickGelu", MICROSOFT, **_ONE, gradient=True)
_rows("function", "Abs Sqrt Reciprocal", **_ONE, gradient=True, exact=True)
_rows("function", "Exp Log Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh", **_ONE, gradient=True)
_rows("function", "Neg", **_ONE, gradient=True, exact=True, linear=True)
_rows("function", "Ceil Floor Round Sign", **_ONE, gradient=False, exact=True)
_rows("logic", "Not IsNaN IsInf BitwiseNot", **_ONE, gradient=False, exact=True)

# Functions of several tensors, value by value.
_rows("arithmetic", "Add Sub", **_MANY, gradient=True, exact=True, linear=True, signed=True)
_rows("arithmetic", "Mul", **_MANY, gradient=True, exact=True)
_rows("arithmetic", "Div Max Min Sum Mean", **_MANY, gradient=True, exact=True)
_rows("arithmetic", "Pow Mod", **_MANY, gradient=True)
_rows("arithmetic", "Where", **_MANY, gradient=True, exact=True)
_rows("logic", "And Or Xor Equal Greater GreaterOrEqual Less LessOrEqual", **_MANY, gradient=False, exact=True)
_rows("logic", "BitShift BitwiseAnd BitwiseOr BitwiseXor", **_MANY, gradient=False, exact=True)

# Weights.
_WEIGHTS: dict[str, Any] = {"batch": "separate", "linear": True, "gradient": True}
_rows("convolution", "Conv", positions="window", channels="first", exact=True, signed=True, **_WEIGHTS)
_rows("convolution", "ConvTranspose", positions="moved", channels="first", exact=True, signed=True, **_WEIGHTS)
_rows("convolution", "DeformConv", positions="all", channels="first", exact=True, signed=True, batch="separate",
      gradient=True)  # fmt: skip
_rows("convolution", "QLinearConv ConvInteger", positions="window", channels="first", batch="separate", exact=True)
_rows("dense", "Gemm", positions="all", channels="first", batch="separate", linear=True, gradient=True)
_rows("dense", "MatMul", positions="moved", channels="last", batch="by axis", linear=True, gradient=True)
_rows("dense", "QLinearMatMul MatMulInteger", positions="moved", channels="last", batch="by axis")
_rows("dense", "Einsum", batch="by axis", gradient=True)

# Windows.
_POOL: dict[str, Any] = {"positions": "window", "batch": "separate", "channels": "first", "gradient": True}
_rows("pool", "MaxPool", **_POOL, exact=True)
_rows("pool", "AveragePool", **_POOL, exact=True, linear=True)
_rows("pool", "LpPool", **_POOL)
_WHOLE: dict[str, Any] = {"positions": "all", "batch": "separate", "channels": "first", "gradient": True}
_rows("global pool", "GlobalAveragePool", **_WHOLE, exact=True, linear=True)
_rows("global pool", "GlobalMaxPool", **_WHOLE, exact=True)
_rows("global pool", "GlobalLpPool", **_WHOLE)
_rows("global pool", "QLinearGlobalAveragePool", MICROSOFT, positions="all", batch="separate", channels="first")
_rows("sampling", "MaxUnpool", positions="all", batch="by axis", channels="first", gradient=True)
_rows("sampling", "Col2Im", positions="all", batch="separate", channels="first", gradient=True, numbers=(1, 2))

# Statistics.
_rows("normalization", "BatchNormalization", positions="kept", batch="by axis", channels="first", gradient=True,
      linear=True, exact=True, signed=True)  # fmt: skip
_rows("normalization", "InstanceNormalization GroupNormalization", positions="all", batch="separate",
      channels="first", gradient=True, signed=True)  # fmt: skip
_rows("normalization", "LRN", positions="kept", batch="separate", channels="first", gradient=True)
_rows("normalization", "LayerNormalization RMSNormalization", positions="moved", batch="by axis", channels="last",
      gradient=True)  # fmt: skip
_rows("normalization", "LpNormalization", positions="moved", batch="by axis", channels="kept", gradient=True)
_rows("normalization", "MeanVarianceNormalization", positions="moved", batch="by axis", channels="first",
      gradient=True)  # fmt: skip
_rows("softmax", "Softmax", positions="moved", batch="by axis", channels="kept", gradient=True, head="softmax",
      range=(0.0, 1.0))  # fmt: skip
_rows("softmax", "LogSoftmax", positions="moved", batch="by axis", channels="kept", gradient=True, head="log softmax")
_rows("softmax", "Hardmax", positions="moved", batch="by axis", channels="kept", gradient=False, range=(0.0, 1.0))
_REDUCED: dict[str, Any] = {"positions": "moved", "batch": "by axis", "gradient": True, "numbers": (1,)}
_rows("reduction", "ReduceMean ReduceSum", **_REDUCED, exact=True, linear=True)
_rows("reduction", "ReduceMax ReduceMin", **_REDUCED, exact=True)
_rows("reduction", "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceProd ReduceSumSquare", **_REDUCED)
_rows("scan", "CumSum", positions="moved", batch="by axis", channels="kept", linear=True, gradient=True)
_rows("scan", "CumProd", positions="moved", batch="by axis", channels="kept", gradient=True)
_rows("reduction", "Det", positions="all", batch="by axis", gradient=True)

# What moves values.
_rows("movement", "Identity Dropout Cast", **_ONE, gradient=True, exact=True, linear=True, preserves=True, neutral=True)
_rows("movement", "CastLike", **_MANY, gradient=True, exact=True, linear=True, preserves=True, neutral=True)
_rows("movement", "Transpose Flatten", **_MOVED, batch="by axis", preserves=True, neutral=True)
_rows("movement", "Reshape Squeeze Unsqueeze", **_MOVED, batch="by axis", preserves=True, neutral=True)
_rows("movement", "Expand Slice Gather", **_MOVED, batch="by axis", neutral=True)
_rows("movement", "Concat Split", **_MOVED, batch="by axis", channels="kept")
_rows("movement", "Pad", **_MOVED, batch="by axis", channels="kept", numbers=(1, 2, 3, 4))
_rows("movement", "Tile CenterCropPad", **_MOVED, batch="by axis", channels="kept", numbers=(1,))
_rows("movement", "DepthToSpace SpaceToDepth", **_MOVED, batch="separate", channels="first", preserves=True)
_rows("movement", "GatherElements GatherND ScatterElements ScatterND Scatter", positions="all", batch="by axis",
      exact=True, gradient=True)  # fmt: skip
_rows("movement", "Trilu", positions="moved", batch="separate", exact=True, linear=True, gradient=True)
_rows("sampling", "Resize Upsample", positions="moved", batch="by axis", channels="first", linear=True, gradient=True,
      numbers=(1, 2, 3, 4))  # fmt: skip
_rows("sampling", "GridSample", positions="all", batch="separate", channels="first", gradient=True)
_rows("sampling", "AffineGrid", positions="all", batch="separate", gradient=True)
_rows("sampling", "RoiAlign MaxRoiPool", positions="all", batch="mixed", channels="first", gradient=True)

# Steps of a quantizer. Their scales stand for one axis at most, so that rows and columns stay.
_STEPS: dict[str, Any] = {"positions": "kept", "batch": "separate", "channels": "kept"}
_rows("quantization", "QuantizeLinear DequantizeLinear", **_STEPS, exact=True, gradient=True)
_rows("quantization", "QuantizeLinear DequantizeLinear", MICROSOFT, **_STEPS, exact=True, gradient=True)
_rows("quantization", "QLinearAdd QLinearMul QLinearLeakyRelu QLinearSigmoid", MICROSOFT, **_STEPS)
_rows("quantization", "QGemm", MICROSOFT, positions="all", batch="separate")
_rows("quantization", "QLinearConcat", MICROSOFT, positions="moved", batch="by axis", channels="kept")
_rows("quantization", "DynamicQuantizeLinear", positions="all", batch="mixed", channels="kept")

# Sequences: each step knows those before it.
_rows("recurrent", "LSTM GRU RNN", positions="all", batch="by axis", gradient=True)
_rows("movement", "ReverseSequence", positions="all", batch="by axis", channels="kept", exact=True, gradient=True)

# Tokens and signals.
_rows("attention", "Attention", positions="all", batch="separate", gradient=True)
_rows("attention", "RotaryEmbedding", positions="all", batch="separate", gradient=True)
_rows("signal", "DFT", positions="all", batch="by axis", linear=True, gradient=True)
_rows("signal", "STFT", positions="all", batch="separate", linear=True, gradient=True)
_rows("constant", "MelWeightMatrix HannWindow HammingWindow BlackmanWindow", batch="separate", gradient=False)
_rows("recurrent", "DynamicQuantizeLSTM", MICROSOFT, positions="all", batch="mixed")

# What has no gradient to the picture.
_rows("size", "Shape Size", positions="all", batch="separate", gradient=False, exact=True)
_rows("constant", "Constant ConstantOfShape Range EyeLike", batch="separate", gradient=False, exact=True)
_rows("selection", "ArgMax ArgMin", positions="moved", batch="by axis", gradient=False, exact=True)
_rows("selection", "TopK", positions="moved", batch="by axis", exact=True, numbers=(1,))
_rows("selection", "NonZero", positions="all", batch="mixed", gradient=False, exact=True)
_rows("selection", "Compress", positions="all", batch="mixed", exact=True)
_rows("selection", "NonMaxSuppression", positions="all", batch="mixed", gradient=False, exact=True)
_rows("selection", "OneHot", positions="all", batch="by axis", gradient=False, exact=True)

# Known to ONNX and not to the twin.
_rows("chance", "RandomNormal RandomUniform RandomNormalLike RandomUniformLike Bernoulli Multinomial", chance=True)

# Traits that cut across the families.
_also("Dropout", chance=True)
_also("Gather GatherElements GatherND ScatterElements ScatterND Scatter Compress", unguided=(1,))
_also("Where", unguided=(0,))
_also("Relu Clip ThresholdedRelu", gate=True)
_also("Relu Clip", rectifier=True)  # Clip is how ReLU6 is written
_also("Sigmoid", head="sigmoid", range=(0.0, 1.0))
_also("HardSigmoid", range=(0.0, 1.0))
_also("Tanh Erf Softsign Sin Cos", range=(-1.0, 1.0))
_also("QLinearSigmoid", MICROSOFT, range=(0.0, 1.0))
_also("Shape Constant", neutral=True)
_also("Reshape Expand Split", numbers=(1,))
_also("Slice", numbers=(1, 2, 3, 4))
_also("ConstantOfShape Expand Range Tile", folds="growing")
_also("Abs Add And ArgMax ArgMin BatchNormalization Cast CastLike Ceil Clip Concat Cos DequantizeLinear Div Equal Erf "
      "Exp Flatten Floor Gather Greater GreaterOrEqual Identity Less LessOrEqual Log MatMul Max Min Mod Mul Neg Not Or "
      "Pow QuantizeLinear Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu "
      "Reshape Round Shape Sigmoid Sign Sin Size Slice Softmax Softplus Split Sqrt Squeeze Sub Sum Tanh Transpose "
      "Unsqueeze Where", folds="bounded")  # fmt: skip


def rows() -> Iterator[tuple[str, str, Operator]]:
    """Every (domain, name, row), in the table's order."""
    yield from ((domain, op, row) for (domain, op), row in OPERATORS.items())
