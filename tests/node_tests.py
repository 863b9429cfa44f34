"""The ONNX backend node tests of every operator that occurs in CNNs, run through the twin.

Each test is one node with inputs and expected outputs. It is run in three forms:

- ``constant``: the inputs after the first are the model's weights; the twin alone, nothing normalized;
- ``computed``: every input is fed while the model runs; the twin alone;
- ``imported``: as ``constant``, but loaded as a file would be, with every pass of the normalization.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper

import convscope
from convscope.adapters.twin.build import TwinFactory
from convscope.errors import ConvscopeError, UnsupportedOperator

FORMS = ("constant", "computed", "imported")

# Operators of CNNs as exporters write them, by family; one without a converter has to say so by name.
FAMILIES: dict[str, str] = {
    "convolution": "Conv ConvTranspose ConvInteger QLinearConv DeformConv",
    "pooling": "MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool MaxUnpool RoiAlign MaxRoiPool",
    "normalization": "BatchNormalization InstanceNormalization GroupNormalization LayerNormalization "
    "RMSNormalization LRN LpNormalization MeanVarianceNormalization",
    "activation": "Relu LeakyRelu PRelu Elu Selu Celu Clip Sigmoid HardSigmoid HardSwish Swish Mish Gelu Tanh Softplus "
    "Softsign ThresholdedRelu Shrink Erf Softmax LogSoftmax Hardmax Dropout",
    "arithmetic": "Add Sub Mul Div Pow Mod Abs Neg Sqrt Exp Log Reciprocal Floor Ceil Round Sign Sin Cos Tan Asin Acos "
    "Atan Sinh Cosh Asinh Acosh Atanh Sum Max Min Mean And Or Xor Not Equal Greater GreaterOrEqual Less LessOrEqual "
    "Where IsNaN IsInf BitShift BitwiseAnd BitwiseOr BitwiseXor BitwiseNot Cast CastLike Identity",
    "matrix": "MatMul Gemm Einsum Det MatMulInteger QLinearMatMul",
    "reduction": "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum "
    "ReduceLogSumExp ArgMax ArgMin CumSum CumProd TopK NonZero",
    "shape": "Reshape Flatten Squeeze Unsqueeze Transpose Expand Tile Concat Split Slice Shape Size Constant "
    "ConstantOfShape Range DepthToSpace SpaceToDepth Trilu EyeLike CenterCropPad Col2Im Compress",
    "indexing": "Gather GatherElements GatherND Scatter ScatterElements ScatterND OneHot NonMaxSuppression",
    "sampling": "Resize Upsample Pad GridSample AffineGrid",
    "recurrence": "LSTM GRU RNN ReverseSequence",
    "attention": "Attention RotaryEmbedding",
    "signal": "DFT STFT MelWeightMatrix HannWindow HammingWindow BlackmanWindow",
    "quantization": "QuantizeLinear DequantizeLinear DynamicQuantizeLinear",
}
OPERATORS = {op: family for family, ops in FAMILIES.items() for op in ops.split()}


@dataclasses.dataclass(frozen=True)
class NodeTest:
    """One node with its inputs and the expected outputs, both by tensor name."""

    name: str
    op: str
    model: onnx.ModelProto
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    rtol: float
    atol: float


@cache
def node_tests() -> tuple[NodeTest, ...]:
    """Every node test of `OPERATORS` that onnx generates."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the expected values of the tests hold infinities on purpose
        cases = load_model_tests(kind="node")
    return tuple(test for case in cases if (test := _node_test(case)) is not None)


def _node_test(case: Any) -> NodeTest | None:
    graph = case.model.graph
    if len(graph.node) != 1 or graph.node[0].domain not in ("", "ai.onnx") or graph.node[0].op_type not in OPERATORS:
        return None
    given, expected = case.data_sets[0]
    if any(isinstance(v, (list, tuple, dict)) or v is None for v in (*given, *expected)):
        return None  # sequences and optionals
    inputs = {i.name: _array(v) for i, v in zip(graph.input, given, strict=True)}
    outputs = {o.name: _array(v) for o, v in zip(graph.output, expected, strict=True)}
    return NodeTest(case.name, graph.node[0].op_type, case.model, inputs, outputs, case.rtol, case.atol)


