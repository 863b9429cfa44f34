"""``invert``: the picture that a layer cannot tell from a photograph, and its caricature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..ascent.photograph import INVERSION, invert
from ..ascent.recipe.presets import Preset, preset
from ..ascent.recipe.tuning import tuned
from ..graph.graph import Graph
from ..record import Record
from .events import OnEvent, ignore
from .folder import locked
from .photograph import Drawn, check_single, drawn, read_photo, steps_told


@dataclass(frozen=True)
class Options:
    """How to invert; see `ascent.invert`."""

    gain: float = 1.0
    preset: str | Preset = INVERSION
    size: int | None = None
    steps: int | None = None
    seed: int = 0
    strip: int = 0
    device: str = "auto"
    tuning: Mapping[str, float] = field(default_factory=dict)

    def check(self) -> None:
        """Raises UsageError for a preset or setting that no model can have."""
        tuned(preset(self.preset), self.tuning)


def run(
    graph: Graph,
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
        graph: from `convscope.load`.
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
    photo = read_photo(image, graph)
    check_single(folder)
    with locked(folder):
        result = invert(
            graph,
            photo.pixels,
            layer,
            gain=options.gain,
            preset=options.preset,
            size=options.size,
            steps=options.steps,
            seed=options.seed,
            device=options.device,
            strip=options.strip,
            tuning=options.tuning,
            progress=steps_told("inverting", on_event),
        )
        return drawn(result, "inverted", photo, {"gain": options.gain}, folder, Record.of(graph, command))
