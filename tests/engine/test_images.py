"""Pictures are converted exactly, whatever their mode, and hostile files are refused in one line."""

from __future__ import annotations

import os
import struct
import sys
import warnings
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.engine.atlas.files import Folder
from convscope.engine.pictures import read as images
from convscope.engine.render import artifacts
from convscope.errors import RefusedInput, UsageError
from tests import tiny

GRADIENT = np.arange(12 * 20 * 3, dtype=np.uint8).reshape(12, 20, 3)


def saved(folder: Path, image: Image.Image, name: str = "image.png", **options: Any) -> Path:
    path = folder / name
    image.save(path, **options)
    return path


def refused(path: Path) -> str:
    with pytest.raises(RefusedInput) as caught:
        images.read_image(path)
    line = str(caught.value)
    assert "\n" not in line
    assert path.name in line
    return line


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.webp"])
def test_lossless_formats_are_read_byte_for_byte(tmp_path: Path, name: str) -> None:
    options = {"lossless": True} if name.endswith("webp") else {}
    picture = images.read_image(saved(tmp_path, Image.fromarray(GRADIENT), name, **options))
    np.testing.assert_array_equal(picture.pixels, GRADIENT.astype(np.float32) / np.float32(255))
    assert picture.pixels.dtype == np.float32


@pytest.mark.parametrize("value", [0, 1, 1000, 40000, 65535])
def test_sixteen_bit_gray_keeps_its_value(tmp_path: Path, value: int) -> None:
    path = saved(tmp_path, Image.fromarray(np.full((4, 5), value, np.uint16)))
    picture = images.read_image(path)
    np.testing.assert_allclose(picture.pixels, value / 65535, rtol=1e-6)
    assert picture.pixels.shape == (4, 5, 3)


def test_float_tiffs_are_taken_as_they_are_or_refused(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5)
    np.testing.assert_array_equal(
        images.read_image(saved(tmp_path, Image.fromarray(values), "a.tif")).pixels[..., 1], values
    )
    for name, bad in (("nan.tif", np.nan), ("large.tif", 255.0), ("negative.tif", -0.1)):
        assert "floating" in refused(saved(tmp_path, Image.fromarray(np.full((4, 5), bad, np.float32)), name))


def test_palette_gray_bilevel_and_cmyk_become_their_colours(tmp_path: Path) -> None:
    red = Image.new("RGB", (6, 4), (255, 0, 0))
    for name, image in (
        ("p.png", red.convert("P", palette=Image.Palette.ADAPTIVE)),
        ("cmyk.tif", Image.new("CMYK", (6, 4), (0, 255, 255, 0))),
    ):
        np.testing.assert_allclose(
            images.read_image(saved(tmp_path, image, name)).pixels, [[[1, 0, 0]] * 6] * 4, atol=0.01
        )
    for mode, value in (("L", 128), ("1", 1)):
        picture = images.read_image(saved(tmp_path, Image.new(mode, (6, 4), value), f"{mode}.png"))
        np.testing.assert_allclose(picture.pixels, 128 / 255 if mode == "L" else 1.0, rtol=1e-6)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_shown_on_white_and_said(tmp_path: Path, mode: str) -> None:
    colour = (0, 0, 0, 51) if mode == "RGBA" else (0, 51)
    picture = images.read_image(saved(tmp_path, Image.new(mode, (3, 3), colour)))
    np.testing.assert_allclose(picture.pixels, 0.8, atol=1e-6)
    assert any("white" in note for note in picture.notes)


def test_the_exif_rotation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = images.read_image(saved(tmp_path, Image.fromarray(GRADIENT), "a.png", exif=exif))
    np.testing.assert_array_equal(picture.pixels, np.rot90(GRADIENT, -1).astype(np.float32) / np.float32(255))


def test_an_animation_shows_its_first_frame_and_says_so(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (5, 5), c) for c in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    path = tmp_path / "a.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    picture = images.read_image(path)
    np.testing.assert_allclose(picture.pixels, [[[1, 0, 0]] * 5] * 5, atol=0.01)
    assert picture.notes == ("the first of 3 frames",)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("width", "height"), [(65535, 65535), (20000, 6000), (2**31 - 1, 1)])
