"""Many pictures stitched into one, row by row with a margin between them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .artifacts import side_by_side

CAPTION = 14  # pixels of a line of text below a picture


def grid(
    images: Sequence[np.ndarray], columns: int | None = None, margin: int = 2, background: float = 1.0
) -> np.ndarray:
    """One picture of all ``images``.

    Args:
        images: (H, W, C) or (H, W) each, floats in [0, 1] or uint8. Sizes may differ: the cell is as large as the
            largest, smaller ones are centred. A grayscale picture among colour ones is repeated to three channels;
            neither gray nor coloured ones are drawn as by `side_by_side`.
        columns: per row; default the smallest square that holds them all.
        margin: pixels between pictures (none around them).
        background: of margins and empty cells, in [0, 1].

    Returns:
        (rows * (H + margin) - margin, columns * (W + margin) - margin, C) float32.

    Raises:
        ValueError: no pictures, or ``columns`` or ``margin`` too small.
    """
    if not images:
        raise ValueError("a grid needs at least one picture")
    if margin < 0 or (columns is not None and columns < 1):
        raise ValueError(f"a grid needs columns >= 1 and margin >= 0, not {columns} and {margin}")
    tiles = [_float(image) for image in images]
    channels = max(tile.shape[2] for tile in tiles)
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    columns = min(columns or math.ceil(math.sqrt(len(tiles))), len(tiles))
    rows = math.ceil(len(tiles) / columns)
    shape = (rows * (height + margin) - margin, columns * (width + margin) - margin, channels)
    canvas = np.full(shape, background, dtype=np.float32)
    for k, tile in enumerate(tiles):
        top = (k // columns) * (height + margin) + (height - tile.shape[0]) // 2
        left = (k % columns) * (width + margin) + (width - tile.shape[1]) // 2
        canvas[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return canvas


def captioned(image: np.ndarray, text: str) -> np.ndarray:
    """A picture with a line of text below it, (H + `CAPTION`, W, C) float32; text that is too wide is cut.

    Args:
        image: as for `grid`.
        text: for instance a unit's number.
    """
    from PIL import Image, ImageDraw, ImageFont

    above = _float(image)
    width, channels = above.shape[1:]
    font = ImageFont.load_default(CAPTION - 3)
    while text and font.getlength(text) > width - 2:
        text = text[:-1]
    strip = Image.new("L", (width, CAPTION), 255)
    ImageDraw.Draw(strip).text((1, 1), text, fill=0, font=font)
    below = np.asarray(strip, dtype=np.float32)[:, :, None].repeat(channels, axis=2) / 255
    return np.concatenate([above, below])


def _float(image: np.ndarray) -> np.ndarray:
    image = side_by_side(image)
    scaled = image.astype(np.float32) / 255 if image.dtype == np.uint8 else image.astype(np.float32)
    return scaled[:, :, None] if scaled.ndim == 2 else scaled
