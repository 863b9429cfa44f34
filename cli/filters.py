"""``convscope filters``: what each unit of a layer responds to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from .loading import check_out, loading_options, needed_layer, open_model
from .options import (
    AlphaOption,
    AnimateOption,
    ColumnsOption,
    DeviceOption,
    ForceOption,
    JsonOption,
    LayersOption,
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
    UnitsOption,
    parse_settings,
)
from .output import clean, command_line, finish
from .progress import drawn

if TYPE_CHECKING:
    from ..engine.ascent.recipe.presets import Noise

StartOption = Annotated[str, typer.Option("--start", metavar="noise|IMAGE", help="What ascent starts from.")]
NoiseOption = Annotated[
    str | None, typer.Option("--noise", metavar="KIND", help="uniform or normal pixel noise; default the preset's.")
]
NoiseMeanOption = Annotated[
    float | None, typer.Option("--noise-mean", min=0, max=255, help="Of --noise, 0..255; default 127.")
]
NoiseStdOption = Annotated[
    float | None, typer.Option("--noise-std", min=0, max=255, help="Of --noise, 0..255; default 10.")
]
DiversityOption = Annotated[
    int | None,
    typer.Option("--diversity", metavar="N", help="N pictures of one unit that are unlike each other, on one page."),
]
NeuronOption = Annotated[
    bool | None, typer.Option("--neuron/--channel", help="Maximize the middle of the map, or its mean.")
]


@loading_options
def command(
    model: ModelArgument,
    layer: LayersOption = None,
    units: UnitsOption = "all",
    preset: PresetOption = "convscope",
    size: SizeOption = None,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    tuning: TuningOption = None,
    start: StartOption = "noise",
    noise: NoiseOption = None,
    noise_mean: NoiseMeanOption = None,
    noise_std: NoiseStdOption = None,
    neuron: NeuronOption = None,
    batch: PicturesOption = "auto",
    strip: StripOption = 0,
    negative: NegativeOption = False,
    alpha: AlphaOption = False,
    animate: AnimateOption = False,
    photos: PhotosOption = None,
    diversity: DiversityOption = None,
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
    """Show what each unit of a layer responds to: pictures made by gradient ascent.

    Writes one PNG per unit, grid.png, result.json and index.html; of several layers, a folder each under one page.
    Finished units are kept: the same command continues after an interruption.
    """
    from ..engine.pictures.read import read_image
    from ..engine.runs import facets, filters

    drawn_noise = _noise(noise, noise_mean, noise_std)
    options = filters.Options(
        preset=preset,
        size=size,
        steps=steps,
        seed=seed,
        start=None if start == "noise" else read_image(start).pixels,
        noise=drawn_noise,
        neuron=neuron,
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
    wanted = needed_layer(graph, layer, "filters")
    folder = out or Path(clean(f"{graph.name}-filters"))
    told = {"command": command_line()}
    with drawn(quiet, live=live) as on_event:
        if diversity is None:
            result = filters.run(graph, wanted, units, options, folder, **told, on_event=on_event)
        else:
            result = facets.run(graph, wanted, units, diversity, options, folder, **told, on_event=on_event)
    finish(result, as_json)


def _noise(kind: str | None, mean: float | None, std: float | None) -> Noise | None:
    from ..engine.ascent.recipe.presets import Noise

    if kind is not None:
        return Noise(kind, 127 if mean is None else mean, 10 if std is None else std)
    if mean is not None or std is not None:
        raise UsageError("--noise-mean and --noise-std describe --noise; add --noise uniform or --noise normal")
    return None
