"""Filters as pictures and numbers: in [0, 1], true to the stored weights, duplicates found, quantized ones read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import helper

import convscope
from convscope.engine.activations.weights import (
    NEAR,
    convolutions,
    filter_grid,
    filter_pictures,
    kernel,
    near_duplicates,
    notes,
    numbers,
)
from convscope.errors import UsageError
from tests import tiny

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def conv(
    weight: np.ndarray, op: str = "Conv", bias: np.ndarray | None = None, channels: int = 3, group: int = 1
) -> convscope.Graph:
    inputs, weights = ["x", "w"], {"w": weight}
    if bias is not None:
        inputs, weights = [*inputs, "b"], {**weights, "b": bias}
    node = helper.make_node(op, inputs, ["y"], f"/conv1/{op}", group=group)
    return convscope.load(tiny.model([node], weights, ("N", channels, 16, 16)), check=False)


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.float32, SHAPES, elements=FINITE), st.sampled_from(["filter", "layer"]))
def test_pictures_are_in_0_to_1_and_keep_the_order_of_the_weights(weight: np.ndarray, scale: str) -> None:
    shown = filter_pictures(weight, scale)
    assert shown.dtype == np.float32 and shown.min() >= 0 and shown.max() <= 1
    colour = weight.shape[1] == 3
    assert shown.shape == (len(weight), 1 if colour else weight.shape[1], *weight.shape[2:], 3)
    values = shown[:, 0].transpose(0, 3, 1, 2) if colour else shown[..., 0]
    for mine, theirs in [(values, weight)] if scale == "layer" else zip(values, weight, strict=True):
        order = np.argsort(theirs, axis=None)
        assert (np.diff(mine.flat[order]) >= 0).all()
        if theirs.min() < theirs.max():
            assert (mine.min(), mine.max()) == (0, 1)
        else:
            assert not mine.any()


def test_per_filter_and_per_layer_scales_by_hand() -> None:
    weight = np.array([[[[0.0, 1.0]]], [[[2.0, 4.0]]]], np.float32)
    assert filter_pictures(weight, "filter")[:, 0, 0, :, 0].tolist() == [[0, 1], [0, 1]]
    assert filter_pictures(weight, "layer")[:, 0, 0, :, 0].tolist() == [[0, 0.25], [0.5, 1]]
    with pytest.raises(UsageError, match="scale 'loud'"):
        filter_pictures(weight, "loud")


def test_three_input_channels_are_one_colour_tile_others_a_gray_tile_each() -> None:
    colour = np.zeros((1, 3, 1, 2), np.float32)
    colour[0, 0, 0, 0], colour[0, 2, 0, 1] = 1, 1
    assert filter_pictures(colour)[0, 0, 0].tolist() == [[1, 0, 0], [0, 0, 1]]
    gray = filter_pictures(random(2, 5, 3, 3))
    assert (
        gray.shape[1] == 5 and np.array_equal(gray[..., 0], gray[..., 1]) and np.array_equal(gray[..., 0], gray[..., 2])
    )


def test_a_sheet_has_a_row_per_filter_of_gray_tiles_and_a_square_of_whole_pixels_per_weight() -> None:
    sheet = filter_grid(filter_pictures(random(4, 5, 3, 3)))
    assert sheet.ndim == 3 and sheet.shape[1] > sheet.shape[0] and sheet.min() >= 0 and sheet.max() <= 1
    matrix = filter_pictures(random(6, 8, 1, 1))
    sheet = filter_grid(matrix)
    side = sheet.shape[0] // 6
    assert sheet.shape[:2] == (6 * side, 8 * side)
    assert np.allclose(sheet[::side, ::side], matrix[:, :, 0, 0])


def test_numbers_equal_brute_force() -> None:
    weight, bias = random(6, 4, 3, 2), random(6, seed=1)
    for found, w, b in zip(numbers(weight, bias), weight.astype(np.float64), bias, strict=True):
        assert found.norm == pytest.approx(np.sqrt((w**2).sum())) and found.mean == pytest.approx(w.mean())
        assert abs(found.largest) == pytest.approx(np.abs(w).max()) and found.bias == pytest.approx(b)
        cosines = [abs((w * v).sum()) / found.norm / np.sqrt((v.astype(np.float64) ** 2).sum()) for v in weight]
        cosines[found.unit] = -1
        assert found.nearest == int(np.argmax(cosines)) and found.similarity == pytest.approx(max(cosines))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 31), min_size=2, max_size=2, unique=True), st.floats(0.01, 100), st.booleans())
def test_planted_duplicates_are_found_whatever_their_scale_and_sign_and_nothing_else(
    pair: list[int], gain: float, negative: bool
) -> None:
    weight = random(32, 8, 3, 3)
    a, b = sorted(pair)
    weight[b] = weight[a] * np.float32(-gain if negative else gain) + random(8, 3, 3, seed=5) * np.float32(gain * 0.01)
    found = near_duplicates(numbers(weight, np.zeros(32, np.float32)))
    assert [(x, y) for x, y, _ in found] == [(a, b)] and NEAR <= (-1 if negative else 1) * found[0][2] <= 1


def test_silent_lone_and_single_value_filters_are_no_duplicates() -> None:
    for weight in (np.zeros((3, 2, 3, 3), np.float32), random(1, 2, 3, 3), random(4, 1, 1, 1)):
        assert near_duplicates(numbers(weight, np.zeros(len(weight), np.float32))) == []


@pytest.mark.parametrize(("group", "shape"), [(1, (4, 6, 3, 3)), (2, (4, 3, 3, 3)), (6, (12, 1, 3, 3))])
def test_kernels_of_grouped_and_depthwise_convolutions_are_those_of_the_file(
    group: int, shape: tuple[int, int, int, int]
) -> None:
    weight, bias = random(*shape), random(shape[0], seed=1)
    graph = conv(weight, bias=bias, channels=6, group=group)
    (layer,) = convolutions(graph)
    found, offset = kernel(graph, layer)
    assert np.array_equal(found, weight) and np.array_equal(offset, bias) and layer.channels == len(found)
    assert notes(graph, layer) == ()


@pytest.mark.parametrize("group", [1, 2, 3])
def test_a_transposed_convolutions_kernels_come_outputs_first(group: int) -> None:
    network = torch.nn.ConvTranspose2d(6, 12, 3, groups=group, bias=False).requires_grad_(False)
    graph = conv(network.weight.numpy(), "ConvTranspose", channels=6, group=group)
    found, bias = kernel(graph, graph.layers[0])
    assert found.shape == (12, 6 // group, 3, 3) and bias.shape == (12,)
    seen = torch.zeros(1, 6, 5, 5)
    seen[0, 4, 2, 2] = 1  # one input channel's impulse is answered by its own kernels
    answer = network(seen)[0, :, 2:5, 2:5].numpy()
    own = range(12 // group * (4 // (6 // group)), 12 // group * (4 // (6 // group) + 1))
    for unit in range(12):
        assert np.allclose(answer[unit], found[unit, 4 % (6 // group)] if unit in own else 0, atol=1e-6)


def quantized(form: str) -> tuple[convscope.Graph, np.ndarray]:
    """A convolution with int8 weights, a scale per filter; returns the numbers that they stand for."""
    rng = np.random.default_rng(0)
    weight, scale = (
        rng.integers(-127, 127, (4, 3, 3, 3)).astype(np.int8),
        np.array([0.01, 0.02, 0.03, 0.04], np.float32),
    )
    tensors: dict[str, np.ndarray] = {"w": weight, "ws": scale, "wz": np.zeros(4, np.int8),
               "b": np.arange(4, dtype=np.int32),
               "bs": scale * np.float32(0.02), "bz": np.zeros(4, np.int32),
               "xs": np.array(0.02, np.float32), "xz": np.array(128, np.uint8)}  # fmt: skip
    step = helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"])
    if form == "QLinearConv":
        inputs = ["xq", "xs", "xz", "w", "ws", "wz", "xs", "xz", "b"]
        nodes = [step, helper.make_node("QLinearConv", inputs, ["yq"], "/conv1/Conv"),
                 helper.make_node("DequantizeLinear", ["yq", "xs", "xz"], ["y"])]  # fmt: skip
    else:
        nodes = [step, helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
                 helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
                 helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["bd"], axis=0),
                 helper.make_node("Conv", ["xd", "wd", "bd"], ["y"], "/conv1/Conv")]  # fmt: skip
    return convscope.load(tiny.model(nodes, tensors), check=False), weight * scale[:, None, None, None]


@pytest.mark.parametrize("form", ["QLinearConv", "QDQ"])
def test_quantized_weights_are_shown_as_what_they_stand_for_and_said_to_be_quantized(form: str) -> None:
    graph, expected = quantized(form)
    (layer,) = convolutions(graph)
    found, bias = kernel(graph, layer)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(bias, np.arange(4) * [0.01, 0.02, 0.03, 0.04] * np.float32(0.02), rtol=1e-5)
    assert notes(graph, layer) == ("quantized to int8; shown as the numbers that they stand for",)


@pytest.mark.filterwarnings("ignore")
def test_weights_that_hold_a_batch_norm_are_said_to(tmp_path: Path) -> None:
    norm, plain = torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 5, 3)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, bias=False), norm, torch.nn.ReLU(), plain).eval()
    torch.onnx.export(network, (torch.zeros(1, 3, 16, 16),), str(tmp_path / "folded.onnx"), dynamo=False)
    graph = convscope.load(tmp_path / "folded.onnx", check=False)
    first, second = convolutions(graph)
    assert notes(graph, first) == ("the exporter folded a batch-norm into them",) and notes(graph, second) == ()


def test_a_layer_without_filters_is_refused_with_the_convolutions_names() -> None:
    graph = convscope.load(tiny.small_cnn(), check=False)
    with pytest.raises(UsageError, match=r"'relu1' \(Relu\) has no filters; convolutions are: conv1, conv2"):
        kernel(graph, graph.layer("relu1"))


def test_computed_weights_are_no_filters() -> None:
    nodes = [helper.make_node("ReduceMean", ["x"], ["m"], axes=[0, 1, 2, 3]),
             helper.make_node("Mul", ["w", "m"], ["k"]),
             helper.make_node("Conv", ["x", "k"], ["y"], "/conv1/Conv")]  # fmt: skip
    graph = convscope.load(tiny.model(nodes, {"w": random(4, 3, 3, 3)}), check=False)
    assert convolutions(graph) == ()
    with pytest.raises(UsageError, match="stores none"):
        kernel(graph, graph.layer("conv1/Conv"))
