"""``convscope invert``: the picture that a layer cannot tell from a photograph, and its caricature."""

from __future__ import annotations

from typing import Any

from .calling import perform, takes
from .options import ASCENT, LAYER, Group, ModelArgument, PhotoArgument, option

OPTIONS: Group = {
    "layer": LAYER,
    "gain": option(float, 1.0, "--gain", "1 inverts; above 1 exaggerates: a caricature."),
    **ASCENT,
}


@takes(OPTIONS)
def command(model: ModelArgument, image: PhotoArgument, **words: Any) -> None:
    """Show what a layer still knows of a photograph: the picture, from noise, that gives it the same values.

    Writes inverted.png, before.png (the photograph), result.json and index.html.
    """
    from ..engine.runs import invert

    perform(invert, model, words, image, ending="invert")
