"""Sizes as people give them: one side, or height and width."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import UsageError
from ..whole import is_whole

LARGEST = 65536  # pixels; a side that no memory holds, and few enough for the arithmetic of sizes


def height_width(size: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) in pixels, of one side or of both.

    Args:
        size: the side of a square, or (height, width), each from 1 to `LARGEST`.

    Raises:
        UsageError: anything else.
    """
    sides = [size, size] if is_whole(size) else list(size) if isinstance(size, Sequence) else []
    if len(sides) != 2 or not all(map(is_whole, sides)):
        raise UsageError(f"size {size!r} is neither a number of pixels nor (height, width)")
    if min(sides) < 1:
        raise UsageError(f"size {size} is not positive; give a side in pixels, for instance 128")
    height, width = map(int, sides)
    if max(height, width) > LARGEST:
        raise UsageError(f"size {size} is too large: at most {LARGEST} pixels a side")
    return height, width
