"""Attributions to the input's own values, from gradients of the target's score.

All return `Maps` with ``values`` (N, C, H, W). Values are in the model's input space: a gradient per unit of
the normalized input, or (for those that multiply by the input) a share of the score in logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ....errors import UsageError
from ...executors import rules
from ...executors.exact import grad
from ...outputs.target import Target, scores, tensors_of
from ..batch import Batch
from ..maps import Maps
from ..registry import method

BASELINES = ("black", "gray", "white", "zero")


def input_gradient(
    batch: Batch, targets: Sequence[Target], x: np.ndarray, rule: Mapping[str, Callable[..., Any]] | None = None
) -> np.ndarray:
    """dS/dx (N, C, H, W) float32 at ``x``, one target per row; passes of the executors' batch size."""
    twin = batch.executors.twin(tensors_of(targets))
    size = batch.executors.rows_together(targets)
    found = []
    for start in range(0, len(x), size):
        part = batch.executors.tensor(x[start : start + size]).requires_grad_()
        rows = targets[start : start + size]
        score = scores(twin(part, rule), rows, len(part)).sum()
        found.append(grad(score, part)[0].cpu().numpy())
    return np.concatenate(found)


@method("saliency", "Saliency", "gradient")
def saliency(batch: Batch, targets: Sequence[Target]) -> Maps:
    """The gradient; the heatmap is its largest absolute value over the channels.

    Simonyan et al. 2013, "Deep Inside Convolutional Networks", arXiv:1312.6034.
    """
    return _largest(input_gradient(batch, targets, batch.x))


@method("inputxgradient", "Input x gradient", "gradient")
def input_x_gradient(batch: Batch, targets: Sequence[Target]) -> Maps:
    """Gradient times input, a first-order estimate of each value's share.

    Shrikumar et al. 2016, "Not Just a Black Box", arXiv:1605.01713.
    """
    return _summed(input_gradient(batch, targets, batch.x) * batch.x)


@method("vargrad", "VarGrad", "gradient", form="variance")
@method("smoothgrad-squared", "SmoothGrad squared", "gradient", form="squared")
@method("smoothgrad", "SmoothGrad", "gradient", form="mean")
def smooth_grad(
    batch: Batch,
    targets: Sequence[Target],
    *,
    form: str = "mean",
    samples: int = 25,
    noise: float = 0.15,
    seed: int = 0,
) -> Maps:
    """Gradients at noisy copies of the input, combined.

    Smilkov et al. 2017, "SmoothGrad: removing noise by adding noise", arXiv:1706.03825: the noise is Gaussian
    with a standard deviation of ``noise`` times the image's range. ``form`` "mean" is the paper's, "squared"
    the mean of squares (Hooker et al. 2019, arXiv:1806.10758), "variance" VarGrad (Adebayo et al. 2018,
    arXiv:1810.03307). Each image has its own random stream, so its map does not depend on its batch-mates.
    """
    if samples < 1:
        raise UsageError(f"samples {samples} is too small; use 1 or more")
    total, squares = np.zeros(batch.x.shape, np.float64), np.zeros(batch.x.shape, np.float64)
    for index, x in enumerate(batch.x):
        spread = noise * float(x.max() - x.min())
        drawn = np.random.default_rng(seed).normal(0.0, spread, (samples, *x.shape))
        gradients = input_gradient(batch, [targets[index]] * samples, (x + drawn).astype(np.float32))
        total[index] = gradients.mean(axis=0, dtype=np.float64)
        squares[index] = (gradients.astype(np.float64) ** 2).mean(axis=0)
    combined = {"mean": total, "squared": squares, "variance": squares - total**2}[form]
    return _largest(combined.astype(np.float32))


@method("integratedgradients", "Integrated Gradients", "gradient")
def integrated_gradients(
    batch: Batch, targets: Sequence[Target], *, steps: int = 50, baseline: str | np.ndarray = "black"
) -> Maps:
    """The input's difference from a baseline times the mean gradient on the straight way there.

    Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks", arXiv:1703.01365. The integral is a
    Gauss-Legendre sum of ``steps`` points (the paper: a Riemann sum). The attributions should add up to
    S(x) - S(x'); the figure ``completeness_gap`` says how far they are off, in logits.

    Args:
        batch: the pictures and the executors.
        targets: one score for each picture.
        steps: gradient evaluations for one image.
        baseline: "black", "gray" or "white" picture, "zero" of the model's input space, or an array (C, H, W).
    """
    if steps < 1:
        raise UsageError(f"steps {steps} is too small; use 1 or more")
    points, weights = np.polynomial.legendre.leggauss(steps)
    reference = reference_input(batch, baseline)
    values = np.empty_like(batch.x)
    for index, x in enumerate(batch.x):
        way = x - reference[index]
        path = reference[index] + ((points + 1) / 2).astype(np.float32)[:, None, None, None] * way
        gradients = input_gradient(batch, [targets[index]] * steps, path)
        values[index] = way * np.tensordot(weights / 2, gradients.astype(np.float64), axes=1)
    return _complete(batch, targets, values, reference)


