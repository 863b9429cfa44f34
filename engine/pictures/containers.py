"""How many pieces a picture file is made of, counted before a decoder goes through them.

A decoder spends time on every chunk, segment, block, page and strip, some of them on all that came before as well, and
none of that shows in a picture's width and height. What is counted here is far beyond what programs write.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from pathlib import Path

from ...errors import RefusedInput

MAX_FRAMES = 1000  # frames and pages are counted up to this number
_CHUNKS = 100_000  # of a PNG; 8 kB each in a picture of 800 MB
_SEGMENTS, _EXIF, _FILL = 1000, 64, 2**16  # of a JPEG: segments, those of Exif, bytes between them
_SCANS, _FREE_WORK = 64, 2**24  # of a JPEG: scans, and blocks times scans that are always decoded
_BLOCKS = 100_000  # of a GIF before its first frame
_COUNTED = 2_000_000  # blocks of a GIF gone through to count its frames
_STRIPS = 200_000  # strips or tiles of a TIFF
_RUN_BYTES, _RUN_PIXELS = 2**22, 2**23  # of a BMP in runs, which Pillow decodes in Python
_STRIPS_OR_TILES = (273, 279, 324, 325)  # TIFF tags: where they are and how many bytes each has


def count_frames(path: Path) -> int:
    """The frames or pages of a picture file, at most ``MAX_FRAMES``; 1 where its format has none.

    Args:
        path: a regular file.

    Raises:
        RefusedInput: it is made of absurdly many pieces.
        OSError: it cannot be read.
    """
    if path.stat().st_size < 16:
        return 1
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for mark, reader in _READERS.items():
            if data[: len(mark)] == mark:
                try:
                    return reader(data, str(path))
                except (struct.error, IndexError):  # it ends before its time, as the decoder will say
                    return 1
    return 1


def _refuse(where: str, what: str) -> RefusedInput:
    return RefusedInput(f"image '{where}' is made of {what}; save it anew with an image program")


def _png(data: mmap.mmap, where: str) -> int:
    """Chunks: length, name, data, sum. An animated one says how many frames it has."""
    place, frames = 8, 1
    for _ in range(_CHUNKS):
        if place + 12 > len(data):
            return frames
        (length,) = struct.unpack_from(">I", data, place)
        if data[place + 4 : place + 8] == b"acTL":
            frames = min(max(struct.unpack_from(">I", data, place + 8)[0], 1), MAX_FRAMES)
        place += 12 + length
    raise _refuse(where, f"more than {_CHUNKS:,} chunks")


def _jpeg(data: mmap.mmap, where: str) -> int:
    """Segments up to the first scan, whose header says the sides; then scans, told by their mark."""
    place, segments, exif, filled, blocks = 2, 0, 0, 0, 0
    while True:
        while data[place] != 0xFF or data[place + 1] in (0, 0xFF):
            place, filled = place + 1, filled + 1
            if filled > _FILL:
                raise _refuse(where, f"more than {_FILL:,} bytes between its segments")
        kind = data[place + 1]
        if kind == 0xDA:
            break
        if kind == 0x01 or 0xD0 <= kind <= 0xD8:  # marks without a length
            length = 0
        else:
            (length,) = struct.unpack_from(">H", data, place + 2)
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, place + 5)
            blocks = (-(-height // 8)) * (-(-width // 8))
        segments, exif = segments + 1, exif + (kind == 0xE1 and data[place + 4 : place + 8] == b"Exif")
        if segments > _SEGMENTS or exif > _EXIF:
            raise _refuse(where, f"more than {_SEGMENTS:,} segments, or {_EXIF} of Exif")
        place += 2 + length
    scans = 0
    while place >= 0:
        scans += 1
        if scans > _SCANS and scans * blocks > _FREE_WORK:
            raise _refuse(where, f"more than {_SCANS} scans")
        place = data.find(b"\xff\xda", place + 2)
    return 1


def _gif(data: mmap.mmap, where: str) -> int:
    """Extensions and frames, each of blocks that say their length."""
    place, frames, blocks = 13 + _palette(data[10]), 0, 0
    while frames < MAX_FRAMES and blocks < _COUNTED and place < len(data):
        kind = data[place]
        if kind == 0x21:
            place += 2
        elif kind == 0x2C:
            frames += 1
            place += 11 + _palette(data[place + 9])
        else:
            break
        while data[place] and blocks < _COUNTED:
            place, blocks = place + 1 + data[place], blocks + 1
        place, blocks = place + 1, blocks + 1
        if not frames and blocks > _BLOCKS:
            raise _refuse(where, f"more than {_BLOCKS:,} blocks before its first frame")
    return max(frames, 1)


def _palette(flags: int) -> int:
    """Bytes of a GIF's table of colours."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _tiff(data: mmap.mmap, where: str) -> int:
    """Pages, each a directory of tags that ends with the place of the next."""
    order = "<" if data[:1] == b"I" else ">"
    is_big = 43 in (data[2], data[3])
    wide, count, entry, inner = ("Q", "Q", 20, "HHQ") if is_big else ("I", "H", 12, "HHI")
    (place,) = struct.unpack_from(order + wide, data, 8 if is_big else 4)
    seen: set[int] = set()
    while place and place not in seen and len(seen) < MAX_FRAMES:
        (tags,) = struct.unpack_from(order + count, data, place)
        first = place + struct.calcsize("=" + count)
        for at in range(first, min(first + entry * tags, len(data)), entry) if not seen else ():
            tag, _, values = struct.unpack_from(order + inner, data, at)
            if tag in _STRIPS_OR_TILES and values > _STRIPS:
                raise _refuse(where, f"{values:,} strips or tiles")
        seen.add(place)
        (place,) = struct.unpack_from(order + wide, data, first + entry * tags)
    return max(len(seen), 1)


def _bmp(data: mmap.mmap, where: str) -> int:
    """Only those in runs; others hold what their sides say."""
    width, height = struct.unpack_from("<ii", data, 18)
    if data[30] in (1, 2) and (len(data) > _RUN_BYTES or abs(width * height) > _RUN_PIXELS):
        raise _refuse(where, f"runs of {abs(width * height):,} pixels in {len(data):,} bytes")
    return 1


_READERS: dict[bytes, Callable[[mmap.mmap, str], int]] = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"\xff\xd8\xff": _jpeg,
    b"GIF8": _gif,
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
    b"II+\0": _tiff,
    b"MM\0+": _tiff,
    b"BM": _bmp,
}
