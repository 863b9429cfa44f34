"""What is found in a model's input is drawn where it is in the photograph, however that was cut, padded or squashed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.engine.graph.graph import Graph
from convscope.engine.pages.explanation import on_picture
from convscope.engine.pictures.crops import seen_box
from convscope.engine.pictures.read import fit
from convscope.engine.render.answers import on_pixels, with_mask
from convscope.engine.runs.reading import mask_of

from .outputs.planted import planted

SHAPES = [(60, 120), (120, 60), (64, 64), (20, 30), (31, 200)]


@pytest.fixture(params=["letterbox", "border", "crop", "squash"])
def graph(request: pytest.FixtureRequest) -> Graph:
    made = planted({"logits": np.zeros((1, 3))})
    crop = 0.875 if request.param == "crop" else 1.0
    return replace(made, preprocessing=replace(made.preprocessing, resize=request.param, crop=crop))


def photograph(size: tuple[int, int]) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Black, with a white rectangle, and where that is: left, top, right, bottom."""
    height, width = size
    box = width * 2 // 5, height * 2 // 5, width * 3 // 5, height * 3 // 4
    pixels = np.zeros((*size, 3), np.float32)
    pixels[box[1] : box[3], box[0] : box[2]] = 1
    return pixels, box


def seen(graph: Graph, pixels: np.ndarray) -> np.ndarray:
    """(H, W) bool of the model's input: the rectangle, by reading it as the model does."""
    return fit(pixels, graph).mean(axis=0) > 0.6  # more than any border


@pytest.mark.parametrize("size", SHAPES)
def test_a_box_comes_back_to_where_it_is_in_the_photograph(graph: Graph, size: tuple[int, int]) -> None:
    pixels, box = photograph(size)
    inside = seen(graph, pixels)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    found = on_pixels(graph, (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1), size)
    top, left, bottom, right = seen_box(graph, size)  # what a centre crop leaves of it
    box = max(box[0], left), max(box[1], top), min(box[2], right), min(box[3], bottom)
    step = max(size[0], size[1]) / min(graph.image_size) + 1  # a pixel of the input, in pixels of the photograph
    assert np.abs(np.asarray(found) - box).max() <= step


@pytest.mark.parametrize("size", SHAPES)
def test_maps_and_masks_lie_on_what_they_are_of(graph: Graph, size: tuple[int, int]) -> None:
    pixels, _ = photograph(size)
    truth = np.zeros(size, bool)
    top, left, bottom, right = seen_box(graph, size)
    truth[top:bottom, left:right] = pixels[top:bottom, left:right, 0] > 0.5
    inside = seen(graph, pixels)
    heat = on_picture(graph, inside.astype(np.float32), size) > 0.5
    painted = (with_mask(graph, np.zeros_like(pixels), inside, (255, 255, 255)) > 0).any(axis=2)
    for found in (heat, painted):
        assert (found & truth).sum() / (found | truth).sum() > 0.75


def test_a_map_of_a_strip_needs_no_more_memory_than_the_strip(graph: Graph) -> None:
    size = (3, 300_000)  # a window as large as its letterbox would take 360 GB
    found = on_picture(graph, np.ones(graph.image_size, np.float32), size)
    middle = found[:, 140_000:160_000]
    assert found.shape == size and (middle > 0).any()


@pytest.mark.parametrize("size", [(60, 120), (120, 60)])
def test_a_mask_drawn_over_a_photograph_is_fitted_as_that_is(
    graph: Graph, size: tuple[int, int], tmp_path: Path
) -> None:
    pixels, _ = photograph(size)
    Image.fromarray((pixels * 255).astype(np.uint8)).save(tmp_path / "mask.png")
    found, truth = mask_of(tmp_path / "mask.png", graph) > 0, seen(graph, pixels)
    assert found.shape == graph.image_size
    assert (found & truth).sum() / (found | truth).sum() > 0.9
    own = np.zeros((*graph.image_size, 3), np.uint8)
    own[5:9, 7:30] = 255
    Image.fromarray(own).save(tmp_path / "own.png")
    assert np.array_equal(mask_of(tmp_path / "own.png", graph) > 0, own[..., 0] > 0)  # of the input's size: as it is
