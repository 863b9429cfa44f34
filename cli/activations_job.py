"""The work behind ``convscope activations``: batches in, grids and arrays out, a page at the end."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .common import command_line, emit, emit_json, parse_units, progress, say
from .pictures import Skipped, unique

if TYPE_CHECKING:
    import numpy as np

    from ..engine.activations.stream import Batch
    from ..engine.graph.graph import Graph
    from ..engine.graph.layers import Layer
    from ..engine.render.array_store import Store

PAGE_IMAGES = 12  # a page holds its pictures inside; more would be slow to open
EXACT = 640  # pixels
DEFAULT_LAYERS = 24


@dataclass
class Job:
    """One run of the command: its settings, and what it has made so far."""

    graph: Graph
    layers: Sequence[Layer]
    units: str
    scale: str
    colormap: str
    per_row: int
    save: str | None
    grids: bool
    folder: Path
    quiet: bool
    images: list[dict[str, Any]] = field(default_factory=list)
    shown: list[dict[str, Any]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)


def chosen_layers(graph: Graph, patterns: str | None, quiet: bool) -> Sequence[Layer]:
    """The asked layers, or feature maps from the first to the last where none are asked for.

    Raises:
        UsageError: a layer is unknown, or has no units.
    """
    if patterns is not None:
        found = graph.match(patterns)
        without = [la.name for la in found if la.channels is None]
        if without:
            raise UsageError(f"layer '{without[0]}' has no units; choose others: convscope info {graph.source.path}")
        return found
    maps = _finished_maps(graph)
    if not maps:
        raise UsageError(f"{graph.name} has no feature maps; name layers with --layer")
    if len(maps) > DEFAULT_LAYERS:
        count = sum(la.is_spatial for la in graph.layers)
        say(f"{DEFAULT_LAYERS} of {count} feature maps, evenly spaced; --layer '*' takes all", quiet)
        maps = [maps[round(i * (len(maps) - 1) / (DEFAULT_LAYERS - 1))] for i in range(DEFAULT_LAYERS)]
    return maps


def _finished_maps(graph: Graph) -> list[Layer]:
    """The feature maps, without padding and without those that only a normalization or an activation reads."""
    readers: dict[str, set[str]] = {}
    for node in graph.model.graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    half = {"BatchNormalization", "Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Selu", "HardSwish", "Sigmoid", "Mul"}
    maps = [la for la in graph.layers if la.is_spatial and la.op not in ("Pad", "Transpose", "Sigmoid")]
    return [la for la in maps if not readers.get(la.tensor) or not readers[la.tensor] <= half]


def run(job: Job, paths: Sequence[Path], batch: int, device: str, as_json: bool) -> None:
    """Streams the pictures through the model, writes what was asked for, and prints the result.

    Raises:
        RefusedInput: no picture could be read. PartlyDone: some could not.
    """
    from ..engine.activations.stream import activations
    from ..engine.render.array_store import open_store

    skipped = Skipped(job.quiet)
    kept = _kept_units(job)
    saved = None if job.save is None else job.folder / f"activations.{job.save}"
    with ExitStack() as stack:
        bar = stack.enter_context(progress(len(paths), "activations", job.quiet, unit="images"))
        store = stack.enter_context(open_store(saved, job.save)) if saved is not None and job.save else None
        for part in activations(
            job.graph, paths, job.layers, batch=min(batch, len(paths)), device=device, failed=skipped
        ):
            _add(job, part, kept, store)
            bar.advance(len(part.paths), failed=len(skipped.failed))
        skipped.refuse_all(len(paths))
    _finish(job, skipped, saved, as_json)
    skipped.finish(len(paths))


def _kept_units(job: Job) -> dict[str, list[int] | None]:
    """Layer name -> the units of its saved array, None for all; refuses --units that a layer lacks."""
    kept: dict[str, list[int] | None] = {}
    for layer in job.layers:
        wanted = parse_units(job.units, layer.channels or 0)
        kept[layer.name] = list(wanted.indices) if len(wanted.indices) < (layer.channels or 0) else None
    return kept


def _add(job: Job, part: Batch, kept: dict[str, list[int] | None], store: Store | None) -> None:
    if store is not None:
        store.append({n: v if kept[n] is None else v[:, kept[n]] for n, v in part.values.items()})
    for index, path in enumerate(part.paths):
        folder = unique(path.stem, job.names)
        rows, page = [], []
        for layer in job.layers:
            values = part.values[layer.name][index]
            units = _shown_units(job, layer, values)
            row, picture = _layer(job, layer, units, values[units], folder)
            rows.append(row)
            page.append((row, picture))
        job.images.append({"file": str(path), "layers": rows})
        if job.grids and len(job.shown) < PAGE_IMAGES:
            job.shown.append(_page_entry(path, page))


def _shown_units(job: Job, layer: Layer, values: np.ndarray) -> list[int]:
    wanted = parse_units(job.units, layer.channels or 0)
    if wanted.top is None:
        return list(wanted.indices)
    means = values.reshape(len(values), -1).mean(axis=1)
    return [int(u) for u in (-means).argsort(kind="stable")[: wanted.top]]


def _layer(
    job: Job, layer: Layer, units: list[int], values: np.ndarray, folder: str
) -> tuple[dict[str, Any], np.ndarray | None]:
    """The entry of one layer for result.json, and its grid."""
    from ..engine.render.activation_grids import channel_grid, dense_grid
    from ..engine.render.artifacts import save_png

    entry: dict[str, Any] = {
        "layer": layer.name,
        "units": units,
        "mean": float(values.mean()),
        "max": float(values.max()),
        "zero_share": float((values == 0).mean()),
        "grid": None,
    }
    if not job.grids:
        return entry, None
    draw = channel_grid if values.ndim == 3 else dense_grid
    picture = draw(values, job.scale, job.colormap, job.per_row)
    entry["grid"] = f"{folder}/{layer.index:03d}-{unique(layer.name, set())}.png"
    metadata = {"convscope": f"{job.graph.name} sha256 {job.graph.sha256}", "layer": layer.name, "scale": job.scale}
    save_png(job.folder / entry["grid"], picture, metadata)
    return entry, picture


def _embedded(picture: np.ndarray) -> str:
    """A grid for the page: without loss where single pixels are seen, since chroma would bleed between them."""
    from ..engine.pages.template import data_uri

    if max(picture.shape[:2]) <= EXACT:
        return data_uri(picture, format="png")
    return data_uri(picture, longest=1600, quality=80)


def _page_entry(path: Path, layers: Sequence[tuple[dict[str, Any], Any]]) -> dict[str, Any]:
    from ..engine.pages.template import data_uri
    from ..engine.pictures.read import read_image

    return {
        "name": path.name,
        "picture": data_uri(read_image(path).pixels, longest=320),
        "layers": [{**entry, "units": len(entry["units"]), "picture": _embedded(picture)} for entry, picture in layers],
    }


def _finish(job: Job, skipped: Skipped, saved: Path | None, as_json: bool) -> None:
    from ..engine.pages.template import render_page
    from ..engine.render.artifacts import write_json, write_text

    made_by = command_line()
    result = {
        "model": {"name": job.graph.name, "sha256": job.graph.sha256, "source": job.graph.source.path},
        "preprocessing": job.graph.preprocessing.to_json(),
        "command": made_by,
        "scale": job.scale,
        "layers": [layer.to_json() for layer in job.layers],
        "images": job.images,
        "failed": skipped.failed,
        "saved": None if saved is None else saved.name,
    }
    last = write_json(job.folder / "result.json", {"schema_version": 1, **result})
    if job.grids:
        html = render_page(
            "activations.html",
            title=f"{job.graph.name} · activations",
            facts={"images": len(job.images), "layers": len(job.layers), "scale": job.scale},
            command=made_by,
            data={"images": job.shown, "total": len(job.images), "summary": _summary(job)},
        )
        last = write_text(job.folder / "index.html", html)
        if len(job.images) > PAGE_IMAGES:
            say(f"the page shows the first {PAGE_IMAGES} images; the folder holds all {len(job.images)}", job.quiet)
    if as_json:
        emit_json(result)
        return
    if saved is not None:
        emit(saved)
    emit(last)


def _summary(job: Job) -> list[dict[str, Any]]:
    """The model's table, as in ``convscope info``, with the layers that the page shows marked."""
    shown = {layer.name for layer in job.layers}
    return [
        {
            "name": layer.name,
            "op": layer.op,
            "shape": " x ".join("?" if s is None else str(s) for s in layer.shape[1:]),
            "parameters": layer.parameters,
            "shown": layer.name in shown,
        }
        for layer in job.graph.layers
    ]
