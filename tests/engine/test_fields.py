"""Effective fields: inside the theoretical one, around the maximum, and where the unit is excited."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from convscope.engine.activations.fields import effective_box, window
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
