"""``convscope dream``: a photograph changed towards what a layer sees in it."""

from __future__ import annotations

from typing import Any

from .calling import perform, takes
from .options import ASCENT, LAYER, SIDES, UNITS, Group, ModelArgument, PhotoArgument, option, preset

OPTIONS: Group = {
    "layer": LAYER,
    "units": UNITS,
    "preset": preset("dream"),
    **ASCENT,
    "size": option(
        Any,
        None,
        "--size",
        "The dream's longer side, or height x width; by default 384, or the model's own where it takes no other.",
        **SIDES,
    ),
}


@takes(OPTIONS)
def command(model: ModelArgument, image: PhotoArgument, **words: Any) -> None:
    """Change a photograph towards what a layer, or some of its units, see in it.

    Writes dream.png, before.png, result.json and index.html.
    """
    from ..engine.runs import dream

    perform(dream, model, words, image, ending="dream")
