"""An attacked picture beside what it was: the two, with rings around few changed pixels, and the change."""

from __future__ import annotations

import numpy as np

from ..attack import Attack
from .grid import grid

_FEW = 20  # changed pixels that are ringed


def picture(values: np.ndarray) -> np.ndarray:
    """(C, H, W) in [0, 1] as (H, W, 3)."""
    return np.ascontiguousarray(np.broadcast_to(values, (3, *values.shape[1:])).transpose(1, 2, 0))


def side_by_side(attack: Attack) -> np.ndarray:
    """The picture, the attacked picture with rings around a few changed pixels, and the change, (H, W, 3)."""
    change = picture(attack.attacked) - picture(attack.image)
    size = float(np.abs(change).max()) or 1.0
    ringed = picture(attack.attacked).copy()
    if len(attack.changed) <= _FEW:
        for place in attack.changed:
            _ring(ringed, *place)
    return grid([picture(attack.image), ringed, 0.5 + 0.5 * change / size], columns=3)


def _ring(pixels: np.ndarray, row: int, column: int, radius: int = 4) -> None:
    """A red square, one pixel wide, around a place; the pixel itself stays as it is."""
    height, width = pixels.shape[:2]
    top, bottom = max(row - radius, 0), min(row + radius, height - 1)
    left, right = max(column - radius, 0), min(column + radius, width - 1)
    for edge in (
        (top, slice(left, right + 1)),
        (bottom, slice(left, right + 1)),
        (slice(top, bottom + 1), left),
        (slice(top, bottom + 1), right),
    ):
        pixels[edge] = (1.0, 0.0, 0.0)
