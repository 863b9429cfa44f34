"""Hostile pictures by family, each with the harmless picture of the same format."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from . import hostile_onnx as o
from .hostile_pairs import Pair, Pairs, family

_SUFFIX = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "TIFF": "tif", "BMP": "bmp", "GIF": "gif"}


def drawn(kind: str) -> bytes:
    """A small picture in a format."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8)).save(buffer, kind)
    return buffer.getvalue()


def file(data: bytes, kind: str) -> o.Build:
    return o.raw(data, f"picture.{_SUFFIX.get(kind, kind)}")


def cut(kind: str, share: float) -> o.Build:
    data = drawn(kind)
    return file(data[: int(len(data) * share)], kind)


def png(width: int, height: int, depth: int = 8, colour: int = 2) -> o.Build:
    """A PNG whose header says this of the data of 40 x 30 pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + bytes(30 * 3) for _ in range(40)))
    return file(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""), "PNG")


def values(made: Any, kind: str = "TIFF") -> o.Build:
    """A picture of one channel of these values."""
    buffer = io.BytesIO()
    Image.fromarray(made).save(buffer, kind)
    return file(buffer.getvalue(), kind)


def jpeg(side: int) -> o.Build:
    """A JPEG whose header says other sides than its data have."""
    data = bytearray(drawn("JPEG"))
    place = data.index(b"\xff\xc0")
    if side:
        data[place + 5 : place + 9] = struct.pack(">HH", side, side)
    return file(bytes(data), "JPEG")


def bmp(width: int) -> o.Build:
    data = bytearray(drawn("BMP"))
    data[18:22] = struct.pack("<i", width)
    return file(bytes(data), "BMP")


def _other(name: str) -> o.Build:
    """A format that is not read, under the name of one that is."""
    data = {
        "PPM": b"P6 2 2 255\n" + bytes(12),
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n",
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "FITS": b"SIMPLE  =                    T" + bytes(2850),
        "PDF": b"%PDF-1.7\n",
        "ZIP": b"PK\x03\x04" + bytes(60),
        "noise": np.random.default_rng(1).bytes(500),
        "empty": b"",
    }[name]
    return file(data, "PNG")


_FLAT = np.zeros((8, 8), np.float32)
PICTURES: Pairs = {
    **{
        f"{kind} cut to {share:.0%}": Pair(cut(kind, share), cut(kind, 1.0))
        for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
        for share in (0.05, 0.5)
    },
    **family(
        "PNG of",
        lambda sides: png(*sides),
        {
            "65535 x 65535": (65535, 65535),
            "2^31 x 1": (2**31 - 1, 1),
            "0 x 0": (0, 0),
            "20000 x 20000": (20_000, 20_000),
        },
        (30, 40),
    ),
    **family("JPEG of", jpeg, {"9000 x 9000": 9000, "65000 x 65000": 65_000}, 0),
    **family("BMP", bmp, {"2^30 wide": 2**30, "-5 wide": -5}, 30),
    **family(
        "named .png:",
        lambda name: _other(name) if name else file(drawn("PNG"), "PNG"),
        {name: name for name in ("PPM", "EPS", "SVG", "FITS", "PDF", "ZIP", "noise", "empty")},
        "",
    ),
    "TIFF of NaN": Pair(values(_FLAT * np.nan), values(_FLAT)),
    "TIFF of 10^30": Pair(values(_FLAT + np.float32(1e30)), values(_FLAT + np.float32(0.5))),
    "TIFF of 2^30": Pair(values(_FLAT.astype(np.int32) + 2**30), values(_FLAT.astype(np.int32) + 2**15)),
}
