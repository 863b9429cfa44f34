"""``accent``: a photograph in which what a unit responds to is exaggerated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ..ascent.accent import KEEP, accent
from ..ascent.maximize import find, logits_layer
from ..ascent.network import unit_layer
from ..ascent.recipe.presets import Preset
from ..graph.units import check_units, parse_units
from ..record import Record
from ..whole import whole
from .ascent import AscentOptions
from .events import OnEvent, ignore
from .folder import locked
from .opening import Model, opened
from .photograph import Drawn, check_single, drawn, read_photo, steps_told


@dataclass(frozen=True, kw_only=True)
class Options(AscentOptions):
    """How to accent; see `ascent.accent`.

    Attributes:
        keep: the hidden layer whose features are kept, a `Layer` or what `Graph.layer` takes; None is one four
            times as fine as the unit's.
        weight: how much they are: 0 lets the photograph go.
    """

    preset: str | Preset = "accent"
    keep: Any = None
    weight: float = KEEP


def run(
    model: Model,
    image: Any,
    layer: Any = None,
    units: str | int | None = None,
    options: Options | None = None,
    folder: Path | None = None,
    *,
    wanted: str | int | None = None,
    command: str | None = None,
    on_event: OnEvent = ignore,
) -> Drawn:
    """A photograph in which what a unit, or a class, responds to is exaggerated, and the rest kept.

    Args:
        model: from `convscope.load`, or what opens it.
        image: one picture, as for `given.sources`.
        layer: of the unit; None for a class.
        units: the unit's number; None for a class.
        options: default the preset ``accent``.
        folder: writes ``accent.png``, ``before.png``, ``result.json`` and ``index.html`` there.
        wanted: a class, by name or number, instead of a unit.
        command: what the record says made it.
        on_event: told of every step.

    Raises:
        UsageError: wrong use, or a folder that holds something else. RefusedInput: the picture cannot be read.
    """
    options = options or Options()
    check(layer, units, wanted)
    options.check()
    graph = opened(model, folder, on_event, image)
    photo = read_photo(image, graph)
    if wanted is not None:
        found, number = logits_layer(graph), find(graph, wanted)
    else:
        found = unit_layer(graph, layer)
        number = _one(units, found.channels or 0)
    check_single(folder)
    with locked(folder):
        result = accent(
            graph,
            photo.pixels,
            found,
            number,
            **options.keywords("keep", "weight"),
            progress=steps_told("accenting", on_event),
        )
        asked = {"unit": number, "weight": options.weight}
        return drawn(result, "accent", photo, asked, folder, Record.of(graph, command))


def check(layer: Any = None, units: Any = None, wanted: Any = None) -> None:
    """Raises UsageError where neither one unit nor one class is named."""
    if isinstance(units, str):
        check_units(units)
    if wanted is not None and (layer is not None or units is not None):
        raise UsageError("wanted= and layer= exclude each other; name a class, or a layer and one of its units")
    if wanted is None and (layer is None or units is None):
        raise UsageError(
            "accent needs wanted=5, a class by number or name, or layer= and one unit of it, for instance units=17"
        )


def _one(unit: str | int | None, channels: int) -> int:
    if not isinstance(unit, str):
        return whole(unit, "unit")
    chosen = parse_units(unit, channels).indices
    if len(chosen) != 1:
        raise UsageError(f"accent shows one unit, not {len(chosen)}; name it, for instance units=17")
    return chosen[0]
