"""``weights``: the filters of convolutions as sheets and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UsageError
from ..activations.weights import (
    NEAR,
    convolutions_of,
    filter_grid,
    filter_pictures,
    kernel,
    near_duplicates,
    notes,
    numbers,
    sheet_shape,
    shown_kernel,
)
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..graph.units import check_units, parse_units
from ..pages.siblings import connect
from ..pages.template import data_uri, render_page
from ..record import Record, write
from ..render.artifacts import save_npz, save_png, unique, write_text
from ..whole import keep_whole
from .events import OnEvent, Progress, ignore
from .folder import locked
from .opening import Model, opened
from .result import Result

PAGE_SIDE = 64  # filters and input channels of a layer that the page shows


@dataclass(frozen=True)
class Options:
    """Which filters, and how to show them.

    Attributes:
        layer: names and globs with commas, of convolutions or of the framework's layers that hold them; None is all.
        units: ``all``, ``0-63,70``, or ``top:N`` for the N of the largest norm.
        scale: "filter" or "layer", see `activations.weights.filter_pictures`.
        per_row: filters per row of a sheet.
        save: also write the weights as ``weights.npz``, keyed by layer name.
    """

    layer: str | None = None
    units: str | int | Sequence[int] = "all"
    scale: str = "filter"
    per_row: int = 16
    save: bool = False

    def check(self) -> None:
        """Raises UsageError for units that no layer can have."""
        check_units(self.units)
        keep_whole(self, per_row=1)


@dataclass(frozen=True, eq=False, repr=False)
class Weights(Result):
    """The result of `run`.

    Attributes:
        kernels: layer name -> (out, in / groups, kh, kw) float32; of signals (.., k), of volumes (.., kd, kh, kw).
        saved: the file of the arrays, where it was asked for.
    """

    kernels: dict[str, np.ndarray] | None = None
    saved: Path | None = None

    @property
    def paths(self) -> Sequence[Path]:
        """The arrays and the page."""
        return (*([self.saved] if self.saved else ()), *super().paths)

    def __getitem__(self, layer: str) -> np.ndarray:
        """The filters of one layer, as `kernels` has them.

        Raises:
            UsageError: it was not asked for, or the arrays went into the folder.
        """
        if self.kernels is None:
            raise UsageError("the filters are not in memory; leave folder out")
        if layer in self.kernels:
            return self.kernels[layer]
        raise UsageError(f"layer '{layer}' was not asked for; there are {', '.join(self.kernels)}")


def run(
    model: Model,
    options: Options | None = None,
    folder: Path | None = None,
    *,
    command: str | None = None,
    on_event: OnEvent = ignore,
) -> Weights:
    """The filters of convolutions: a sheet per layer, norms, near duplicates, one page.

    Args:
        model: from `convscope.load`, or what opens it.
        options: default all convolutions.
        folder: writes the sheets, ``result.json`` and ``index.html`` there; None writes nothing.
        command: what the record says made it.
        on_event: told of every layer.

    Raises:
        UsageError: an unknown layer, one without filters, or an unknown scale.
    """
    options = options or Options()
    options.check()
    if options.save and folder is None:
        raise UsageError("save= writes into a folder; name one, or leave it out and take the arrays of the result")
    graph = opened(model, folder, on_event)
    layers = convolutions_of(graph, options.layer)
    record = Record.of(graph, command)
    entries, cards, kernels = [], [], {}
    with locked(folder):
        on_event(Progress("weights", 0, len(layers), "layers"))
        for layer in layers:
            entry, card, kernels[layer.name] = _sheet(graph, layer, options, folder, record)
            entries.append(entry)
            cards.append(card)
            on_event(Progress("weights", len(entries), len(layers), "layers"))
        content = record.to_json({"scale": options.scale, "layers": entries})
        if folder is None:
            return Weights(content, None, kernels)
        write(folder, content)
        facts = {"layers": len(layers), "filters": sum(len(e["filters"]) for e in entries), "scale": options.scale}
        title = f"{graph.name} · weights"
        command = record.command or ""
        html = render_page(
            "weights.html", title=title, facts=facts, command=command, data={"layers": cards, "near": NEAR}
        )
        page = write_text(folder / "index.html", html)
        connect(graph, folder)
        saved = save_npz(folder / "weights.npz", kernels) if options.save else None
    return Weights(content, page, kernels, saved)


def _sheet(
    graph: Graph, layer: Layer, options: Options, folder: Path | None, record: Record
) -> tuple[dict[str, Any], dict[str, Any], np.ndarray]:
    """Writes a layer's sheet; its entry for ``result.json``, its card for the page, and its weights."""
    weight, bias = kernel(graph, layer)
    found = numbers(weight, bias)
    asked = parse_units(options.units, len(weight))
    chosen: Sequence[int] = asked.indices
    if asked.top is not None:
        chosen = sorted(chosen, key=lambda u: (-found[u].norm, u))[: asked.top]
    pictures = filter_pictures(shown_kernel(graph, weight), options.scale)[list(chosen)]
    file = f"{layer.index:03d}-{unique(layer.name, set())}.png"
    if folder is not None:
        text = record.png_text(layer=layer.name, scale=options.scale)
        save_png(folder / file, filter_grid(pictures, options.per_row), text)
    entry = {
        "layer": layer.name,
        "shape": list(weight.shape),
        "notes": list(notes(graph, layer)),
        "file": file,
        "filters": [found[u].to_json() for u in chosen],
        "near_duplicates": [{"a": a, "b": b, "cosine": s} for a, b, s in near_duplicates(found)],
    }
    return entry, _card(entry, pictures[:PAGE_SIDE, :PAGE_SIDE], options.per_row), weight


def _card(entry: dict[str, Any], pictures: np.ndarray, per_row: int) -> dict[str, Any]:
    """A layer's part of the page's data."""
    norms = sorted((f["norm"] for f in entry["filters"]), reverse=True)
    count, tiles, height, width, _ = pictures.shape
    columns, enlarge, margin = sheet_shape(pictures, per_row)
    return {
        "layer": entry["layer"],
        "file": entry["file"],
        "filters": entry["shape"][0],
        "inputs": entry["shape"][1],
        "shown": len(entry["filters"]),
        "notes": entry["notes"],
        "kernel": " x ".join(map(str, entry["shape"][2:])),
        "zero": sum(n == 0 for n in norms),
        "norms": norms,
        "pairs": entry["near_duplicates"],
        "units": [{"at": i, **one} for i, one in enumerate(entry["filters"][:count])],
        "tiles": tiles,
        "sheet": {
            "picture": data_uri(filter_grid(pictures, per_row), format="png"),
            "across": columns,
            "count": count * tiles,
            "tile": [height * enlarge, width * enlarge],
            "margin": margin,
        },
    }
