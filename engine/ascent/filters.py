"""The public way to pictures of units: `filters`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ...errors import UsageError
from ..graph.graph import Graph
from ..record import Record
from ..whole import whole
from .making import made, open_album
from .many import OnProgress, Studio
from .network import unit_layer
from .recipe.algebra import is_objective
from .recipe.canvases import Noise
from .recipe.objectives import Objective, Place, Taps
from .recipe.presets import AUTO, Preset
from .results import AscentResult, UnitResult
from .settings import Settings, checked_units, provenance, settings

OnResult = Callable[[AscentResult], None]


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
    negative: bool = False,
    alpha: bool = False,
    position: tuple[int, int] | None = None,
    neuron: bool | None = None,
    photos: np.ndarray | None = None,
    precision: str = "auto",
    tuning: Mapping[str, float] | None = None,
    folder: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: OnProgress | None = None,
    on_unit: OnResult = lambda result: None,
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
        negative: show what inhibits the units instead: minus their values before the activation is maximized, and every
            activation of the result is of that.
        alpha: keep also how much each place mattered to the ascent, as the picture's opacity (`UnitResult.alpha`).
        position: maximize the unit at this (row, column) of its map only, as for `Studio`.
        neuron: maximize one position (True) or the mean (False); default as the preset says.
        photos: photographs (N, C, H, W) in [0, 1] to judge by instead of the shipped ones, and for the preset `vital`
            to draw after.
        precision: "auto", "bfloat16" or "float32", as for `Studio`.
        tuning: changes to the preset by name, for instance ``{"decay": 0.1}``; see `recipe.tuning.SETTINGS`.
        folder: keeps each unit there as soon as it is finished; those that it holds are not made again.
        force: make them again.
        progress: called after every step, of the units that are still to be made.
        on_unit: called when a unit is finished, with the result so far.

    Returns:
        The pictures with their histories and verdicts. With a folder they are read from it when they are looked at.

    Raises:
        UsageError: unknown layer or preset, a unit out of range, a layer without channels, a bad size or picture; a
            folder that holds units of other settings.
        RefusedInput: the model gives NaN.
    """
    if is_objective(layer):
        from .ascend import of_objective

        if negative or alpha or any(x is not None for x in (units, top, position, neuron, photos, noise, folder)):
            raise UsageError("an objective says by itself what is maximized: give no units, top, folder or the like")
        drawn = of_objective(
            graph,
            layer,
            preset=preset,
            size=size,
            steps=steps,
            seed=seed,
            start=start,
            strip=strip,
            device=device,
            precision=precision,
            tuning=tuning,
            progress=progress,
        )
        on_unit(drawn)
        return drawn
    found = unit_layer(graph, layer)
    top = checked_top(top)
    if position is not None and (neuron is False or not found.has_maps):
        what = "neuron=False asks for the mean" if found.has_maps else f"layer '{found.name}' has no map"
        raise UsageError(f"position={tuple(position)} is one place of a map, but {what}; leave one out")
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
        negative=negative,
        alpha=alpha,
        tuning=tuning,
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
    album = None
    if folder is not None:
        function_of = {"neuron": neuron, "position": position, "photos": photos}
        album = open_album(Path(folder), studio, function_of, png_text(graph, found.name, studio.chosen), force)

    def result(units: Sequence[UnitResult]) -> AscentResult:
        return gathered(graph, found.name, studio.chosen, units, studio.precision)

    return result(made(studio, wanted, album, top=top, progress=progress, on_unit=lambda units: on_unit(result(units))))


def checked_top(top: int | None) -> int | None:
    """How many units are kept, None for all; raises UsageError for what is no number of them."""
    if top is not None and whole(top, "top") < 1:
        raise UsageError(f"top {top} is not positive; give how many of the units to keep")
    return None if top is None else int(top)


def png_text(graph: Graph, layer: str, chosen: Settings) -> dict[str, str]:
    """What the PNG of every unit says about itself."""
    height, width = chosen.size
    shown: dict[str, Any] = {"layer": layer, "preset": chosen.preset.name, "size": f"{height} x {width}"}
    shown |= {"steps": chosen.steps, "seed": chosen.seed}
    shown |= {"settings": ", ".join(f"{k}={v:g}" for k, v in chosen.tuning.items())} if chosen.tuning else {}
    shown |= {"negative": True} if chosen.negative else {}
    return Record.of(graph).png_text(**shown)


def gathered(graph: Graph, layer: str, chosen: Settings, units: Sequence[UnitResult], precision: str) -> AscentResult:
    """The result object for finished units, their gradients computed in ``precision``."""
    return AscentResult(
        record=Record.of(graph),
        layer=layer,
        preset=chosen.preset.name,
        size=chosen.size,
        steps=chosen.steps,
        seed=chosen.seed,
        settings=chosen.tuning,
        provenance={**provenance(graph, chosen), "gradients": precision},
        units=units,
    )
