"""Pictures one after another as an animated WebP, which browsers and viewers play."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from .artifacts import to_pillow

FRAME = 80  # milliseconds that a picture is shown
_HOLD = 1500  # and the last one


def webp_bytes(frames: Sequence[np.ndarray], milliseconds: int = FRAME) -> bytes:
    """The animation; it repeats for ever, and rests on its last picture.

    Args:
        frames: as for `to_pillow`, one or more. Smaller ones are enlarged to the size of the last.
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
        buffer, format="WEBP", save_all=True, append_images=fitted[1:], duration=times, loop=0, quality=80, method=4
    )
    return buffer.getvalue()
