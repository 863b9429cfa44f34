"""``convscope weights``: the filters of every convolution as pictures and numbers."""

from __future__ import annotations

from typing import Any

from .calling import perform, takes
from .options import JSON, LAYERS, OUT, QUIET, UNITS, Group, ModelArgument, option

OPTIONS: Group = {
    "layer": LAYERS,
    "units": UNITS,
    "scale": option(
        str, "filter", "--scale", "filter (each over its own range) or layer (one range for all).", metavar="SCALE"
    ),
    "per_row": option(int, 16, "--per-row", "Filters per row.", min=1, metavar="N"),
    "save": option(bool, False, "--save", "Also save the weights as weights.npz, keyed by layer name."),
}


@takes(OPTIONS, ending={"out": OUT, "as_json": JSON, "quiet": QUIET})
def command(model: ModelArgument, **words: Any) -> None:
    """Show the filters of convolutions, by default all of them.

    A filter of three input channels is one colour tile, as the first layer's are; else a row is one filter and a
    column one input channel. Writes a sheet per layer, norms and near-duplicate filters, and one page. With
    --units top:N the N filters with the largest norm.
    """
    from ..engine.runs import weights

    perform(weights, model, words, ending="weights")
