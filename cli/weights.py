"""``convscope weights``: the filters of every convolution as pictures and numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from .common import (
    JsonOption,
    ModelArgument,
    OutOption,
    QuietOption,
    UnitsOption,
    command_line,
    emit,
    emit_json,
    loading_options,
    open_model,
    parse_units,
    progress,
)
from .pictures import unique

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from ..engine.graph.graph import Graph
    from ..engine.graph.layers import Layer
PAGE_SIDE = 64  # filters and input channels of a layer that the page shows

LayersOption = Annotated[
    str | None,
    typer.Option("--layer", "-l", metavar="LAYER,...", help="Names and globs of convolutions; default all of them."),
]
ScaleOption = Annotated[
    str, typer.Option("--scale", metavar="SCALE", help="filter (each over its own range) or layer (one range for all).")
]
PerRowOption = Annotated[int, typer.Option("--per-row", min=1, metavar="N", help="Filters per row.")]
SaveOption = Annotated[bool, typer.Option("--save", help="Also save the weights as weights.npz, keyed by layer name.")]


@loading_options
def command(
    model: ModelArgument,
    layer: LayersOption = None,
    units: UnitsOption = "all",
    scale: ScaleOption = "filter",
    per_row: PerRowOption = 16,
    save: SaveOption = False,
    out: OutOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **options: Any,
) -> None:
    """Show the filters of convolutions.

    A filter of three input channels is one colour tile, as the first layer's are; else a row is one filter and a
    column one input channel. Writes a sheet per layer, norms and near-duplicate filters, and one page. With
    --units top:N the N filters with the largest norm.
    """
    from ..engine.pages.template import render_page
    from ..engine.render.artifacts import save_npz, write_json, write_text

    graph = open_model(model, quiet=quiet, **options)
    layers = _convolutions(graph, layer)
    folder = out or Path(f"{graph.name}-weights")
    entries, cards, arrays = [], [], {}
    with progress(len(layers), "weights", quiet, unit="layers") as bar:
        for chosen in layers:
            entry, card, weight = _sheet(graph, chosen, units, scale, per_row, folder)
            entries.append(entry)
            cards.append(card)
            if save:
                arrays[chosen.name] = weight
            bar.advance(1)
    made_by = command_line()
    result = {
        "model": {"name": graph.name, "sha256": graph.sha256, "source": graph.source.path},
        "command": made_by,
        "scale": scale,
        "layers": entries,
    }
    write_json(folder / "result.json", {"schema_version": 1, **result})
    facts = {"layers": len(layers), "filters": sum(len(e["filters"]) for e in entries), "scale": scale}
    title = f"{graph.name} · weights"
    html = render_page("weights.html", title=title, facts=facts, command=made_by, data={"layers": cards})
    page = write_text(folder / "index.html", html)
    saved = save_npz(folder / "weights.npz", arrays) if save else None
    if as_json:
        emit_json(result)
        return
    if saved is not None:
        emit(saved)
    emit(page)


def _convolutions(graph: Graph, patterns: str | None) -> Sequence[Layer]:
    from ..engine.activations.weights import convolutions

    every = convolutions(graph)
    if not every:
        raise UsageError(f"{graph.name} has no convolution whose weights are stored")
    if patterns is None:
        return every
    # a glob like block1* names pools as well; a layer that a user spells out must be a convolution
    found = graph.match(patterns)
    kept = [la for la in found if la in every]
    return kept or found


def _sheet(
    graph: Graph, layer: Layer, units: str, scale: str, per_row: int, folder: Path
) -> tuple[dict[str, Any], dict[str, Any], np.ndarray]:
    """Writes a layer's sheet; returns its entry for result.json, its card for the page, and its weights."""
    from ..engine.activations.weights import (
        filter_grid,
        filter_pictures,
        kernel,
        near_duplicates,
        notes,
        numbers,
    )
    from ..engine.render.artifacts import save_png

    weight, bias = kernel(graph, layer)
    found = numbers(weight, bias)
    wanted = parse_units(units, len(weight))
    chosen = list(wanted.indices)
    if wanted.top is not None:
        chosen = sorted(chosen, key=lambda u: (-found[u].norm, u))[: wanted.top]
    swapped = graph.preprocessing.order == "BGR" and weight.shape[1] == 3
    pictures = filter_pictures(weight[:, ::-1] if swapped else weight, scale)
    file = f"{layer.index:03d}-{unique(layer.name, set())}.png"
    metadata = {"convscope": f"{graph.name} sha256 {graph.sha256}", "layer": layer.name, "scale": scale}
    save_png(folder / file, filter_grid(pictures[chosen], per_row), metadata)
    pairs = near_duplicates(found)
    entry = {
        "layer": layer.name,
        "shape": list(weight.shape),
        "notes": list(notes(graph, layer)),
        "file": file,
        "filters": [found[u].to_json() for u in chosen],
        "near_duplicates": [{"a": a, "b": b, "cosine": s} for a, b, s in pairs],
    }
    return entry, _card(entry, filter_grid(pictures[chosen][:PAGE_SIDE, :PAGE_SIDE], per_row)), weight


def _card(entry: dict[str, Any], picture: np.ndarray) -> dict[str, Any]:
    """A layer's part of the page's data."""
    from ..engine.pages.template import data_uri

    norms = sorted((f["norm"] for f in entry["filters"]), reverse=True)
    return {
        "layer": entry["layer"],
        "file": entry["file"],
        "filters": entry["shape"][0],
        "inputs": entry["shape"][1],
        "notes": entry["notes"],
        "kernel": " x ".join(map(str, entry["shape"][2:])),
        "zero": sum(n == 0 for n in norms),
        "norms": norms,
        "pairs": entry["near_duplicates"],
        "picture": data_uri(picture, format="png"),
    }