def test_a_header_that_claims_too_many_pixels_is_refused(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(width, height))
    refused(path)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.tif"])
def test_truncated_files_are_refused(tmp_path: Path, name: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), name)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refused(path)


@pytest.mark.parametrize(
    "data", [b"", b"not a picture", b"<html></html>", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"P6 1 1 255 abc"]
)
def test_other_files_are_refused_even_where_pillow_could_open_them(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(data)
    refused(path)


def test_missing_files_and_folders_are_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        images.read_image(tmp_path / "none.png")
    with pytest.raises(UsageError, match="folder"):
        images.read_image(tmp_path)


def test_resizing_averages_what_it_shrinks_and_keeps_float_precision() -> None:
    pixels = np.zeros((8, 8, 3), np.float32)
    pixels[:, ::2] = 1
    np.testing.assert_allclose(images.resize(pixels, (8, 2), "bilinear")[:, :, 0].mean(), 0.5, atol=1e-6)
    assert images.resize(pixels, (8, 8)) is pixels
    ramp = np.linspace(0, 1e-4, 16, dtype=np.float32).reshape(1, 16)
    assert len(np.unique(images.resize(np.repeat(ramp, 4, 0), (2, 8)))) == 8  # 8-bit rounding would leave one


def test_fit_squashes_or_crops_as_the_preprocessing_says() -> None:
    graph = convscope.load(tiny.small_cnn(), check=False)
    picture = np.zeros((20, 40, 3), np.float32)
    picture[:, 10:30] = 1
    assert images.fit(picture, graph, (16, 16)).mean() == pytest.approx(0.5, abs=0.05)
    import dataclasses

    crop = dataclasses.replace(graph, preprocessing=convscope.Preprocessing(resize="crop"))
    assert images.fit(picture, crop, (16, 16)).min() > 0.9
    assert images.model_input(picture, graph).shape == (1, 3, 16, 16)


def test_a_stream_keeps_the_order_and_hands_over_errors(tmp_path: Path) -> None:
    paths = [saved(tmp_path, Image.new("RGB", (4, 4), (i, 0, 0)), f"{i}.png") for i in range(9)]
    paths[4].write_bytes(b"broken")
    found = list(images.stream(paths, lambda p: round(float(p.pixels[0, 0, 0]) * 255), workers=3))
    assert [path for path, _ in found] == paths
    assert [v for _, v in found if not isinstance(v, RefusedInput)] == [0, 1, 2, 3, 5, 6, 7, 8]
    assert isinstance(found[4][1], RefusedInput)


def test_folders_give_their_pictures_in_order(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "a.JPG", "notes.txt", "sub/c.png"):
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in images.image_paths([tmp_path])] == ["a.JPG", "b.png", "c.png"]
    with pytest.raises(UsageError, match="no pictures"):
        images.image_paths([])


def test_a_vanished_picture_is_an_entry_of_the_stream_and_a_wrong_model_still_ends_it(tmp_path: Path) -> None:
    paths = [saved(tmp_path, Image.new("RGB", (4, 4)), f"{i}.png") for i in range(3)]
    paths[1].unlink()
    found = [value for _, value in images.stream(paths, lambda picture: picture.pixels.shape)]
    assert [isinstance(value, RefusedInput) for value in found] == [False, True, False]
    assert "does not exist" in str(found[1])

    def unfit(picture: images.Picture) -> None:
        raise UsageError("the model takes 5 channels")

    with pytest.raises(UsageError, match="5 channels"):
        list(images.stream(paths[:1], unfit))


def test_threads_that_read_pictures_leave_the_warning_filters_alone(tmp_path: Path) -> None:
    paths = [saved(tmp_path, Image.new("RGB", (4, 4)), f"{i}.png") for i in range(40)]
    (tmp_path / "bomb.png").write_bytes(png_header(10000, 9000))
    before = list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        inside = list(warnings.filters)
        found = []
        for _, value in images.stream([*paths, tmp_path / "bomb.png"], lambda p: p.path, workers=8):
            assert warnings.filters == inside
            found.append(value)
    assert isinstance(found[-1], RefusedInput) and "pixels" in str(found[-1])
    assert warnings.filters == before


