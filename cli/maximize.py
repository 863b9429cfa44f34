"""``convscope maximize``: what classes look like to the network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .loading import check_out, loading_options, open_model
from .options import (
    AlphaOption,
    AnimateOption,
    ColumnsOption,
    DeviceOption,
    ForceOption,
    JsonOption,
    LiveOption,
    MarginOption,
    ModelArgument,
    NegativeOption,
    OutOption,
    PhotosOption,
    PicturesOption,
    PrecisionOption,
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

ClassOption = Annotated[
    str,
    typer.Option(
        "--class",
        "-c",
        metavar="CLASS,...",
        help="Names or indices with commas, all, or top:16 for the classes that can be raised most.",
        show_default=False,
    ),
]


@loading_options
def command(
    model: ModelArgument,
    classes: ClassOption,
    preset: PresetOption = "convscope",
    size: SizeOption = None,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    tuning: TuningOption = None,
    batch: PicturesOption = "auto",
    strip: StripOption = 0,
    negative: NegativeOption = False,
    alpha: AlphaOption = False,
    animate: AnimateOption = False,
    photos: PhotosOption = None,
    precision: PrecisionOption = "auto",
    columns: ColumnsOption = None,
    margin: MarginOption = 2,
    live: LiveOption = False,
    force: ForceOption = False,
    out: OutOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **loading: Any,
) -> None:
    """Show what a class looks like to the network: pictures that raise its logit most.

    Writes one PNG per class, grid.png, result.json and index.html; the same command continues after an interruption.
    """
    from ..engine.ascent.maximize import check_classes
    from ..engine.runs import maximize

    check_classes(classes)
    options = maximize.Options(
        preset=preset,
        size=size,
        steps=steps,
        seed=seed,
        strip=strip,
        negative=negative,
        alpha=alpha,
        animate=animate,
        photos=photos,
        batch=batch,
        precision=precision,
        device=device,
        tuning=parse_settings(tuning),
        columns=columns,
        margin=margin,
        live=live,
        force=force,
    )
    options.check()
    check_out(out)
    graph = open_model(model, quiet=quiet, **loading)
    folder = out or Path(clean(f"{graph.name}-classes"))
    with drawn(quiet, live=live) as on_event:
        result = maximize.run(graph, classes, options, folder, command=command_line(), on_event=on_event)
    finish(result, as_json)
