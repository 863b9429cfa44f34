"""A network that takes pictures of one size alone is shown at that size, where the user names none."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import convscope
from convscope.engine.runs import filters
from convscope.errors import UnsupportedOperator, UsageError
from tests import tiny


def attention_over_fixed_places(height: int, width: int, seed: int = 0) -> onnx.ModelProto:
    """A strided convolution, then a map that is flattened to a fixed number of places and mixed there."""
    rng = np.random.default_rng(seed)
    rows, columns = height // 8, width // 8
    places = rows * columns
    weights = {
        "w": rng.normal(0, 0.3, (6, 3, 8, 8)).astype(np.float32),
        "mix": (np.eye(places) + rng.normal(0, 0.05, (places, places))).astype(np.float32),
        "flat": np.array([-1, 6, places]),
        "map": np.array([-1, 6, rows, columns]),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", strides=[8, 8]),
        helper.make_node("Reshape", ["c", "flat"], ["t"], "flat"),
        helper.make_node("MatMul", ["t", "mix"], ["m"], "mix"),
        helper.make_node("Reshape", ["m", "map"], ["y"], "map"),
    ]
    return tiny.model(nodes, weights, ("N", 3, height, width), ("y",))


@pytest.mark.parametrize("shape", [(80, 80), (80, 120)])
def test_filters_take_the_models_own_size_and_say_so(shape: tuple[int, int]) -> None:
    graph = convscope.load(attention_over_fixed_places(*shape), check=False)
    said: list[Any] = []
    (result,) = filters.run(graph, "map", [0], filters.Options(steps=3), on_event=said.append).layers
    assert result.size == shape and result[0].image.shape[:2] == shape
    height, width = shape
    assert any(f"pictures of {height}x{width}, the model's own size" in getattr(e, "text", "") for e in said)


def test_a_size_that_the_user_names_is_kept_or_refused() -> None:
    graph = convscope.load(attention_over_fixed_places(80, 80), check=False)
    with pytest.raises(UsageError, match="from a 96x96 picture"):
        filters.run(graph, "map", [0], filters.Options(steps=3, size=96))


def test_a_narrow_network_behind_a_flatten_is_ascended_at_its_own_size() -> None:
    """A sixteenth of its height is no whole number: small stages then make views of another width."""
    rng = np.random.default_rng(0)
    weights = {"fc": rng.normal(0, 0.1, (16 * 96, 4)).astype(np.float32)}
    nodes = [helper.make_node("Flatten", ["x"], ["f"], "flat"), helper.make_node("MatMul", ["f", "fc"], ["y"], "fc")]
    graph = convscope.load(tiny.model(nodes, weights, ("N", 1, 16, 96)), check=False)
    (result,) = filters.run(graph, "fc", [0], filters.Options(steps=8)).layers
    assert result.size == (16, 96)


def test_a_spectrum_of_fixed_height_is_shown_at_its_own_size_not_at_one_that_fits_by_chance() -> None:
    """Any picture of a multiple of 100 values can be reshaped into lines of 100, and is another spectrum then."""
    rng = np.random.default_rng(0)
    weights = {"axis": np.array([1]), "w": rng.normal(0, 0.3, (6, 1, 5, 1)).astype(np.float32)}
    nodes = [helper.make_node("Unsqueeze", ["x", "axis"], ["u"]), helper.make_node("Conv", ["u", "w"], ["y"], "conv")]
    graph = convscope.load(tiny.model(nodes, weights, ("N", 100, "T")), check=False, size=(100, 60))
    (result,) = filters.run(graph, "conv", [0], filters.Options(steps=3)).layers
    assert result.size == (100, 60)


def test_views_of_a_signal_of_open_length_are_as_long_as_the_signal() -> None:
    """Larger views are other signals, with other places than the layers' grids know; silero's detector was refused."""
    rng = np.random.default_rng(0)
    weights = {"axis": np.array([1]), "w": rng.normal(0, 0.3, (4, 1, 16)).astype(np.float32)}
    weights["v"] = rng.normal(0, 0.3, (6, 4, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axis"], ["u"]),
        helper.make_node("Conv", ["u", "w"], ["c"], "coarse", strides=[16]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Conv", ["r", "v"], ["y"], "last", strides=[16]),
    ]
    graph = convscope.load(tiny.model(nodes, weights, ("N", "T")), check=False, size=(1, 512))
    for layer in ("coarse", "last"):
        (result,) = filters.run(graph, layer, [0], filters.Options(steps=3)).layers
        assert result.size == (1, 512)


def test_where_no_layer_has_a_gradient_the_refusal_says_what_works() -> None:
    rng = np.random.default_rng(0)
    weights = {"table": rng.normal(size=(256, 6)).astype(np.float32)}
    nodes = [
        helper.make_node("Cast", ["x"], ["tokens"], "tokens", to=onnx.TensorProto.INT64),
        helper.make_node("Gather", ["table", "tokens"], ["g"], "embedding"),
        helper.make_node("ReduceMean", ["g"], ["m"], "mean", axes=[1, 2, 3], keepdims=0),
        helper.make_node("Relu", ["m"], ["y"], "relu"),
    ]
    graph = convscope.load(tiny.model(nodes, weights, ("N", 1, 8, 8)), check=False)
    with pytest.raises(UnsupportedOperator, match=r"no layer with weights has a gradient.*activations, top, stats"):
        filters.run(graph, "relu", [0], filters.Options(steps=3))
