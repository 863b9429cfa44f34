"""Folders of pictures for tests."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def mixed_folder(folder: Path) -> dict[str, str]:
    """Six pictures as folders have them, and five that cannot be read; returns what is said of these."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "good.png")
    Image.fromarray(pixels).convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(rng.integers(0, 65535, (30, 40), dtype=np.uint16)).save(folder / "deep.png")
    Image.fromarray(pixels[:1, :1]).save(folder / "tiny.png")
    frames = [Image.fromarray(np.roll(pixels, i, 0)) for i in range(3)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    good = (folder / "good.png").read_bytes()
    (folder / "broken.png").write_bytes(good[:100])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("no picture")
    (folder / "notes.txt").write_text("no picture, and not looked at")
    for name, side in (("bomb.png", 60000), ("large.png", 10000)):
        header = good[12:16] + struct.pack(">II", side, side) + good[24:29]
        (folder / name).write_bytes(good[:12] + header + struct.pack(">I", zlib.crc32(header)) + good[33:])
    return {
        "broken.png": "is broken", "empty.jpg": "is not a PNG", "text.png": "is not a PNG",
        "bomb.png": "claims more than", "large.png": "has 10000 x 10000 pixels",
    }  # fmt: skip
