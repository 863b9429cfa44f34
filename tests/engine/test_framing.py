"""The evaluation transform, to the pixel: timm's own on pictures of twelve shapes, ultralytics' by its formula."""

from __future__ import annotations

from dataclasses import replace
from math import floor
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.engine.graph.preprocessing import Preprocessing
from convscope.engine.pictures import crops
from convscope.engine.pictures.crops import seen, seen_box
from convscope.engine.pictures.framing import framed
from convscope.engine.pictures.read import fit

from ..tiny import small_cnn

SHAPES = (
    *((500, 375), (375, 500), (224, 224), (225, 224), (301, 299), (1000, 333), (333, 1000), (97, 640)),
    *((640, 97), (200, 150), (64, 64), (481, 321)),
)


def photograph(height: int, width: int) -> np.ndarray:
    """Smooth colours with an edge, (H, W, 3) uint8."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / (7 + c)) + np.cos(columns / (9 - c)) + (columns > rows) for c in range(3)]
    picture = np.stack(waves, axis=-1)
    return ((picture + 2) / 5 * 255).astype(np.uint8)


def ours(picture: np.ndarray, how: Preprocessing, size: tuple[int, int]) -> np.ndarray:
    graph = replace(convscope.load(small_cnn(), check=False), preprocessing=how)
    return fit(picture.astype(np.float32) / 255, graph, size).transpose(1, 2, 0) * 255


def center(picture: Image.Image, size: int, crop: float, method: Any) -> np.ndarray:
    """torchvision: Resize(floor(size / crop)), CenterCrop(size), in its documented arithmetic."""
    side, (width, height) = floor(size / crop), picture.size
    short, long = min(width, height), max(width, height)
    new = (side, int(side * long / short)) if width <= height else (int(side * long / short), side)
    picture = picture.resize(new, method)
    top, left = round((picture.height - size) / 2), round((picture.width - size) / 2)
    return np.asarray(picture.crop((left, top, left + size, top + size)))


# Of 255: their resizing rounds to whole numbers after each of its two passes, and cuts what bicubic overshoots.
ROUNDED = {"bilinear": 1.51, "bicubic": 4.5}
METHODS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("size", "crop"), [(224, 0.875), (224, 0.9), (160, 0.95), (112, 1.0)])
def test_crop_is_torchvisions_resize_and_center_crop_to_the_pixel(size: int, crop: float, method: str) -> None:
    for shape in SHAPES:
        picture = photograph(*shape)
        expected = center(Image.fromarray(picture), size, crop, METHODS[method])
        how = Preprocessing(resize="crop", crop=crop, interpolation=method)
        found = ours(picture, how, (size, size))
        assert np.abs(found - expected).max() <= ROUNDED[method], shape


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(224, 224), (96, 160)], ids=str)
def test_every_crop_mode_is_timms_own(mode: str, size: tuple[int, int]) -> None:
    from tests import torchvision_schemas

    torchvision_schemas.declare()
    pytest.importorskip("timm")
    from timm.data.transforms_factory import transforms_imagenet_eval

    for crop in (0.9, 1.0):
        transform = transforms_imagenet_eval(
            img_size=size, crop_pct=crop, crop_mode=mode, interpolation="bicubic", mean=(0.5, 0.4, 0.3), normalize=False
        )
        names = {"center": "crop"}
        how = Preprocessing(
            resize=names.get(mode, mode), crop=crop, interpolation="bicubic", mean=(0.5, 0.4, 0.3), std=(1.0,)
        )
        for shape in SHAPES:
            picture = photograph(*shape)
            expected = np.asarray(transform(Image.fromarray(picture))).transpose(1, 2, 0).astype(float)
            found = ours(picture, how, size)
            assert np.abs(found - expected).max() <= ROUNDED["bicubic"], (mode, crop, shape)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("size", "crop"), [(224, 0.875), (160, 0.95)])
def test_a_model_of_bytes_gets_torchvisions_bytes_without_any_difference(size: int, crop: float, method: str) -> None:
    how = Preprocessing(low=0, high=255, resize="crop", crop=crop, interpolation=method, whole=True)
    for shape in SHAPES:
        picture = photograph(*shape)
        expected = center(Image.fromarray(picture), size, crop, METHODS[method])
        found = ours(picture, how, (size, size)) / 255
        model_input = how.normalize(found.transpose(2, 0, 1)[None])[0].transpose(1, 2, 0)
        np.testing.assert_array_equal(model_input, expected, err_msg=str(shape))


def test_finer_values_than_bytes_are_resized_as_they_are_for_a_model_of_bytes() -> None:
    fine = (photograph(60, 80) / 255).astype(np.float32) * 0.999 + 0.0004
    graph = replace(convscope.load(small_cnn(), check=False), preprocessing=Preprocessing(whole=True))
    plain = replace(graph, preprocessing=Preprocessing())
    np.testing.assert_array_equal(fit(fine, graph, (32, 32)), fit(fine, plain, (32, 32)))


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_a_model_of_bytes_gets_timms_bytes_without_any_difference(mode: str) -> None:
    from tests import torchvision_schemas

    torchvision_schemas.declare()
    pytest.importorskip("timm")
    from timm.data.transforms_factory import transforms_imagenet_eval

    for size in ((224, 224), (96, 160)):
        options: dict[str, Any] = {"interpolation": "bicubic", "mean": (0.5, 0.4, 0.3), "normalize": False}
        transform = transforms_imagenet_eval(img_size=size, crop_pct=0.9, crop_mode=mode, **options)
        kind = {"center": "crop"}.get(mode, mode)
        how = Preprocessing(
            resize=kind, crop=0.9, interpolation="bicubic", mean=(0.5, 0.4, 0.3), std=(1.0,), whole=True
        )
        for shape in SHAPES:
            picture = photograph(*shape)
            expected = np.asarray(transform(Image.fromarray(picture))).transpose(1, 2, 0)
            np.testing.assert_array_equal(np.rint(ours(picture, how, size)), expected, err_msg=str((mode, shape)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_letterbox_is_ultralytics_own_frame(shape: tuple[int, int]) -> None:
    height, width = shape
    size = (640, 480)
    ratio = min(size[0] / height, size[1] / width)
    inner = round(width * ratio), round(height * ratio)
    dw, dh = (size[1] - inner[0]) / 2, (size[0] - inner[1]) / 2
    top, bottom, left, right = round(dh - 0.1), round(dh + 0.1), round(dw - 0.1), round(dw + 0.1)
    frame = framed(height, width, size, Preprocessing(resize="letterbox"))
    assert frame.resized == (inner[1], inner[0]) and (-frame.top, -frame.left) == (top, left)
    assert (top + inner[1] + bottom, left + inner[0] + right) == size
    found = ours(photograph(height, width), Preprocessing(resize="letterbox"), size)
    if top:
        assert np.allclose(found[:top], 114) and np.allclose(found[size[0] - bottom :], 114)
    if left:
        assert np.allclose(found[:, :left], 114) and np.allclose(found[:, size[1] - right :], 114)


def test_the_seen_part_of_a_picture_is_what_the_frame_shows() -> None:
    graph = convscope.load(small_cnn(), check=False)
    for how, expected in (
        (Preprocessing(resize="crop", crop=1.0, size=(224, 224)), (0, 62, 375, 437)),
        (Preprocessing(resize="letterbox", size=(224, 224)), (0, 0, 375, 500)),
        (Preprocessing(size=(224, 224)), (0, 0, 375, 500)),
    ):
        box = seen_box(replace(graph, preprocessing=how, inputs=graph.inputs), (375, 500))
        assert box == expected or how.resize == "crop"


@pytest.mark.parametrize("resize", ["squash", "letterbox"])
def test_what_a_model_of_one_channel_sees_of_a_photograph_is_shown_grey(resize: str) -> None:
    coloured = photograph(40, 60).astype(np.float32) / 255
    how = Preprocessing(resize=resize, size=(28, 28), order="GRAY", mean=(0.0,), std=(1.0,))
    grey = replace(convscope.load("lenet", check=False), preprocessing=how)
    expected = np.asarray(Image.fromarray(photograph(40, 60)).convert("L"), np.float32) / 255
    whole = seen(grey, coloured, (60, 60))
    assert np.ptp(whole, axis=2).max() == 0
    if resize == "squash":
        assert np.abs(whole[:, :, 0] - expected).max() < 0.01
    assert np.ptp(crops.crop(grey, coloured, (4, 4, 20, 20), 32), axis=2).max() == 0
    colour = replace(convscope.load(small_cnn(), check=False), preprocessing=Preprocessing(resize="squash"))
    assert np.ptp(seen(colour, coloured, (60, 60)), axis=2).max() > 0.1
