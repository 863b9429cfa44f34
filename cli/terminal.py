"""Pictures in the terminal: two pixels per character, with the upper half block (``--live``)."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_HALF = "▀"
_SHADES = " ░▒▓█"  # without colours: one character per two pixels, by brightness


def is_terminal() -> bool:
    """Whether stderr is a terminal that can redraw a line."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def drawing(image: np.ndarray, console: Any, columns: int | None = None) -> Any:
    """A picture as text for a rich console, as wide as the console at most.

    Args:
        image: (H, W, C) or (H, W); floats in [0, 1] or uint8.
        console: where it will be printed.
        columns: width in characters; default the smaller of the picture's and the console's width.
    """
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    pixels = _fitted(image, columns or console.width, 2 * max(console.height - 4, 4))
    text = Text(no_wrap=True)
    for row, (upper, lower) in enumerate(zip(pixels[::2], pixels[1::2], strict=True)):
        text.append("\n" if row else "")
        for over, under in zip(upper, lower, strict=True):
            if console.no_color or console.color_system is None:
                level = (int(over.sum()) + int(under.sum())) / (6 * 256)
                text.append(_SHADES[int(level * len(_SHADES))])
            else:
                style = Style(color=Color.from_rgb(*map(int, over)), bgcolor=Color.from_rgb(*map(int, under)))
                text.append(_HALF, style)
    return text


def _fitted(image: np.ndarray, columns: int, rows: int) -> np.ndarray:
    """(even height, width, 3) uint8 that fits into ``columns`` by ``rows`` pixels; never enlarged."""
    import numpy as np

    from ..engine.render.artifacts import to_pillow

    picture = to_pillow(image).convert("RGB")
    scale = min(columns / picture.width, rows / picture.height, 1.0)
    width = max(round(picture.width * scale), 1)
    height = max(round(picture.height * scale / 2), 1) * 2
    return np.asarray(picture.resize((width, height)))
