"""``convscope invert``: the picture that a layer cannot tell from a photograph, and its caricature."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .ascending import (
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
    SizeOption,
    loading_options,
    open_model,
    progress,
)

ImageArgument = Annotated[Path, typer.Argument(metavar="IMAGE", help="A photograph.", show_default=False)]
GainOption = Annotated[float, typer.Option("--gain", help="1 inverts; above 1 exaggerates: a caricature.")]


@loading_options
def command(
    model: ModelArgument,
    image: ImageArgument,
    layer: LayerOption = None,
    gain: GainOption = 1.0,
    size: SizeOption = None,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    strip: StripOption = 0,
    out: OutOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **options: Any,
) -> None:
    """Show what a layer still knows of a photograph: the picture, from noise, that gives it the same values.

    Writes inverted.png, before.png (the photograph), result.json and index.html.
    """
    from ..engine.ascent.photograph import INVERSION, invert

    check_out(out)
    pixels, digest = read_photo(image)
    graph = open_model(model, quiet=quiet, **options)
    found = graph.layer(one_layer(graph, layer, "invert"))
    folder = single_folder(graph, out, "invert")
    with progress(steps or INVERSION.steps, "inverting", quiet, unit="steps") as bar:
        result = invert(
            graph,
            pixels,
            found,
            gain=gain,
            size=size,
            steps=steps,
            seed=seed,
            device=device,
            strip=strip,
            progress=steps_progress(bar),
        )
    function_of = {"image_sha256": digest, "gain": gain}
    write_single(graph, result, folder, "inverted", image, function_of, as_json=as_json)
