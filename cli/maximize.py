"""``convscope maximize``: what classes look like to the network."""

from __future__ import annotations

from typing import Any

from .calling import perform, takes
from .options import REQUIRED, UNIT_PICTURES, Group, ModelArgument, option

OPTIONS: Group = {
    "classes": option(
        str, REQUIRED, "--class -c",
        "Names or indices with commas, all, or top:16 for the classes that can be raised most.", metavar="CLASS,...",
    ),
}  # fmt: skip


@takes(OPTIONS, UNIT_PICTURES)
def command(model: ModelArgument, **words: Any) -> None:
    """Show what a class looks like to the network: pictures that raise its logit most.

    Writes one PNG per class, grid.png, result.json and index.html; the same command continues after an interruption.
    """
    from ..engine.runs import maximize

    perform(maximize, model, words, ending="classes")
