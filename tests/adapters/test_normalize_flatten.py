"""The flatten order of channels-last models moves into the dense weights, exactly, and only where nobody sees it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from convscope.adapters.normalize import Draft, normalize
from tests import tiny

RNG = np.random.default_rng(0)


def whole(*shape: int) -> np.ndarray:
    """Small integers as floats: sums are exact in any order, so that results must be equal to the bit."""
    return RNG.integers(-8, 9, shape).astype(np.float32)


def flat_model(
    between: list[onnx.NodeProto], weights: dict[str, np.ndarray], shape: tuple[int, int, int], outputs: tuple[str, ...]
) -> onnx.ModelProto:
    """x (N, C, H, W) - Relu - Transpose to channels-last - flat (N, K) - ``between``."""
    height, width, channels = shape
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["t", "flat_shape"], ["flat"]),
        *between,
    ]
    weights = {**weights, "flat_shape": np.array([-1, height * width * channels])}
    model = tiny.model(nodes, weights, ("N", channels, height, width))
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(o, onnx.TensorProto.FLOAT, None) for o in outputs)
    return model


def canonical_of(model: onnx.ModelProto) -> tuple[Draft, onnx.ModelProto, Counter[str]]:
    draft, canonical = normalize(onnx.ModelProto.FromString(model.SerializeToString()), layout="NCHW")
    return draft, canonical, Counter(n.op_type for n in canonical.graph.node)


def run(model: onnx.ModelProto, x: np.ndarray, names: tuple[str, ...]) -> list[np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(list(names), {"x": x}))


def assert_same_results(model: onnx.ModelProto, canonical: onnx.ModelProto, outputs: tuple[str, ...]) -> None:
    channels, height, width = (d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:])
    x = whole(3, channels, height, width)
    for expected, found in zip(run(model, x, outputs), run(canonical, x, outputs), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", [(2, 3, 4), (5, 1, 3), (1, 6, 2), (4, 4, 50), (7, 2, 5)])
@pytest.mark.parametrize("dense", ["Gemm", "Gemm transB", "MatMul and Add"])
def test_the_order_goes_into_the_weight(shape: tuple[int, int, int], dense: str) -> None:
    width = int(np.prod(shape))
    weight, transposed = whole(width, 6), dense == "Gemm transB"
    between = [helper.make_node("Gemm", ["flat", "fc.weight", "fc.bias"], ["y"], transB=int(transposed))]
    if dense == "MatMul and Add":
        between = [
            helper.make_node("MatMul", ["flat", "fc.weight"], ["m"]),
            helper.make_node("Add", ["m", "fc.bias"], ["y"]),
        ]
    weights = {"fc.weight": weight.T.copy() if transposed else weight, "fc.bias": whole(6)}
    model = flat_model(between, weights, shape, ("y",))
    draft, canonical, ops = canonical_of(model)
    assert ops["Transpose"] == 0
    assert "fc.weight" in {t.name for t in canonical.graph.initializer}  # its name says whose weight it is
    assert draft.aliases["flat"] in {o for n in canonical.graph.node for o in n.output}
    assert "flat" not in {o for n in canonical.graph.node for o in n.output}  # a name never changes its values
    assert_same_results(model, canonical, ("y",))


def test_constants_on_the_way_to_the_dense_layer_are_put_in_order_too() -> None:
    width = 3 * 4 * 5
    between = [
        helper.make_node("Relu", ["flat"], ["a"]),
        helper.make_node("Add", ["shift", "a"], ["b"]),
        helper.make_node("PRelu", ["b", "slope"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "scale", "bias", "mean", "var"], ["d"], epsilon=0.0),
        helper.make_node("Gemm", ["d", "w", "v"], ["y"]),
    ]
    weights = {name: whole(width) for name in ("slope", "scale", "bias", "mean")}
    weights |= {"shift": whole(1, width), "var": np.ones(width, np.float32), "w": whole(width, 4), "v": whole(4)}
    model = flat_model(between, weights, (3, 4, 5), ("y",))
    _, canonical, ops = canonical_of(model)
    assert ops["Transpose"] == 0
    assert_same_results(model, canonical, ("y",))


def test_heads_that_share_a_weight_all_get_the_order() -> None:
    between = [
        helper.make_node("Gemm", ["flat", "w"], ["one"]),
        helper.make_node("Relu", ["flat"], ["r2"]),
        helper.make_node("Gemm", ["r2", "w"], ["two"]),
        helper.make_node("Gemm", ["flat", "u"], ["three"]),
    ]
    outputs = ("one", "two", "three")
    model = flat_model(between, {"w": whole(24, 5), "u": whole(24, 3)}, (2, 3, 4), outputs)
    _, canonical, ops = canonical_of(model)
    assert ops["Transpose"] == 0
    assert_same_results(model, canonical, outputs)


GEMM = helper.make_node("Gemm", ["flat", "w"], ["y"])
WEIGHT = {"w": whole(24, 5)}


@pytest.mark.parametrize(
    ("between", "outputs"),
    [
        pytest.param([GEMM], ("y", "flat"), id="the flat tensor is an output"),
        pytest.param([GEMM, helper.make_node("Softmax", ["flat"], ["s"])], ("y", "s"), id="another operator reads it"),
        pytest.param([helper.make_node("Relu", ["flat"], ["y"])], ("y",), id="no dense layer behind it"),
        pytest.param(
            [helper.make_node("Gemm", ["flat", "flat"], ["y"], transB=1)], ("y",), id="the weight is computed"
        ),
    ],
)
def test_an_order_that_somebody_sees_stays(between: list[onnx.NodeProto], outputs: tuple[str, ...]) -> None:
    model = flat_model(between, WEIGHT if between[0] is GEMM else {}, (2, 3, 4), outputs)
    _, canonical, ops = canonical_of(model)
    assert ops["Transpose"] == 1
    assert_same_results(model, canonical, outputs)


def test_a_feature_map_that_others_read_channels_last_leaves_the_dense_layer_folded() -> None:
    """The Transpose has a second reader: it stays for that one alone."""
    between = [helper.make_node("Gemm", ["flat", "w"], ["y"]), helper.make_node("Reshape", ["t", "tokens"], ["s"])]
    model = flat_model(between, {**WEIGHT, "tokens": np.array([-1, 6, 4])}, (2, 3, 4), ("y", "s"))
    _, canonical, _ = canonical_of(model)
    gemm = next(n for n in canonical.graph.node if n.op_type == "Gemm")
    flat = next(n for n in canonical.graph.node if gemm.input[0] in n.output)
    assert (flat.op_type, flat.input[0]) == ("Flatten", "r")
    assert_same_results(model, canonical, ("y", "s"))
