"""``convscope activations``: what every layer computes on a picture, as grids, numbers and arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .loading import loading_options, open_model
from .options import (
    BatchOption,
    ColormapOption,
    DeviceOption,
    ImagesArgument,
    JsonOption,
    LayersOption,
    ModelArgument,
    OutOption,
    QuietOption,
    UnitsOption,
)
from .output import command_line, emit, finish, partly_done
from .progress import drawn

ScaleOption = Annotated[
    str,
    typer.Option("--scale", metavar="SCALE", help="lecture (64 std + 128, per channel), minmax or shared."),
]
PerRowOption = Annotated[int, typer.Option("--per-row", min=1, metavar="N", help="Units per row of a grid.")]
SaveOption = Annotated[
    str | None, typer.Option("--save", metavar="npz|zarr", help="Also save the arrays, keyed by layer name.")
]
GridsOption = Annotated[bool, typer.Option("--grids/--no-grids", help="Write the pictures (default).")]


@loading_options
def command(
    model: ModelArgument,
    images: ImagesArgument,
    layer: LayersOption = None,
    units: UnitsOption = "all",
    scale: ScaleOption = "lecture",
    colormap: ColormapOption = "viridis",
    per_row: PerRowOption = 16,
    save: SaveOption = None,
    grids: GridsOption = True,
    batch: BatchOption = 8,
    out: OutOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **loading: Any,
) -> None:
    """Show what each layer computes on your pictures; by default 24 feature maps from the first layer to the last.

    Writes a grid of feature maps per picture and layer, one page with all of them beside the model's summary, and
    result.json; with --save the arrays, (images, channels, height, width) float32. With --units top:N each grid
    shows the N units with the highest mean; saved arrays then hold all units.
    """
    from ..engine.pictures.read import image_paths
    from ..engine.runs import activations

    options = activations.Options(layer, units, scale, colormap, per_row, save, grids, batch, device)
    options.check()
    paths = image_paths(images)
    graph = open_model(model, quiet=quiet, **loading)
    folder = out or Path(f"{graph.name}-activations")
    with drawn(quiet) as on_event:
        result = activations.run(graph, paths, options, folder, command=command_line(), on_event=on_event)
    if result.saved is not None and not as_json:
        emit(result.saved)
    finish(result, as_json)
    partly_done(result.failed, len(paths))
