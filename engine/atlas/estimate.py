"""How much work an atlas is, before it is done: measured on two units of the first and of the last layer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..ascent.recipe.presets import AUTO, Preset
from ..graph.graph import Graph
from ..graph.layers import Layer
from .build import Manner, wished
from .plan import COARSE, FINE, Wishes, photograph_files, stage_settings, studio
from .report import duration_in_words, variant_in_words
from .stations import Stations

_STEPS = 4  # timed; a first one warms up
_PER_VALUE, _PER_PICTURE, _PER_UNIT = (
    1.22,
    1_900,
    3_500,
)  # bytes in store and page, of pictures of 28, 48 and 128 pixels


def estimate(
    graph: Graph,
    photos: Sequence[str | Path] | str | Path | None = None,
    *,
    layers: str | Sequence[str] | None = None,
    preset: str | Preset | Sequence[str | Preset] = AUTO,
    negative: bool = False,
    size: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    manner: Manner | None = None,
) -> dict[str, Any]:
    """Layers, units, seconds by stage and bytes; arguments as for `build.atlas`.

    Seconds between the first and the last layer follow the multiply-adds up to each layer. Rescues of silent units are
    not in them.
    """
    manner = manner or Manner()
    pictures, _ = photograph_files(photos)
    chosen = Stations(graph).chosen(layers)
    wishes = wished(preset, negative, size, steps, seed)
    work = np.cumsum([layer.macs for layer in graph.layers])
    share = manner.workers * (manner.shard[1] if manner.shard else 1)
    seconds = {}
    for stage in (COARSE, FINE, *wishes.stages()):
        ends = [
            (_per_unit(graph, la, stage, wishes, manner.device), float(work[la.index]))
            for la in (chosen[0], chosen[-1])
        ]
        (first, low), (last, high) = ends
        slope = (last - first) / (high - low) if high > low else 0.0
        each = [
            max(first + slope * (float(work[la.index]) - low), min(first, last)) * (la.channels or 0) for la in chosen
        ]
        seconds[stage] = sum(each) / share
    units = sum(la.channels or 0 for la in chosen)
    return {
        "layers": [{"name": la.name, "units": la.channels} for la in chosen],
        "units": units,
        "photographs": len(pictures),
        "seconds": {stage: seconds[stage] for stage in (COARSE, FINE)},
        "variants": [{**variant.to_json(), "seconds": seconds[stage]} for stage, variant in wishes.stages().items()],
        "bytes": round(sum(_bytes(graph, la, wishes, len(pictures)) for la in chosen)),
    }


def estimate_in_words(found: Mapping[str, Any], workers: int) -> list[str]:
    """What `estimate` says, a line each."""
    lines = [f"{row['name']}: {row['units']} units" for row in found["layers"]]
    lines.append(f"{found['units']} units of {len(found['layers'])} layers, {found['photographs']} photographs")
    crew = "1 process" if workers == 1 else f"{workers} processes"
    for stage in (COARSE, FINE):
        lines.append(f"{stage}: about {duration_in_words(found['seconds'][stage])} with {crew}")
    lines += [f"{variant_in_words(row)}: about {duration_in_words(row['seconds'])}" for row in found["variants"]]
    return [*lines, f"disk: about {found['bytes'] / 1e6:.0f} MB"]


def _bytes(graph: Graph, layer: Layer, wishes: Wishes, photographs: int) -> float:
    """Of a layer: pictures of every stage, and what is kept of each unit and photograph."""
    sides = [stage_settings(graph, layer, stage, wishes).size for stage in (COARSE, FINE, *wishes.stages())]
    pictures = sum(_PER_VALUE * height * width * graph.channels + _PER_PICTURE for height, width in sides)
    return (layer.channels or 0) * (pictures + _PER_UNIT + 24 * photographs)


def _per_unit(graph: Graph, layer: Layer, stage: str, wishes: Wishes, device: str) -> float:
    """Seconds for one unit of a layer, from a few steps of two."""
    full = stage_settings(graph, layer, stage, wishes)
    short = replace(full, steps=_STEPS, preset=replace(full.preset, insist=False, patience=0))
    made = studio(graph, layer, short, device)
    pair = [0, min(1, (layer.channels or 1) - 1)]
    list(made.make(pair))
    started = time.perf_counter()
    list(made.make(pair))
    return (time.perf_counter() - started) / (2 * _STEPS) * full.steps
