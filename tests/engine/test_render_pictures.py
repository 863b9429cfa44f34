"""Grids, colormaps and overlays: every pixel where and what the documentation says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convscope.engine.render import colormaps
from convscope.engine.render.grid import grid
from convscope.engine.render.overlay import overlay
from convscope.errors import UsageError

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("name", colormaps.names())
def test_colormap_equals_matplotlib_within_half_a_byte(name: str) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    reference = matplotlib.colormaps[name]
    values = np.linspace(0, 1, 4001).reshape(1, -1)
    difference = np.abs(colormaps.colorize(values, name) - reference(values)[..., :3])
    assert difference.max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("viridis", "440154", "fde725"),
        ("magma", "000004", "fcfdbf"),
        ("inferno", "000004", "fcffa4"),
        ("turbo", "30123b", "7a0403"),
        ("jet", "000080", "800000"),
        ("RdBu", "67001f", "053061"),
        ("gray", "000000", "ffffff"),
    ],
)
def test_colormap_has_the_published_ends(name: str, first: str, last: str) -> None:
    ends = np.rint(colormaps.table(name)[[0, -1]] * 255).astype(np.uint8)
    assert [bytes(end).hex() for end in ends] == [first, last]


def test_colours_are_float32_and_missing_values_are_grey() -> None:
    colours = colormaps.colorize(np.array([[np.nan, -5.0, 0.0, 5.0, 1.0]]))
    assert colours.dtype == np.float32
    assert colours.shape == (1, 5, 3)
    assert np.array_equal(colours[0, 0], [0.5, 0.5, 0.5])
    assert np.array_equal(colours[0, 1], colours[0, 2])
    assert np.array_equal(colours[0, 3], colours[0, 4])


def test_unknown_colormap_lists_the_known() -> None:
    with pytest.raises(UsageError, match="colormap 'rainbow' is unknown; choose one of viridis, magma"):
        colormaps.colorize(np.zeros((1, 1)), "rainbow")


@given(count=st.integers(1, 30), columns=st.none() | st.integers(1, 8), margin=st.integers(0, 3))
def test_grid_puts_each_picture_in_its_cell(count: int, columns: int | None, margin: int) -> None:
    height, width = 3, 5
    images = [np.full((height, width, 1), (k + 1) / 64, np.float32) for k in range(count)]
    whole = grid(images, columns, margin, background=0.0)
    used = min(columns or int(np.ceil(np.sqrt(count))), count)
    rows = -(-count // used)
    assert whole.shape == (rows * (height + margin) - margin, used * (width + margin) - margin, 1)
    for k, image in enumerate(images):
        top, left = k // used * (height + margin), k % used * (width + margin)
        assert np.array_equal(whole[top : top + height, left : left + width], image)
    assert np.isclose(whole.sum(), sum(image.sum() for image in images))  # all else is background


def test_grid_centres_smaller_pictures_and_mixes_gray_with_colour() -> None:
    small, large = np.zeros((1, 1), np.uint8), np.full((3, 3, 3), 255, np.uint8)
    whole = grid([small, large], margin=0, background=0.5)
    assert whole.shape == (3, 6, 3)
    assert np.array_equal(whole[1, 1], [0, 0, 0])
    assert np.all(whole[0, :3] == 0.5)
    assert np.all(whole[:, 3:] == 1)


@pytest.mark.parametrize("wrong", [{"images": []}, {"columns": 0}, {"margin": -1}])
def test_grid_refuses_what_it_cannot_draw(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="a grid needs"):
        grid(**{"images": [np.zeros((2, 2, 3))], **wrong})  # type: ignore[arg-type]


def test_blend_is_the_weighted_mean_of_picture_and_colours() -> None:
    image, heat = RNG.random((6, 7, 3)), RNG.random((6, 7))
    expected = 0.7 * image + 0.3 * colormaps.colorize(heat, "turbo")
    assert np.allclose(overlay(image, heat, "turbo", alpha=0.3), expected, atol=1e-6)


def test_overlay_takes_bytes_gray_pictures_and_coarse_heat() -> None:
    gray = RNG.integers(0, 256, (16, 12, 1), dtype=np.uint8)
    laid = overlay(gray, RNG.random((4, 3)), alpha=0.0)
    assert np.allclose(laid, np.repeat(gray / 255, 3, axis=2), atol=1e-6)


def test_unknown_overlay_style_is_wrong_use() -> None:
    with pytest.raises(UsageError, match="overlay style 'cv2' is unknown"):
        overlay(np.zeros((2, 2, 3)), np.zeros((2, 2)), style="cv2")


def _array_to_img(x: np.ndarray) -> Image.Image:
    """keras.utils.array_to_img with scale=True, in its own order of operations."""
    x = np.asarray(x, dtype="float32")
    x = x - np.min(x)
    x_max = np.max(x)
    if x_max != 0:
        x /= x_max
    x *= 255
    return Image.fromarray(x.astype("uint8"), "RGB")


@pytest.mark.parametrize("alpha", [0.4, 0.8])
def test_lecture_overlay_equals_the_lesson_byte_for_byte(alpha: float) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    photograph = RNG.integers(0, 256, (30, 41, 3), dtype=np.uint8)
    heat = RNG.random((10, 10)).astype(np.float32)
    heat.flat[:2] = 0, 1

    jet_colors = matplotlib.colormaps["jet"](np.arange(256))[:, :3]
    jet_heatmap = _array_to_img(jet_colors[np.uint8(255 * heat)])
    jet_heatmap = jet_heatmap.resize((photograph.shape[1], photograph.shape[0]))
    superimposed = np.asarray(jet_heatmap, dtype="float32") * alpha + photograph.astype("float32")
    expected = np.asarray(_array_to_img(superimposed))

    ours = overlay(photograph / 255, heat, "jet", alpha, "lecture")
    assert np.array_equal(np.rint(ours * 255).astype(np.uint8), expected)


def test_lecture_arithmetic_by_hand() -> None:
    # heat 0, 0.5, 1 -> index 0, 127, 255 -> jet (0,0,.5), (~.49,1,~.48), (.5,0,0); the colours already span
    # 0..1, so 255 times them, truncated; black below: 0.4 times that, stretched so that 255 * 0.4 becomes 255.
    ours = overlay(np.zeros((1, 3, 3)), np.array([[0.0, 0.5, 1.0]]), "jet", 0.4, "lecture")
    colours = (colormaps.table("jet")[[0, 127, 255]] * np.float32(255)).astype(np.uint8)
    expected = (np.float32(colours * np.float32(0.4)) / np.float32(102) * 255).astype(np.uint8)
    assert np.abs(np.rint(ours * 255) - expected).max() <= 1
    assert (ours * 255).max() == 255
