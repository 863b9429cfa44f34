"""Gradient ascent beside lucent 0.1.8 and beside a plain loop of the classic recipe.

    python -m benchmarks.ascent VGG.onnx [--layers features.1,features.6] [--steps 16] [--mark 512] [--units 8]

Each comparison alternates the two sides in one run and prints the ratio of their medians:

* ``speed``: equal picture (128), network input (140), transforms and steps: lucent's render_vis on a torch copy of the
  network against our `lucid` preset, seconds per unit;
* ``mark``: the time that our default takes to the activation (mean over 64 unseen transforms) that lucent reaches
  with ``--mark`` steps, and the activation of our `lucid` preset relative to lucent's;
* ``chollet``: the recipe as a plain torch loop with a hook on the whole network against our `chollet` preset.

The machine's matrix-multiply rate is measured beside them; ``share`` is what part of it our loop's convolutions use.
lucent knows torch modules only, so the model must be a chain of convolutions, ReLUs and max-poolings (VGG's trunk).
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import convscope
import numpy as np
import torch
from convscope.engine.ascent.loop import Batch, Job
from convscope.engine.ascent.network import Network
from convscope.engine.ascent.objectives import channel
from convscope.engine.ascent.settings import settings
from convscope.engine.ascent.studio import Studio
from convscope.engine.ascent.transforms import Robust
from convscope.engine.graph import Graph
from convscope.engine.layers import Layer
from onnx import numpy_helper
from torch import nn

from tests.torchvision_schemas import declare

SIDE, INPUT, UNSEEN = 128, 140, 64


def chain(graph: Graph) -> nn.Sequential:
    """The graph as a torch module with one child per layer, in their order."""
    weights = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.model.graph.initializer}
    made: list[nn.Module] = []
    for node in graph.model.graph.node:
        if node.op_type == "Conv":
            w = weights[node.input[1]]
            conv = nn.Conv2d(w.shape[1], w.shape[0], w.shape[2], padding=w.shape[2] // 2)
            conv.weight.data, conv.bias.data = w, weights[node.input[2]]  # type: ignore[union-attr]
            made.append(conv)
        elif node.op_type in ("Relu", "MaxPool"):
            made.append(nn.ReLU() if node.op_type == "Relu" else nn.MaxPool2d(2, 2))
        else:
            sys.exit(f"{graph.name} has a {node.op_type}: this benchmark reads chains of Conv, Relu and MaxPool")
    return nn.Sequential(*made).eval()


class Whole(nn.Module):
    """Preprocessing and network, for pictures in [0, 1], as lucent and a plain loop take them."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.net = chain(graph)
        self.graph = graph

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(self.graph.preprocessing.normalize(x))  # type: ignore[no-any-return]


def lucent_picture(model: Whole, layer: int, unit: int, steps: int) -> np.ndarray:
    """lucent's picture of a unit, (C, H, W) in [0, 1], its network input as large as ours."""
    from lucent.optvis import param, render

    images = render.render_vis(
        model,
        f"net_{layer}:{unit}",
        lambda: param.image(SIDE),
        thresholds=(steps,),
        preprocess=False,
        progress=False,
        show_image=False,
        fixed_image_size=INPUT,
    )
    for module in model.modules():  # lucent never removes its hooks
        module._forward_hooks.clear()
    return np.ascontiguousarray(images[-1][0].transpose(2, 0, 1))


def plain_chollet(model: Whole, layer: int, unit: int, steps: int) -> np.ndarray:
    """The classic recipe with a hook on the whole network, one unit."""
    kept: dict[str, torch.Tensor] = {}
    hook = model.net[layer].register_forward_hook(lambda _m, _i, out: kept.update(out=out))
    x = (torch.rand(1, 3, SIDE, SIDE) - 0.5) * 20 + 128
    for _ in range(steps):
        x.requires_grad_()
        model(x / 255)
        kept["out"][:, unit].mean().backward()
        assert x.grad is not None
        x = (x + x.grad / (x.grad.square().mean().sqrt() + 1e-5)).detach()
    hook.remove()
    return x[0].numpy() / 255


