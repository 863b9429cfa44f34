"""``convscope dream``: a photograph changed towards what a layer sees in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .loading import check_out, loading_options, needed_layer, open_model
from .options import (
    DeviceOption,
    JsonOption,
    LayerOption,
    ModelArgument,
    OutOption,
    PhotoArgument,
    PresetOption,
    QuietOption,
    SeedOption,
    StepsOption,
    StripOption,
    TuningOption,
    UnitsOption,
    parse_settings,
    parse_size,
)
from .output import clean, command_line, finish
from .progress import drawn

SideOption = Annotated[
    Any,
    typer.Option("--size", metavar="PX|HxW", parser=parse_size, help="The dream's longer side, or height x width."),
]


@loading_options
def command(
    model: ModelArgument,
    image: PhotoArgument,
    layer: LayerOption = None,
    units: UnitsOption = "all",
    preset: PresetOption = "dream",
    size: SideOption = 384,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    tuning: TuningOption = None,
    strip: StripOption = 0,
    out: OutOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **loading: Any,
) -> None:
    """Change a photograph towards what a layer, or some of its units, see in it.

    Writes dream.png, before.png, result.json and index.html.
    """
    from ..engine.pictures.read import read_image
    from ..engine.runs import dream

    dream.check_units(units)
    options = dream.Options(preset, size, steps, seed, strip, device, parse_settings(tuning))
    options.check()
    check_out(out)
    read_image(image)  # refused before the model is opened
    graph = open_model(model, quiet=quiet, **loading)
    wanted = needed_layer(graph, layer, "dream")
    folder = out or Path(clean(f"{graph.name}-dream"))
    with drawn(quiet) as on_event:
        result = dream.run(graph, image, wanted, units, options, folder, command=command_line(), on_event=on_event)
    finish(result, as_json)
