"""Tables on stdout: as wide as the terminal, and in a pipe as wide as they need to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .output import clean

if TYPE_CHECKING:
    from ..engine.runs.result import Table

_ANY_WIDTH = 10_000  # characters; a pipe has none, and nothing is cut off for it


def console() -> Any:
    """Where tables are printed."""
    from rich.console import Console

    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=_ANY_WIDTH)


def show(found: Table) -> None:
    """Prints a table without lines: numbers stand right; words stand left, and break where the terminal is narrow."""
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(box=None, pad_edge=False, header_style="bold", show_header=any(found.columns))
    for name in found.columns:
        is_words = name in found.words
        shown.add_column(name, justify="left" if is_words else "right", no_wrap=not is_words, overflow="fold")
    for row in found.rows:
        shown.add_row(*(Text(clean(cell)) for cell in row))
    console().print(shown)
