"""Tables and lines on stdout: coloured and as wide as the terminal, in a pipe plain and as wide as they need to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .output import clean, emit

if TYPE_CHECKING:
    from ..engine.runs.result import Table

_ANY_WIDTH = 10_000  # characters; a pipe has none, and nothing is cut off for it


def console() -> Any:
    """Where tables are printed."""
    from rich.console import Console

    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=_ANY_WIDTH)


def told(text: str, style: str = "", label: str = "") -> None:
    """Prints a line of a result: on a terminal with colours its label bold, and the rest in a style of rich."""
    from rich.text import Text

    shown = console()
    if shown.is_terminal and not shown.no_color:
        shown.print(Text.assemble((label, "bold"), (clean(text), style)), soft_wrap=True)
    else:
        emit(label + text)


def show(found: Table, styles: Mapping[str, str] | None = None) -> None:
    """Prints a table without lines: numbers stand right; words stand left, and break where the terminal is narrow.

    Args:
        found: the table.
        styles: cell -> its style of rich, on a terminal.
    """
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(box=None, pad_edge=False, header_style="bold", show_header=any(found.columns))
    for name in found.columns:
        is_words = name in found.words
        shown.add_column(name, justify="left" if is_words else "right", no_wrap=not is_words, overflow="fold")
    for row in found.rows:
        shown.add_row(*(Text(clean(cell), (styles or {}).get(cell, "")) for cell in row))
    console().print(shown)
