"""``convscope activations``: what every layer computes on a picture, as grids, numbers and arrays."""

from __future__ import annotations

from typing import Any

from .calling import perform, takes
from .options import LAYERS, UNITS, Group, ImagesArgument, ModelArgument, batch, colormap, option

OPTIONS: Group = {
    "layer": LAYERS,
    "units": UNITS,
    "scale": option(
        str, "lecture", "--scale", "lecture (64 std + 128, per channel), minmax or shared.", metavar="SCALE"
    ),
    "colormap": colormap("viridis"),
    "per_row": option(int, 16, "--per-row", "Units per row of a grid.", min=1, metavar="N"),
    "save": option(str | None, None, "--save", "Also save the arrays, keyed by layer name.", metavar="npz|zarr"),
    "grids": option(bool, True, "--grids/--no-grids", "Write the pictures (default)."),
    "batch": batch(8),
}


@takes(OPTIONS)
def command(model: ModelArgument, images: ImagesArgument, **words: Any) -> None:
    """Show what each layer computes on your pictures; by default 24 feature maps from the first layer to the last.

    Writes a grid of feature maps per picture and layer, one page with all of them beside the model's summary, and
    result.json; with --save the arrays, (images, channels, height, width) float32. With --units top:N each grid
    shows the N units with the highest mean; saved arrays then hold all units.
    """
    from ..engine.runs import activations

    perform(activations, model, words, images, ending="activations")