def ours(graph: Graph, layer: Layer, units: list[int], preset: str, steps: int) -> list[np.ndarray]:
    """Our pictures of units, in batches as large as ``--batch auto``, without verdicts or further tries."""
    studio = Studio(graph, layer, settings(graph, preset_name=preset, size=SIDE, steps=steps), device="cpu")
    made = []
    for first in range(0, len(units), studio.batch):
        jobs = [Job(("benchmark", unit), unit) for unit in units[first : first + studio.batch]]
        made += Batch(studio.network, studio.goal, studio.chosen.preset, jobs, (SIDE, SIDE), steps).run()
    return [one.pixels for one in made]


def unseen(network: Network, layer: Layer, unit: int, picture: np.ndarray) -> float:
    """The unit's mean activation over 64 transforms that no ascent saw."""
    robust, values = Robust(), []
    rows = robust.draw(np.random.default_rng(2**31 - 1), UNSEEN)
    with torch.no_grad():
        for first in range(0, UNSEEN, 16):
            views = torch.from_numpy(picture)[None].repeat(16, 1, 1, 1)
            tapped = network(robust(views, rows[first : first + 16], SIDE))
            values += channel(layer, unit)(tapped).tolist()
    return float(np.mean(values))


def matmul_rate(size: int = 1024, seconds: float = 0.5) -> float:
    """Multiply-adds per second of a large matrix product."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        a @ b
        count += 1
    return count * size**3 / (time.perf_counter() - begun)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def macs_per_step(graph: Graph, layer: Layer) -> float:
    """Multiply-adds of one forward and one input-gradient pass at the network input's size."""
    height, width = graph.image_size
    forward = sum(la.macs for la in graph.layers[: layer.index + 1])
    return 2 * forward * INPUT * INPUT / (height * width)


def speed(graph: Graph, model: Whole, layers: list[Layer], steps: int, count: int, repeats: int) -> None:
    """Seconds per unit at equal size, transforms and steps."""
    print(f"\nspeed: {steps} steps, ours {count} units, median of {repeats}")
    print("layer            lucent s/unit   ours s/unit   ratio   share of matmul")
    total = [0.0, 0.0]
    for layer in layers:
        units = list(range(count))
        theirs, mine, rates = [], [], []
        for _ in range(repeats):
            theirs.append(timed(partial(lucent_picture, model, layer.index, 0, steps))[0])
            rates.append(matmul_rate())
            mine.append(timed(partial(ours, graph, layer, units, "lucid", steps))[0] / count)
        a, b = statistics.median(theirs), statistics.median(mine)
        share = macs_per_step(graph, layer) * steps / b / statistics.median(rates)
        total[0] += a
        total[1] += b
        print(f"{layer.name:16s} {a:13.2f} {b:13.2f} {a / b:7.2f} {share:12.0%}", flush=True)
    print(f"{'all, one each':16s} {total[0]:13.2f} {total[1]:13.2f} {total[0] / total[1]:7.2f}")


