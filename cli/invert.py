"""``convscope invert``: the picture that a layer cannot tell from a photograph, and its caricature."""

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

GainOption = Annotated[float, typer.Option("--gain", help="1 inverts; above 1 exaggerates: a caricature.")]


@loading_options
def command(
    model: ModelArgument,
    image: PhotoArgument,
    layer: LayerOption = None,
    gain: GainOption = 1.0,
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
    """Show what a layer still knows of a photograph: the picture, from noise, that gives it the same values.

    Writes inverted.png, before.png (the photograph), result.json and index.html.
    """
    from ..engine.pictures.read import read_image
    from ..engine.runs import invert

    options = invert.Options(
        gain, size=size, steps=steps, seed=seed, strip=strip, device=device, tuning=parse_settings(tuning)
    )
    options.check()
    check_out(out)
    read_image(image)  # refused before the model is opened
    graph = open_model(model, quiet=quiet, **loading)
    wanted = needed_layer(graph, layer, "invert")
    folder = out or Path(clean(f"{graph.name}-invert"))
    with drawn(quiet) as on_event:
        result = invert.run(graph, image, wanted, options, folder, command=command_line(), on_event=on_event)
    finish(result, as_json)
