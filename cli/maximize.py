"""``convscope maximize``: what classes look like to the network."""

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
)
from .common import (
    DeviceOption,
    ForceOption,
    JsonOption,
    ModelArgument,
    OutOption,
    QuietOption,
    SeedOption,
    SizeOption,
    loading_options,
    open_model,
    parse_units,
)

if TYPE_CHECKING:
    from ..engine.graph.graph import Graph

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
    wanted: ClassOption,
    preset: PresetOption = "convscope",
    size: SizeOption = None,
    steps: StepsOption = None,
    seed: SeedOption = 0,
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
    """Show what a class looks like to the network: pictures that raise its logit most.

    Writes one PNG per class, grid.png, result.json and index.html; the same command continues after an interruption.
    """
    from ..engine.ascent.album import Album, identity
    from ..engine.ascent.filters import strongest
    from ..engine.ascent.many import Studio
    from ..engine.ascent.maximize import class_settings, logits_layer
    from ..engine.ascent.recipe.presets import preset as find_preset

    if not wanted.replace(",", "").strip():
        raise UsageError(f"--class '{wanted}' names no class; write names or indices with commas, all, or top:16")
    find_preset(preset)
    check_out(out)
    graph = open_model(model, quiet=quiet, **options)
    layer = logits_layer(graph)
    folder = album_folder(graph, out, "classes", force)
    indices, top = _classes(graph, wanted, layer.channels or 0)
    chosen = class_settings(graph, preset_name=preset, size=size, steps=steps, seed=seed, strip=strip)
    studio = Studio(graph, layer, chosen, device=device, batch=batch, precision=precision)
    key = identity(
        graph, layer.tensor, studio.chosen, {"device": studio.network.device.type, "gradients": studio.precision}
    )
    album = Album(folder, key, labels(graph, layer.name, studio.chosen), force)
    page = Page(graph, studio.chosen, album, layer.name, studio.precision, classes=True)
    make_all(studio, album, indices, page, live=live, quiet=quiet, kind="classes")
    kept = indices if top is None else strongest(album.records, indices, top)
    page.finish(kept, indices, as_json=as_json, quiet=quiet)


def _classes(graph: Graph, text: str, count: int) -> tuple[list[int], int | None]:
    """The classes asked for, each once and in that order, and how many to keep."""
    from ..engine.ascent.maximize import find

    if text == "all" or text.startswith("top:"):
        units = parse_units(text, count)
        return list(units.indices), units.top
    names = [text] if _is_class(graph, text) else [part.strip() for part in text.split(",") if part.strip()]
    return list(dict.fromkeys(find(graph, n) for n in names)), None


def _is_class(graph: Graph, text: str) -> bool:
    """Whether the whole text is one label: some labels have commas."""
    return text.lower() in {label.lower() for label in graph.labels or ()}
