"""Hostile pictures by family, each with the harmless picture of the same format."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
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


def late(kind: str, make: Callable[[], bytes]) -> o.Build:
    """A picture whose bytes are made when the file is: making them takes a while."""
    return lambda folder: file(make(), kind)(folder)


def _segments(count: int, data: bytes) -> o.Build:
    """A JPEG with so many further segments of these bytes, marker and all."""
    return late("JPEG", lambda: drawn("JPEG")[:2] + data * count + drawn("JPEG")[2:])


def _chunks(count: int) -> o.Build:
    """A PNG with so many empty chunks that no decoder knows."""
    empty = struct.pack(">I", 0) + b"abCd" + struct.pack(">I", zlib.crc32(b"abCd"))
    return late("PNG", lambda: drawn("PNG")[:33] + empty * count + drawn("PNG")[33:])


def _comments(count: int) -> o.Build:
    """A GIF with a comment in so many pieces of one letter."""

    def make() -> bytes:
        good = drawn("GIF")
        place = good.index(b",", 13 + 3 * 2 ** ((good[10] & 7) + 1))
        return good[:place] + b"!\xfe" + b"\1A" * count + b"\0" + good[place:]

    return late("GIF", make)


def _scans(count: int, side: int) -> o.Build:
    """A progressive JPEG whose last scan is there so many times."""

    def make() -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", (side, side)).save(buffer, "JPEG", progressive=True)
        good = buffer.getvalue()
        return good[:-2] + good[good.rindex(b"\xff\xda") : -2] * count + good[-2:]

    return late("JPEG", make)


def _strips(count: int) -> o.Build:
    """A gray TIFF of 30 x 40 pixels in one strip, or so many."""

    def make() -> bytes:
        own = {256: (1, 30), 257: (1, 40), 258: (1, 8), 259: (1, 1), 262: (1, 1), 277: (1, 1), 278: (1, 40)}
        place = 8 + 2 + 12 * 9 + 4
        strips = {273: (count, place), 279: (count, place)} if count > 1 else {273: (1, 8), 279: (1, 1200)}
        entries = sorted({**own, **strips}.items())
        tags = b"".join(struct.pack("<HHII", tag, 4, *values) for tag, values in entries)
        return b"II*\0" + struct.pack("<IH", 8, len(entries)) + tags + bytes(4) + bytes(max(4 * count, 1200))

    return late("TIFF", make)


def _coded(tags: dict[int, int]) -> o.Build:
    """A gray TIFF of 30 x 40 zeros with these values of its tags."""
    own = {256: 30, 257: 40, 258: 8, 259: 1, 262: 1, 273: 122, 277: 1, 278: 40, 279: 1200, **tags}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in own.items())
    return file(b"II*\0" + struct.pack("<IH", 8, len(own)) + entries + bytes(4 + 1200), "TIFF")


def _runs(side: int) -> o.Build:
    """A BMP in runs, each row a run of one pixel that ends its row."""

    def make() -> bytes:
        palette, body = bytes(1024), b"\1\5\0\0" * side + b"\0\1"
        start = 54 + len(palette)
        head = b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start)
        head += struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(body), 0, 0, 0, 0)
        return head + palette + body

    return late("BMP", make)


def _webp(side: int) -> o.Build:
    """A lossless WebP whose header says this side; 0: its own."""

    def make() -> bytes:
        buffer = io.BytesIO()
        Image.new("RGB", (30, 30)).save(buffer, "WEBP", lossless=True)
        data = bytearray(buffer.getvalue())
        if side:
            data[21:25] = struct.pack("<I", (side - 1) | (side - 1) << 14)
        return bytes(data)

    return late("WEBP", make)


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
    **family("PNG with chunks", _chunks, {"200,000": 200_000}, 3),
    **family("GIF with comments", _comments, {"200,000": 200_000}, 3),
    **family("BMP runs", _runs, {"9400 x 9400": 9400}, 40),
    "JPEG with Exif 100,000 times": Pair(
        _segments(100_000, b"\xff\xe1\0\x09Exif\0\0x"), _segments(2, b"\xff\xe1\0\x09Exif\0\0x")
    ),
    "JPEG with 100,000 segments": Pair(_segments(100_000, b"\xff\xef\0\2"), _segments(3, b"\xff\xef\0\2")),
    "JPEG filled with 10^6 bytes": Pair(_segments(10**6, b"\xff"), _segments(100, b"\xff")),
    "JPEG in 1000 scans": Pair(_scans(1000, 1600), _scans(3, 160)),
    **family("TIFF in strips", _strips, {"10^6": 10**6}, 1),
    **family(
        "TIFF with",  # of which libtiff and Pillow print lines of their own
        _coded,
        {
            "no LZMA": {259: 34925},
            "no LZW": {259: 5},
            "65,535 samples": {277: 65535},
            "rows without end": {278: 2**31, 259: 8},
        },
        {},
    ),
    **family("WEBP of", _webp, {"9000 x 9000": 9000}, 0),
    "PNG of 2,000,000 x 40": Pair(png(2_000_000, 40), png(30, 40)),
    "TIFF of 2^30": Pair(values(_FLAT.astype(np.int32) + 2**30), values(_FLAT.astype(np.int32) + 2**15)),
}
