"""Shares of whole pieces of the picture: KernelSHAP and LIME on superpixels, from forward passes alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import comb

import numpy as np
from PIL import Image

from ....errors import UsageError
from ...outputs.target import Target
from ..batch import Batch
from ..maps import Maps
from ..registry import method
from .gradient import reference_input

_ALL = 12  # pieces: up to that many, every coalition is asked (4,096)


@method("kernelshap", "KernelSHAP", "perturbation", many=True)
def kernel_shap(
    batch: Batch, targets: Sequence[Target], *, pieces: int = 50, samples: int = 1000, baseline: str = "gray",
    seed: int = 0,
) -> Maps:  # fmt: skip
    """Each superpixel's Shapley value for the score, estimated by a weighted linear fit.

    Lundberg & Lee 2017, "A Unified Approach to Interpreting Model Predictions", arXiv:1705.07874: coalitions z are
    weighted by (M - 1) / (C(M, |z|) |z| (M - |z|)), and the values add up to S(x) - S(x') exactly. Up to 12 pieces
    every coalition is asked and the values are exact; else ``samples`` coalitions are drawn by the kernel, each with
    its complement. Hidden pieces show the ``baseline``. Values are in units of the score, per piece.
    """
    if samples < 2:
        raise UsageError(f"kernelshap: samples {samples} is too small; use 2 or more")

    def fit(masks: np.ndarray, found: np.ndarray, empty: float, whole: float) -> np.ndarray:
        return shapley_fit(masks, found, empty, whole)

    def draw(count: int, random: np.random.Generator) -> np.ndarray:
        return every_coalition(count) if count <= _ALL else drawn_coalitions(count, samples, random)

    return _explained(batch, targets, pieces, baseline, seed, draw, fit)


@method("lime", "LIME", "perturbation", many=True)
def lime(
    batch: Batch, targets: Sequence[Target], *, pieces: int = 50, samples: int = 1000, baseline: str = "gray",
    width: float = 0.25, seed: int = 0,
) -> Maps:  # fmt: skip
    """Weights of a linear model of the score near the picture, a superpixel a feature.

    Ribeiro et al. 2016, "Why Should I Trust You?", arXiv:1602.04938: ``samples`` masks with half of the pieces hidden,
    weighted by exp(-d^2 / width^2) with the cosine distance d to the whole picture (``width`` 0.25 as the authors'
    image code, which takes the square root of that weight), ridge regression of strength 1.
    """
    if samples < 2 or width <= 0:
        raise UsageError(f"lime: samples {samples}, width {width}; need samples >= 2 and width > 0")

    def fit(masks: np.ndarray, found: np.ndarray, _empty: float, _whole: float) -> np.ndarray:
        return local_fit(masks, found, width)

    def draw(count: int, random: np.random.Generator) -> np.ndarray:
        masks = random.random((samples, count)) < 0.5
        masks[0] = True
        return masks

    return _explained(batch, targets, pieces, baseline, seed, draw, fit)


def shapley_fit(masks: np.ndarray, found: np.ndarray, empty: float, whole: float) -> np.ndarray:
    """(M,) the kernel's weighted least squares, with the sum fixed to ``whole - empty``.

    Args:
        masks: (n, M) bool, neither all nor none of the pieces.
        found: (n,) scores.
        empty: the score without any piece.
        whole: the score with all pieces.
    """
    count = masks.shape[1]
    if count == 1:
        return np.asarray([whole - empty])
    sizes = masks.sum(axis=1)
    if len(masks) == 2**count - 2:  # all of them: the kernel's weights; drawn ones come by the kernel already
        weights = np.asarray([(count - 1) / (comb(count, s) * s * (count - s)) for s in sizes])
    else:
        weights = np.ones(len(masks))
    z = masks.astype(np.float64)
    rows = z[:, :-1] - z[:, -1:]
    wanted = found - empty - z[:, -1] * (whole - empty)
    scaled = np.sqrt(weights)[:, None]
    first, *_ = np.linalg.lstsq(rows * scaled, wanted * scaled[:, 0], rcond=None)
    return np.append(first, whole - empty - first.sum())


def local_fit(masks: np.ndarray, found: np.ndarray, width: float, ridge: float = 1.0) -> np.ndarray:
    """(M,) coefficients of the weighted ridge regression of scores (n,) on masks (n, M); see `lime`."""
    z = masks.astype(np.float64)
    cosine = np.sqrt(z.mean(axis=1))  # of a mask with the whole picture
    weights = np.exp(-((1 - cosine) ** 2) / width**2)
    middle, level = (weights @ z) / weights.sum(), float(weights @ found) / weights.sum()
    centred = z - middle
    left = centred.T @ (weights[:, None] * centred) + ridge * np.eye(z.shape[1])
    solved: np.ndarray = np.linalg.solve(left, centred.T @ (weights * (found - level)))
    return solved


def every_coalition(count: int) -> np.ndarray:
    """(2^M - 2, M) bool."""
    bits = np.arange(1, 2**count - 1)
    return (bits[:, None] >> np.arange(count)) & 1 == 1


def drawn_coalitions(count: int, samples: int, random: np.random.Generator) -> np.ndarray:
    """(samples, M) bool by the kernel's weight of each size, every mask followed by its complement."""
    sizes = np.arange(1, count)
    chances = (count - 1) / (sizes * (count - sizes))
    masks = np.zeros((samples, count), dtype=bool)
    for i, size in enumerate(random.choice(sizes, -(-samples // 2), p=chances / chances.sum())):
        masks[2 * i, random.choice(count, size, replace=False)] = True
        if 2 * i + 1 < samples:
            masks[2 * i + 1] = ~masks[2 * i]
    return masks


def superpixels(picture: np.ndarray, pieces: int, rounds: int = 8, compact: float = 0.3) -> np.ndarray:
    """(H, W) int, the number of each pixel's piece, from 0: k-means of colour and place from a grid of seeds.

    Achanta et al. 2012, "SLIC Superpixels", without Lab colours, local windows and joining of islands.

    Args:
        picture: (H, W, C) in [0, 1].
        pieces: about how many.
        rounds: of k-means.
        compact: weight of a grid step in place against a full step in colour.
    """
    height, width = picture.shape[:2]
    rows = max(round(np.sqrt(pieces * height / width)), 1)
    columns = max(round(pieces / rows), 1)
    small = _shrunk(picture)
    high, wide = small.shape[:2]
    y, x = np.mgrid[0:high, 0:wide].astype(np.float64)
    places = np.stack([(y + 0.5) / high * rows, (x + 0.5) / wide * columns], axis=-1) * compact
    points = np.concatenate([small.astype(np.float64), places], axis=-1).reshape(high * wide, -1)
    start = np.clip(places.reshape(-1, 2) / compact, 0, [rows - 1e-6, columns - 1e-6]).astype(int)
    labels, count = start[:, 0] * columns + start[:, 1], rows * columns
    for _ in range(rounds):
        sizes = np.bincount(labels, minlength=count)
        sums = np.stack([np.bincount(labels, points[:, c], count) for c in range(points.shape[1])], axis=1)
        centres = sums[sizes > 0] / sizes[sizes > 0, None]
        count = len(centres)
        labels = ((centres**2).sum(axis=1) - 2 * points @ centres.T).argmin(axis=1)
    image = Image.fromarray(labels.reshape(high, wide).astype(np.int32))
    large = np.asarray(image.resize((width, height), Image.Resampling.NEAREST))
    return np.unique(large, return_inverse=True)[1].reshape(height, width)


def _shrunk(picture: np.ndarray) -> np.ndarray:
    """At most 96 pixels a side, which is enough for about a hundred pieces."""
    step = max(-(-max(picture.shape[:2]) // 96), 1)
    return picture[::step, ::step]


Draw = Callable[[int, np.random.Generator], np.ndarray]  # pieces -> masks (n, M)
Fit = Callable[[np.ndarray, np.ndarray, float, float], np.ndarray]  # masks, scores, without and with all -> (M,)


def _explained(
    batch: Batch, targets: Sequence[Target], pieces: int, baseline: str, seed: int, draw: Draw, fit: Fit
) -> Maps:
    if pieces < 1:
        raise UsageError(f"pieces {pieces} is too small; use 1 or more")
    reference = reference_input(batch, baseline)
    pictures = batch.graph.preprocessing.denormalize(batch.x).clip(0, 1).transpose(0, 2, 3, 1)
    values = np.empty((len(batch.x), *batch.size), dtype=np.float32)
    used = np.empty(len(batch.x))
    for index, picture in enumerate(pictures):
        labels = superpixels(picture, pieces)
        count = int(labels.max()) + 1
        masks = np.asarray(draw(count, np.random.default_rng(seed)), dtype=bool)
        ends = np.stack([np.zeros(count, bool), np.ones(count, bool)])
        found = _scores(batch, index, targets[index], np.concatenate([ends, masks]), labels, reference[index])
        values[index] = fit(masks, found[2:], found[0], found[1])[labels]
        used[index] = count
    return Maps(values, values, figures={"pieces": used})


def _scores(
    batch: Batch, index: int, target: Target, masks: np.ndarray, labels: np.ndarray, reference: np.ndarray
) -> np.ndarray:
    """(n,) scores of one picture with pieces hidden: masks (n, M), True shows."""
    size, found = batch.executors.batch, []
    for start in range(0, len(masks), size):
        shown = masks[start : start + size][:, labels][:, None]
        hidden = np.where(shown, batch.x[index], reference)
        short = size - len(hidden)
        if short and len(masks) > size:
            hidden = np.concatenate([hidden, np.repeat(hidden[-1:], short, axis=0)])
        scores = batch.executors.scores(np.ascontiguousarray(hidden, dtype=np.float32), [target])
        found.append(scores[: min(size, len(masks) - start)])
    return np.concatenate(found)
