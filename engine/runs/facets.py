"""``filters --diversity``: several pictures of one unit that are unlike each other, on one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ..ascent.facets import facets
from ..ascent.network import unit_layer
from ..ascent.results import AscentResult, enlarged
from ..ascent.settings import checked_units
from ..graph.layers import Layer
from ..graph.units import check_units, is_strongest, parse_units
from ..pages.gallery import Item, pictures_page
from ..record import Record, write
from ..render.artifacts import save_png, write_text
from ..render.grid import grid
from .events import OnEvent, ignore
from .folder import locked
from .opening import Model, check_named, opened
from .photograph import check_single, steps_told
from .result import Result
from .units import Options, stated, summary

_OTHERS = (
    "start",
    "noise",
    "noise_mean",
    "noise_std",
    "neuron",
    "strip",
    "negative",
    "alpha",
    "animate",
    "photos",
    "batch",
    "live",
)  # options that facets do not have


@dataclass(frozen=True, eq=False, repr=False)
class Faceted(Result):
    """The result of `run`.

    Attributes:
        facets: the pictures.
    """

    facets: AscentResult | None = None


def run(
    model: Model,
    layer: Any,
    units: str | Sequence[int],
    diversity: int,
    options: Options | None = None,
    folder: Path | None = None,
    *,
    command: str | None = None,
    on_event: OnEvent = ignore,
) -> Faceted:
    """Pictures of one unit, each of which excites it in another way.

    Args:
        model: from `convscope.load`, or what opens it.
        layer: what `Graph.layer` takes.
        units: the one unit, as text or in a list.
        diversity: how many pictures.
        options: as for `filters.run`, but for those that pictures of one's own have.
        folder: writes ``facet-1.png`` and so on, ``grid.png``, ``result.json`` and ``index.html`` there.
        command: what the record says made it.
        on_event: told of every step.

    Raises:
        UsageError: wrong use, or a folder that holds something else.
    """
    options = options or Options()
    options.check()
    check(units)
    graph = opened(model, folder, on_event)
    check_named(graph, layer, "filters")
    found = unit_layer(graph, layer)
    unit = _one(found, units)
    if (name := stated(options, _OTHERS)) is not None:
        raise UsageError(f"{name}= and diversity= exclude each other; leave one of them out")
    check_single(folder)
    with locked(folder):
        result = facets(
            graph,
            found,
            unit,
            diversity,
            preset=options.preset,
            size=options.size,
            steps=options.steps,
            seed=options.seed,
            device=options.device,
            precision=options.precision,
            tuning=options.tuning,
            progress=steps_told("facets", on_event),
        )
        result = replace(result, record=Record.of(graph, command))
        content = result.to_json([f"facet-{i}.png" for i in range(1, diversity + 1)])
        if folder is None:
            return Faceted(content, None, result)
        return Faceted(content, _written(result, content, folder, options), result)


def check(units: str | Sequence[int]) -> None:
    """Raises UsageError for units that no layer can have."""
    if isinstance(units, str):
        check_units(units)


def _one(layer: Layer, units: str | Sequence[int]) -> int:
    chosen = parse_units(units, layer.channels or 0).indices if isinstance(units, str) else checked_units(layer, units)
    if len(chosen) != 1 or is_strongest(units):
        raise UsageError(f"diversity= shows one unit, not {len(chosen)}; name it, for instance units=12")
    return chosen[0]


def _written(result: AscentResult, content: dict[str, Any], folder: Path, options: Options) -> Path:
    """The files of a result; returns the page."""
    assert result.record is not None
    text = result.record.png_text(layer=result.layer, preset=result.preset, seed=result.seed)
    items = []
    for unit, row in zip(result.units, content["units"], strict=True):
        save_png(folder / row["file"], unit.image, text)
        numbers = {"activation": unit.activation_end, "of photographs": unit.reference}
        items.append(Item(unit.name, unit.image, None, unit.reason, numbers, unit.history, (), row["file"]))
    pictures = [enlarged(unit.image) for unit in result.units]
    save_png(folder / "grid.png", grid(pictures, options.columns, options.margin), text)
    write(folder, content)
    facts = {"layer": result.layer, "unit": result[0].unit, "preset": result.preset, "steps": result.steps}
    title = f"{result.model} · {result.layer} {result[0].unit}"
    verdicts = summary(content["units"], "facets")
    facts |= {"verdicts": verdicts} if verdicts else {}
    page = pictures_page(title, items, facts=facts, command=result.record.command or "")
    return write_text(folder / "index.html", page)
