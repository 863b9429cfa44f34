"""Explaining against grad-cam and captum, alternated in one run: ``python -m benchmarks.explain [--small]``.

Proves: Grad-CAM of a batch of 16 on ResNet50 takes at most a third of grad-cam's time per image, and so does
Score-CAM. Both sides get the same torch network, the same images and the same threads; rounds alternate, so
that a busy machine slows both; a ratio is the median of the rounds' ratios. On a machine that others use too,
the ratio of processor seconds says more than that of the clock; both are printed. The maps are compared too.

Weights are random (seeded): speed does not depend on them, but for one thing. Score-CAM scores equal masks
once, and how many channels are silent depends on the network; the share is printed.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.torchvision_schemas import declare

declare()

import torch  # noqa: E402

import convscope  # noqa: E402
from convscope.engine.attribution import Batch, Executors, explain_batch, find_methods  # noqa: E402

CLASS = 7


def main() -> None:
    """Runs everything and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="ResNet18 at 64 px, for a look at the script itself")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="part of a row's name")
    parser.add_argument("--detector", metavar="FILE", help="only the maps of a detector's boxes, in its forward passes")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.detector:
        _say_of_detector(convscope.load(arguments.detector, check=False), arguments.rounds)
        return
    net, graph, size = _network(arguments.small)
    x = np.random.default_rng(0).normal(size=(32, 3, size, size)).astype(np.float32)
    _say_where(graph, size)
    print("| job | ours, ms per image | theirs, ms per image | ratio (rounds) | CPU time ratio | largest difference |")
    print("|---|---|---|---|---|---|")
    for name, ours, theirs, count, rounds, compare in _jobs(net, graph, x, arguments.rounds):
        if arguments.only in name:
            _row(name, ours, theirs, count, rounds, compare)


def _network(small: bool) -> tuple[Any, Any, int]:
    import timm

    torch.manual_seed(0)
    name, size = ("resnet18", 64) if small else ("resnet50", 224)
    net = timm.create_model(name, zero_init_last=False).eval()
    graph = convscope.load(net, example_input=torch.zeros(1, 3, size, size), check=False)
    return net, graph, size


def _jobs(net: Any, graph: Any, x: np.ndarray, rounds: int) -> list[tuple[Any, ...]]:
    from captum import attr
    from pytorch_grad_cam import GradCAM, ScoreCAM

    executors = Executors(graph)
    inner = "layer2.3.act2" if hasattr(net.layer4[0], "bn3") else "layer2.1.act1"  # 128 channels in both

    def ours(method: str, count: int, layer: str | None = None, **options: Any) -> Callable[[], np.ndarray]:
        def run() -> np.ndarray:
            found = explain_batch(Batch(executors, x[:count]), find_methods(method), CLASS, layer, options)
            return np.stack([row[0].values for row in found])

        return run

    def integrated() -> np.ndarray:
        method = attr.IntegratedGradients(net)
        return method.attribute(torch.from_numpy(x[:1]), target=CLASS, n_steps=50, internal_batch_size=16).numpy()

    def raw_theirs(cls: Any, count: int, layer: str = "layer4") -> Callable[[], np.ndarray]:
        def run() -> np.ndarray:
            return _their_map(cls, net, net.get_submodule(layer), x[:count])

        return run

    return [
        ("Grad-CAM, one image", ours("gradcam", 1), raw_theirs(GradCAM, 1), 1, rounds, _relative),
        ("Grad-CAM, batch of 16", ours("gradcam", 16), raw_theirs(GradCAM, 16), 16, rounds, _relative),
        ("Grad-CAM, batch of 32", ours("gradcam", 32), raw_theirs(GradCAM, 32), 32, rounds, _relative),
        (
            "Integrated Gradients (captum), 50 steps",
            ours("integratedgradients", 1, baseline="zero"),
            integrated,
            1,
            min(rounds, 3),
            _relative,
        ),
        (
            "Score-CAM, 128 channels, exact",
            ours("scorecam", 1, inner, align_corners=True),
            raw_theirs(ScoreCAM, 1, inner),
            1,
            min(rounds, 2),
            _relative,
        ),
        (
            "Score-CAM, 128 channels, masks at half size, the strongest 16 at full",
            ours("scorecam", 1, inner, align_corners=True, coarse=0.5, refine=16),
            raw_theirs(ScoreCAM, 1, inner),
            1,
            min(rounds, 2),
            _relative,
        ),
    ]


