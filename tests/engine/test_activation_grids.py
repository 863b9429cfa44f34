"""Feature maps as pictures: the lecture's scale by hand, min-max, shared, dense layers, NaN."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from convscope.engine.render.activation_grids import SCALES, channel_grid, channel_tiles, dense_grid
from convscope.engine.render.colormaps import colorize
from convscope.errors import UsageError

MAPS = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)),
    elements=st.floats(allow_nan=False, allow_infinity=False, width=32),
)  # fmt: skip


def bytes_of(tiles: np.ndarray) -> list:
    return np.rint(tiles * 255).astype(int).tolist()


def test_the_lectures_scale_by_hand() -> None:
    # mean 1, standard deviation sqrt(3): -0.577, 1.732 of it -> 128 - 36.95 and 128 + 110.85, cut to whole numbers
    spike = np.array([[0, 0], [0, 4]], np.float32)
    # mean 2, standard deviation 2: one deviation to both sides
    even = np.array([[0, 4], [4, 0]], np.float32)
    assert bytes_of(channel_tiles(np.stack([spike, even]))) == [[[91, 91], [91, 238]], [[64, 192], [192, 64]]]


def test_the_lectures_scale_clips_at_two_deviations_and_leaves_a_constant_channel_gray() -> None:
    far = np.zeros((1, 3, 3), np.float32)
    far[0, 1, 1] = 9  # 2.83 deviations above the mean
    tiles = channel_tiles(np.concatenate([far, -far, np.full_like(far, 7)]))
    assert bytes_of(tiles[:, 1, 1]) == [255, 0, 128] and bytes_of(tiles[2])[0] == [128, 128, 128]


@settings(max_examples=60, deadline=None)
@given(MAPS)
def test_the_lectures_scale_equals_its_formula_on_every_channel(maps: np.ndarray) -> None:
    tiles = channel_tiles(maps, "lecture")
    for tile, channel in zip(tiles, maps.astype(np.float64), strict=True):
        centred = channel - channel.mean()
        if centred.std() > 0:
            centred = centred / centred.std()
        assert bytes_of(tile) == np.clip(centred * 64 + 128, 0, 255).astype("uint8").astype(int).tolist()


@settings(max_examples=60, deadline=None)
@given(MAPS, st.sampled_from(["minmax", "shared"]))
def test_min_max_and_shared_scales_span_0_to_1_in_order(maps: np.ndarray, scale: str) -> None:
    tiles = channel_tiles(maps, scale)
    assert tiles.dtype == np.float32 and tiles.shape == maps.shape
    for tile, values in zip(tiles, maps, strict=True) if scale == "minmax" else [(tiles, maps)]:
        assert (np.diff(tile.flat[np.argsort(values, axis=None)]) >= 0).all()
        assert (tile.min(), tile.max()) == ((0, 1) if values.min() < values.max() else (0, 0))


def test_min_max_and_shared_by_hand() -> None:
    maps = np.array([[[0, 1]], [[2, 4]]], np.float32)
    assert channel_tiles(maps, "minmax").tolist() == [[[0, 1]], [[0, 1]]]
    assert channel_tiles(maps, "shared").tolist() == [[[0, 0.25]], [[0.5, 1]]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("scale", SCALES)
def test_a_value_that_is_no_number_spoils_no_other_channel(scale: str, value: float) -> None:
    maps = np.random.default_rng(0).normal(size=(3, 4, 4)).astype(np.float32)
    maps[1, 2, 2] = value
    tiles = channel_tiles(maps, scale)
    assert np.isfinite(tiles).all() and np.ptp(tiles[1]) > 0.1 and 0 <= tiles.min() <= tiles.max() <= 1
    assert scale == "shared" or np.array_equal(tiles[0], channel_tiles(maps[:1], scale)[0])


def test_the_grid_has_sixteen_tiles_to_a_row_in_the_units_order_a_pixel_apart() -> None:
    maps = np.random.default_rng(0).normal(size=(20, 6, 5)).astype(np.float32)
    picture = channel_grid(maps, "minmax", "gray")
    assert picture.shape == (2 * 7 - 1, 16 * 6 - 1, 3)
    for unit, tile in enumerate(channel_tiles(maps, "minmax")):
        top, left = unit // 16 * 7, unit % 16 * 6
        np.testing.assert_allclose(picture[top : top + 6, left : left + 5], colorize(tile, "gray"), atol=1e-6)
    assert channel_grid(maps[:3]).shape == (6, 3 * 6 - 1, 3)


def test_a_dense_layer_is_a_square_per_unit_and_white_where_the_last_row_has_none() -> None:
    values = np.arange(20, dtype=np.float32)
    picture = dense_grid(values, "minmax", "gray", per_row=16)
    side = picture.shape[1] // 16
    assert picture.shape == (2 * side, 16 * side, 3)
    centres = picture[side // 2 :: side, side // 2 :: side]
    expected = colorize((values / 19)[None], "gray")[0]
    np.testing.assert_allclose(centres.reshape(-1, 3)[:20], expected, atol=1e-6)
    assert (centres.reshape(-1, 3)[20:] == 1).all()
    assert dense_grid(values[:3]).shape == (side, 3 * side, 3)
    assert dense_grid(np.ones((5, 7), np.float32)).shape == (5 * side, 7 * side, 3)


@pytest.mark.parametrize("draw", [channel_tiles, channel_grid])
def test_an_unknown_scale_is_refused_with_the_known_ones(draw) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match="scale 'loud' is unknown; choose one of lecture, minmax, shared"):
        draw(np.zeros((1, 2, 2), np.float32), "loud")
