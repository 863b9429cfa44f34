"""Gradient ascent beside lucent 0.1.8 and beside a plain loop of the classic recipe.

    python -m benchmarks.ascent VGG.onnx [--layers features.1,features.6] [--steps 16] [--mark 512] [--units 8]
    python -m benchmarks.ascent vgg16-hed --device cuda --only speed,chollet --units 256

Each comparison alternates the two sides in one run and prints the ratio of their medians:

* ``speed``: equal picture, network input (12 pixels more), transforms and steps: lucent's render_vis on a torch copy of
  the network against our `lucid` preset, seconds per unit; without the redirected gradients of its first 16 steps,
  which lucent lacks;
* ``mark``: the time that our `strongest` takes to the activation (mean over 64 unseen transforms) that lucent reaches
  with ``--mark`` steps;
* ``equal``: the activation of our `lucid` preset relative to lucent's, both with ``--mark`` steps;
* ``chollet``: the recipe as a plain torch loop with a hook on the whole network against our `chollet` preset;
* ``classes``: a class picture of EfficientNet-Lite0 by `objects`, which classes get, against `strongest`, which they
  got in 0.1.0, at the same size, each with its own number of steps.

With one thread (OMP_NUM_THREADS=1) the processor's time is taken, which other processes change little; with more, or on
a GPU, the clock on the wall. The float32 matrix-multiply rate is measured beside the comparisons; ``share`` is the part
of it that direct convolutions would have used in the time of our float32 loop, whose minimal filtering multiplies less.
"As shipped" computes gradients in bfloat16 where the processor is faster in it.
lucent knows torch modules only, so the model must be a chain of convolutions, ReLUs and max-poolings (VGG's trunk).
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import convscope
from benchmarks.ascent_rivals import MARGIN, Whole, lucent_picture, plain_chollet
from convscope.engine.ascent.loop import Ascent, AscentBatch
from convscope.engine.ascent.many import Studio
from convscope.engine.ascent.maximize import find, logits_layer
from convscope.engine.ascent.network import Network
from convscope.engine.ascent.recipe.objectives import channel
from convscope.engine.ascent.recipe.presets import PRESETS, Preset
from convscope.engine.ascent.recipe.transforms import Robust
from convscope.engine.ascent.settings import settings
from convscope.engine.graph.graph import Graph
from convscope.engine.graph.layers import Layer
from tests.torchvision_schemas import declare

UNSEEN = 64  # views that judge
TRIED = (64, 96, 128, 192, 256, 384, 512)  # steps


def ours(
    graph: Graph,
    layer: Layer,
    units: list[int],
    recipe: str | Preset,
    side: int,
    steps: int,
    precision: str = "auto",
    device: str = "cpu",
) -> list[np.ndarray]:
    """Our pictures of units, in batches as large as ``--batch auto``, without verdicts or further tries."""
    chosen = settings(graph, preset_name=recipe, size=side, steps=steps)
    studio = Studio(graph, layer, chosen, device=device, precision=precision)
    made = []
    for first in range(0, len(units), studio.batch):
        ascents = [Ascent(("benchmark", unit), unit) for unit in units[first : first + studio.batch]]
        made += AscentBatch(studio.network, studio.goal, studio.chosen.preset, ascents, (side, side), steps).run()
    return [one.pixels for one in made]


def unseen(network: Network, layer: Layer, unit: int, picture: np.ndarray) -> float:
    """The unit's mean activation over 64 transforms that no ascent saw."""
    robust, values = Robust(), []
    rows = robust.draw(np.random.default_rng(2**31 - 1), UNSEEN)
    with torch.no_grad():
        for first in range(0, UNSEEN, 16):
            views = torch.from_numpy(picture)[None].repeat(16, 1, 1, 1)
            tapped = network(robust(views, rows[first : first + 16], picture.shape[-2:]))
            values += channel(layer, unit)(tapped).tolist()
    return float(np.mean(values))


