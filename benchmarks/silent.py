"""The units that the classic recipe leaves at zero, and what becomes of them.

    python -m benchmarks.silent vgg16-hed [--size 64] [--units 4] [--layers NAMES] [-o build/silent.jsonl]

`chollet` starts from grey noise; a unit whose ReLU is at zero all over that start gets no gradient and stays there in
every step. One forward pass per unit finds these, for every unit of every ReLU layer. Of the silent ones ``--units`` a
layer, evenly spread, are then made as ``convscope filters`` makes them, with all the tries of `engine.ascent.studio`;
one line of ``--output`` says what became of each, and the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import convscope
from convscope.engine.ascent.filters import filters
from convscope.engine.ascent.many import Studio
from convscope.engine.ascent.settings import settings
from convscope.engine.ascent.streams import stream
from convscope.engine.graph.graph import Graph
from convscope.engine.graph.layers import Layer

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


def made(graph: Graph, layer: Layer, units: list[int], size: int, kept: Path) -> Iterator[dict[str, Any]]:
    """What becomes of the units, one row each; rows that ``kept`` holds already are not made again."""
    task = {"model": graph.sha256, "size": size, "layer": layer.name}
    lines = kept.read_text().splitlines() if kept.is_file() else []
    rows = {row["unit"]: row for row in map(json.loads, lines) if task.items() <= row.items()}
    yield from (rows[unit] for unit in units if unit in rows)
    missing = [unit for unit in units if unit not in rows]
    for first in range(0, len(missing), _BATCH):
        part = missing[first : first + _BATCH]
        for unit in filters(graph, layer, part, preset="chollet", size=size, batch=8).units:
            row = {**task, "unit": unit.unit, "status": unit.status}
            row |= {"how": unit.rescue or "nothing", "end": unit.activation_end, "reason": unit.reason}
            with kept.open("a") as file:
                file.write(json.dumps(row) + "\n")
            yield row


def main() -> None:
    """Prints one line per layer."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.silent", description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="vgg16-hed")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--units", type=int, default=4, help="silent units per layer that are made; 0 makes all")
    parser.add_argument("--layers", help="commas; default every ReLU")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/silent.jsonl"))
    asked = parser.parse_args()
    graph = convscope.load(asked.model)
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    print("layer             units   silent   made: verdicts and what worked")
    for layer in graph.match(asked.layers) if asked.layers else [la for la in graph.layers if la.op == "Relu"]:
        silent = silent_units(graph, layer, asked.size)
        chosen = spread(silent, asked.units or len(silent))
        outcomes = Counter((row["status"], row["how"]) for row in made(graph, layer, chosen, asked.size, asked.output))
        words = ", ".join(f"{n} {status} by {how}" for (status, how), n in outcomes.items())
        print(f"{layer.name:16s} {layer.channels:6d} {len(silent):8d}   {words}", flush=True)


if __name__ == "__main__":
    main()