@method("guidedbackprop", "Guided backprop", "gradient")
def guided_backprop(batch: Batch, targets: Sequence[Target]) -> Maps:
    """The gradient with every rectifier passing back only what is positive both ways.

    Springenberg et al. 2014, "Striving for Simplicity", arXiv:1412.6806. Clip (ReLU6) is a rectifier here too.
    """
    return _rectified(batch, targets, rules.guided)


@method("deconvnet", "Deconvnet", "gradient")
def deconvnet(batch: Batch, targets: Sequence[Target]) -> Maps:
    """The gradient with every rectifier passing back positive gradients, whatever its own input was.

    Zeiler & Fergus 2014, "Visualizing and Understanding Convolutional Networks", arXiv:1311.2901. Max-pooling
    routes to the recorded winners, as its gradient does anyway.
    """
    return _rectified(batch, targets, rules.deconvnet)


@method("deeplift", "DeepLIFT rescale", "gradient")
def deep_lift(batch: Batch, targets: Sequence[Target], *, baseline: str | np.ndarray = "black") -> Maps:
    """Contributions by comparing every activation with that of a baseline, rescale rule.

    Shrikumar et al. 2017, "Learning Important Features Through Propagating Activation Differences",
    arXiv:1704.02685. Beyond the paper, products of two image-dependent tensors share their change evenly, so
    gated networks stay complete. ``completeness_gap`` says what is lost in operators without a rule.
    """
    if (mixed := batch.graph.mixes_batch) is not None:
        node = batch.graph.index.producer[mixed]
        raise UsageError(
            f"deeplift runs a picture and its baseline in one batch, which {batch.graph.name} mixes ('{mixed[:80]}', "
            f"{node.op_type}); take integratedgradients"
        )
    reference = reference_input(batch, baseline)
    twin = batch.executors.twin(tensors_of(targets))
    values = np.empty_like(batch.x)
    half = max(batch.executors.batch // 2, 1)
    for start in range(0, len(batch.x), half):
        rows = slice(start, start + half)
        pair = np.concatenate([batch.x[rows], reference[rows]])
        both = batch.executors.tensor(pair).requires_grad_()
        score = scores(twin(both, rules.DEEPLIFT), [*targets[rows], *targets[rows]], len(pair)).sum()
        multipliers = grad(score, both)[0].chunk(2)[0].cpu().numpy()
        values[rows] = (batch.x[rows] - reference[rows]) * multipliers
    return _complete(batch, targets, values, reference)


def reference_input(batch: Batch, baseline: str | np.ndarray) -> np.ndarray:
    """(N, C, H, W) model input without the evidence, by name or as given.

    Raises:
        UsageError: unknown name, or an array that does not fit.
    """
    if not isinstance(baseline, str):
        try:
            given = np.broadcast_to(np.asarray(baseline, np.float32), batch.x.shape)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"baseline of shape {np.shape(baseline)} does not fit the input {batch.x.shape[1:]}"
            ) from error
        if not np.isfinite(given).all():
            raise UsageError("the baseline holds values that are no finite numbers")
        return given
    if baseline == "zero":
        return np.zeros_like(batch.x)
    levels = {"black": 0.0, "gray": 0.5, "white": 1.0}
    if baseline not in levels:
        raise UsageError(f"baseline '{baseline}' is unknown; choose one of {', '.join(BASELINES)}")
    return batch.graph.preprocessing.normalize(np.full_like(batch.x, levels[baseline]))


def _rectified(batch: Batch, targets: Sequence[Target], rule: Callable[..., Any]) -> Maps:
    twin = batch.executors.twin(tensors_of(targets))
    maps = _largest(input_gradient(batch, targets, batch.x, dict.fromkeys(rules.RECTIFIERS, rule)))
    if any(call.op in rules.RECTIFIERS for call in twin.calls):
        return maps
    note = f"{batch.graph.name} has no ReLU on the way to the target: this map is the plain gradient"
    return Maps(maps.values, maps.evidence, notes=(note,))


def _largest(values: np.ndarray) -> Maps:
    return Maps(values, np.abs(values).max(axis=1))


def _summed(values: np.ndarray, figures: Mapping[str, np.ndarray] | None = None) -> Maps:
    return Maps(values, values.sum(axis=1), figures or {})


def _complete(batch: Batch, targets: Sequence[Target], values: np.ndarray, reference: np.ndarray) -> Maps:
    """With the gap between the sum of the attributions and the change of the score that they explain."""
    change = batch.scores(targets) - batch.executors.scores(np.ascontiguousarray(reference), targets)
    total = values.sum(axis=(1, 2, 3), dtype=np.float64)
    return _summed(values, {"completeness_gap": total - change, "score_change": change})
