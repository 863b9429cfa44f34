"""``convscope accent``: a photograph in which what a unit responds to is exaggerated."""

from __future__ import annotations

from typing import Any

from .calling import perform, takes
from .options import ASCENT, LAYER, Group, ModelArgument, PhotoArgument, option, preset

OPTIONS: Group = {
    "layer": LAYER,
    "units": option(str | None, None, "--units -u", "The one unit of the layer.", metavar="N"),
    "wanted": option(str | None, None, "--class -c", "A class, by name or index, instead of a unit.", metavar="CLASS"),
    "keep": option(
        str | None, None, "--keep", "Whose features are kept; default one four times as fine.", metavar="LAYER"
    ),
    "weight": option(float, 4.0, "--weight", "Of keeping them; 0 lets the photograph go.", min=0, metavar="W"),
    "preset": preset("accent"),
    **ASCENT,
}


@takes(OPTIONS)
def command(model: ModelArgument, image: PhotoArgument, **words: Any) -> None:
    """Exaggerate in a photograph what a unit, or a class, sees in it.

    Writes accent.png, before.png, result.json and index.html.
    """
    from ..engine.runs import accent

    perform(accent, model, words, image, ending="accent")
