"""``convscope activations``: what every layer computes on a picture, as grids, numbers and arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .common import (
    BatchOption,
    DeviceOption,
    ImagesArgument,
    JsonOption,
    ModelArgument,
    OutOption,
    QuietOption,
    UnitsOption,
    loading_options,
    open_model,
)

LayersOption = Annotated[
    str | None,
    typer.Option(
        "--layer",
        "-l",
        metavar="LAYER,...",
        help="Names and globs like conv1,block5*; default feature maps throughout.",
    ),
]
ScaleOption = Annotated[
    str,
    typer.Option("--scale", metavar="SCALE", help="lecture (64 std + 128, per channel), minmax or shared."),
]
ColormapOption = Annotated[str, typer.Option("--colormap", metavar="NAME", help="viridis, gray, magma, jet, ...")]
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
    **options: Any,
) -> None:
    """Show what each layer computes on your pictures.

    Writes a grid of feature maps per picture and layer, one page with all of them beside the model's summary, and
    result.json; with --save the arrays, (images, channels, height, width) float32. With --units top:N each grid
    shows the N units with the highest mean; saved arrays then hold all units.
    """
    from ..engine.pictures.read import image_paths
    from ..engine.render import colormaps
    from ..engine.render.activation_grids import check_scale
    from .activations_job import Job, chosen_layers, run

    check_scale(scale)
    colormaps.table(colormap)
    paths = image_paths(images)
    graph = open_model(model, quiet=quiet, **options)
    job = Job(
        graph=graph,
        layers=chosen_layers(graph, layer, quiet),
        units=units,
        scale=scale,
        colormap=colormap,
        per_row=per_row,
        save=save,
        grids=grids,
        folder=out or Path(f"{graph.name}-activations"),
        quiet=quiet,
    )
    run(job, paths, batch, device, as_json)
