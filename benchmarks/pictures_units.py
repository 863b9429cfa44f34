"""Pictures of units by the recipe that suits each layer, beside `strongest`, the default of before.

    python -m benchmarks.pictures_units OUT [MODEL...] [--units 96] [--seed 0] [--device cpu]

Of each model (default: efficientnet-lite0 and vgg16-hed) ``--units`` units are drawn at random, spread evenly over its
rectifier layers. Each is made twice, by the default and by `strongest`, at the size and with the steps that the default
has. OUT fills with one line of ``rows.jsonl`` a unit and a sheet of pairs a model; what is there is not made again. The
table says how much of the activation the default keeps, and where a verdict is worse than before.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

import convscope
from convscope.engine.ascent.filters import filters
from convscope.engine.ascent.results import UnitResult
from convscope.engine.ascent.suited import default_size, suited
from convscope.engine.graph.graph import Graph
from convscope.engine.graph.layers import Layer

MODELS = ("efficientnet-lite0", "vgg16-hed")
BEFORE = "strongest"
_RECTIFIERS = ("Relu", "Clip")
_VERDICTS = ("ok", "weak", "dead")  # from the best to the worst


def drawn(graph: Graph, number: int, seed: int) -> Iterator[tuple[Layer, list[int]]]:
    """So many units at random, spread evenly over the rectifier layers."""
    layers = [layer for layer in graph.layers if layer.op in _RECTIFIERS and layer.is_spatial]
    rng = np.random.default_rng(seed)
    for place, layer in enumerate(layers):
        share = (place + 1) * number // len(layers) - place * number // len(layers)
        yield layer, sorted(rng.choice(layer.channels or 0, share, replace=False).tolist())


class Bench:
    """The rows and sheets of one folder, which is filled and never emptied."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder, self.device = folder, device
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "rows.jsonl"
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def fill(self, name: str, number: int, seed: int) -> None:
        """Makes what is missing of one model."""
        graph = convscope.load(name)
        known = {(row["model"], row["layer"], row["unit"]) for row in self.rows}
        for layer, units in drawn(graph, number, seed):
            missing = [unit for unit in units if (name, layer.name, unit) not in known]
            if not missing:
                continue
            recipe = suited(graph, layer)
            size = default_size(graph, layer, recipe)
            now = filters(graph, layer, missing, device=self.device).units
            before = now
            if recipe.name != BEFORE:
                before = filters(
                    graph, layer, missing, preset=BEFORE, size=size, steps=recipe.steps, device=self.device
                ).units
            for mine, theirs in zip(now, before, strict=True):
                self._keep(name, layer, recipe.name, mine, theirs)

    def _keep(self, name: str, layer: Layer, recipe: str, now: UnitResult, before: UnitResult) -> None:
        row = {
            "model": name,
            "layer": layer.name,
            "unit": now.unit,
            "recipe": recipe,
            "now": now.activation_end,
            "before": before.activation_end,
            "photographs": now.reference,
            "verdict": now.status,
            "verdict before": before.status,
        }
        for which, result in (("now", now), ("before", before)):
            picture = Image.fromarray((result.image * 255).round().astype(np.uint8).squeeze())
            picture.save(self.folder / _file(row, which))
        with self.file.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        self.rows.append(row)
        print(*row.values(), flush=True)

    def table(self, names: Sequence[str]) -> str:
        """One line for each model and recipe."""
        lines = ["model               recipe      units  kept: median  mean  lowest  ok/weak/dead (before)  worse"]
        for name in names:
            of_model = [row for row in self.rows if row["model"] == name]
            for recipe in sorted({row["recipe"] for row in of_model}):
                rows = [row for row in of_model if row["recipe"] == recipe]
                kept = np.array([r["now"] / r["before"] for r in rows if r["before"] > 0])
                now, before = (
                    "/".join(str(sum(row[key] == v for row in rows)) for v in _VERDICTS)
                    for key in ("verdict", "verdict before")
                )
                worse = sum(_VERDICTS.index(r["verdict"]) > _VERDICTS.index(r["verdict before"]) for r in rows)
                share = f"{np.median(kept):13.2f} {kept.mean():5.2f} {kept.min():7.2f}"
                lines.append(f"{name:19s} {recipe:10s} {len(rows):6d} {share}  {now} ({before}) {worse:5d}")
        return "\n".join(lines)

    def sheet(self, name: str, columns: int = 16, side: int = 96) -> Path:
        """Every unit's picture of now above that of before, in the order of the layers."""
        rows = [row for row in self.rows if row["model"] == name]
        height = 2 * side + 16
        canvas = Image.new("RGB", (columns * (side + 2), -(-len(rows) // columns) * height), "white")
        draw = ImageDraw.Draw(canvas)
        for place, row in enumerate(rows):
            left, top = place % columns * (side + 2), place // columns * height
            draw.text((left, top), f"{row['layer']}:{row['unit']}"[-16:], fill="black")
            for number, which in enumerate(("now", "before")):
                with Image.open(self.folder / _file(row, which)) as picture:
                    shown = picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
                canvas.paste(shown, (left, top + 12 + number * (side + 1)))
        target = self.folder / f"sheet-{name}.jpg"
        canvas.save(target, quality=82)
        return target


def _file(row: dict[str, Any], which: str) -> str:
    return f"{row['model']}-{row['layer'].replace('/', '_')}-{row['unit']}-{which}.png"


def main() -> None:
    """Makes the pictures asked for and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures_units", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--units", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    bench = Bench(asked.out, asked.device)
    for name in asked.models:
        bench.fill(name, asked.units, asked.seed)
        print(bench.sheet(name))
    print(bench.table(asked.models))


if __name__ == "__main__":
    main()
