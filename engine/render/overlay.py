"""A heatmap laid over the picture that it explains.

Two styles. ``blend`` mixes: ``(1 - alpha) * image + alpha * colours``. ``lecture`` is the classic Keras Grad-CAM
lesson (F. Chollet 2020) with its 8-bit arithmetic, step by step:

1. ``index = uint8(255 * heat)``, truncated;
2. ``jet`` colours of the 256 indices, as floats;
3. to a picture: stretched to the full range (minimum to 0, maximum to 255), truncated to uint8;
4. that picture resized to the photograph with Pillow's bicubic filter (still uint8);
5. ``sum = resized * alpha + photograph`` in 0..255, as floats, so it may pass 255;
6. to a picture: ``sum`` stretched to the full range as in 3. Nothing is clipped: a bright sum darkens the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import UsageError
from . import colormaps
from .artifacts import to_uint8

STYLES = ("blend", "lecture")


def overlay(
    image: np.ndarray, heat: np.ndarray, colormap: str = "jet", alpha: float = 0.4, style: str = "blend"
) -> np.ndarray:
    """The picture with the heatmap over it.

    Args:
        image: (H, W, 3) or (H, W, 1) in [0, 1], or uint8.
        heat: (h, w) in [0, 1], of any size: it is resized to the picture.
        colormap: see `colormaps.names`.
        alpha: weight of the colours.
        style: "blend" or "lecture", see the module's text.

    Returns:
        (H, W, 3) float32 in [0, 1]; for "lecture" every value is a whole number of 255ths.

    Raises:
        UsageError: unknown style or colormap.
    """
    if style not in STYLES:
        raise UsageError(f"overlay style '{style}' is unknown; choose one of {', '.join(STYLES)}")
    picture = np.asarray(image)
    if picture.ndim == 2:
        picture = picture[:, :, None]
    picture = np.broadcast_to(picture, (*picture.shape[:2], 3))
    if style == "lecture":
        return _lecture(to_uint8(picture), np.asarray(heat), colormap, alpha)
    base = picture.astype(np.float32) / (255 if picture.dtype == np.uint8 else 1)
    colours = colormaps.colorize(_resized(heat, picture.shape[:2]), colormap)
    return np.clip((1 - alpha) * base + alpha * colours, 0.0, 1.0).astype(np.float32)


def _lecture(photograph: np.ndarray, heat: np.ndarray, colormap: str, alpha: float) -> np.ndarray:
    from PIL import Image

    index = np.clip(255 * np.nan_to_num(heat), 0, 255).astype(np.uint8)
    coloured = _stretched(colormaps.table(colormap)[index])
    height, width = photograph.shape[:2]
    resized: Any = Image.fromarray(coloured).resize((width, height), Image.Resampling.BICUBIC)
    total = np.asarray(resized, dtype=np.float32) * np.float32(alpha) + photograph.astype(np.float32)
    return _stretched(total).astype(np.float32) / 255


def _stretched(values: np.ndarray) -> np.ndarray:
    """float -> uint8 with the smallest value at 0 and the largest at 255, truncated."""
    values = values.astype(np.float32)
    values = values - values.min()
    largest = values.max()
    if largest != 0:
        values /= largest
    return (values * 255).astype(np.uint8)


def _resized(heat: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    heat = np.asarray(heat, dtype=np.float32)
    if heat.shape == size:
        return heat
    return np.asarray(Image.fromarray(heat).resize(size[::-1], Image.Resampling.BILINEAR))
