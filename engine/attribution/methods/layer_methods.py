"""The CAM family on a graph: the part below the layer runs forward only, the part above it with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ....errors import UsageError
from ...graph.layers import Layer
from ...graph.operators import operator
from ...outputs.target import Target, scores, tensors_of
from ..batch import Batch
from ..maps import Maps, resized
from .cam import GRADIENT_CAMS, eigen_cam, grad_cam, weighted
from .gradient import guided_backprop


def capture(batch: Batch, targets: Sequence[Target], layer: Layer) -> tuple[Any, Any]:
    """Activations and gradients of a layer, torch tensors (N, K, h, w).

    The forward session computes the layer and whatever bypasses it; only the part between the layer and the
    target runs in the twin, so no gradient is taken below the layer. That part runs once for all targets; of layers
    that are cut together (``batch.together``) one pass back gives all gradients.

    Raises:
        UsageError: the layer is no feature map, or the target does not depend on it.
    """
    import torch

    _require_spatial(layer)
    head = head_above(batch, targets, layer)
    score = scores(head.outputs, targets, len(batch.x)).sum()
    names = [known.tensor for known in head.layers]
    found = torch.autograd.grad(score, [head.feeds[name] for name in names], retain_graph=True, allow_unused=True)
    activations = head.feeds[layer.tensor].detach()
    gradients = found[names.index(layer.tensor)]
    gradients = torch.zeros_like(activations) if gradients is None else gradients
    return layer.channels_first(activations), layer.channels_first(gradients)


def gradient_cam(batch: Batch, targets: Sequence[Target], layer: Layer, *, kind: str) -> Maps:
    """Any map of `cam.GRADIENT_CAMS`; see there for the papers."""
    return _maps(GRADIENT_CAMS[kind](*capture(batch, targets, layer)))


@dataclass(frozen=True, eq=False)
class Head:
    """The part above a cut, run once on a batch.

    Attributes:
        layers: the cut.
        feeds: tensors that were fed, by name; those of the layers require a gradient.
        outputs: the targets' tensors by name.
    """

    layers: tuple[Layer, ...]
    feeds: dict[str, Any]
    outputs: dict[str, Any]


def head_above(batch: Batch, targets: Sequence[Target], layer: Layer) -> Head:
    """What lies between a layer (or those cut together with it) and the targets' tensors, run on the batch."""
    executors, wanted = batch.executors, tensors_of(targets)
    layers = batch.together if layer in batch.together else (layer,)
    cut = tuple(part.tensor for part in layers)
    if (cut, wanted) not in batch.heads:
        names = tuple(dict.fromkeys((*cut, *executors.sides(layers, wanted))))
        feeds = {n: executors.tensor(v) for n, v in zip(names, batch.values(names), strict=True)}
        for name in cut:
            feeds[name].requires_grad_()
        computed = [name for name in wanted if name not in feeds]
        outputs = executors.twin(computed, names)(feeds) if computed else {}
        known = {name: feeds[name] for name in wanted if name in feeds}
        batch.heads[cut, wanted] = Head(layers, feeds, {**known, **outputs})
    found: Head = batch.heads[cut, wanted]
    return found


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
    _require_linear_head(batch, targets, layer)
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
