"""Results as tables on stdout: as wide as the terminal, and in a pipe as wide as they need to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .output import clean, emit, plural, say

if TYPE_CHECKING:
    from ..engine.attribution.faithfulness.ranking import Ranked


def console(width: int = 140) -> Any:
    """Where tables are printed; ``width`` is for a pipe, which has none: nothing is cut off for it."""
    from rich.console import Console

    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=width)


def table(columns: Sequence[str], left: Sequence[str] = (), folded: Sequence[str] = ()) -> Any:
    """An empty table without lines; numbers stand right, the columns in ``left`` left, those in ``folded`` may wrap."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        made.add_column(
            name,
            justify="left" if name in (*left, *folded) else "right",
            no_wrap=name not in folded,
            overflow="fold" if name in folded else "ellipsis",
        )
    return made


def show_ranking(rows: Sequence[Ranked], images: int, *, boxes: bool, quiet: bool) -> None:
    """The methods' faithfulness, the best first."""
    measures = ["deletion -", "insertion +", "avg drop -", "increase +", "ROAD +", "sensitivity -", "randomized -"]
    shown = table(["rank", "method", *measures, *(["in box +"] if boxes else []), ""], left=("method", ""))
    for row in rows:
        numbers = (row.deletion, row.insertion, row.average_drop, row.increase, row.road)
        cells = ["–" if n is None else f"{n:.3f}" for n in (*numbers, row.sensitivity, row.similarity)]
        if boxes:
            cells.append("–" if row.pointing is None else f"{float(row.pointing):.2f}")
        shown.add_row(str(row.rank), row.method, *cells, "insensitive to the weights" if row.insensitive else "")
    console().print(shown)
    say(
        "+ high is good, - low is good; rank by the mean place in deletion, insertion, average drop and ROAD; "
        + plural(images, "image"),
        quiet,
    )


def show_statistics(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """A line per layer: its name, and what `runs.stats.summary` says of it."""
    from rich.text import Text

    numbers = ("units", "mean", "max", "zeros", "dead", "always on", "most correlated")
    shown = table(["layer", *numbers], folded=("layer",))
    for layer, row in rows:
        figures = [f"{row['mean']:.4g}", f"{row['max']:.4g}", f"{row['zeros']:.0%}"]
        counts = [str(row["dead"]), str(row["always on"]), row["most correlated"]]
        shown.add_row(Text(clean(layer)), str(row["units"]), *figures, *counts)
    console().print(shown)


def show_methods() -> None:
    """Every method of explain with the options that ``--set`` reaches, family by family."""
    from ..engine.attribution import METHODS

    family = ""
    for method in METHODS.values():
        if method.family != family:
            family = method.family
            emit(f"{family}:")
        options = ", ".join(f"{name} ({method.kind(name)})" for name in method.options)
        emit(f"  {method.name:<20} {method.title}" + (f"; --set {options}" if options else ""))
