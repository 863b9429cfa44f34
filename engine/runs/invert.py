"""``invert``: the picture that a layer cannot tell from a photograph, and its caricature."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..ascent.photograph import INVERSION, invert
from ..ascent.recipe.presets import Preset
from ..record import Record
from .ascent import AscentOptions
from .events import OnEvent, ignore
from .folder import locked
from .opening import Model, check_named, opened
from .photograph import Drawn, check_single, drawn, read_photo, steps_told


@dataclass(frozen=True, kw_only=True)
class Options(AscentOptions):
    """How to invert; see `ascent.invert`.

    Attributes:
        gain: above 1 the values are asked for so many times larger: a caricature.
    """

    preset: str | Preset = INVERSION
    gain: float = 1.0


def run(
    model: Model,
    image: Any,
    layer: Any,
    options: Options | None = None,
    folder: Path | None = None,
    *,
    command: str | None = None,
    on_event: OnEvent = ignore,
) -> Drawn:
    """The picture, from noise, that gives a layer what a photograph gave it.

    Args:
        model: from `convscope.load`, or what opens it.
        image: one picture, as for `given.sources`.
        layer: what `Graph.layer` takes.
        options: default an inversion at the model's own size.
        folder: writes ``inverted.png``, ``before.png`` (the photograph), ``result.json`` and ``index.html`` there.
        command: what the record says made it.
        on_event: told of every step.

    Raises:
        UsageError: wrong use, or a folder that holds something else. RefusedInput: the picture cannot be read.
    """
    options = options or Options()
    options.check()
    graph = opened(model, folder, on_event, image)
    check_named(graph, layer, "invert")
    photo = read_photo(image, graph)
    check_single(folder)
    with locked(folder):
        result = invert(
            graph,
            photo.pixels,
            layer,
            **options.keywords("gain"),
            progress=steps_told("inverting", on_event),
        )
        return drawn(result, "inverted", photo, {"gain": options.gain}, folder, Record.of(graph, command))
