"""``convscope accent``: a photograph in which what a unit responds to is exaggerated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .loading import check_out, loading_options, open_model
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
    SizeOption,
    StepsOption,
    StripOption,
    TuningOption,
    parse_settings,
)
from .output import clean, command_line, finish
from .progress import drawn

UnitOption = Annotated[str | None, typer.Option("--units", "-u", metavar="N", help="The one unit of the layer.")]
ClassOption = Annotated[
    str | None, typer.Option("--class", "-c", metavar="CLASS", help="A class, by name or index, instead of a unit.")
]
KeepOption = Annotated[
    str | None,
    typer.Option("--keep", metavar="LAYER", help="Whose features are kept; default one four times as fine."),
]
WeightOption = Annotated[
    float, typer.Option("--weight", min=0, metavar="W", help="Of keeping them; 0 lets the photograph go.")
]


@loading_options
def command(
    model: ModelArgument,
    image: PhotoArgument,
    layer: LayerOption = None,
    units: UnitOption = None,
    wanted: ClassOption = None,
    keep: KeepOption = None,
    weight: WeightOption = 4.0,
    preset: PresetOption = "accent",
    size: SizeOption = None,
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
    """Exaggerate in a photograph what a unit, or a class, sees in it.

    Writes accent.png, before.png, result.json and index.html.
    """
    from ..engine.pictures.read import read_image
    from ..engine.runs import accent

    accent.check(layer, units, wanted)
    options = accent.Options(keep, weight, preset, size, steps, seed, strip, device, parse_settings(tuning))
    options.check()
    check_out(out)
    read_image(image)  # refused before the model is opened
    graph = open_model(model, quiet=quiet, **loading)
    folder = out or Path(clean(f"{graph.name}-accent"))
    told = {"wanted": wanted, "command": command_line()}
    with drawn(quiet) as on_event:
        result = accent.run(graph, image, layer, units, options, folder, **told, on_event=on_event)
    finish(result, as_json)
