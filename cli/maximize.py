"""``convscope maximize``: what classes look like to the network."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .calling import Call, takes
from .options import UNIT_PICTURES, ModelArgument

ClassOption = Annotated[
    str,
    typer.Option(
        "--class",
        "-c",
        metavar="CLASS,...",
        help="Names or indices with commas, all, or top:16 for the classes that can be raised most.",
        show_default=False,
    ),
]


@takes(UNIT_PICTURES)
def command(model: ModelArgument, classes: ClassOption, **words: Any) -> None:
    """Show what a class looks like to the network: pictures that raise its logit most.

    Writes one PNG per class, grid.png, result.json and index.html; the same command continues after an interruption.
    """
    from ..engine.runs import maximize

    Call(model, {**words, "classes": classes}, "classes").perform(maximize)
