"""Is the map in the file the twin's? Asked before a file is written, and by ``convscope verify``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
import onnx

from ..attribution.batch import Batch, Executors
from ..attribution.maps import heatmaps, resized
from ..attribution.registry import METHODS
from ..executors.session import Session
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..outputs.target import Target
from ..pictures.photographs import photographs
from .interface import as_canonical, as_fed, own_type
from .scores.base import Score

PICTURES = 8
_TOGETHER = 4  # pictures of one run
BOUND = 1e-4  # of the map's largest absolute value
_ROUNDS = 5  # of timing, alternated; fewer of a large network
_SECONDS = 2.0  # of timing
_LAST_BIT = 2.0**-23  # relative, of a float32
_LAYERS = 3.0  # every layer rounds, and not the picture alone
_MOST = 0.05  # a difference above it is a wrong gradient, however the network amplifies
_SHAKEN = 2.0**-18  # relative: enough to give every rounding error another value, and far too little to move a map
_NOISE = 0.5  # of its own size: a map that moves so far when shaken is made of rounding alone


@dataclass(frozen=True)
class Verification:
    """How far the file is from the twin.

    Attributes:
        difference: the largest of any map's differences, relative to the largest absolute value of the twin's map
            before its negative parts were cut off.
        output_difference: of the model's own outputs to those of the graph, relative to each output's largest value.
        pictures, classes: how many were compared; every picture with every class (box, character).
        time_ratio: the exported file's time for one picture by the plain model's, alternated in one run.
        at_kinks: maps that are further from the twin's, but not further than the twin's own map moves when the last
            bits of the picture change: a unit lies within rounding of its kink, where the gradient jumps.
        kink_difference: the largest difference among them.
        zeros: maps that are zero in both: exactly, or made of rounding alone, as behind a normalization that takes out
            what the layer adds. A picture may well hold nothing that speaks for or against a class.
        asks: what ``classes`` counts, in the plural; "" where the target is always the same.
    """

    difference: float
    output_difference: float
    pictures: int
    classes: int
    time_ratio: float
    at_kinks: int = 0
    kink_difference: float = 0.0
    zeros: int = 0
    asks: str = "classes"

    @property
    def ok(self) -> bool:
        """Whether the bound holds; False where a value is not a number."""
        return self.difference <= BOUND and self.output_difference <= BOUND

    @property
    def compared(self) -> str:
        """What was compared, for people: ``8 pictures x 3 classes``."""
        return f"{self.pictures} pictures" + (f" x {self.classes} {self.asks}" if self.asks else "")


@dataclass(frozen=True)
class Question:
    """What a file's map is compared with: the method, where, and of what."""

    score: Score
    method: str
    layers: tuple[Layer, ...] = ()
    resize: bool = False
    normalize: bool = False
    steps: int | None = None


