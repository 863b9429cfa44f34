"""``convscope dream``: a photograph changed towards what a layer sees in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError
from .ascending import (
    PresetOption,
    StepsOption,
    StripOption,
    check_out,
    one_layer,
    read_photo,
    single_folder,
    steps_progress,
    write_single,
)
from .common import (
    DeviceOption,
    JsonOption,
    LayerOption,
    ModelArgument,
    OutOption,
    QuietOption,
    SeedOption,
    UnitsOption,
    loading_options,
    open_model,
    parse_size,
    parse_units,
    progress,
)

ImageArgument = Annotated[Path, typer.Argument(metavar="IMAGE", help="A photograph.", show_default=False)]
SideOption = Annotated[
    Any,
    typer.Option("--size", metavar="PX|HxW", parser=parse_size, help="The dream's longer side, or height x width."),
]


@loading_options
def command(
    model: ModelArgument,
    image: ImageArgument,
    layer: LayerOption = None,
    units: UnitsOption = "all",
    preset: PresetOption = "dream",
    size: SideOption = 384,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    strip: StripOption = 0,
    out: OutOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **options: Any,
) -> None:
    """Change a photograph towards what a layer, or some of its units, see in it.

    Writes dream.png, before.png, result.json and index.html.
    """
    from ..engine.ascent.network import unit_layer
    from ..engine.ascent.photograph import dream
    from ..engine.ascent.recipe.presets import preset as find_preset

    if units.strip().startswith("top:"):
        raise UsageError(f"--units '{units}': a dream is one picture of all its units; write all, or like 0-63,70")
    count = steps or find_preset(preset).steps
    check_out(out)
    pixels, digest = read_photo(image)
    graph = open_model(model, quiet=quiet, **options)
    found = unit_layer(graph, one_layer(graph, layer, "dream"))
    asked = None if units == "all" else parse_units(units, found.channels or 0).indices
    folder = single_folder(graph, out, "dream")
    with progress(count, "dreaming", quiet, unit="steps") as bar:
        result = dream(
            graph,
            pixels,
            found,
            asked,
            preset=preset,
            size=size,
            steps=steps,
            seed=seed,
            device=device,
            strip=strip,
            progress=steps_progress(bar),
        )
    function_of = {"image_sha256": digest, "layer_units": asked or "all"}
    write_single(graph, result, folder, "dream", image, function_of, as_json=as_json)
