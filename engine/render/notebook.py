"""What results show of themselves in a notebook: small tables and pictures, escaped, without scripts."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

from .artifacts import to_pillow

_MOST_ROWS = 400  # a notebook keeps its output in the file


def table(title: str, headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """An HTML table under a title; names are text, whatever they hold."""
    listed = list(rows)
    head = "".join(f"<th>{escape(name)}</th>" for name in headers)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_word(cell))}</td>" for cell in row) + "</tr>" for row in listed[:_MOST_ROWS]
    )
    rest = f"<p>{len(listed) - _MOST_ROWS} more rows</p>" if len(listed) > _MOST_ROWS else ""
    return f"<div><p>{escape(title)}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}</div>"


def png(image: np.ndarray) -> bytes:
    """A picture (H, W, C) in [0, 1] as the bytes of a PNG file."""
    buffer = io.BytesIO()
    to_pillow(image).save(buffer, format="PNG")
    return buffer.getvalue()


def _word(cell: Any) -> str:
    if cell is None:
        return ""
    return f"{cell:.3g}" if isinstance(cell, float) else f"{cell:,}" if isinstance(cell, int) else str(cell)
