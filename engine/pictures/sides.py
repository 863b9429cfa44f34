"""Sizes as people give them: one side, or height and width."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

from ...errors import UsageError


def height_width(size: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) in pixels, of one side or of both.

    Args:
        size: the side of a square, or (height, width), each at least 1.

    Raises:
        UsageError: anything else.
    """
    sides = [size, size] if isinstance(size, Integral) else list(size) if isinstance(size, Sequence) else []
    if len(sides) != 2 or not all(isinstance(side, Integral) for side in sides):
        raise UsageError(f"size {size!r} is neither a number of pixels nor (height, width)")
    if min(sides) < 1:
        raise UsageError(f"size {size} is not positive; give a side in pixels, for instance 128")
    return int(sides[0]), int(sides[1])
