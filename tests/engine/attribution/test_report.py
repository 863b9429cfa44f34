"""Heatmaps on the picture's own pixels, and the lesson's overlay to the last byte."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from convscope.engine.attribution import explain
from convscope.engine.graph.preprocessing import Preprocessing
from convscope.engine.outputs.vectors import Values
from convscope.engine.pages.explanation import Style, drawn, on_picture, page, page_entry, save
from convscope.engine.pictures.crops import seen_box
from convscope.engine.record import Record

from .nets import images, residual

explain_input = functools.partial(explain, preprocessed=True)  # of arrays in model space


def cropping(size=(32, 32), crop=0.5):
    graph = residual()[1]
    spec = replace(graph.inputs[0], shape=(None, 3, *size))
    return replace(graph, inputs=(spec,), preprocessing=Preprocessing(size=size, resize="crop", crop=crop))


def test_a_squashed_picture_is_seen_whole():
    assert seen_box(residual()[1], (50, 80)) == (0, 0, 50, 80)


def test_a_centre_crop_is_where_the_model_looked():
    """Short side 40 stands for 32 / 0.5 = 64 pixels, of which the middle 32 are seen: 20 of 40."""
    assert seen_box(cropping(), (40, 80)) == (10, 30, 30, 50)
    placed = on_picture(cropping(), np.ones((32, 32), np.float32), (40, 80))
    assert placed[10:30, 30:50].all() and placed.sum() == 400


@pytest.mark.parametrize(("model", "picture"), [((32, 32), (40, 80)), ((24, 32), (50, 40)), ((32, 24), (64, 64))])
def test_the_seen_box_is_what_images_fit_cuts_out(model, picture):
    """A ramp of rows and columns, fitted to the model, holds the values of the box's corners at its corners."""
    from convscope.engine.pictures.read import fit

    graph = cropping(model, 0.8)
    rows, columns = np.indices(picture) / max(picture)
    fitted = fit(np.stack([rows, columns, rows], axis=-1).astype(np.float32), graph, model) * max(picture)
    top, left, bottom, right = seen_box(graph, picture)
    found = [fitted[0, 0].mean(), fitted[1, :, 0].mean(), fitted[0, -1].mean(), fitted[1, :, -1].mean()]
    assert np.abs(np.subtract(found, [top, left, bottom - 1, right - 1])).max() < 1.6


def lesson(photograph: np.ndarray, heat: np.ndarray, alpha: float) -> np.ndarray:
    """The Keras lesson's arithmetic, written out with matplotlib's table."""
    colours = pytest.importorskip("matplotlib").colormaps["jet"](np.arange(256))[:, :3]

    def to_picture(values: np.ndarray) -> np.ndarray:
        values = values.astype(np.float32)
        values = values - values.min()
        if values.max() != 0:
            values = values / values.max()
        return (values * 255).astype(np.uint8)

    jet = to_picture(colours[np.uint8(255 * heat)])
    height, width = photograph.shape[:2]
    jet = np.asarray(Image.fromarray(jet).resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    return to_picture(jet * np.float32(alpha) + photograph.astype(np.float32))


def test_jet_with_04_is_the_lessons_overlay_of_the_layers_own_map():
    graph = residual()[1]
    found = explain_input(graph, images(1, 32), "gradcam", 3)
    photograph = np.random.default_rng(0).integers(0, 256, (48, 60, 3), dtype=np.uint8)
    raw = np.maximum(found.values, 0)
    expected = lesson(photograph, raw / raw.max(), 0.4)
    _, over = drawn(graph, found, photograph.astype(np.float32) / 255, Style())
    assert over.shape == (48, 60, 3)
    assert (np.rint(over * 255).astype(np.uint8) == expected).all()


def test_saved_files_hold_the_map_and_say_what_they_are(tmp_path):
    graph = residual()[1]
    found = explain_input(graph, images(1, 32), "saliency", 3)
    pixels = np.random.default_rng(0).random((20, 30, 3)).astype(np.float32)
    entry, heat, over = save(graph, found, pixels, tmp_path / "cat", Style("viridis", 0.5, "blend"), Record.of(graph))
    assert (np.load(tmp_path / entry["heatmap"]) == found.heatmap).all()
    assert np.load(tmp_path / entry["values"]).shape == (3, 32, 32)
    with Image.open(tmp_path / entry["overlay"]) as picture:
        assert picture.size == (30, 20)
        assert graph.sha256 in picture.info["model"] and picture.info["method"] == "saliency"
    assert entry["method"] == "saliency" and entry["index"] == 3
    answer = Values((("<value>", 1.0),))
    row = page_entry(graph, "<cat>", pixels, answer, answer.text(), [(entry, heat, over)], [])
    html = page(graph, [row], command="convscope explain", total=1, outputs="3 numbers", colormap="viridis")
    assert "<cat>" not in html and "\\u003ccat\\u003e" in html


def test_a_units_name_makes_a_safe_file_name(tmp_path):
    graph = residual()[1]
    found = explain_input(graph, images(1, 32), "saliency", "unit:block1.relu2:2@1,1")
    entry, _, _ = save(graph, found, np.zeros((8, 8, 3), np.float32), tmp_path / "x", Style(), Record.of(graph))
    assert entry["heatmap"] == "x/saliency-block1.relu2-2-1-1.npy"