def _their_map(cls: Any, net: Any, layer: Any, x: np.ndarray) -> np.ndarray:
    """grad-cam's map before it is scaled, from its own complete call."""
    import contextlib
    import os

    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with (
        open(os.devnull, "w") as silence,
        contextlib.redirect_stderr(silence),  # its progress bars
        cls(model=net, target_layers=[layer]) as cam,
    ):
        kept: list[np.ndarray] = []
        inner = cam.get_cam_image

        def keep(*given: Any, **named: Any) -> np.ndarray:
            kept.append(inner(*given, **named))
            return kept[-1]

        cam.get_cam_image = keep
        cam(torch.from_numpy(x), [ClassifierOutputTarget(CLASS)] * len(x))
        return kept[0]


def _row(
    name: str,
    ours: Callable[[], np.ndarray],
    theirs: Callable[[], np.ndarray],
    count: int,
    rounds: int,
    compare: Callable[[np.ndarray, np.ndarray], str],
) -> None:
    if rounds > 1:  # warm-up: sessions are built, memory is touched
        ours(), theirs()
    walls: list[tuple[float, float]] = []
    works: list[tuple[float, float]] = []
    for _ in range(rounds):
        first, mine = _timed(ours)
        second, other = _timed(theirs)
        walls.append((first[0], second[0]))
        works.append((first[1], second[1]))
    each = [1000 * statistics.median(column) / count for column in zip(*walls, strict=True)]
    print(
        f"| {name} | {each[0]:.1f} | {each[1]:.1f} | {_ratio(walls)} | {_ratio(works)} | {compare(mine, other)} |",
        flush=True,
    )


def _ratio(times: list[tuple[float, float]]) -> str:
    ratios = sorted(b / a for a, b in times)
    spread = f" ({ratios[0]:.2f} to {ratios[-1]:.2f}, {len(ratios)})" if len(ratios) > 1 else " (1)"
    return f"{statistics.median(ratios):.2f}{spread}"


def _timed(job: Callable[[], np.ndarray]) -> tuple[tuple[float, float], np.ndarray]:
    """((seconds by the clock, processor seconds of all threads), result)."""
    started, worked = time.perf_counter(), time.process_time()
    result = job()
    return (time.perf_counter() - started, time.process_time() - worked), result


def _relative(ours: np.ndarray, theirs: np.ndarray) -> str:
    size = float(np.abs(theirs).max()) or 1.0
    return f"{float(np.abs(ours - theirs).max()) / size:.1e}"


def _say_of_detector(graph: Any, rounds: int) -> None:
    """Prints what ODAM of one box and of three costs beside a forward pass, in processor time, alternated."""
    from convscope.engine.attribution.places import default_layers
    from convscope.engine.outputs import Target, read_outputs
    from convscope.engine.pictures.photographs import photographs
    from convscope.engine.pictures.read import model_input, read_image

    reading: Any = read_outputs(graph)
    x = model_input(read_image(photographs()[0]), graph)
    executors = Executors(graph, device="cpu")
    rows = Batch(executors, x).rows(reading)[0]
    found = reading.decode(rows)
    places = np.argsort(-found.scores.max(axis=1))[[0, 40, 90]]  # the surest, and others elsewhere
    targets = [Target(reading.score(rows, int(p), int(found.scores[p].argmax())), "box") for p in places]
    layers = default_layers(graph, reading.head, reading)
    session = graph.session([spec.name for spec in graph.outputs], device="cpu")

    def maps(count: int) -> Callable[[], Any]:
        return lambda: explain_batch(Batch(executors, x), find_methods("odam"), targets[:count], layers)

    jobs: dict[str, Callable[[], Any]] = {
        "forward pass": lambda: session.run({graph.inputs[0].name: x}), "one map": maps(1), "three maps": maps(3),
    }  # fmt: skip
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for warm in range(rounds + 1):
        for name, job in jobs.items():
            worked = _timed(job)[0][1]
            if warm:
                times[name].append(worked)
    passes = statistics.median(times["forward pass"])
    for name, each in times.items():
        print(f"{name}: {1000 * statistics.median(each):.1f} ms, {statistics.median(each) / passes:.2f} forward passes")


def _say_where(graph: Any, size: int) -> None:
    import onnxruntime

    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"onnxruntime {onnxruntime.__version__}, {graph.layers[0].name}..{graph.last_spatial_layer().name}, {size} px\n"
    )


if __name__ == "__main__":
    main()
