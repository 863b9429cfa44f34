"""``dream``: a photograph changed towards what a layer sees in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ..ascent.network import unit_layer
from ..ascent.photograph import DREAM, dream
from ..ascent.recipe.presets import Preset
from ..graph.units import check_units, is_strongest, parse_units
from ..record import Record
from ..whole import each
from .ascent import AscentOptions
from .events import Note, OnEvent, ignore
from .folder import locked
from .opening import Model, check_named, opened
from .photograph import Drawn, check_single, drawn, read_photo, steps_told


@dataclass(frozen=True, kw_only=True)
class Options(AscentOptions):
    """How to dream: by default DeepDream's octaves, 384 pixels on the longer side, or the model's own size."""

    preset: str | Preset = "dream"
    size: int | tuple[int, int] | None = None


def run(
    model: Model,
    image: Any,
    layer: Any,
    units: str | Sequence[int] = "all",
    options: Options | None = None,
    folder: Path | None = None,
    *,
    command: str | None = None,
    on_event: OnEvent = ignore,
) -> Drawn:
    """A photograph changed towards what a layer, or some of its units, see in it.

    Args:
        model: from `convscope.load`, or what opens it.
        image: one picture, as for `given.sources`.
        layer: what `Graph.layer` takes.
        units: ``all``, ``0-63,70``, or numbers.
        options: default DeepDream's octaves.
        folder: writes ``dream.png``, ``before.png``, ``result.json`` and ``index.html`` there.
        command: what the record says made it.
        on_event: told of every step.

    Raises:
        UsageError: wrong use, or a folder that holds something else. RefusedInput: the picture cannot be read.
    """
    options = options or Options()
    check(units)
    options.check()
    graph = opened(model, folder, on_event, image)
    check_named(graph, layer, "dream")
    photo = read_photo(image, graph)
    found = unit_layer(graph, layer)
    asked = parse_units(units, found.channels or 0).indices if isinstance(units, str) else tuple(each(units))
    chosen = None if units == "all" else asked
    check_single(folder)
    with locked(folder):
        result = dream(
            graph,
            photo.pixels,
            found,
            chosen,
            **options.keywords(),
            progress=steps_told("dreaming", on_event),
        )
        if options.size is None and max(result.size) != DREAM:
            height, width = result.size
            on_event(Note(f"a dream of {height}x{width}, the model's own size: it takes none of {DREAM} pixels"))
        return drawn(result, "dream", photo, {"layer_units": chosen or "all"}, folder, Record.of(graph, command))


def check(units: str | Sequence[int] = "all") -> None:
    """Raises UsageError for units that are none, or the strongest: a dream is one picture of all its units."""
    if isinstance(units, str):
        check_units(units)
        if is_strongest(units):
            raise UsageError(f"units='{units}': a dream is one picture of all its units; write all, or like 0-63,70")
