"""Activations from a stream of pictures: ``python -m benchmarks.activations [--small] [--only NAME]``.

Proves: five layers of VGG16 cost at most 1.1 times a bare ``session.run`` of the same truncated model on batches
that are ready in memory, and give at least 1.3 times the images per second of torch forward hooks; reducing in
the graph against moving whole tensors; and that memory does not grow with the number of pictures.

All sides get the same random weights, pictures, batches and threads; rounds alternate in a new order each, so that
a busy machine slows all; a ratio is the median of the rounds' ratios. On a machine that others use too the ratio
of processor seconds says more than that of the clock; both are printed.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

LAYERS = ("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3")
BATCH = 8
MEMORY_SIZE = (32, 32)  # pixels; the number of pictures is what is asked


def main() -> None:
    """Runs everything and prints Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="at 64 px, for a look at the script itself")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=24, help="per round")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", choices=("memory", "speed", "reductions"), help="one of the parts")
    parser.add_argument("--child", nargs=4, metavar=("JOB", "MODEL", "FOLDER", "COUNT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        _child(arguments.child[0], Path(arguments.child[1]), Path(arguments.child[2]), int(arguments.child[3]))
        return
    with tempfile.TemporaryDirectory() as folder:
        model, photos = _prepare(Path(folder), 64 if arguments.small else 0)
        size = (64, 64) if arguments.small else (224, 224)
        if arguments.only in (None, "memory"):
            _memory(model, photos, (100, 400) if arguments.small else (100, 500, 2000))
        if arguments.only in (None, "speed"):
            _speed(model, photos, size, arguments)
        if arguments.only in (None, "reductions"):
            _reductions(model, photos, size, arguments)


def _weights() -> list[tuple[np.ndarray, np.ndarray]]:
    from convscope.models.builders import VGG16

    rng, before, found = np.random.default_rng(0), 3, []
    for count, after in VGG16:
        for _ in range(count):
            kernel = rng.normal(0, (2 / (9 * before)) ** 0.5, (3, 3, before, after)).astype(np.float32)
            found.append((kernel, rng.normal(0, 0.1, after).astype(np.float32)))
            before = after
    return found


def _prepare(folder: Path, side: int) -> tuple[Path, Path]:
    """VGG16's trunk as ONNX, and 100 JPEG pictures as a camera's preview has them."""
    import onnx
    from PIL import Image

    from convscope.models.builders import vgg16_onnx

    onnx.save(vgg16_onnx(_weights()), folder / "vgg16.onnx")
    photos = folder / "photos"
    photos.mkdir()
    rng = np.random.default_rng(1)
    for i in range(100):
        small = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        large = Image.fromarray(small).resize((side or 500, side or 375), Image.Resampling.BICUBIC)
        large.save(photos / f"{i:03d}.jpg", quality=90)
    return folder / "vgg16.onnx", photos


def _load(model: Path) -> Any:
    import convscope

    return convscope.load(model, check=False, preprocessing="caffe")


def _memory(model: Path, photos: Path, counts: tuple[int, ...]) -> None:
    print("\n| job | images | peak memory, MB | seconds |\n|---|---|---|---|")
    jobs = [("five", f"five layers at {MEMORY_SIZE[0]} px", count) for count in counts]
    jobs += [(kind, text, 2 * BATCH) for kind, text in _WHOLE_OR_REDUCED.items()]
    for kind, text, count in jobs:
        command = [sys.executable, "-m", "benchmarks.activations", "--child", kind, str(model), str(photos), str(count)]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        took = time.perf_counter() - start
        print(f"| {text} | {count} | {int(done.stdout) / 1024:.0f} | {took:.0f} |", flush=True)


_WHOLE_OR_REDUCED = {
    "whole": "all 13 convolutions at 224 px, whole tensors",
    "reduced": "all 13 convolutions at 224 px, all six statistics in the graph",
}


def _child(job: str, model: Path, photos: Path, count: int) -> None:
    """Does one of the memory jobs and prints its peak memory in KiB.

    VmHWM and not getrusage: that one counts the peak of the process which started this one as well.
    """
    from convscope.engine.activations.folder_pass import reduced_batches
    from convscope.engine.activations.stream import activations

    graph, paths = _load(model), sorted(photos.iterdir())
    paths = (paths * (count // len(paths) + 1))[:count]
    seen = 0
    convolutions = [la for la in graph.layers if la.op == "Relu"]
    layers, size = ([graph.layer(n) for n in LAYERS], MEMORY_SIZE) if job == "five" else (convolutions, None)
    if job == "reduced":
        pictures = {p.name: p for p in paths}
        for names, _ in reduced_batches(
            graph, layers, pictures, batch=BATCH, device="cpu", failed=lambda path, error: None
        ):
            seen += len(names)
    else:
        for found in activations(graph, paths, layers, batch=BATCH, size=size, device="cpu"):
            seen += len(found.paths)
    assert seen == count
    status = Path("/proc/self/status").read_text().splitlines()
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))


Side = Callable[[], float]  # runs once and returns a figure of what it computed, to compare


def _alternate(sides: dict[str, Side], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """(seconds by the clock, processor seconds) of every side in every round, after one round that does not count."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    names = list(sides)
    figures = {name: side() for name, side in sides.items()}
    first = next(iter(figures.values()))
    assert all(abs(f - first) <= 1e-3 * abs(first) for f in figures.values()), figures
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            clock, processor = time.perf_counter(), time.process_time()
            sides[name]()
            times[name].append((time.perf_counter() - clock, time.process_time() - processor))
    return times


def _table(times: dict[str, list[tuple[float, float]]], base: str, images: int) -> None:
    print(f"| job | images per second | time / {base} (rounds) | processor time / {base} (rounds) |\n|---|---|---|---|")
    for name, rounds in times.items():
        speed = images / statistics.median(clock for clock, _ in rounds)
        ratios = []
        for kind in (0, 1):
            each = [mine[kind] / theirs[kind] for mine, theirs in zip(rounds, times[base], strict=True)]
            ratios.append(f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})")
        print(f"| {name} | {speed:.2f} | {ratios[0]} | {ratios[1]} |", flush=True)


def _say_where(what: str, arguments: argparse.Namespace) -> None:
    import onnxruntime
    import torch

    load = ", ".join(f"{v:.1f}" for v in os.getloadavg())
    versions = f"{platform.machine()}, torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}"
    amount = f"{arguments.threads} threads, batch {BATCH}, {arguments.images} images, {arguments.rounds} rounds"
    print(f"\n{what}; {amount}; {versions}, load {load}\n", flush=True)


def _batches(graph: Any, photos: Path, size: tuple[int, int], count: int) -> list[np.ndarray]:
    from convscope.engine.pictures.read import model_input, read_image

    inputs = [model_input(read_image(p), graph, size) for p in sorted(photos.iterdir())[:count]]
    return [np.concatenate(inputs[i : i + BATCH]) for i in range(0, count, BATCH)]


def _session(graph: Any, threads: int) -> Any:
    return graph.session([graph.layer(n).tensor for n in LAYERS], device="cpu", threads=threads)


def _speed(model: Path, photos: Path, size: tuple[int, int], arguments: argparse.Namespace) -> None:
    import torch

    from convscope.engine.activations.stream import stream as module
    from convscope.models.builders import vgg16_torch

    torch.set_num_threads(arguments.threads)
    graph, count = _load(model), arguments.images
    paths = sorted(photos.iterdir())[:count]
    ready = _batches(graph, photos, size, count)
    layers = [graph.layer(n) for n in LAYERS]
    session = _session(graph, arguments.threads)
    network = vgg16_torch(_weights())
    kept: dict[str, Any] = {}
    names = [la.name for la in layers]
    relus = (1, 3, 6, 8, 11, 13, 15, 18, 20, 22, 25, 27, 29)
    chosen = dict(zip(names, (relus[i] for i in (1, 3, 6, 9, 12)), strict=True))
    for name, index in chosen.items():
        network.features[index].register_forward_hook(lambda m, a, out, name=name: kept.update({name: out}))

    def bare() -> float:
        return sum(float(session.run(x)[layers[4].tensor].mean()) for x in ready)

    def ours() -> float:
        found = module.run_batches(session, graph, paths, BATCH, size, 2, lambda path, error: None)
        return sum(float(values[layers[4].tensor].mean()) for _, _, values in found)

    def through_torch() -> float:
        total = 0.0
        with torch.inference_mode():
            for x in ready:
                network(torch.from_numpy(x))
                total += float({n: v.numpy() for n, v in kept.items()}[names[4]].mean())
        return total

    sides: dict[str, Side] = {
        "bare session.run, batches in memory": bare,
        "ours, from JPEG files": ours,
        "torch hooks, batches in memory": through_torch,
    }
    _say_where(f"Five layers of VGG16 at {size[0]} px", arguments)
    times = _alternate(sides, arguments.rounds)
    _table(times, "bare session.run, batches in memory", count)
    print()
    _table(times, "ours, from JPEG files", count)


def _reductions(model: Path, photos: Path, size: tuple[int, int], arguments: argparse.Namespace) -> None:
    """Every convolution's output: all statistics in the graph, against the same in NumPy on whole tensors."""
    from convscope.engine.activations.reductions import STATISTICS, output_name, with_reductions
    from convscope.engine.executors.session import Session

    graph = _load(model)
    layers = [la for la in graph.layers if la.op == "Relu"]
    ready = _batches(graph, photos, size, arguments.images)
    whole = graph.session([la.tensor for la in layers], device="cpu", threads=arguments.threads)
    every, top = (
        Session(with_reductions(graph, layers, kinds), "cpu", arguments.threads)
        for kinds in (STATISTICS, ("max", "argmax"))
    )
    last = output_name(layers[-1], "max")

    def in_numpy(kinds: tuple[str, ...]) -> float:
        total = 0.0
        for x in ready:
            for values in whole.run(x).values():
                flat = values.reshape(*values.shape[:2], -1)
                figures = {kind: _NUMPY[kind](flat) for kind in kinds}
            total += float(figures["max"].mean())
        return total

    sides: dict[str, Side] = {
        "maxima in the graph": lambda: sum(float(top.run(x)[last].mean()) for x in ready),
        "whole tensors, maxima in NumPy": lambda: in_numpy(("max", "argmax")),
        "all six statistics in the graph": lambda: sum(float(every.run(x)[last].mean()) for x in ready),
        "whole tensors, all six in NumPy": lambda: in_numpy(tuple(_NUMPY)),
    }
    _say_where(f"Statistics of the units of all {len(layers)} convolutions of VGG16 at {size[0]} px", arguments)
    _table(_alternate(sides, arguments.rounds), "maxima in the graph", arguments.images)


_NUMPY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda flat: flat.mean(2),
    "variance": lambda flat: flat.var(2),
    "min": lambda flat: flat.min(2),
    "max": lambda flat: flat.max(2),
    "argmax": lambda flat: flat.argmax(2),
    "zeros": lambda flat: (flat == 0).mean(2),
}


if __name__ == "__main__":
    main()
