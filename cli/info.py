"""``convscope info``: the model summary, as `model.summary()` and with what a microscope needs to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .calling import Call, takes
from .options import JSON, QUIET, ModelArgument
from .output import clean, emit_json, in_flags
from .progress import drawn
from .tables import console, table

if TYPE_CHECKING:
    from ..engine.graph.graph import Graph

_LONGEST = 200  # characters of a name in the table


@takes(ending={"as_json": JSON, "quiet": QUIET})
def command(model: ModelArgument, **words: Any) -> None:
    """Show a model's layers, inputs, outputs, preprocessing and origin.

    Every layer can be named elsewhere by its number or its name.
    """
    from ..engine.graph.summary import summary
    from ..engine.runs.opening import opened

    call = Call(model, words)
    with drawn(call.quiet) as on_event:
        graph = opened(call.model, None, on_event)
    if call.as_json:
        emit_json(summary(graph))
    else:
        _show(graph)


def _show(graph: Graph) -> None:
    from rich.text import Text

    from ..engine.graph.summary import COLUMNS, facts_in_words, rows_in_words

    rows = [[_cut(cell) for cell in row] for row in rows_in_words(graph)]
    shown = console(90 + max((len(row[1]) + len(row[3]) for row in rows), default=0))
    layers = table(COLUMNS, left=("op", "output shape"), folded=("layer",))
    for row in rows:
        layers.add_row(*(Text(cell) for cell in row))
    shown.print(layers)
    shown.print()
    for label, value in facts_in_words(graph):
        shown.print(Text(f"{label:<14}", style="bold") + Text(clean(in_flags(value))), soft_wrap=True)


def _cut(text: str) -> str:
    """A name as a terminal takes it; the longest column sets the width of every line. ``--json`` has it whole."""
    text = clean(text[: 2 * _LONGEST])
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
