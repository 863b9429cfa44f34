"""``convscope weights``: the filters of every convolution as pictures and numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .loading import loading_options, open_model
from .options import JsonOption, LayersOption, ModelArgument, OutOption, QuietOption, UnitsOption
from .output import command_line, emit, finish
from .progress import drawn

ScaleOption = Annotated[
    str, typer.Option("--scale", metavar="SCALE", help="filter (each over its own range) or layer (one range for all).")
]
PerRowOption = Annotated[int, typer.Option("--per-row", min=1, metavar="N", help="Filters per row.")]
SaveOption = Annotated[bool, typer.Option("--save", help="Also save the weights as weights.npz, keyed by layer name.")]


@loading_options
def command(
    model: ModelArgument,
    layer: LayersOption = None,
    units: UnitsOption = "all",
    scale: ScaleOption = "filter",
    per_row: PerRowOption = 16,
    save: SaveOption = False,
    out: OutOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **loading: Any,
) -> None:
    """Show the filters of convolutions, by default all of them.

    A filter of three input channels is one colour tile, as the first layer's are; else a row is one filter and a
    column one input channel. Writes a sheet per layer, norms and near-duplicate filters, and one page. With
    --units top:N the N filters with the largest norm.
    """
    from ..engine.runs import weights

    graph = open_model(model, quiet=quiet, **loading)
    options = weights.Options(layer, units, scale, per_row, save)
    folder = out or Path(f"{graph.name}-weights")
    with drawn(quiet) as on_event:
        result = weights.run(graph, options, folder, command=command_line(), on_event=on_event)
    if result.saved is not None and not as_json:
        emit(result.saved)
    finish(result, as_json)