def _array(value: Any) -> np.ndarray:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def outcome(test: NodeTest, form: str) -> str:
    """What became of a test.

    Returns:
        "passed"; "refused: ..." by the operator's or the data type's name; "contested: ..." where ONNX Runtime
        computes something else than the test expects and the twin computes what ONNX Runtime computes (a model is
        what its users run); or "wrong: ...".
    """
    try:
        found = _run(test, form)
    except UnsupportedOperator as error:
        return f"refused: {error}" if test.op in str(error) or "data type" in str(error) else f"wrong: {error}"
    except ConvscopeError as error:
        return f"refused: {error}"
    except Exception as error:  # whatever breaks inside the twin is a fault to be reported
        return f"wrong: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    for name, expected in test.outputs.items():
        problem = _difference(found[name], expected, test)
        if problem:
            runtime = _onnx_runtime(test)
            same = runtime is not None and all(_difference(found[n], v, test) is None for n, v in runtime.items())
            return f"{'contested' if same else 'wrong'}: {name}: {problem}"
    return "passed"


def _onnx_runtime(test: NodeTest) -> dict[str, np.ndarray] | None:
    """ONNX Runtime's own values, or None where it cannot run the test."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(test.model.SerializeToString(), providers=["CPUExecutionProvider"])
        values = session.run(None, test.inputs)
    except Exception:  # onnxruntime's errors have no common base
        return None
    return dict(zip(test.outputs, values, strict=True))


def _run(test: NodeTest, form: str) -> dict[str, np.ndarray]:
    model = test.model if form == "computed" else _with_weights(test)
    feeds = {i.name: test.inputs[i.name] for i in model.graph.input}
    outputs = tuple(test.outputs)
    if form != "imported":
        twin = TwinFactory(model)(outputs, tuple(feeds))
        with torch.no_grad():
            return {k: v.numpy() for k, v in twin({k: _tensor(v) for k, v in feeds.items()}).items()}
    # these are operators, not networks that take pictures
    with patch("convscope.adapters.normalize.passes.settle_inputs") if model.graph.input else nullcontext():
        graph = convscope.load(model, check=False)
    names = {name: graph.aliases.get(name, name) for name in outputs}
    turned = {k: v.transpose(graph.permuted[k]) if k in graph.permuted else v for k, v in feeds.items()}
    twin = graph.twin(list(dict.fromkeys(names.values())))
    twin.alone = False  # nor batches of pictures
    with torch.no_grad():
        found = twin({k: _tensor(v) for k, v in turned.items() if k in twin.input_names})
    return {name: _turned_back(found[t].numpy(), graph.permuted.get(t)) for name, t in names.items()}


def _with_weights(test: NodeTest) -> onnx.ModelProto:
    """The model with every input after the first as a weight."""
    model = onnx.ModelProto()
    model.CopyFrom(test.model)
    weights = [i.name for i in model.graph.input[1:]]
    model.graph.initializer.extend(numpy_helper.from_array(test.inputs[name], name) for name in weights)
    del model.graph.input[1:]
    return model


def _tensor(value: np.ndarray) -> torch.Tensor:
    """As the canonical graph has it: floating values in float32."""
    try:
        tensor = torch.from_numpy(np.array(value))
    except TypeError:
        raise UnsupportedOperator(f"numpy data type {value.dtype} does not exist in torch") from None
    return tensor.float() if tensor.is_floating_point() else tensor


def _turned_back(value: np.ndarray, axes: Sequence[int] | None) -> np.ndarray:
    return value if axes is None else value.transpose(np.argsort(axes))


def _difference(found: np.ndarray, expected: np.ndarray, test: NodeTest) -> str | None:
    """What differs; data types may (quantized whole numbers are held as floats), shapes and values may not."""
    if found.shape != expected.shape:
        return f"shape {found.shape} instead of {expected.shape}"
    narrow = expected.dtype == np.float16 or expected.dtype.name == "bfloat16"
    a, b = found.astype(np.float64), expected.astype(np.float64)
    # narrow types round each step, which float32 does not
    rtol = max(test.rtol, 1e-2) if narrow else test.rtol
    atol = max(test.atol, 1e-2 if narrow else 1e-6)
    if np.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True):
        return None
    with np.errstate(invalid="ignore"):
        return f"differs by {np.nanmax(np.abs(a - b)):.2g}"


def outcomes(form: str) -> Iterator[tuple[NodeTest, str]]:
    """Every test's outcome in one form."""
    for test in node_tests():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield test, outcome(test, form)