def verify(graph: Graph, model: onnx.ModelProto, question: Question, *, pictures: int = PICTURES) -> Verification:
    """Runs the file and the twin on the same pictures.

    Args:
        graph: what the file was made from.
        model: the file, taking the graph's own input.
        question: what its map is.
        pictures: how many.
    """
    score = question.score
    images = _as_held(graph, sample_images(graph, pictures))
    executors = Executors(graph, device="cpu", batch=PICTURES)
    alone = graph.mixes_batch is not None
    provable = score.provable(model)
    session = Session(provable, "cpu", alone=alone)
    inputs = set(session.input_names)
    outputs = [o.name for o in graph.outputs]
    read = (*(score.reading.tensors if score.reading else ()), *(layer.tensor for layer in question.layers))
    near, jumping, zeros = [0.0], list[float](), 0
    worst_output, most, together = 0.0, 1, 1 if alone else _TOGETHER
    for start in range(0, len(images), together):
        batch = Batch(executors, images[start : start + together], executors.cut_together(question.layers))
        batch.values([*outputs, *read])  # in one forward pass
        own = batch.outputs(outputs)
        samples = score.samples(batch, seed=start)
        most = max(most, len(samples))
        for sample in samples:
            asked = {name: value for name, value in sample.feeds.items() if name in inputs}
            found = as_canonical(graph, session.run({**as_fed(graph, model, batch.x), **asked}))
            signed = expected(batch, sample.targets, question)
            for i, difference in enumerate(_map_differences(found["heatmap"], signed, question)):
                if difference <= BOUND:
                    near.append(difference)
                    zeros += not signed[i].any()
                    continue
                twin = _Twin(executors, sample.targets[i], question)
                asked_of = {name: value[i : i + 1] if len(value) > 1 else value for name, value in asked.items()}
                if _both_are_zero(twin, session, graph, model, batch.x[i], asked_of):
                    zeros += 1
                elif difference <= _rounding(twin.maps(_noisy(batch.x[i], _LAST_BIT)), question):
                    jumping.append(difference)
                else:
                    near.append(difference)
            for name, value in own.items():
                worst_output = max(worst_output, _relative(found[name], value, own_type(graph, name)))
    timed = session if provable is model else Session(model, "cpu", alone=alone)
    ratio = _time_ratio(timed, graph.session(outputs, device="cpu"), graph, model, images[:1], score)
    return Verification(
        difference=max(near),
        output_difference=worst_output,
        pictures=len(images),
        classes=most,
        time_ratio=ratio,
        at_kinks=len(jumping),
        kink_difference=max(jumping, default=0.0),
        zeros=zeros,
        asks=score.asks if score.inputs else "",
    )


def expected(batch: Batch, targets: Sequence[Target], question: Question) -> np.ndarray:
    """(N, h, w) the twin's signed map; of several layers the average of their maps in the picture's size."""
    options = {} if question.steps is None else {"steps": question.steps}
    run = METHODS[question.method].run
    if not question.layers:
        return run(batch, targets, **options).evidence
    found = [run(batch, targets, layer, **options) for layer in question.layers]
    if len(found) == 1 and not question.resize and question.layers[0].is_volume:
        return found[0].values  # its evidence has the picture's size
    maps = [one.evidence for one in found]
    return maps[0] if len(maps) == 1 else np.mean([heatmaps(one, batch.size) for one in maps], axis=0)


@dataclass(frozen=True, eq=False)
class _Twin:
    """The twin's map of one target, for any pictures."""

    executors: Executors
    target: Target
    question: Question

    def maps(self, images: np.ndarray) -> np.ndarray:
        """(N, h, w) signed; one picture after another where those of a batch change one another."""
        size = len(images) if self.executors.graph.mixes_batch is None else 1
        cut = self.executors.cut_together(self.question.layers)
        parts = [Batch(self.executors, images[i : i + size], cut) for i in range(0, len(images), size)]
        return np.concatenate([expected(part, [self.target] * len(part.x), self.question) for part in parts])


def _noisy(image: np.ndarray, share: float) -> np.ndarray:
    """(1 + PICTURES, C, H, W) the image, and copies whose values differ by about a share of them."""
    noise = 1 + share * np.random.default_rng(0).normal(size=(PICTURES, *image.shape))
    return np.concatenate([image[None], (image * noise).astype(np.float32)])


def _rounding(maps: np.ndarray, question: Question) -> float:
    """How far the first of the twin's maps may move by rounding: by what last bits do (the others), some times that."""
    first = np.repeat(maps[:1], len(maps) - 1, axis=0)
    moved = _map_differences(np.maximum(maps[1:], 0), first, replace(question, resize=False))
    return min(_LAYERS * max(moved), _MOST)


def _both_are_zero(
    twin: _Twin, session: Session, graph: Graph, model: onnx.ModelProto, image: np.ndarray,
    asked: Mapping[str, np.ndarray],
) -> bool:  # fmt: skip
    """Whether the map is zero but for rounding, in the twin and in the file."""
    images = _noisy(image, _SHAKEN)
    if not _is_rounding(twin.maps(images)):
        return False
    found = [session.run({**as_fed(graph, model, one[None]), **asked})["heatmap"][0] for one in images]
    return _is_rounding(np.stack(found))


