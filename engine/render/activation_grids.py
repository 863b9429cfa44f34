"""Feature maps as pictures: one tile per unit, sixteen to a row."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import UsageError
from .colormaps import colorize
from .grid import grid

_SQUARE = 12  # pixels of a dense unit
SCALES = ("lecture", "minmax", "shared")


def channel_tiles(maps: np.ndarray, scale: str = "lecture") -> np.ndarray:
    """Feature maps scaled to [0, 1].

    Args:
        maps: (C, H, W).
        scale: "lecture" (each channel centred, divided by its standard deviation, times 64, plus 128, clipped
            to a byte: Chollet 2017, Deep Learning with Python, section 5.4), "minmax" (each channel from its
            least to its largest value) or "shared" (all channels by the same least and largest value).

    Returns:
        (C, H, W) float32; a constant channel is 128 / 255 by the lecture's rule, else 0.

    Raises:
        UsageError: an unknown scale.
    """
    values = np.nan_to_num(maps.astype(np.float32)).astype(np.float64)  # an infinity is then no overflow
    if scale == "lecture":
        centred = values - values.mean(axis=(1, 2), keepdims=True)
        spread = centred.std(axis=(1, 2), keepdims=True)
        centred = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)
        return (np.clip(centred * 64 + 128, 0, 255).astype(np.uint8) / np.float32(255)).astype(np.float32)
    check_scale(scale)
    axes = (1, 2) if scale == "minmax" else (0, 1, 2)
    low, high = values.min(axis=axes, keepdims=True), values.max(axis=axes, keepdims=True)
    span = np.where(high > low, high - low, 1.0)
    return ((values - low) / span).astype(np.float32)


def channel_grid(maps: np.ndarray, scale: str = "lecture", colormap: str = "viridis", per_row: int = 16) -> np.ndarray:
    """(C, H, W) feature maps as one picture, (height, width, 3) in [0, 1]; other arguments as `channel_tiles`."""
    tiles = [colorize(tile, colormap) for tile in channel_tiles(maps, scale)]
    return grid(tiles, columns=min(per_row, len(tiles)), margin=1)


def dense_grid(values: np.ndarray, scale: str = "lecture", colormap: str = "viridis", per_row: int = 16) -> np.ndarray:
    """A layer without planes as one picture: a square per unit, all by one scale.

    Args:
        values: (C,) or (C, L), drawn one row per unit.
        scale: as for `channel_tiles`.
        colormap: a name of `colormaps`.
        per_row: squares in a row.

    Returns:
        (height, width, 3) float32 in [0, 1].
    """
    if values.ndim == 1:
        rows = -(-len(values) // per_row)
        laid = np.full(rows * per_row, np.nan)
        laid[: len(values)] = channel_tiles(values[None, None], scale)[0, 0]
        laid = laid.reshape(rows, per_row) if rows > 1 else laid[None, : len(values)]
    else:
        laid = channel_tiles(values.reshape(1, len(values), -1), scale)[0]
    colours = colorize(laid, colormap)
    colours[np.isnan(laid)] = 1.0
    return colours.repeat(_SQUARE, axis=0).repeat(_SQUARE, axis=1)


def grid_shape(values: np.ndarray, per_row: int = 16) -> dict[str, Any]:
    """Where each unit's tile lies on the grid of `channel_grid` or `dense_grid`.

    Returns:
        ``across`` tiles per row, ``count``, the ``tile``'s (rows, columns) and the ``margin`` between, in pixels.
    """
    if values.ndim == 3:
        return {
            "across": min(per_row, len(values)),
            "count": len(values),
            "tile": list(values.shape[1:]),
            "margin": 1,
        }
    across, long = (min(per_row, len(values)), 1) if values.ndim == 1 else (1, values[0].size)
    return {"across": across, "count": len(values), "tile": [_SQUARE, _SQUARE * long], "margin": 0}


def check_scale(scale: str) -> None:
    """Raises UsageError where there is no such scale."""
    if scale not in SCALES:
        raise UsageError(f"scale '{scale}' is unknown; choose one of {', '.join(SCALES)}")
