"""Several pictures of one unit that are unlike each other: what else excites it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ...errors import UsageError
from ..graph.graph import Graph
from ..whole import whole
from .filters import gathered
from .loop import Ascent, AscentBatch
from .many import AscentProgress, OnProgress, Studio, Units
from .network import unit_layer
from .recipe.objectives import Objective, Place, diversity
from .recipe.presets import AUTO, Preset
from .results import AscentResult
from .settings import checked_units, settings

MOST = 12  # pictures that are compared with each other; beyond 16 in a batch bits may differ
WEIGHT = 2.0  # of being unlike each other; the activation counts in multiples of what photographs reach


def facets(
    graph: Graph,
    layer: Place,
    unit: int,
    count: int = 4,
    *,
    weight: float = WEIGHT,
    preset: str | Preset = AUTO,
    size: int | tuple[int, int] | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    precision: str = "auto",
    tuning: Mapping[str, float] | None = None,
    progress: OnProgress | None = None,
) -> AscentResult:
    """``count`` pictures of a unit, made together, each of which excites it in another way (Olah et al. 2017).

    What is maximized is each picture's activation as a multiple of the highest that photographs reach, minus
    ``weight`` times its mean similarity to the others: the cosine of the Gram matrices of the layer's channels, or of
    the last feature map's where the layer has none. The pictures are a function of all of them together, and of
    nothing else.

    Args:
        graph: from `convscope.load`.
        layer: name, tensor, index, `Layer` or submodule.
        unit: channel.
        count: how many, from 2 to ``MOST``.
        weight: of being unlike each other; 0 gives ``count`` pictures from different starts.
        preset: a name, or a `Preset`.
        size: side of the picture in pixels, or (height, width).
        steps: of the ascent; default the preset's.
        seed: of everything random; the same seed gives the same pictures.
        device: "auto", "cpu" or "cuda[:n]".
        precision: of gradients, "auto", "bfloat16" or "float32".
        tuning: changes to the preset by name, for instance ``{"decay": 0.1}``.
        progress: called after every step.

    Returns:
        The pictures with their histories and verdicts, named "facet 1" and so on.

    Raises:
        UsageError: as for `filters`; a count or weight out of range.
    """
    if not 2 <= whole(count, "count") <= MOST:
        raise UsageError(f"{count} facets of a unit were asked for; give a number from 2 to {MOST}")
    if not 0 <= weight < 1e6:
        raise UsageError(f"the weight of diversity, {weight}, is not a number from 0 on; the usual one is {WEIGHT:g}")
    found = unit_layer(graph, layer)
    (asked,) = checked_units(found, whole(unit, "unit"))
    chosen = settings(graph, found, preset_name=preset, size=size, steps=steps, seed=seed, tuning=tuning)
    chosen = replace(chosen, preset=replace(chosen.preset, patience=0))
    place = found if found.has_maps else graph.last_spatial_layer()
    studio = Studio(graph, found, chosen, device=device, batch=count, precision=precision, beside=[place.tensor])
    scale = max(abs(studio.refer([asked])[asked]), 1e-6)

    def goal(units: Units) -> Objective:
        return studio.goal(units) * (1 / scale) + diversity(place, count) * weight

    def on_step(step: int, steps: int) -> None:
        if progress is not None:
            progress(AscentProgress(0, count, step, steps, count))

    recipe, made = studio.chosen.preset, studio.chosen
    ascents = [Ascent((recipe.name, made.size, made.seed, "facet", i, asked), asked) for i in range(count)]
    outcomes = AscentBatch(studio.network, goal, recipe, ascents, made.size, made.steps, together=True).run(on_step)
    units = [studio.result(one) for one in studio.measured([asked] * count, outcomes)]
    named = [replace(one, name=f"facet {i}") for i, one in enumerate(units, start=1)]
    return gathered(graph, found.name, made, named, studio.precision)
