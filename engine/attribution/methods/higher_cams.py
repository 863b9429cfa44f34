"""Class activation maps that need more than one gradient of one layer: curvature, noise, several layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....errors import UsageError
from ...executors.exact import grad
from ...graph.layers import Layer
from ...outputs.heads import is_feature_map
from ...outputs.target import Target, scores
from ..batch import Batch
from ..capture import capture, head_above, maps_of, require_spatial
from ..maps import Maps, resized
from ..registry import method
from .cam import grad_cam_plus_plus, weighted


@method("shapleycam", "Shapley-CAM", "cam")
def shapley_cam(batch: Batch, targets: Sequence[Target], layer: Layer) -> Maps:
    """Grad-CAM whose weights take the target's curvature into account.

    Cai 2025, "CAMs as Shapley Value-based Explainers", arXiv:2501.06261: w_k = mean_ij (G_kij - 0.5 (H A)_kij) with the
    Hessian H of the score at the layer, of which only the product with A is computed: a second pass back through the
    part above the layer. On a head that is linear or rectified H is 0 and the map is Grad-CAM's. The score is the
    target's own; the paper's ReST, a logit and its log-probability, is a callable target.
    """
    require_spatial(layer)
    head = head_above(batch, targets, layer)
    activations = head.feeds[layer.tensor]
    score = scores(head.outputs, targets, len(batch.x)).sum()
    (gradients,) = grad(score, activations, create_graph=True)
    bent = None
    if gradients.requires_grad:
        (bent,) = grad(gradients, activations, activations.detach(), retain_graph=True, allow_unused=True)
    weights = gradients.detach() if bent is None else gradients.detach() - 0.5 * bent
    return maps_of(weighted(layer.maps(activations.detach()), layer.maps(weights).mean(dim=(2, 3))), batch, layer)


@method("smoothgradcam++", "Smooth Grad-CAM++", "cam")
def smooth_grad_cam_plus_plus(
    batch: Batch, targets: Sequence[Target], layer: Layer, *, samples: int = 4, noise: float = 0.07, seed: int = 0
) -> Maps:
    """Grad-CAM++ with its derivatives averaged over noisy copies of the picture.

    Omeiza et al. 2019, "Smooth Grad-CAM++", arXiv:1908.01224: alpha = D2 / (2 D2 + sum_ab A_ab D3) and
    w_k = sum_ij alpha relu(D1), where Dp is the mean over ``samples`` copies of the p-th power of the gradient; the
    numerator is Grad-CAM++'s (the paper prints D1). The noise is Gaussian with a standard deviation of ``noise`` times
    the picture's range, about the 0.3 of normalized input that others take. Each picture has its own random stream.
    """
    import torch

    if samples < 1:
        raise UsageError(f"samples {samples} is too small; use 1 or more")
    activations, _ = capture(batch, targets, layer)
    powers = [torch.zeros_like(activations) for _ in range(3)]
    for index, x in enumerate(batch.x):
        drawn = np.random.default_rng(seed).normal(0.0, noise * float(x.max() - x.min()), (samples, *x.shape))
        noisy = (x + drawn).astype(np.float32)
        size = batch.executors.rows_together(targets)
        for start in range(0, samples, size):
            part = noisy[start : start + size]
            _, gradients = capture(Batch(batch.executors, part), [targets[index]] * len(part), layer)
            for power, total in enumerate(powers, 1):
                total[index] += (gradients**power).sum(dim=0) / samples
    first, second, third = powers
    denominator = 2 * second + activations.sum(dim=(2, 3), keepdim=True) * third
    safe = torch.where(denominator == 0, torch.ones_like(denominator), denominator)
    alpha = torch.where(denominator == 0, torch.zeros_like(second), second / safe)
    return maps_of(weighted(activations, (alpha * first.clamp(min=0)).sum(dim=(2, 3))), batch, layer)


@method("refinecam", "Refine-CAM", "cam")
def refine_cam(batch: Batch, targets: Sequence[Target], layers: Sequence[Layer], *, stages: int = 3) -> Maps:
    """The product of Grad-CAM++ maps of several layers: fine where the early ones are, right where the late ones are.

    arXiv:2605.14641 (2026) as torch-cam has it: each map rectified and divided by its maximum, enlarged to the largest
    map's size, multiplied. Of one layer, the last layers of the ``stages`` spatial sizes up to it are taken.
    """
    chosen = list(layers) if len(layers) > 1 else _stages(batch, layers[0], stages)
    found = [maps_of(grad_cam_plus_plus(*capture(batch, targets, layer)), batch, layer) for layer in chosen]
    maps = [np.maximum(one.evidence, 0) for one in found]
    product = product_of(maps)
    names = ", ".join(layer.name for layer in chosen)
    return Maps(product, product, notes=() if len(layers) > 1 else (f"the maps of {names}, multiplied",))


def product_of(maps: Sequence[np.ndarray]) -> np.ndarray:
    """(N, H, W): maps (N, h, w) of at least 0, each divided by its maximum and enlarged to the largest, multiplied."""
    rows, columns = max((found.shape[1:] for found in maps), key=lambda shape: shape[0] * shape[1])
    product = np.ones((len(maps[0]), rows, columns), dtype=np.float32)
    for found in maps:
        largest = found.max(axis=(1, 2), keepdims=True)
        product *= resized(found / np.where(largest > 0, largest, 1), (rows, columns))
    return product


def _stages(batch: Batch, last: Layer, count: int) -> list[Layer]:
    """The last layer of each of ``count`` spatial sizes on the way to ``last``, which is one of them."""
    graph = batch.graph
    below = graph.index.ancestors(last.tensor)
    found: dict[tuple[int | None, ...], Layer] = {}
    for layer in graph.layers[: last.index + 1]:
        if layer.tensor in below and layer.channel_axis == 1 and is_feature_map(graph, layer):
            found[tuple(layer.shape[2:])] = layer
    kept = list(found.values())[-max(count, 1) :]
    if len(kept) < 2:
        raise UsageError("refinecam multiplies the maps of two layers or more; name them: layer=A,B")
    return kept
