"""Effective fields: inside the theoretical one, around the maximum, and where the unit is excited."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from PIL import Image

import convscope
from convscope.engine.activations.fields import Peak, effective_box, effective_boxes, gradient_box, spotlight, window
from convscope.engine.graph.graph import Graph
from convscope.engine.pictures.crops import crop, input_box, seen
from convscope.engine.pictures.read import fit

from ..tiny import model, small_cnn
from .atlas.places import network

GRAPH = network()
LAYER = GRAPH.layer("relu2")  # 8 x 8 over 16 x 16 pixels; sees 8 x 8 with stride 2


def test_it_is_the_part_above_half_of_the_maximum_that_holds_it() -> None:
    values = np.zeros((8, 8), np.float32)
    values[3, 3:6] = [1.0, 0.6, 0.4]
    values[3, 7] = 0.9  # not connected
    top, left, bottom, right = effective_box(GRAPH, LAYER, values, 3, 3)
    one = effective_box(GRAPH, LAYER, np.eye(8, dtype=np.float32)[3:4].T @ np.eye(8, dtype=np.float32)[3:4], 3, 3)
    assert bottom - top == 2
    assert right - left == 4  # two positions of two pixels each
    assert (one[2] - one[0], one[3] - one[1]) == (2, 2)


@given(st.integers(0, 2**32 - 1))
def test_it_never_leaves_what_the_unit_sees(seed: int) -> None:
    values = np.random.default_rng(seed).normal(0, 1, (8, 8)).astype(np.float32)
    row, column = np.unravel_index(values.argmax(), values.shape)
    found, field = (
        effective_box(GRAPH, LAYER, values, int(row), int(column)),
        input_box(GRAPH, LAYER, int(row), int(column)),
    )
    assert field[0] <= found[0] < found[2] <= field[2]
    assert field[1] <= found[1] < found[3] <= field[3]
    shown = window(GRAPH, found)
    assert 0 <= shown[0] <= found[0] < found[2] <= shown[2] <= 16
    assert 0 <= shown[1] <= found[1] < found[3] <= shown[3] <= 16


def test_a_layer_without_maps_sees_the_whole_picture() -> None:
    assert effective_box(GRAPH, GRAPH.layer("fc"), np.zeros((1, 1)), 0, 0) == (0, 0, 16, 16)


def test_the_surroundings_of_a_field_are_darkened_and_the_field_is_not() -> None:
    pixels = np.full((32, 32, 3), 0.5, np.float32)
    shown = spotlight(GRAPH, pixels, (6, 6, 10, 10), 96)
    assert shown.shape[0] == shown.shape[1]
    middle = shown.shape[0] // 2
    assert np.allclose(shown[middle, middle], 0.5, atol=1e-3)
    assert np.allclose(shown[0, 0], 0.2, atol=1e-3)
    bright = float((shown[..., 0] > 0.4).mean())
    frame = window(GRAPH, (6, 6, 10, 10))
    assert abs(bright - 16 / ((frame[2] - frame[0]) * (frame[3] - frame[1]))) < 0.08


@pytest.mark.parametrize("resize", ["letterbox", "border", "crop", "squash"])
@pytest.mark.parametrize("shape", [(20, 60), (60, 20), (40, 40)])
def test_a_crop_and_a_kept_photograph_are_what_the_model_sees_with_its_border(
    resize: str, shape: tuple[int, int]
) -> None:
    how = replace(GRAPH.preprocessing, resize=resize, mean=(0.4,), std=(1.0,))
    graph = convscope.load(small_cnn(), preprocessing=how, check=False)
    y, x = np.mgrid[: shape[0], : shape[1]]
    pixels = np.stack([y / shape[0], x / shape[1], np.full(shape, 0.9)], axis=2).astype(np.float32)  # no edges in it
    model_sees = fit(pixels, graph).transpose(1, 2, 0)
    whole = crop(graph, pixels, (0, 0, 16, 16), 48)
    if whole.shape[0] == whole.shape[1]:  # squashed pictures keep their own aspect
        assert np.abs(whole[1::3, 1::3] - model_sees).mean() < 0.03
    for top, left in ((0, 0), (6, 6), (10, 3)):
        part = crop(graph, pixels, (top, left, top + 6, left + 6), 60)
        small = np.stack([part[i * part.shape[0] // 6 :][: part.shape[0] // 6] for i in range(6)]).mean(axis=(1, 2))
        assert np.abs(small - model_sees[top : top + 6, left : left + 6].mean(axis=1)).max() < 0.2
        assert spotlight(graph, pixels, (top, left, top + 6, left + 6), 60).shape[2] == 3
    kept = seen(graph, pixels, (32, 32))
    if resize != "squash":
        assert abs(kept.shape[0] - kept.shape[1]) <= 2  # the resized sides are whole pixels
        down, across = (np.linspace(0.5, side - 0.5, 16).astype(int) for side in kept.shape[:2])
        assert np.abs(kept[down][:, across] - model_sees).mean() < 0.04


def test_a_gradient_s_box_leaves_out_a_twentieth_of_its_square_on_each_side() -> None:
    gradient = np.zeros((3, 40, 40), np.float32)
    gradient[1, 5:35, 7] = 1
    gradient[2, 5:35, 8] = -1
    assert gradient_box(gradient, (0, 0, 40, 40)) == (6, 7, 34, 9)  # each of 30 rows has a thirtieth
    assert gradient_box(np.zeros((3, 40, 40)), (3, 4, 9, 9)) == (3, 4, 9, 9)


@given(
    st.integers(0, 2**32 - 1), st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(7, 12), st.integers(7, 12))
)
def test_a_gradient_s_box_never_leaves_what_the_unit_sees(seed: int, within: tuple[int, int, int, int]) -> None:
    found = gradient_box(np.random.default_rng(seed).normal(0, 1, (3, 12, 12)), within)
    assert within[0] <= found[0] < found[2] <= within[2]
    assert within[1] <= found[1] < found[3] <= within[3]


def _planted(gate: str, **more: Any) -> Graph:
    """A 5 x 5 kernel with one weight, up left of its centre; a gate; and a dense layer that reads one of its places."""
    kernel, dense = np.zeros((2, 3, 5, 5), np.float32), np.zeros((4, 2 * 16 * 16), np.float32)
    kernel[1, 0, 1, 0] = 3
    dense[2, 16 * 16 + 9 * 16 + 5] = 1  # unit 1 at (9, 5)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "c", pads=[2, 2, 2, 2]),
        helper.make_node(gate, ["c", *more.get("bounds", [])], ["r"], "r"),
        helper.make_node("Flatten", ["r"], ["f"], "f"), helper.make_node("Gemm", ["f", "d"], ["y"], "y", transB=1),
    ]  # fmt: skip
    weights = {"w": kernel, "d": dense, "low": np.array(0, np.float32), "high": np.array(0.5, np.float32)}
    used = {name: weights[name] for name in ("w", "d", *more.get("bounds", []))}
    return convscope.load(model(nodes, used, ("N", 3, 16, 16)), preprocessing="unit", check=False)


@pytest.mark.parametrize("gate", [{"gate": "Relu"}, {"gate": "Clip", "bounds": ["low", "high"]}])
def test_by_the_gradient_a_field_is_the_pixel_that_the_unit_reads_also_behind_a_dense_layer(
    tmp_path: Path, gate: dict[str, Any]
) -> None:
    """The unit's value is above the clip's upper bound, where the clip itself lets no gradient through."""
    Image.new("RGB", (16, 16), (255, 200, 100)).save(tmp_path / "a.png")
    graph = _planted(**gate)
    conv, dense = graph.layer("r"), graph.layer("y")
    peaks = [Peak(conv, 1, 9 * 16 + 5), Peak(dense, 2, 0), Peak(conv, 0, 0), Peak(conv, 1, 4 * 16 + 4)]
    ((name, boxes),) = effective_boxes(graph, {"a": peaks}, {"a": tmp_path / "a.png"}, "cpu", "gradient")
    assert name == "a"
    pixel = (8, 3, 9, 4)  # one row up and two columns left of (9, 5)
    expected_dense = pixel if gate["gate"] == "Relu" else (0, 0, 16, 16)  # between the two the clip is saturated
    assert boxes == [pixel, expected_dense, input_box(graph, conv, 0, 0), (3, 2, 4, 3)]
    by_map = dict(effective_boxes(graph, {"a": peaks}, {"a": tmp_path / "a.png"}, "cpu"))["a"]
    assert by_map[1] == (0, 0, 16, 16)


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(convscope.UsageError, match="field 'heat' is unknown; choose map or gradient"):
        list(effective_boxes(GRAPH, {}, {}, "cpu", "heat"))