def _is_rounding(maps: np.ndarray) -> bool:
    """Whether the first map is made of rounding: shaking (the others) moves it by as much as there is of it."""
    moved = np.abs(maps[1:] - maps[0]).reshape(len(maps) - 1, -1).max(axis=1)
    return bool(np.isfinite(maps).all() and np.median(moved) >= _NOISE * np.abs(maps[0]).max())


def sample_images(graph: Graph, count: int = PICTURES) -> np.ndarray:
    """(count, C, H, W) model input: the shipped photographs and their mirror images, or noise for other inputs."""
    from ..pictures.read import model_input, read_image

    spec = graph.inputs[0]
    if len(spec.shape) in (0, 4) and graph.channels in (1, 3):
        pictures = [read_image(path).pixels for path in photographs()]
        pictures += [p[:, ::-1] for p in pictures]
        return np.concatenate([model_input(np.ascontiguousarray(p), graph) for p in pictures[:count]])
    rest = (graph.channels, *graph.image_size) if len(spec.shape) in (0, 4) else [s or 1 for s in spec.shape[1:]]
    return np.random.default_rng(0).random((count, *rest), dtype=np.float32)


def _map_differences(found: np.ndarray, signed: np.ndarray, question: Question) -> list[float]:
    """Of each map, relative to the largest absolute value of the twin's signed one; infinite where it is none."""
    maps = np.maximum(signed, 0)
    if question.resize:
        maps = resized(maps, found.shape[1:])
    if question.normalize:
        largest = maps.max(axis=(1, 2), keepdims=True)
        maps, signed = maps / np.where(largest > 0, largest, 1), signed / np.where(largest > 0, largest, 1)
    if found.shape != maps.shape or not np.isfinite(found).all():
        return [float("inf")] * len(found)
    pairs = zip(found, maps, signed, strict=True)
    return [float(np.abs(a - b).max() / max(np.abs(s).max(), 1e-30)) for a, b, s in pairs]


def _as_held(graph: Graph, images: np.ndarray) -> np.ndarray:
    """The images with the values that the source's own data type holds."""
    kind = own_type(graph, graph.inputs[0].name)
    return images if kind is None else images.astype(kind).astype(np.float32)


def _relative(found: np.ndarray, expected: np.ndarray, kind: np.dtype[Any] | None) -> float:
    """The largest difference by the largest value; of a narrow data type beyond its own last bit.

    Infinite where shapes or the places of what is no number differ: NaN would be lost among numbers.
    """
    if found.shape != expected.shape:
        return float("inf")
    finite = np.isfinite(expected)
    if not np.array_equal(found[~finite], expected[~finite], equal_nan=True) or not np.isfinite(found[finite]).all():
        return float("inf")
    a, b = found[finite].astype(np.float64), expected[finite].astype(np.float64)
    if not b.size:
        return 0.0
    differences = np.abs(a - b)
    if kind == np.float16:
        differences = np.maximum(differences - np.abs(b) * 2.0**-10 - 2.0**-24, 0)
    return float(differences.max() / max(np.abs(b).max(), 1e-30))


def _time_ratio(
    session: Session, plain: Session, graph: Graph, model: onnx.ModelProto, image: np.ndarray, score: Score
) -> float:
    required = {i.name for i in session.ort.get_inputs()}
    asked = {name: np.full(1, -1, dtype=np.int64) for name in score.inputs if name in required}
    feeds: Mapping[str, Any] = {graph.inputs[0].name: image.astype(graph.inputs[0].dtype)}
    times: dict[str, list[float]] = {"exported": [], "plain": []}
    start = time.perf_counter()
    for rounds in range(_ROUNDS):
        if rounds and time.perf_counter() - start > _SECONDS:
            break
        for name, run, given in (
            ("plain", plain, feeds), ("exported", session, {**as_fed(graph, model, image), **asked})
        ):  # fmt: skip
            began = time.perf_counter()
            run.run(dict(given))
            times[name].append(time.perf_counter() - began)
    return median(times["exported"]) / median(times["plain"])
