"""Methods of the CAM family that are more than a formula of activations and gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....errors import UsageError
from ...graph.layers import Layer
from ...graph.operators import operator
from ...outputs.target import Target, tensors_of
from ..batch import Batch
from ..capture import capture, maps_of, require_spatial
from ..maps import Maps, resized
from ..registry import method
from .cam import eigen_cam, grad_cam, weighted
from .gradient import guided_backprop


@method("eigencam", "Eigen-CAM", "cam")
def activation_cam(batch: Batch, _targets: Sequence[Target], layer: Layer) -> Maps:
    """Eigen-CAM, see `cam.eigen_cam`: the same map for every target."""
    require_spatial(layer)
    (values,) = batch.values([layer.tensor])
    return maps_of(eigen_cam(layer.maps(batch.executors.tensor(values))), batch, layer)


@method("cam", "CAM", "cam")
def class_activation_map(batch: Batch, targets: Sequence[Target], layer: Layer) -> Maps:
    """CAM: feature maps weighted by the class's weights of the linear layer after global average pooling.

    Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", arXiv:1512.04150:
    map = sum_k w_k A_k. The head is linear, so w_k is read off as the sum of dS/dA_k over positions, which is
    exact and independent of how the head is written.

    Raises:
        UsageError: the head is not global average pooling and a linear layer.
    """
    _require_linear_head(batch, targets, layer)
    activations, gradients = capture(batch, targets, layer)
    return maps_of(weighted(activations, gradients.sum(dim=(2, 3))), batch, layer)


@method("guidedgradcam", "Guided Grad-CAM", "cam")
def guided_grad_cam(batch: Batch, targets: Sequence[Target], layer: Layer) -> Maps:
    """Guided backprop times the rectified, resized Grad-CAM map (Selvaraju et al. 2017, section 3.2)."""
    guided = guided_backprop(batch, targets)
    coarse = maps_of(grad_cam(*capture(batch, targets, layer)), batch, layer).evidence
    values = guided.values * resized(np.maximum(coarse, 0), batch.size)[:, None]
    return Maps(values, np.abs(values).max(axis=1), notes=guided.notes)


def _require_linear_head(batch: Batch, targets: Sequence[Target], layer: Layer) -> None:
    wanted = tensors_of(targets)
    names = (layer.tensor, *batch.executors.sides(layer, wanted))
    nodes = batch.graph.index.between(names, wanted)
    ops, found = [node.op_type for node in nodes], [operator(node) for node in nodes]
    pools = sum(op in ("GlobalAveragePool", "ReduceMean", "AveragePool") for op in ops)
    layers = sum(row.family in ("dense", "convolution") for row in found)
    linear = all(row.linear or row.family in ("size", "constant") for row in found)
    if len(names) > 1 or pools != 1 or layers != 1 or not linear:
        raise UsageError(
            f"method 'cam' needs global average pooling and one linear layer after '{layer.name}', "
            f"found {' '.join(ops) or 'nothing'}; use gradcam, which needs no such head"
        )