def now() -> float:
    """Seconds: of this process's processor where it has one thread, otherwise on the wall; a GPU's work is awaited."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def matmul_rate(device: str, seconds: float = 0.5) -> float:
    """Multiply-adds per second of a large float32 matrix product."""
    size = 1024 if device == "cpu" else 8192
    a, b = (torch.rand(size, size, device=device) for _ in range(2))
    count, begun = 0, now()
    while now() - begun < seconds:
        a @ b
        count += 1
    return count * size**3 / (now() - begun)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    begun = now()
    result = work()
    return now() - begun, result


def macs_per_step(graph: Graph, layer: Layer, side: int) -> float:
    """Multiply-adds of one forward and one input-gradient pass for a picture of that side."""
    height, width = graph.image_size
    forward = sum(la.macs for la in graph.layers[: layer.index + 1])
    return 2 * forward * (side + MARGIN) ** 2 / (height * width)


@dataclass(frozen=True)
class Work:
    """What is compared: pictures of ``side`` pixels, ``steps`` steps, ours of ``count`` units of a layer."""

    side: int
    steps: int
    count: int
    repeats: int
    device: str

    def __str__(self) -> str:
        return f"{self.side} pixels, {self.steps} steps, ours {self.count} units, median of {self.repeats}"

    def mine(self, graph: Graph, layer: Layer, recipe: str | Preset, precision: str) -> float:
        """Our seconds per unit."""
        units = [i % (layer.channels or 1) for i in range(self.count)]
        arguments = (graph, layer, units, recipe, self.side, self.steps, precision, self.device)
        return timed(partial(ours, *arguments))[0] / self.count


def speed(graph: Graph, model: Whole, layers: list[Layer], work: Work) -> None:
    """Seconds per unit at equal size, transforms and steps."""
    print(f"\nspeed: {work}")
    print("layer            lucent s/unit   float32   ratio   share of matmul   as shipped   ratio")
    total, lucid = np.zeros(3), replace(PRESETS["lucid"], redirect=0)
    for layer in layers:
        taken, rates = [], []
        for _ in range(work.repeats):
            theirs = timed(partial(lucent_picture, model, layer.index, 0, work.side, work.steps))[0]
            rates.append(matmul_rate(work.device))
            taken.append((theirs, *(work.mine(graph, layer, lucid, precision) for precision in ("float32", "auto"))))
        a, b, c = np.median(taken, axis=0)
        total += (a, b, c)
        share = macs_per_step(graph, layer, work.side) * work.steps / b / statistics.median(rates)
        print(f"{layer.name:16s} {a:13.2f} {b:9.2f} {a / b:7.2f} {share:17.0%} {c:12.2f} {a / c:7.2f}", flush=True)
    a, b, c = total
    print(f"{'all, one each':16s} {a:13.2f} {b:9.2f} {a / b:7.2f} {'':17s} {c:12.2f} {a / c:7.2f}")


def mark(graph: Graph, model: Whole, layers: list[Layer], side: int, steps: int, count: int) -> None:
    """Time to lucent's activation."""
    print(f"\nmark: {side} pixels, lucent's {steps} steps; activation is the mean over {UNSEEN} unseen transforms")
    print("layer            unit   lucent   ours/lucent   steps to mark   time ratio")
    ratios = []
    for layer in layers:
        network = Network(graph, [layer.tensor], "cpu")
        for unit in range(count):
            seconds, goal = timed(partial(lucent_picture, model, layer.index, unit, side, steps))
            level = max(unseen(network, layer, unit, goal), 1e-9)
            after, reached, took = "not reached", 0.0, 0.0
            for n in TRIED:
                took, made = timed(partial(ours, graph, layer, [unit, unit], "strongest", side, n))
                reached = unseen(network, layer, unit, made[0])
                if reached >= level:
                    after = str(n)
                    break
            ratios.append(seconds / (took / 2) if after.isdigit() else 0.0)
            print(
                f"{layer.name:16s} {unit:4d} {level:8.3g} {reached / level:13.2f} {after:>15s} {ratios[-1]:12.1f}",
                flush=True,
            )
    print(f"median time ratio {statistics.median(ratios):.1f}")


def equal(graph: Graph, model: Whole, layers: list[Layer], side: int, steps: int, count: int) -> None:
    """Activations at equal steps, of units that either side can excite."""
    print(f"\nequal: {side} pixels, {steps} steps; activation is the mean over {UNSEEN} unseen transforms")
    print("layer            unit   lucent   lucid   ratio")
    ratios = []
    for layer in layers:
        network = Network(graph, [layer.tensor], "cpu")
        for unit in range(count):
            theirs = unseen(network, layer, unit, lucent_picture(model, layer.index, unit, side, steps))
            mine = unseen(network, layer, unit, ours(graph, layer, [unit], "lucid", side, steps)[0])
            if theirs > 0:
                ratios.append(mine / theirs)
            words = f"{mine / theirs:7.2f}" if theirs > 0 else "  silent" if mine <= 0 else "  only ours"
            print(f"{layer.name:16s} {unit:4d} {theirs:8.3g} {mine:7.3g} {words}", flush=True)
    print(f"median over {len(ratios)} units: {statistics.median(ratios):.2f}")


