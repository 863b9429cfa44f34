"""``convscope info``: the model summary, as `model.summary()` and with what a microscope needs to know."""

from __future__ import annotations

from typing import Any

from .calling import takes
from .loading import LOADING, opener
from .options import JSON, QUIET, ModelArgument
from .output import emit, emit_json, in_flags
from .progress import drawn
from .tables import show, told

_LONGEST = 200  # characters of a name in the table, whose longest sets the width of every line; --json has it whole


@takes(ending={"as_json": JSON, "quiet": QUIET})
def command(model: ModelArgument, **words: Any) -> None:
    """Show a model's layers, inputs, outputs, preprocessing and origin.

    Every layer can be named elsewhere by its number or its name.
    """
    from ..engine.graph.summary import COLUMNS, facts_in_words, rows_in_words, summary
    from ..engine.runs.opening import opened
    from ..engine.runs.result import Table

    with drawn(words["quiet"]) as on_event:
        graph = opened(opener(model, **{name: words[name] for name in LOADING}), None, on_event)
    if words["as_json"]:
        emit_json(summary(graph))
        return
    rows = [[_cut(cell) for cell in row] for row in rows_in_words(graph)]
    show(Table(COLUMNS, rows, words=("layer", "op", "output shape")))
    emit("")
    for label, fact in facts_in_words(graph):
        told(in_flags(fact), label=f"{label:<14}")


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
