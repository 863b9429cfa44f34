"""Is a heatmap true to the model? Hide or show what it calls important and watch the class probability.

All take one image's model input ``x`` (C, H, W) with its heatmap (H, W) and run on the forward session.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ....errors import UsageError
from ...outputs.target import Target
from ..batch import Executors
from .road import impute


def deletion(
    executors: Executors, x: np.ndarray, heatmap: np.ndarray, target: Target, *, steps: int = 28, level: float = 0.0
) -> float:
    """Area under the probability while pixels vanish, the most important first; low is faithful.

    Petsiuk et al. 2018, "RISE", arXiv:1806.07421. Pixels become ``level`` (the mean image in model space);
    ``steps`` equal parts (the paper: 224 pixels at a time, that is 224 parts).
    """
    return _area(executors, _curve(x, np.full_like(x, level), _order(heatmap), steps), target)


def insertion(
    executors: Executors, x: np.ndarray, heatmap: np.ndarray, target: Target, *, steps: int = 28, sigma: float = 5.0
) -> float:
    """Area under the probability while pixels return to a blurred image; high is faithful.

    Petsiuk et al. 2018, arXiv:1806.07421: the blur is Gaussian of standard deviation 5 pixels, which gives no
    sharp edges that a model could take for evidence.
    """
    from scipy import ndimage

    blurred = ndimage.gaussian_filter(x, (0, sigma, sigma)).astype(np.float32)
    return _area(executors, _curve(blurred, x, _order(heatmap), steps), target)


def average_drop_increase(
    executors: Executors, x: np.ndarray, heatmap: np.ndarray, target: Target
) -> tuple[float, float]:
    """(drop, increase) of the probability when the image is multiplied by its heatmap.

    Chattopadhay et al. 2018, "Grad-CAM++", arXiv:1710.11063: drop = max(0, Y - O) / Y, in [0, 1], low is
    faithful; increase = 1 where O > Y. Over many images the two are averaged. pytorch-grad-cam does not divide
    by Y. The product is taken in model space. A target whose own number is watched may be negative: the fall is
    divided by its size.
    """
    before, after = executors.scores(np.stack([x, x * heatmap]), [target], probability=True)
    return float(max(0.0, before - after) / abs(before)) if before else 0.0, float(after > before)


def road(
    executors: Executors,
    x: np.ndarray,
    heatmap: np.ndarray,
    target: Target,
    *,
    percentiles: Sequence[float] = (10, 20, 30, 40, 50, 60, 70, 80, 90),
    noise: float = 0.01,
    seed: int = 0,
    probability: bool = True,
) -> float:
    """Half the difference between removing the least and the most important pixels first; high is faithful.

    Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for Attribution Methods",
    arXiv:2202.00449: removed pixels are filled by noisy linear imputation, which leaves no outline of the mask
    that the model could read. Combined as (LeRF - MoRF) / 2, averaged over ``percentiles``.
    """
    order = _order(heatmap)
    random = np.random.default_rng(seed)
    least, most = [], []
    for percentile in percentiles:
        count = round(order.size * percentile / 100)
        most.append(impute(x, _mask(order[:count], heatmap.shape), noise, random))
        least.append(impute(x, _mask(order[order.size - count :], heatmap.shape), noise, random))
    found = executors.scores(np.stack([*least, *most]), [target], probability=probability)
    return float(found[: len(least)].mean() - found[len(least) :].mean()) / 2


def pointing_game(heatmap: np.ndarray, boxes: Sequence[tuple[int, int, int, int]], *, tolerance: int = 15) -> bool:
    """Whether the heatmap's maximum lies in one of the boxes (top, left, bottom, right), exclusive ends.

    A map that is zero everywhere has no maximum and points nowhere.

    Zhang et al. 2016, "Top-down Neural Attention by Excitation Backprop", arXiv:1608.00507, with its tolerance
    of 15 pixels around the box.
    """
    if not boxes:
        raise UsageError("the pointing game needs at least one box: top,left,bottom,right in pixels")
    row, column = np.unravel_index(int(np.argmax(heatmap)), heatmap.shape)
    return bool(heatmap.any()) and any(
        top - tolerance <= row < bottom + tolerance and left - tolerance <= column < right + tolerance
        for top, left, bottom, right in boxes
    )


def max_sensitivity(
    attribute: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
    *,
    radius: float = 0.02,
    samples: int = 10,
    seed: int = 0,
) -> float:
    """The largest relative change of an attribution under small noise on the input; low is stable.

    Yeh et al. 2019, "On the (In)fidelity and Sensitivity of Explanations", arXiv:1901.09392:
    max over noise d with |d|_inf <= radius of |phi(x + d) - phi(x)| / |phi(x)|, by ``samples`` uniform draws.

    Args:
        attribute: (N, C, H, W) -> (N, ...) attributions.
        x: (C, H, W).
        radius: in units of the model's input.
        samples: draws.
        seed: of the draws.
    """
    noise = np.random.default_rng(seed).uniform(-radius, radius, (samples, *x.shape)).astype(np.float32)
    found = attribute(np.concatenate([x[None], x + noise])).reshape(samples + 1, -1).astype(np.float64)
    size = np.linalg.norm(found[0])
    return float(np.linalg.norm(found[1:] - found[0], axis=1).max() / size) if size > 0 else 0.0


def _order(heatmap: np.ndarray) -> np.ndarray:
    """Pixel numbers, the most important first; ties keep the reading order."""
    return np.argsort(-heatmap.ravel(), kind="stable")


def _mask(pixels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask.ravel()[pixels] = True
    return mask


def _curve(start: np.ndarray, end: np.ndarray, order: np.ndarray, steps: int) -> np.ndarray:
    """(steps + 1, C, H, W): the pixels of ``end`` replace those of ``start`` in this order."""
    if steps < 1:
        raise UsageError(f"steps {steps} is too small; use 1 or more")
    images = np.repeat(start[None], steps + 1, axis=0)
    for image, count in zip(images, np.linspace(0, order.size, steps + 1).round().astype(int), strict=True):
        image.reshape(len(start), -1)[:, order[:count]] = end.reshape(len(end), -1)[:, order[:count]]
    return images


def _area(executors: Executors, curve: np.ndarray, target: Target) -> float:
    """Trapezoid area under the probability over the share of pixels changed, in [0, 1]."""
    found = executors.scores(curve, [target], probability=True)
    return float(np.trapezoid(found, dx=1 / (len(found) - 1)))