def chollet(graph: Graph, model: Whole, layers: list[Layer], work: Work) -> None:
    """Against a plain loop with a hook on the whole model."""
    print(f"\nchollet: {work}")
    print("layer             plain s/unit   float32   ratio   bfloat16   ratio")
    total = np.zeros(3)
    for layer in layers:
        taken = []
        for _ in range(work.repeats):
            theirs = timed(partial(plain_chollet, model, layer.index, 0, work.side, work.steps, work.device))[0]
            mine = (work.mine(graph, layer, "chollet", precision) for precision in ("float32", "bfloat16"))
            taken.append((theirs, *mine))
        a, b, c = np.median(taken, axis=0)
        total += (a, b, c)
        print(f"{layer.name:16s} {a:14.2f} {b:9.2f} {a / b:7.2f} {c:10.2f} {a / c:7.2f}", flush=True)
    a, b, c = total
    print(f"{'all, one each':16s} {a:14.2f} {b:9.2f} {a / b:7.2f} {c:10.2f} {a / c:7.2f}")


def classes(repeats: int, device: str) -> None:
    """Seconds for a class picture by the default of now and of before; a picture alone has a companion while small."""
    graph = convscope.load("efficientnet-lite0")
    layer, side = logits_layer(graph), max(graph.image_size)
    print(f"\nclasses: {graph.name}, {side} pixels, in turns, median of {repeats}")
    print("pictures at once   strongest s/picture   objects   ratio")
    for units in ([find(graph, "daisy")], [find(graph, "daisy"), find(graph, "zebra")]):
        taken = [
            [
                timed(partial(ours, graph, layer, units, name, side, PRESETS[name].steps, device=device))[0]
                / len(units)
                for name in ("strongest", "objects")
            ]
            for _ in range(repeats)
        ]
        before, after = np.median(taken, axis=0)
        print(f"{len(units):16d} {before:21.1f} {after:9.1f} {after / before:7.2f}", flush=True)


def main() -> None:
    """Runs the comparisons asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ascent", description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="vgg16-hed", help="an ONNX file or a name of the catalog")
    parser.add_argument("--layers", help="commas; default every ReLU behind a convolution")
    parser.add_argument("--only", default="speed,mark,equal,chollet,classes")
    parser.add_argument("--side", type=int, default=128, help="of the pictures")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--mark", type=int, default=512)
    parser.add_argument("--mark-layers", help="for mark and equal alone; default the same layers")
    parser.add_argument("--units", type=int, default=8)
    parser.add_argument("--mark-units", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--device", default="cpu", help="cpu or cuda; the comparison at equal activation is for the CPU"
    )
    parser.add_argument("--preprocessing", default="caffe")
    asked = parser.parse_args()
    declare()  # lucent imports torchvision
    graph = _opened(asked.model, asked.preprocessing)
    model = Whole(graph).to(asked.device)
    layers = list(graph.match(asked.layers)) if asked.layers else [la for la in graph.layers if la.op == "Relu"]
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    rate = matmul_rate(asked.device) / 1e9
    print(
        f"convscope {convscope.__version__}, {graph.name} {graph.sha256[:12]}, {asked.device}, matmul {rate:.0f} GMAC/s"
    )
    lucent_picture(model, layers[0].index, 0, 32, 2)  # imports and first kernels are not timed
    work = Work(asked.side, asked.steps, asked.units, asked.repeats, asked.device)
    if "classes" in asked.only:
        classes(asked.repeats, asked.device)
    if "speed" in asked.only:
        speed(graph, model, layers, work)
    if "chollet" in asked.only:
        chollet(graph, model, layers, work)
    chosen = list(graph.match(asked.mark_layers)) if asked.mark_layers else layers
    for name, compared in (("mark", mark), ("equal", equal)):
        if name in asked.only:
            compared(graph, model, chosen, asked.side, asked.mark, asked.mark_units)


def _opened(model: str, preprocessing: str) -> Graph:
    if Path(model).is_file():
        return convscope.load(model, preprocessing=preprocessing, check=False)
    return convscope.load(model)


if __name__ == "__main__":
    main()
