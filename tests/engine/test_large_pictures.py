"""Pictures that claim or hold very many pixels: bounded memory, the same colours, and lies refused."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.engine.pictures import read
from convscope.engine.pictures.read import image_paths, read_image
from convscope.errors import RefusedInput, UsageError

_MEASURE = """
import json, resource, sys
from convscope.engine.pictures.read import read_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
picture = read_image(sys.argv[1])
print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, *picture.pixels.shape]))
"""


def test_a_small_png_of_88_megapixels_with_transparency_takes_less_than_a_gibibyte(tmp_path: Path) -> None:
    image = Image.new("P", (9400, 9400), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.save(tmp_path / "bomb.png", transparency=0)
    assert (tmp_path / "bomb.png").stat().st_size < 10**6
    command = [sys.executable, "-P", "-c", _MEASURE, str(tmp_path / "bomb.png")]
    kibibytes, *shape = eval(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert shape == [4700, 4700, 3]
    assert kibibytes < 2**20


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "I;16", "P"])
def test_reading_in_bands_and_at_half_size_is_the_average_of_the_whole(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    shape = {"RGB": (21, 30, 3), "RGBA": (21, 30, 4)}.get(mode, (21, 30))
    values = rng.integers(0, 65536 if mode == "I;16" else 256, shape)
    if mode == "P":
        image = Image.fromarray(values.astype(np.uint8)).convert("P")
    else:
        image = Image.fromarray(values.astype(np.uint16 if mode == "I;16" else np.uint8))
    image.save(tmp_path / "a.png")
    whole = read_image(tmp_path / "a.png").pixels
    monkeypatch.setattr(read, "_BAND", 64)
    assert (read_image(tmp_path / "a.png").pixels == whole).all()
    monkeypatch.setattr(read, "_LARGEST_WHOLE", 100)
    half = read_image(tmp_path / "a.png")
    assert "read at half its size" in half.notes
    expected = whole[:20].reshape(10, 2, 15, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(half.pixels, expected, atol=1e-6)


def test_a_jpeg_that_claims_more_than_its_bytes_can_hold_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 9, 9)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    place = data.index(b"\xff\xc0")  # start of frame: length, precision, height, width
    data[place + 5 : place + 9] = (9000).to_bytes(2, "big") * 2
    (tmp_path / "lie.jpg").write_bytes(data)
    with pytest.raises(RefusedInput, match=r"claims 9000 x 9000 pixels in \d+ bytes"):
        read_image(tmp_path / "lie.jpg")
    Image.new("RGB", (2000, 2000), (9, 9, 9)).save(tmp_path / "plain.jpg")  # honest, and as small as they come
    assert read_image(tmp_path / "plain.jpg").pixels.shape == (2000, 2000, 3)


def test_what_is_no_regular_file_is_said_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path, words in (
        (tmp_path / "pipe.png", "is not a regular file"),
        (Path("/dev/zero"), "is not a regular file"),
        (tmp_path / "none.png", "does not exist"),
        (tmp_path / ("n" * 5000), "cannot be read: File name too long"),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            read_image(path)
        assert len(str(caught.value)) < 400
    with pytest.raises(UsageError, match="File name too long"):
        image_paths(["n" * 5000])