def mark(graph: Graph, model: Whole, layers: list[Layer], steps: int, count: int) -> None:
    """Time to lucent's activation, and the activation at equal steps."""
    print(f"\nmark: lucent's {steps} steps; activation is the mean over {UNSEEN} unseen transforms")
    print("layer            unit   lucent      lucid/lucent  default/lucent   steps to mark   time ratio")
    ratios, equal = [], []
    for layer in layers:
        network = Network(graph, [layer.tensor], "cpu")
        units = list(range(count))
        seconds, goals = zip(
            *(timed(partial(lucent_picture, model, layer.index, u, steps)) for u in units), strict=True
        )
        marks = [unseen(network, layer, u, p) for u, p in zip(units, goals, strict=True)]
        same = [
            unseen(network, layer, u, p) for u, p in zip(units, ours(graph, layer, units, "lucid", steps), strict=True)
        ]
        reached: dict[int, tuple[int, float]] = {}
        best = [0.0] * count
        for n in (64, 96, 128, 192, 256, 384, 512):
            took, made = timed(partial(ours, graph, layer, units, "convscope", n))
            best = [unseen(network, layer, u, p) for u, p in zip(units, made, strict=True)]
            for k in range(count):
                if k not in reached and best[k] >= marks[k]:
                    reached[k] = (n, took / count)
            if len(reached) == count:
                break
        for k in units:
            ratio = seconds[k] / reached[k][1] if k in reached else 0.0
            ratios.append(ratio)
            equal.append(same[k] / max(marks[k], 1e-9))
            after = str(reached[k][0]) if k in reached else "not reached"
            print(
                f"{layer.name:16s} {k:4d} {marks[k]:8.3g} {equal[-1]:12.2f} {best[k] / max(marks[k], 1e-9):14.2f}"
                f" {after:>15s} {ratio:12.1f}",
                flush=True,
            )
    print(f"median: lucid/lucent {statistics.median(equal):.2f}, time ratio {statistics.median(ratios):.1f}")


def chollet(graph: Graph, model: Whole, layers: list[Layer], steps: int, count: int, repeats: int) -> None:
    """Against a plain loop with a hook on the whole model."""
    print(f"\nchollet: {steps} steps, ours {count} units, median of {repeats}")
    print("layer             plain s/unit   ours s/unit   ratio")
    total = [0.0, 0.0]
    for layer in layers:
        theirs, mine = [], []
        for _ in range(repeats):
            theirs.append(timed(partial(plain_chollet, model, layer.index, 0, steps))[0])
            mine.append(timed(partial(ours, graph, layer, list(range(count)), "chollet", steps))[0] / count)
        a, b = statistics.median(theirs), statistics.median(mine)
        total[0] += a
        total[1] += b
        print(f"{layer.name:16s} {a:13.2f} {b:13.2f} {a / b:7.2f}", flush=True)
    print(f"{'all, one each':16s} {total[0]:13.2f} {total[1]:13.2f} {total[0] / total[1]:7.2f}")


def main() -> None:
    """Runs the comparisons asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ascent", description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="vgg16-hed", help="an ONNX file or a name of the catalog")
    parser.add_argument("--layers", help="commas; default every ReLU behind a convolution")
    parser.add_argument("--only", default="speed,mark,chollet")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--mark", type=int, default=512)
    parser.add_argument("--mark-layers", help="for mark alone; default the same layers")
    parser.add_argument("--units", type=int, default=8)
    parser.add_argument("--mark-units", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--preprocessing", default="caffe")
    asked = parser.parse_args()
    declare()  # lucent imports torchvision
    graph = _opened(asked.model, asked.preprocessing)
    model = Whole(graph)
    layers = list(graph.match(asked.layers)) if asked.layers else [la for la in graph.layers if la.op == "Relu"]
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(
        f"convscope {convscope.__version__}, {graph.name} {graph.sha256[:12]}, matmul {matmul_rate() / 1e9:.0f} GMAC/s"
    )
    if "speed" in asked.only:
        speed(graph, model, layers, asked.steps, asked.units, asked.repeats)
    if "chollet" in asked.only:
        chollet(graph, model, layers, asked.steps, asked.units, asked.repeats)
    if "mark" in asked.only:
        chosen = list(graph.match(asked.mark_layers)) if asked.mark_layers else layers
        mark(graph, model, chosen, asked.mark, asked.mark_units)


def _opened(model: str, preprocessing: str) -> Graph:
    if Path(model).is_file():
        return convscope.load(model, preprocessing=preprocessing, check=False)
    from convscope.cli.loading import open_model

    return open_model(model)


if __name__ == "__main__":
    main()
