"""Pictures one after another as an animated WebP, which browsers and viewers play."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence

import numpy as np

from .artifacts import to_pillow

FRAME = 80  # milliseconds that a picture is shown
_HOLD = 1500  # and the last one


_PLACE = b'rdf:about="sha256:'
_XMP = (  # a name of itself, as XMP has it
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b"<rdf:Description " + _PLACE + b'%b"/></rdf:RDF></x:xmpmeta>'
)
_BLANK = b"0" * 64  # in place of the sum while it is made


def webp_bytes(frames: Sequence[np.ndarray], of: str, milliseconds: int = FRAME) -> bytes:
    """The animation; it repeats for ever, and rests on its last picture.

    Args:
        frames: as for `to_pillow`, one or more. Smaller ones are enlarged to the size of the last.
        of: what the frames are a function of; see `is_whole`.
        milliseconds: that each is shown.

    Raises:
        ValueError: no frames.
    """
    from PIL import Image

    if not frames:
        raise ValueError("an animation needs at least one picture")
    pictures = [to_pillow(frame).convert("RGB") for frame in frames]
    size = pictures[-1].size
    fitted = [p if p.size == size else p.resize(size, Image.Resampling.BILINEAR) for p in pictures]
    times = [milliseconds] * (len(fitted) - 1) + [_HOLD]
    buffer = io.BytesIO()
    fitted[0].save(
        buffer, format="WEBP", save_all=True, append_images=fitted[1:], duration=times, loop=0, quality=80, method=4,
        xmp=_XMP % _BLANK,
    )  # fmt: skip
    head, _, tail = buffer.getvalue().rpartition(_PLACE + _BLANK)
    return head + _PLACE + _sum(head, tail, of) + tail


def is_whole(data: bytes, of: str) -> bool:
    """Whether a file is as `webp_bytes` made it of ``of``: it states the sha256 of both."""
    head, place, behind = data.rpartition(_PLACE)
    return bool(place) and behind[:64] == _sum(head, behind[64:], of)


def _sum(head: bytes, tail: bytes, of: str) -> bytes:
    return hashlib.sha256(of.encode() + head + tail).hexdigest().encode()
