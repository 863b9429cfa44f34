"""The public way to pictures of units: `filters`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import Module

from ...errors import UsageError
from ..graph.graph import Graph
from .many import OnProgress, Studio
from .network import unit_layer
from .recipe.objectives import Objective, Place, Taps
from .recipe.presets import AUTO, Noise, Preset
from .results import DEAD, AscentResult, UnitResult
from .settings import Settings, checked_units, provenance, settings


def filters(
    graph: Graph,
    layer: Place | Objective | Callable[[Taps], Tensor],
    units: Sequence[int] | int | None = None,
    *,
    preset: str | Preset = AUTO,
    size: int | tuple[int, int] | None = None,
    steps: int | None = None,
    seed: int = 0,
    top: int | None = None,
    batch: int | str = "auto",
    device: str = "auto",
    start: np.ndarray | None = None,
    noise: Noise | None = None,
    strip: int = 0,
    position: tuple[int, int] | None = None,
    neuron: bool | None = None,
    photos: np.ndarray | None = None,
    precision: str = "auto",
    progress: OnProgress | None = None,
) -> AscentResult:
    """What each unit of a layer responds to most: pictures made by gradient ascent.

    A unit's picture is a pure function of (graph, layer, unit, preset, size, steps, seed); batch size, batch-mates
    and order do not change a byte of it on one machine.

    Args:
        graph: from `convscope.load`.
        layer: name, tensor, index, `Layer` or submodule; or an objective (`objectives`) or a function of the taps, and
            then there is one picture, which maximizes it.
        units: channels; default all of them.
        preset: a name of `presets.names` or a `Preset`; by default the one that suits the layer (`suited`).
        size: side of the pictures, or (height, width); default as `suited.default_size` says.
        steps: default the preset's.
        seed: the same seed gives the same pictures.
        top: keep only the ``top`` units with the highest activation that are not dead, strongest first.
        batch: pictures at once, or "auto"; halved when memory runs out.
        device: "auto", "cpu" or "cuda[:n]".
        start: a picture (H, W, C) in [0, 1] to start from.
        noise: pixel noise to start from.
        strip: how many pictures on the way to keep.
        position: maximize the unit at this (row, column) of its map only, as for `Studio`.
        neuron: maximize one position (True) or the mean (False); default as the preset says.
        photos: photographs (N, C, H, W) in [0, 1] to judge by instead of the shipped ones.
        precision: "auto", "bfloat16" or "float32", as for `Studio`.
        progress: called after every step.

    Returns:
        The pictures with their histories and verdicts.

    Raises:
        UsageError: unknown layer or preset, a unit out of range, a layer without channels, a bad size or picture.
        RefusedInput: the model gives NaN.
    """
    if isinstance(layer, Objective) or (callable(layer) and not isinstance(layer, Module)):
        from .ascend import of_objective

        if (units, top, position, neuron, photos, noise) != (None,) * 6:
            raise UsageError("an objective says by itself what is maximized: give no units, top, position or the like")
        return of_objective(
            graph,
            layer,
            preset=preset,
            size=size,
            steps=steps,
            seed=seed,
            start=start,
            strip=strip,
            device=device,
            progress=progress,
        )
    found = unit_layer(graph, layer)
    if top is not None and top < 1:
        raise UsageError(f"top {top} is not positive; give how many of the units to keep")
    chosen = settings(
        graph,
        None if neuron or position is not None else found,
        preset_name=preset,
        size=size,
        steps=steps,
        seed=seed,
        start=start,
        noise=noise,
        strip=strip,
    )
    wanted = checked_units(found, units)
    studio = Studio(
        graph,
        found,
        chosen,
        device=device,
        batch=batch,
        photos=photos,
        position=position,
        neuron=neuron,
        precision=precision,
    )
    made = list(studio.make(wanted, progress))
    return gathered(graph, found.name, studio.chosen, keep(made, top), studio.precision)


def keep(units: Sequence[UnitResult], top: int | None) -> list[UnitResult]:
    """The ``top`` units with the highest activation that are not dead, strongest first; all where None."""
    if top is None:
        return list(units)
    table = {u.unit: u for u in units}
    records = {n: {"status": u.status, "activation_end": u.activation_end} for n, u in table.items()}
    return [table[n] for n in strongest(records, list(table), top)]


def strongest(records: Mapping[int, Mapping[str, Any]], units: Sequence[int], top: int) -> list[int]:
    """The ``top`` of ``units`` with the highest activation, dead ones left out, strongest first."""
    living = [u for u in units if records[u]["status"] != DEAD]
    return sorted(living, key=lambda u: (-records[u]["activation_end"], u))[:top]


def gathered(graph: Graph, layer: str, chosen: Settings, units: Sequence[UnitResult], precision: str) -> AscentResult:
    """The result object for finished units, their gradients computed in ``precision``."""
    return AscentResult(
        model=graph.name,
        layer=layer,
        preset=chosen.preset.name,
        size=chosen.size,
        steps=chosen.steps,
        seed=chosen.seed,
        provenance={**provenance(graph, chosen), "gradients": precision},
        units=tuple(units),
    )