def png_16(kind: int, values: np.ndarray, transparent: bytes = b"") -> bytes:
    """A 16-bit PNG of one row; ``kind`` is PNG's colour type, ``transparent`` its tRNS chunk."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", len(values), 1, 16, kind, 0, 0, 0)
    rows = zlib.compress(b"\0" + values.astype(">u2").tobytes())
    parts = [chunk(b"IHDR", header), chunk(b"tRNS", transparent) if transparent else b"", chunk(b"IDAT", rows)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def test_sixteen_bit_gray_with_a_transparent_value_shows_it_on_white_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "gray.png"
    path.write_bytes(png_16(0, np.array([1000, 40000, 40001]), struct.pack(">H", 40000)))
    picture = images.read_image(path)
    np.testing.assert_allclose(picture.pixels[0, :, 0], [1000 / 65535, 1, 40001 / 65535], rtol=1e-6)
    assert picture.notes == ("16-bit gray", "transparent parts shown on white")


@pytest.mark.parametrize("kind", [2, 4, 6])
def test_sixteen_bit_colours_are_said_to_be_read_as_eight(tmp_path: Path, kind: int) -> None:
    channels = {2: 3, 4: 2, 6: 4}[kind]
    values = np.repeat(np.array([[1000], [40000], [65535]]), channels, axis=1)
    transparent = struct.pack(">HHH", 40000, 40000, 40000) if kind == 2 else b""
    path = tmp_path / "deep.png"
    path.write_bytes(png_16(kind, values, transparent))
    picture = images.read_image(path)
    assert picture.notes == ("16 bits per channel read as 8", "transparent parts shown on white")
    if kind == 2:
        np.testing.assert_allclose(picture.pixels[0, :, 0], [3 / 255, 1, 1], atol=1e-6)


def test_a_strip_is_cropped_before_it_is_enlarged() -> None:
    graph = convscope.load(tiny.small_cnn(), preprocessing="torch", check=False)
    cropped = replace(graph.preprocessing, resize="crop")
    graph = replace(graph, preprocessing=cropped)
    strip = np.tile(np.linspace(0, 1, 4001, dtype=np.float32), (1, 1))[:, :, None].repeat(3, 2)
    whole = images.fit(strip, graph)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("convscope.engine.pictures.read._LARGEST_ENLARGED", 1000)
        np.testing.assert_allclose(images.fit(strip, graph), whole, atol=2e-3)
    assert images.fit(np.zeros((1, 40_000, 3), np.float32), graph, (224, 224)).shape == (3, 224, 224)


def test_a_tiff_of_half_floats_is_not_called_something_else(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 64, dtype=np.float16).tobytes()
    tags = [
        (256, 8),
        (257, 8),
        (258, 16),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 8),
        (279, len(values)),
        (339, 3),
    ]
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    start = struct.pack("<2sHI", b"II", 42, 8 + len(values))
    path = tmp_path / "half.tif"
    path.write_bytes(start + values + struct.pack("<H", len(tags)) + entries + bytes(4))
    with pytest.raises(RefusedInput, match="is a TIFF that is broken, or holds values of a kind that is not read here"):
        images.read_image(path)


@pytest.mark.skipif(sys.platform != "linux", reason="paths of 4,000 characters")
def test_folders_a_thousand_deep_are_gone_through_and_links_are_not_followed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    deepest = Path(top, *["d"] * 1200)
    os.makedirs(top)
    try:
        at = str(top)
        for _ in range(1200):  # os.makedirs holds a frame for each
            at += "/d"
            os.mkdir(at)
        (deepest / "a.png").write_bytes(b"x")
        (top / "b.png").write_bytes(b"x")
        (top / "again").symlink_to(top)
        (top / "dead").mkdir()
        (top / "dead" / "c.png").symlink_to("c.png")
        assert images.image_paths([top]) == [top / "b.png", deepest / "a.png"]
        assert Folder(tmp_path).names("top") == {"top/b.png", f"top/{'d/' * 1200}a.png", "top/dead/c.png"}
        gone = deepest / f".{artifacts._here()}-{2**22 + 1}-0.part"
        gone.touch()
        artifacts.sweep(top)
        assert not gone.exists()
    finally:
        (deepest / "a.png").unlink(missing_ok=True)
        os.removedirs(deepest)  # pytest's own cleaning holds a frame for each, too
