"""``filters``: what each unit of one layer, or of several, responds to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from ..ascent.filters import filters
from ..ascent.network import unit_layer
from ..ascent.recipe.presets import PRESETS
from ..ascent.results import AscentResult
from ..ascent.settings import checked_units
from ..ascent.suited import default_size
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..graph.units import Units, check_units, parse_units
from ..pages.gallery import Item, pictures_page
from ..pages.siblings import connect
from ..pages.wall import content, stitched
from ..record import Record, write
from ..render.artifacts import unique, write_text
from .activations import with_units
from .events import Note, OnEvent, ignore
from .folder import locked
from .opening import Model, check_named, opened
from .photograph import read_photo, steps_told
from .result import Result
from .units import Options, Wall, check_place, stated, summary

if TYPE_CHECKING:
    from torch import Tensor

    from ..ascent.recipe.objectives import Objective, Taps

_OF_UNITS = (
    "noise", "noise_mean", "noise_std", "neuron", "negative", "alpha", "batch", "photos", "animate", "columns",
    "margin", "live", "force",
)  # fmt: skip
__all__ = ["Filtered", "Options", "of_objective", "run"]


@dataclass(frozen=True, eq=False, repr=False)
class Filtered(Result):
    """The result of `run`.

    Attributes:
        layers: per layer the pictures; where they are in a folder they are read when they are looked at.
    """

    layers: Sequence[AscentResult] = ()


def run(
    model: Model,
    layer: Any,
    units: str | Sequence[int] = "all",
    options: Options | None = None,
    folder: Path | None = None,
    *,
    command: str | None = None,
    on_event: OnEvent = ignore,
) -> Filtered:
    """Pictures that excite units most, with their verdicts.

    Args:
        model: from `convscope.load`, or what opens it.
        layer: what `Graph.layer` takes; or names and globs with commas, or a list: then several layers in a folder
            each, under one page.
        units: of every layer: ``all``, ``0-63,70``, ``top:36``, or numbers.
        options: default the recipe ``convscope``.
        folder: one PNG per unit, ``grid.png``, ``result.json`` and ``index.html``. Each unit is kept as soon as it is
            finished; the same call goes on where an earlier one stopped. None keeps the pictures in the result.
        command: what the record says made them.
        on_event: told of steps, units and verdicts.

    Raises:
        UsageError: an unknown layer, unit or setting, or a folder that holds something else. RefusedInput: the model
            gives NaN.
    """
    options = options or Options()
    options.check()
    check_place(options, folder)
    check(units)
    graph = opened(model, folder, on_event)
    check_named(graph, layer, "filters")
    layers = _layers(graph, layer, on_event)
    asked = [_units(la, units) for la in layers]
    record = Record.of(graph, command)
    folders = [folder] if len(layers) == 1 or folder is None else _folders(folder, layers)
    if folder is None:
        folders = [None] * len(layers)
    with locked(folder):
        results = [
            _one(graph, la, wanted, options, into, record, on_event)
            for la, wanted, into in zip(layers, asked, folders, strict=True)
        ]
        if len(layers) == 1:
            whole = content(results[0])
            if folder is not None:
                connect(graph, folder)
            return Filtered(whole, None if folder is None else folder / "index.html", results)
        whole = record.to_json({"layers": [_row(r, into) for r, into in zip(results, folders, strict=True)]})
        if folder is None:
            return Filtered(whole, None, results)
        write(folder, whole)
        page = _index(graph, results, folders, folder, options, record)
        connect(graph, folder)
        return Filtered(whole, page, results)


def of_objective(
    model: Model,
    objective: Objective | Callable[[Taps], Tensor],
    options: Options,
    beside: Mapping[str, Any],
    *,
    on_event: OnEvent = ignore,
) -> AscentResult:
    """One picture that maximizes an objective.

    Args:
        model: from `convscope.load`, or what opens it.
        objective: of `objectives`, or a function of the tapped tensors.
        options: how the picture is made.
        beside: what else was given by name, and means nothing here unless it is None: units, a folder.
        on_event: told of every step.

    Raises:
        UsageError: wrong use, or an option that pictures of units have alone.
    """
    options.check()
    name = stated(options, _OF_UNITS) or next((n for n, value in beside.items() if value is not None), None)
    if name is not None:
        instead = ", and save the result: .save(FOLDER)" if name == "folder" else ""
        raise UsageError(
            f"{name}= is of pictures of units; an objective says by itself what is maximized: leave it out{instead}"
        )
    graph = opened(model, None, on_event)
    start = None if options.start is None else read_photo(options.start, graph).pixels
    keywords = options.keywords("precision") | {"start": start}
    return filters(graph, objective, progress=steps_told("filters", on_event), **keywords)


def check(units: str | Sequence[int] = "all") -> None:
    """Raises UsageError for units that no layer can have."""
    if isinstance(units, str):
        check_units(units)


def _one(
    graph: Graph,
    layer: Layer,
    units: Units,
    options: Options,
    folder: Path | None,
    record: Record,
    on_event: OnEvent,
) -> AscentResult:
    keywords = options.of_ascent(graph, "start", "noise", "neuron")
    wall = Wall(layer.name, units.indices, options, folder, record, "units", on_event)
    result = wall.make(partial(filters, graph, layer, units.indices, top=units.top, **keywords))
    recipe = PRESETS.get(result.preset)
    usual = result.size if recipe is None or options.size is not None else default_size(graph, layer, recipe)
    if result.size == graph.image_size != usual:
        shown, other = (f"{height}x{width}" for height, width in (result.size, usual))
        on_event(Note(f"{layer.name}: pictures of {shown}, the model's own size; it takes none of {other}"))
    return result


def _layers(graph: Graph, layer: Any, on_event: OnEvent) -> list[Layer]:
    """The layers asked for, in table order; of a glob those that have units.

    Raises:
        UsageError: one that is named has none, or there is none at all.
    """
    if isinstance(layer, list | tuple):
        found = [la for one in layer for la in _layers(graph, one, on_event)]
        return list({la.index: la for la in found}.values())
    if not isinstance(layer, str):
        return [unit_layer(graph, layer)]
    matched = graph.match(layer)
    return [unit_layer(graph, matched[0])] if len(matched) == 1 else list(with_units(graph, layer, on_event))


def _units(layer: Layer, units: str | Sequence[int]) -> Units:
    if isinstance(units, str):
        return parse_units(units, layer.channels or 0)
    return Units(tuple(checked_units(layer, units)))


def _folders(folder: Path, layers: Sequence[Layer]) -> list[Path | None]:
    """A folder of its own for each layer."""
    if (folder / "units.jsonl").exists():
        raise UsageError(f"{folder} holds the pictures of one layer; choose another folder")
    return [folder / f"{la.index:03d}-{unique(la.name, set())}" for la in layers]


def _row(result: AscentResult, folder: Path | None) -> dict[str, Any]:
    """A layer's line in the result of several."""
    rows = result.to_json()["units"]
    return {
        "layer": result.layer,
        "folder": None if folder is None else folder.name,
        "preset": result.preset,
        "units": len(rows),
        **{status: [r["unit"] for r in rows if r["status"] == status] for status in ("weak", "dead")},
    }


def _index(
    graph: Graph,
    results: Sequence[AscentResult],
    folders: Sequence[Path | None],
    folder: Path,
    options: Options,
    record: Record,
) -> Path:
    """The page of several layers: each layer's grid, which leads to its own page."""
    items = []
    for result, into in zip(results, folders, strict=True):
        assert into is not None
        if len(result):
            numbers: Mapping[str, Any] = {"units": len(result), "size": " x ".join(map(str, result.size))}
            verdicts = summary(result.to_json()["units"])
            picture = stitched(result, options.columns, options.margin)
            items.append(Item(result.layer, picture, caption=verdicts, numbers=numbers, file=f"{into.name}/index.html"))
    facts = {"layers": len(results), "preset": results[0].preset, "seed": results[0].seed}
    html = pictures_page(f"{graph.name} · filters", items, facts=facts, command=record.command or "")
    return write_text(folder / "index.html", html)
