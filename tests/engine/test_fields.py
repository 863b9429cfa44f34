"""Effective fields: inside the theoretical one, around the maximum, and where the unit is excited."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from convscope.engine.activations.fields import effective_box, spotlight, window
from convscope.engine.pictures.crops import input_box

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
