"""``convscope filters``: what each unit of a layer responds to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .calling import Call, takes
from .options import LAYERS, UNIT_PICTURES, UNITS, Group, ModelArgument, option
from .parsing import start

if TYPE_CHECKING:
    from ..engine.ascent.recipe.canvases import Noise

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

    words["noise"] = _noise(words["noise"], words.pop("noise_mean"), words.pop("noise_std"))
    diversity = words.pop("diversity")
    call = Call(model, words, "filters")
    call.perform(filters) if diversity is None else call.perform(facets, diversity=diversity)


def _noise(kind: str | None, mean: float | None, std: float | None) -> Noise | None:
    from ..engine.ascent.recipe.canvases import Noise

    if kind is not None:
        return Noise(kind, 127 if mean is None else mean, 10 if std is None else std)
    if mean is not None or std is not None:
        raise UsageError("--noise-mean and --noise-std describe --noise; add --noise uniform or --noise normal")
    return None
