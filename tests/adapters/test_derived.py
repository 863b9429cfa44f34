"""A size that the network's own constants fix is found without trying, and said; the oracle: the network that runs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import nn

import convscope
from convscope.adapters.derived import derived_size, side_for
from tests import tiny


@given(st.integers(1, 900), st.integers(1, 32), st.integers(0, 40))
@settings(deadline=None, max_examples=60)
def test_the_side_is_one_of_those_that_leave_the_wanted_positions(side: int, stride: int, lost: int) -> None:
    def positions(pixels: int) -> int | None:
        return ((pixels - lost) // stride) ** 2 if pixels > lost else None

    wanted = positions(side)
    found = side_for(positions, wanted or 0)
    if wanted:
        assert found is not None and positions(found) == wanted
        assert found & -found >= side & -side  # the roundest: 224, not 226


def test_no_side_is_found_where_none_leaves_that_many() -> None:
    assert side_for(lambda side: side**2, 200) is None
    assert side_for(lambda side: None, 4) is None
    assert side_for(lambda side: side**2, 2**30) is None


def flattened(side: int, how: str) -> onnx.ModelProto:
    """Two strided convolutions, a flatten, a dense layer that takes a picture of this side alone; open sides."""
    rng = np.random.default_rng(0)
    positions = (side // 4) ** 2
    weights = {
        "w1": rng.normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32),
        "w2": rng.normal(0, 0.3, (6, 4, 3, 3)).astype(np.float32),
        "fc": rng.normal(0, 0.3, (6 * positions, 5)).astype(np.float32),
        "to": np.array([-1, 6 * positions]),
    }
    pads, strides = [1, 1, 1, 1], [2, 2]
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "conv1", pads=pads, strides=strides),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], "conv2", pads=pads, strides=strides),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"])
        if how == "Flatten"
        else helper.make_node("Reshape", ["d", "to"], ["e"], "flat"),
        helper.make_node("MatMul", ["e", "fc"], ["y"], "fc"),
    ]
    return tiny.model(nodes, weights, ("N", 3, "H", "W"))


@pytest.mark.parametrize(("how", "by"), [("Flatten", "dense layer 'fc'"), ("Reshape", "Reshape 'flat'")])
@pytest.mark.parametrize("side", [36, 200])
def test_an_open_file_is_loaded_at_the_size_that_its_dense_weights_take(side: int, how: str, by: str) -> None:
    graph = convscope.load(flattened(side, how))
    assert graph.image_size == (side, side)
    assert any(by in note and f"{side}x{side}" in note for note in graph.source.notes)


def test_a_file_that_states_its_size_or_has_no_flatten_derives_none() -> None:
    fixed = flattened(36, "Flatten")
    fixed.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 3, 36, 36)))
    assert derived_size(fixed) is None
    pooled = tiny.small_cnn()
    pooled.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 3, "H", "W")))
    assert derived_size(pooled) is None


def test_a_dense_layer_that_takes_tokens_one_by_one_fixes_no_size() -> None:
    """A map of 6 channels as tokens (N, H W, 6): 6 weights are what one position leaves, of any picture."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(0, 0.3, (6, 3, 3, 3)).astype(np.float32),
        "to": np.array([0, 6, -1]),
        "fc": rng.normal(0, 0.3, (6, 5)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1], strides=[4, 4]),
        helper.make_node("Reshape", ["c", "to"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["t", "fc"], ["y"], "qkv"),
    ]
    assert derived_size(tiny.model(nodes, weights, ("N", 3, "H", "W"))) is None


def test_a_torch_network_gets_the_size_that_its_dense_layer_takes() -> None:
    """Of all usual sizes none runs: facenet-pytorch's RNet takes 24 x 24."""
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.MaxPool2d(3, 2, ceil_mode=True), nn.Flatten(), nn.Linear(8 * 11 * 11, 2)
    )
    torch.manual_seed(0)
    assert convscope.load(network, check=False).image_size == (24, 24)
