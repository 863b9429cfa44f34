"""Results as tables on stdout: as wide as the terminal, and in a pipe as wide as they need to be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .output import clean

if TYPE_CHECKING:
    from ..engine.runs.result import Table


def console(width: int = 140) -> Any:
    """Where tables are printed; ``width`` is for a pipe, which has none: nothing is cut off for it."""
    from rich.console import Console

    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=width)


def table(columns: Sequence[str], left: Sequence[str] = (), folded: Sequence[str] = ()) -> Any:
    """An empty table without lines; numbers stand right, the columns in ``left`` left, those in ``folded`` may wrap."""
    from rich.table import Table as RichTable

    made = RichTable(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        made.add_column(
            name,
            justify="left" if name in (*left, *folded) else "right",
            no_wrap=name not in folded,
            overflow="fold" if name in folded else "ellipsis",
        )
    return made


def show(found: Table) -> None:
    """Part of a result."""
    from rich.text import Text

    shown = table(found.columns, folded=found.words)
    for row in found.rows:
        shown.add_row(*(Text(clean(cell)) for cell in row))
    console().print(shown)
