"""``convscope filters``: what each unit of a layer responds to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from .ascending import (
    BatchOption,
    LiveOption,
    Page,
    PrecisionOption,
    PresetOption,
    StepsOption,
    StripOption,
    album_folder,
    check_out,
    labels,
    make_all,
    one_layer,
    read_pixels,
)
from .common import (
    DeviceOption,
    ForceOption,
    JsonOption,
    LayerOption,
    ModelArgument,
    OutOption,
    QuietOption,
    SeedOption,
    SizeOption,
    UnitsOption,
    loading_options,
    open_model,
    parse_units,
)

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
NeuronOption = Annotated[
    bool | None, typer.Option("--neuron/--channel", help="Maximize the middle of the map, or its mean.")
]


@loading_options
def command(
    model: ModelArgument,
    layer: LayerOption = None,
    units: UnitsOption = "all",
    preset: PresetOption = "convscope",
    size: SizeOption = None,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    start: StartOption = "noise",
    noise: NoiseOption = None,
    noise_mean: NoiseMeanOption = None,
    noise_std: NoiseStdOption = None,
    neuron: NeuronOption = None,
    batch: BatchOption = "auto",
    strip: StripOption = 0,
    precision: PrecisionOption = "auto",
    live: LiveOption = False,
    force: ForceOption = False,
    out: OutOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **options: Any,
) -> None:
    """Show what each unit of a layer responds to: pictures made by gradient ascent.

    Writes one PNG per unit, grid.png, result.json and index.html. Finished units are kept: the same command
    continues after an interruption.
    """
    from ..engine.ascent.album import Album, identity
    from ..engine.ascent.filters import strongest
    from ..engine.ascent.many import Studio
    from ..engine.ascent.network import unit_layer
    from ..engine.ascent.recipe.presets import preset as find_preset
    from ..engine.ascent.settings import settings

    find_preset(preset)
    drawn = _noise(noise, noise_mean, noise_std)
    check_out(out)
    picture = None if start == "noise" else read_pixels(start)
    graph = open_model(model, quiet=quiet, **options)
    found = unit_layer(graph, one_layer(graph, layer, "filters"))
    folder = album_folder(graph, out, "filters", force)
    asked = parse_units(units, found.channels or 0)
    chosen = settings(
        graph,
        None if neuron else found,
        preset_name=preset,
        size=size,
        steps=steps,
        seed=seed,
        start=picture,
        noise=drawn,
        strip=strip,
    )
    studio = Studio(graph, found, chosen, device=device, batch=batch, neuron=neuron, precision=precision)
    key = identity(
        graph,
        found.tensor,
        studio.chosen,
        {"neuron": neuron, "device": studio.network.device.type, "gradients": studio.precision},
    )
    album = Album(folder, key, labels(graph, found.name, studio.chosen), force)
    page = Page(graph, studio.chosen, album, found.name, studio.precision)
    make_all(studio, album, asked.indices, page, live=live, quiet=quiet, kind="units")
    kept = list(asked.indices) if asked.top is None else strongest(album.records, asked.indices, asked.top)
    page.finish(kept, asked.indices, as_json=as_json, quiet=quiet)


def _noise(kind: str | None, mean: float | None, std: float | None) -> Noise | None:
    from ..engine.ascent.recipe.presets import Noise

    if kind is not None:
        return Noise(kind, 127 if mean is None else mean, 10 if std is None else std)
    if mean is not None or std is not None:
        raise UsageError("--noise-mean and --noise-std describe --noise; add --noise uniform or --noise normal")
    return None
