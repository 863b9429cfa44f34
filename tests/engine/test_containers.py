"""Pictures made of absurdly many pieces; `tests/integration/hostile_pictures.py` has a file of each kind."""

from __future__ import annotations

import io
import struct
import tracemalloc
from pathlib import Path

import pytest
from PIL import Image

from convscope.engine.pictures.containers import MAX_FRAMES, count_frames
from convscope.engine.pictures.read import read_image

_KINDS = {"GIF": "gif", "TIFF": "tif", "PNG": "png", "WEBP": "webp"}


def _animated(kind: str, count: int) -> bytes:
    frames = [Image.new("RGB", (8, 8), (20 * i, 0, 0)) for i in range(count)]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


@pytest.mark.parametrize("kind", _KINDS)
def test_frames_are_counted_as_pillow_counts_them(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{_KINDS[kind]}"
    path.write_bytes(_animated(kind, 5))
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == 5
    assert read_image(path).notes == ("the first of 5 frames",)


def test_a_tiff_whose_pages_lead_to_each_other_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(b"II*\0" + struct.pack("<IHI", 8, 0, 14) + struct.pack("<HI", 0, 8))
    assert count_frames(path) == 2


def test_frames_are_counted_up_to_a_bound(tmp_path: Path) -> None:
    one = b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0"
    path = tmp_path / "x.gif"
    path.write_bytes(_animated("GIF", 1)[:-1] + one * 3000 + b";")
    assert count_frames(path) == MAX_FRAMES
    assert read_image(path).notes == ("the first of 1000 or more frames",)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "TIFF", "BMP", "JPEG"])
def test_a_file_that_ends_anywhere_is_left_to_its_decoder(tmp_path: Path, kind: str) -> None:
    buffer, path = io.BytesIO(), tmp_path / "x"
    Image.new("RGB", (9, 7)).save(buffer, kind)
    whole = buffer.getvalue()
    for end in range(0, len(whole), 7):
        path.write_bytes(whole[:end])
        assert count_frames(path) == 1


def _tags_on_the_same_bytes(count: int, length: int) -> bytes:
    """Exif of so many tags, each of which has all ``length`` bytes of it."""
    tags = b"".join(struct.pack("<HHII", tag, 1, length, 8) for tag in range(40_000, 40_000 + count))
    block = b"II*\0" + struct.pack("<IH", 8, count) + tags
    return block + bytes(length + 8 - len(block))


@pytest.mark.filterwarnings("ignore:Tag data larger")
def test_tags_that_share_their_bytes_take_no_more_memory_than_the_file(tmp_path: Path) -> None:
    exif = _tags_on_the_same_bytes(10_000, 200_000)  # 2 GB by their lengths
    for kind in ("PNG", "WEBP"):
        Image.new("RGB", (9, 7)).save(tmp_path / "x", kind, exif=exif)
        tracemalloc.start()
        assert read_image(tmp_path / "x").pixels.shape == (7, 9, 3)
        assert tracemalloc.get_traced_memory()[1] < 2**24
        tracemalloc.stop()
