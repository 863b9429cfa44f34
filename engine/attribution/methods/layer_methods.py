"""The CAM family on a graph: the part below the layer runs forward only, the part above it with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ....errors import UsageError
from ...graph.layers import Layer
from ...graph.operators import operator
from ..batch import Batch
from ..maps import Maps, resized
from ..targets import Target, scores
from .cam import GRADIENT_CAMS, eigen_cam, grad_cam, weighted
from .gradient import guided_backprop


def capture(batch: Batch, targets: Sequence[Target], layer: Layer) -> tuple[Any, Any]:
    """Activations and gradients of a layer, torch tensors (N, K, h, w).

    The forward session computes the layer and whatever bypasses it; only the part between the layer and the
    target runs in the twin, so no gradient is taken below the layer.

    Raises:
        UsageError: the layer is no feature map, or the target does not depend on it.
    """
    import torch

    _require_spatial(layer)
    executors, tensor = batch.executors, targets[0].tensor
    names = (layer.tensor, *executors.sides(layer, tensor))
    feeds = {n: executors.tensor(v) for n, v in zip(names, batch.values(names), strict=True)}
    activations = feeds[layer.tensor].requires_grad_()
    head = executors.twin([tensor], names)
    (gradients,) = torch.autograd.grad(scores(head(feeds)[tensor], targets).sum(), activations)
    return layer.channels_first(activations.detach()), layer.channels_first(gradients)


def gradient_cam(batch: Batch, targets: Sequence[Target], layer: Layer, *, kind: str) -> Maps:
    """Any map of `cam.GRADIENT_CAMS`; see there for the papers."""
    return _maps(GRADIENT_CAMS[kind](*capture(batch, targets, layer)))


def activation_cam(batch: Batch, targets: Sequence[Target], layer: Layer) -> Maps:
    """Eigen-CAM, see `cam.eigen_cam`: the same map for every target."""
    _require_spatial(layer)
    (values,) = batch.values([layer.tensor])
    return _maps(eigen_cam(layer.channels_first(batch.executors.tensor(values))))


def class_activation_map(batch: Batch, targets: Sequence[Target], layer: Layer) -> Maps:
    """CAM: feature maps weighted by the class's weights of the linear layer after global average pooling.

    Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", arXiv:1512.04150:
    map = sum_k w_k A_k. The head is linear, so w_k is read off as the sum of dS/dA_k over positions, which is
    exact and independent of how the head is written.

    Raises:
        UsageError: the head is not global average pooling and a linear layer.
    """
    _require_linear_head(batch, targets[0].tensor, layer)
    activations, gradients = capture(batch, targets, layer)
    return _maps(weighted(activations, gradients.sum(dim=(2, 3))))


def guided_grad_cam(batch: Batch, targets: Sequence[Target], layer: Layer) -> Maps:
    """Guided backprop times the rectified, resized Grad-CAM map (Selvaraju et al. 2017, section 3.2)."""
    guided = guided_backprop(batch, targets)
    coarse = _maps(grad_cam(*capture(batch, targets, layer))).evidence
    values = guided.values * resized(np.maximum(coarse, 0), batch.size)[:, None]
    return Maps(values, np.abs(values).max(axis=1), notes=guided.notes)


LAYER_METHODS = {
    **{kind: partial(gradient_cam, kind=kind) for kind in GRADIENT_CAMS},
    "eigencam": activation_cam,
    "cam": class_activation_map,
    "guidedgradcam": guided_grad_cam,
}


def _maps(maps: Any) -> Maps:
    values = maps.detach().cpu().numpy().astype(np.float32)
    return Maps(values, values)


def _require_spatial(layer: Layer) -> None:
    if not layer.is_spatial:
        raise UsageError(
            f"layer '{layer.name}' has shape {layer.shape}, no feature maps; choose a layer with height and width"
        )


def _require_linear_head(batch: Batch, target: str, layer: Layer) -> None:
    names = (layer.tensor, *batch.executors.sides(layer, target))
    nodes = batch.graph.index.between(names, [target])
    ops, found = [node.op_type for node in nodes], [operator(node) for node in nodes]
    pools = sum(op in ("GlobalAveragePool", "ReduceMean", "AveragePool") for op in ops)
    layers = sum(row.family in ("dense", "convolution") for row in found)
    linear = all(row.linear or row.family in ("size", "constant") for row in found)
    if len(names) > 1 or pools != 1 or layers != 1 or not linear:
        raise UsageError(
            f"method 'cam' needs global average pooling and one linear layer after '{layer.name}', "
            f"found {' '.join(ops) or 'nothing'}; use gradcam, which needs no such head"
        )
