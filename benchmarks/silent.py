"""The units that the classic recipe leaves at zero, and what becomes of them.

    python -m benchmarks.silent vgg16-hed [--size 64] [--units 4]

`chollet` starts from grey noise; a unit whose ReLU is at zero all over that start gets no gradient and stays there in
every step. One forward pass per unit finds these, for every unit of every ReLU layer. Of the silent ones ``--units`` a
layer, evenly spread, are then made as ``convscope filters`` makes them, with all the tries of `engine.ascent.studio`.
"""

from __future__ import annotations

import argparse
from collections import Counter

import torch
from convscope.engine.ascent.filters import filters
from convscope.engine.ascent.settings import settings
from convscope.engine.ascent.streams import stream
from convscope.engine.ascent.studio import Studio
from convscope.engine.graph import Graph
from convscope.engine.layers import Layer

_BATCH = 16


def silent_units(graph: Graph, layer: Layer, size: int, seed: int = 0) -> list[int]:
    """Units of a ReLU layer that are zero at every position of their own `chollet` start."""
    studio = Studio(graph, layer, settings(graph, preset_name="chollet", size=size, seed=seed))
    recipe = studio.chosen.preset
    space = recipe.parameterization(graph.channels, (size, size), studio.network.origin())
    found: list[int] = []
    for first in range(0, layer.channels or 0, _BATCH):
        units = range(first, min(first + _BATCH, layer.channels or 0))
        streams = [stream(recipe.name, (size, size), seed, 0, unit) for unit in units]
        starts = torch.stack([space.noise(rng) for rng in streams]).to(studio.network.device)
        with torch.no_grad():
            maps = studio.network(space.image(starts))[layer.tensor]
        found += [unit for i, unit in enumerate(units) if float(maps[i, unit].max()) <= 0]
    return found


def spread(units: list[int], count: int) -> list[int]:
    """``count`` of the units, evenly spread."""
    wanted = min(count, len(units))
    return [units[i * len(units) // wanted] for i in range(wanted)]


def main() -> None:
    """Prints one line per layer."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.silent", description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="vgg16-hed")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--units", type=int, default=4, help="silent units per layer that are made")
    asked = parser.parse_args()
    from convscope.cli.loading import open_model

    graph = open_model(asked.model)
    print("layer             units   silent   made: verdicts and what worked")
    for layer in graph.layers:
        if layer.op != "Relu":
            continue
        silent = silent_units(graph, layer, asked.size)
        chosen = spread(silent, asked.units)
        made = filters(graph, layer, chosen, preset="chollet", size=asked.size, batch=8).units if chosen else ()
        outcomes = Counter((unit.status, unit.rescue or "nothing") for unit in made)
        words = ", ".join(f"{n} {status} by {how}" for (status, how), n in outcomes.items())
        print(f"{layer.name:16s} {layer.channels:6d} {len(silent):8d}   {words}", flush=True)
        for unit in made:
            print(f"    {unit.unit}: {unit.status}, {unit.reason}", flush=True)


if __name__ == "__main__":
    main()
