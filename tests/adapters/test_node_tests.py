"""ONNX's own tests of every operator of CNNs, through the twin: right, or refused by name, never something else."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.node_tests import FORMS, NodeTest, outcomes

# passed in the form "constant", as measured with onnx 1.23.2 (docs/operators.md); a newer onnx only adds tests
MEASURED = """
Abs:1 Acos:2 Acosh:2 Add:5 AffineGrid:4 And:8 ArgMax:16 ArgMin:16 Asin:2 Asinh:2 Atan:2 Atanh:2 AveragePool:20
BatchNormalization:2 BitShift:22 BitwiseAnd:4 BitwiseNot:2 BitwiseOr:4 BitwiseXor:4 Cast:28 CastLike:14 Ceil:2
Celu:2 CenterCropPad:6 Clip:12 Col2Im:5 Compress:4 Concat:12 Constant:1 ConstantOfShape:3 Conv:6 ConvInteger:2
ConvTranspose:11 Cos:2 Cosh:2 CumProd:9 CumSum:9 DeformConv:4 DepthToSpace:2 DequantizeLinear:4 Det:2 Div:7
Dropout:8 DynamicQuantizeLinear:3 Einsum:6 Elu:3 Equal:8 Erf:1 Exp:2 Expand:2 EyeLike:3 Flatten:9 Floor:2
Gather:4 GatherElements:3 GatherND:3 Gelu:4 Gemm:11 GlobalAveragePool:2 GlobalMaxPool:2 Greater:5
GreaterOrEqual:5 GridSample:18 GroupNormalization:2 HardSigmoid:3 HardSwish:1 Hardmax:7 Identity:3
InstanceNormalization:2 IsInf:4 IsNaN:2 LRN:2 LayerNormalization:19 LeakyRelu:3 Less:5 LessOrEqual:5 Log:2
LogSoftmax:7 LpNormalization:6 LpPool:8 MatMul:7 MatMulInteger:1 Max:11 MaxPool:19 MaxUnpool:1 Mean:3
MeanVarianceNormalization:1 Min:11 Mish:1 Mod:16 Mul:9 Neg:2 NonZero:1 Not:3 OneHot:5 Or:8 PRelu:2 Pad:6 Pow:12
QLinearConv:1 QLinearMatMul:8 QuantizeLinear:8 RMSNormalization:19 Range:3 Reciprocal:2 ReduceL1:9 ReduceL2:9
ReduceLogSum:5 ReduceLogSumExp:9 ReduceMax:11 ReduceMean:8 ReduceMin:10 ReduceProd:9 ReduceSum:12
ReduceSumSquare:9 Relu:1 Reshape:10 Resize:37 Round:1 Scatter:2 ScatterElements:7 ScatterND:7 Selu:3 Shape:11
Shrink:2 Sigmoid:2 Sign:1 Sin:2 Sinh:2 Size:2 Slice:8 Softmax:7 Softplus:2 Softsign:2 SpaceToDepth:4 Split:16
Sqrt:2 Squeeze:2 Sub:6 Sum:3 Swish:1 Tan:2 Tanh:2 ThresholdedRelu:3 Tile:2 TopK:7 Transpose:7 Trilu:18
Unsqueeze:7 Upsample:1 Where:2 Xor:8
Attention:88 BlackmanWindow:2 DFT:10 HammingWindow:2 HannWindow:2 MelWeightMatrix:1 NonMaxSuppression:10
ReverseSequence:2 RoiAlign:3 RotaryEmbedding:8 STFT:2
"""
FLOOR = {op: int(count) for op, count in (entry.split(":") for entry in MEASURED.split())}

# ONNX's tests take the unrounded size for align_corners; ONNX Runtime and torch take the whole one, and so do we
CONTESTED = {"test_resize_downsample_scales_linear_align_corners", "test_resize_downsample_scales_cubic_align_corners"}
# a graph without input, one of opset 1, and sizes that pixels would choose are no models to import
NO_MODEL = {
    "Constant", "ConstantOfShape", "Not", "Range", "HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix",
}  # fmt: skip


@pytest.fixture(scope="module", params=FORMS)
def results(request: pytest.FixtureRequest) -> tuple[str, list[tuple[NodeTest, str]]]:
    """The form and every test's outcome in it."""
    return request.param, list(outcomes(request.param))


def test_no_operator_computes_something_else(results: tuple[str, list[tuple[NodeTest, str]]]) -> None:
    form, found = results
    assert len(found) > 1000, form
    assert {test.name: text for test, text in found if text.startswith("wrong")} == {}
    assert {test.name for test, text in found if text.startswith("contested")} <= CONTESTED


def test_each_operator_passes_as_many_tests_as_measured(results: tuple[str, list[tuple[NodeTest, str]]]) -> None:
    form, found = results
    if form == "computed":
        pytest.skip("axes, sizes and zero points that are computed while the model runs may be refused")
    excused = NO_MODEL if form == "imported" else set()
    passed = Counter(test.op for test, text in found if text == "passed")
    assert {op: passed[op] for op, least in FLOOR.items() if passed[op] < least and op not in excused} == {}


def test_what_is_refused_says_the_operator_or_the_data_type(
    results: tuple[str, list[tuple[NodeTest, str]]],
) -> None:
    _, found = results
    refused = [(test, text) for test, text in found if text.startswith("refused")]
    assert refused
    unnamed = {test.name: text for test, text in refused if test.op not in text and "data type" not in text}
    assert all("no input" in text or "opset 1 " in text for text in unnamed.values()), unnamed
