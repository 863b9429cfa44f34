"""``convscope filters``: what each unit of a layer responds to."""

from __future__ import annotations

from typing import Any

from .calling import perform, takes
from .options import LAYERS, UNIT_PICTURES, UNITS, Group, ModelArgument, option
from .parsing import start

OPTIONS: Group = {
    "layer": LAYERS,
    "units": UNITS,
    "start": option(Any, "noise", "--start", "What ascent starts from.", metavar="noise|IMAGE", reads=start),
    "noise": option(
        str | None, None, "--noise", "uniform or normal pixel noise; default the preset's.", metavar="KIND"
    ),
    "noise_mean": option(float | None, None, "--noise-mean", "Of --noise, 0..255; default 127.", min=0, max=255),
    "noise_std": option(float | None, None, "--noise-std", "Of --noise, 0..255; default 10.", min=0, max=255),
    "neuron": option(bool | None, None, "--neuron/--channel", "Maximize the middle of the map, or its mean."),
    "diversity": option(
        int | None, None, "--diversity", "N pictures of one unit that are unlike each other, on one page.", metavar="N"
    ),
}


@takes(OPTIONS, UNIT_PICTURES)
def command(model: ModelArgument, **words: Any) -> None:
    """Show what each unit of a layer responds to: pictures made by gradient ascent.

    Writes one PNG per unit, grid.png, result.json and index.html; of several layers, a folder each under one page.
    Finished units are kept: the same command continues after an interruption.
    """
    from ..engine.runs import facets, filters

    diversity = words.pop("diversity")
    if diversity is None:
        perform(filters, model, words, ending="filters")
    else:
        perform(facets, model, words, ending="filters", diversity=diversity)
