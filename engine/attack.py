"""The smallest change that makes a model err: one pixel, or a little of every pixel.

Attacks work on the picture in [0, 1] at the model's input size, so that what they return can be shown, saved
and given to the model again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import differential_evolution

from ..errors import UsageError, instead
from .executors.exact import grad
from .graph.graph import Graph
from .pictures.read import check_range
from .whole import is_number, whole

METHODS = ("pixels", "fgsm", "pgd")


@dataclass(frozen=True, eq=False)
class Attack:
    """An attacked picture and what the model makes of it.

    Attributes:
        method: "pixels", "fgsm" or "pgd".
        image: (C, H, W) float32 in [0, 1], the picture that was given.
        attacked: the same, changed.
        before, after: (K,) logits.
        original: the class that the model saw at first.
        target: the class that the attack wanted, or None where any other would do.
        success: whether it got it.
        evaluations: images that the model looked at.
    """

    method: str
    image: np.ndarray
    attacked: np.ndarray
    before: np.ndarray
    after: np.ndarray
    original: int
    target: int | None
    success: bool
    evaluations: int

    @property
    def changed(self) -> list[tuple[int, int]]:
        """(row, column) of every pixel that differs."""
        return [(int(r), int(c)) for r, c in np.argwhere((self.image != self.attacked).any(axis=0))]

    @property
    def distance(self) -> float:
        """The largest change of any value, in [0, 1]."""
        return float(np.abs(self.image - self.attacked).max())

    def to_json(self) -> dict[str, Any]:
        """Everything but the arrays; at most 1000 changed pixels are listed."""
        changed = self.changed
        return {
            "method": self.method,
            "success": self.success,
            "original": self.original,
            "target": self.target,
            "result": int(self.after.argmax()),
            "evaluations": self.evaluations,
            "distance": self.distance,
            "pixels_changed": len(changed),
            "pixels": [
                {"row": r, "column": c, "from": self.image[:, r, c].tolist(), "to": self.attacked[:, r, c].tolist()}
                for r, c in changed[:1000]
            ],
        }


def pixel_attack(
    graph: Graph,
    image: np.ndarray,
    *,
    pixels: int = 1,
    target: int | None = None,
    population: int = 400,
    iterations: int = 100,
    seed: int = 0,
    device: str = "auto",
    batch: int = 64,
    progress: Callable[[int, float], None] | None = None,
) -> Attack:
    """Changes a few pixels by differential evolution until the class changes.

    Su et al. 2017, "One pixel attack for fooling deep neural networks", arXiv:1710.08864: a candidate is
    (row, column, colour) for each pixel; 400 candidates, F = 0.5, at most 100 generations, no crossover
    (``recombination`` 1: every value comes from the mutant); it stops at the first success. The whole
    generation is scored at once on the forward session, in batches of one size. Colours start uniform (the
    paper: Gaussian around mid-gray).

    Args:
        graph: the model.
        image: (C, H, W) in [0, 1] at the model's input size.
        pixels: how many may change.
        target: the class to reach, or None for any other than the present one.
        population: candidates.
        iterations: generations.
        seed: of the evolution.
        device: "auto", "cpu" or "cuda[:n]".
        batch: images per pass.
        progress: told the generation and the best probability so far (of the target, or of the present class).

    Raises:
        UsageError: numbers out of range, or a model that is no classifier.
    """
    _check_picture(graph, image)
    if pixels < 1 or pixels > image.shape[1] * image.shape[2]:
        raise UsageError(f"pixels={pixels} is out of range: the image has {image.shape[1] * image.shape[2]}")
    if population < 5 or iterations < 1:
        raise UsageError(f"population {population} and iterations {iterations} are too few; use at least 5 and 1")
    model = _Classifier(graph, device, batch)
    before = model.logits(image[None])[0]
    target = None if target is None else whole(target, "class")
    original = _check_target(graph, before, target)
    state = {"generation": 0}

    def loss(candidates: np.ndarray) -> np.ndarray:
        """Probability to bring down; candidates (D, S)."""
        found = _softmax(model.logits(paint(image, np.atleast_2d(candidates.T))))
        return 1 - found[:, target] if target is not None else found[:, original]

    def won(logits: np.ndarray) -> bool:
        return int(logits.argmax()) == target if target is not None else int(logits.argmax()) != original

    def stop(intermediate_result: Any) -> bool:
        state["generation"] += 1
        if progress:
            best = float(intermediate_result.fun)
            progress(state["generation"], 1 - best if target is not None else best)
        return won(model.logits(paint(image, intermediate_result.x[None]))[0])

    channels, height, width = image.shape
    one = [(0.0, height), (0.0, width), *([(0.0, 1.0)] * channels)]
    start = np.random.default_rng(seed)
    bounds = np.asarray(one * pixels)
    first = bounds[:, 0] + start.random((population, len(bounds))) * (bounds[:, 1] - bounds[:, 0])
    result = differential_evolution(
        loss,
        bounds,
        strategy="rand1bin",
        maxiter=iterations,
        init=first,
        mutation=0.5,
        recombination=1.0,
        tol=0.0,
        atol=-1.0,
        rng=np.random.default_rng(seed),
        callback=stop,
        polish=False,
        updating="deferred",
        vectorized=True,
    )
    attacked = paint(image, result.x[None])[0]
    after = model.logits(attacked[None])[0]
    return Attack("pixels", image, attacked, before, after, original, target, won(after), model.evaluations)


def gradient_attack(
    graph: Graph,
    image: np.ndarray,
    *,
    method: str = "pgd",
    epsilon: float = 8 / 255,
    steps: int = 10,
    target: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[int], None] | None = None,
) -> Attack:
    """Changes every pixel a little along the sign of the gradient of the cross-entropy.

    ``fgsm``: Goodfellow et al. 2014, "Explaining and Harnessing Adversarial Examples", arXiv:1412.6572, one step
    of ``epsilon``. ``pgd``: Madry et al. 2017, "Towards Deep Learning Models Resistant to Adversarial Attacks",
    arXiv:1706.06083: ``steps`` steps of 2.5 epsilon / steps from a random start, projected after each on the
    cube of half-side epsilon and on [0, 1].

    Args:
        graph: the model.
        image: (C, H, W) in [0, 1] at the model's input size.
        method: "fgsm" or "pgd".
        epsilon: largest change of any value of the picture.
        steps: of pgd.
        target: the class to reach, or None for any other than the present one.
        seed: of pgd's start.
        device: "auto", "cpu" or "cuda[:n]".
        progress: told the number of every finished step.

    Raises:
        UsageError: unknown method, numbers out of range, or a model that is no classifier.
    """
    if method not in ("fgsm", "pgd"):
        raise UsageError(f"attack '{method}' is unknown; choose one of {', '.join(METHODS)}")
    if not is_number(epsilon) or not 0 < epsilon <= 1:
        raise UsageError(f"epsilon {epsilon!r} is not above 0 and at most 1")
    if steps < 1:
        raise UsageError(f"steps {steps} is not positive")
    _check_picture(graph, image)
    model = _Classifier(graph, device, 1)
    before = model.logits(image[None])[0]
    target = None if target is None else whole(target, "class")
    original = _check_target(graph, before, target)
    count, step = (1, epsilon) if method == "fgsm" else (steps, 2.5 * epsilon / steps)
    attacked = image
    if method == "pgd":
        noise = np.random.default_rng(seed).uniform(-epsilon, epsilon, image.shape)
        attacked = np.clip(image + noise, 0, 1).astype(np.float32)
    for number in range(1, count + 1):
        slope = _slope(graph, model, attacked, original if target is None else target)
        moved = attacked + step * np.sign(slope) * (1 if target is None else -1)
        attacked = np.clip(np.clip(moved, image - epsilon, image + epsilon), 0, 1).astype(np.float32)
        if progress:
            progress(number)
    after = model.logits(attacked[None])[0]
    success = int(after.argmax()) == target if target is not None else int(after.argmax()) != original
    return Attack(method, image, attacked, before, after, original, target, success, model.evaluations)


def paint(image: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """(S, C, H, W): copies of ``image`` (C, H, W) with each candidate's pixels set.

    Args:
        image: in [0, 1].
        candidates: (S, pixels * (2 + C)): row, column, colour, again and again; places are cut to whole pixels.
    """
    channels, height, width = image.shape
    painted = np.repeat(image[None], len(candidates), axis=0)
    each = candidates.reshape(len(candidates), -1, 2 + channels)
    rows = np.clip(each[:, :, 0].astype(int), 0, height - 1)
    columns = np.clip(each[:, :, 1].astype(int), 0, width - 1)
    for pixel in range(each.shape[1]):
        number = np.arange(len(candidates))
        painted[number, :, rows[:, pixel], columns[:, pixel]] = np.clip(each[:, pixel, 2:], 0, 1)
    return painted


class _Classifier:
    """Logits of pictures in [0, 1] on the forward session, counted."""

    def __init__(self, graph: Graph, device: str, batch: int) -> None:
        self.graph = graph
        self.device = device
        self.batch = batch
        self.session = graph.session([graph.logits], device=device)
        self.evaluations = 0

    def logits(self, pictures: np.ndarray) -> np.ndarray:
        """(N, K) from (N, C, H, W); several passes have one shape."""
        found = []
        size = min(self.batch, len(pictures)) if len(pictures) > 1 else 1
        for start in range(0, len(pictures), size):
            part = pictures[start : start + size]
            filled = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            x = np.ascontiguousarray(self.graph.preprocessing.normalize(filled), dtype=np.float32)
            values = self.session.run(x)[self.graph.logits][: len(part)]
            found.append(values.reshape(len(part), -1) if values.shape[2:] == (1, 1) else values)
        self.evaluations += len(pictures)
        return np.concatenate(found)


def _check_picture(graph: Graph, image: np.ndarray) -> None:
    shape = np.shape(image)
    if len(shape) != 3 or shape[0] != graph.channels or 0 in shape:
        raise UsageError(f"a picture of shape {shape} is not ({graph.channels}, height, width)")
    check_range(image)


def _check_target(graph: Graph, logits: np.ndarray, target: int | None) -> int:
    if logits.ndim != 1 or len(logits) < 2:
        raise UsageError(
            f"{graph.name} gives {logits.shape} per image; an attack needs a classifier of 2 or more classes"
        )
    original = int(logits.argmax())
    if target is not None and not 0 <= target < len(logits):
        raise UsageError(f"class {target} is out of range: {graph.name} has {len(logits)} classes")
    if target == original:
        raise UsageError(f"the model says class {target} already; choose another target=, or none")
    return original


def _slope(graph: Graph, model: _Classifier, picture: np.ndarray, label: int) -> np.ndarray:
    """The gradient (C, H, W) of L = log sum exp(other logits) - logit of the label, by the picture's values.

    The cross-entropy is log(1 + exp L), a rising function of L, so its gradient has the same direction; but it
    is rounded to nothing where the model is sure, and L's is not.
    """
    import torch

    from .executors.devices import torch_device

    with instead("take method=pixels, which runs forward alone"):
        graph.require_gradient([graph.logits])
        twin = graph.twin([graph.logits], device=model.device)
    x = torch.from_numpy(np.ascontiguousarray(picture[None])).to(torch_device(model.device)).requires_grad_()
    logits = twin(graph.preprocessing.normalize(x))[graph.logits]
    others = torch.cat([logits[:, :label], logits[:, label + 1 :]], dim=1)
    loss = (others.logsumexp(dim=1) - logits[:, label]).sum()
    model.evaluations += 1
    return grad(loss, x)[0][0].cpu().numpy()


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
