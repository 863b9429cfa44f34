"""Activations and gradients of a layer: the part below it runs forward only, the part above it with gradients."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import UsageError
from ..graph.layers import Layer
from .batch import Batch
from .maps import Maps
from .registry import method
from .targets import Target, scores

Formula = Callable[..., Any]  # (activations, gradients, *, options) -> maps, torch tensors; see `methods.cam`


def capture(batch: Batch, targets: Sequence[Target], layer: Layer) -> tuple[Any, Any]:
    """Activations and gradients of a layer, torch tensors (N, K, h, w).

    The forward session computes the layer and whatever bypasses it; only the part between the layer and the
    target runs in the twin, so no gradient is taken below the layer.

    Raises:
        UsageError: the layer is no feature map, or the target does not depend on it.
    """
    import torch

    require_spatial(layer)
    executors, tensor = batch.executors, targets[0].tensor
    names = (layer.tensor, *executors.sides(layer, tensor))
    feeds = {n: executors.tensor(v) for n, v in zip(names, batch.values(names), strict=True)}
    activations = feeds[layer.tensor].requires_grad_()
    head = executors.twin([tensor], names)
    (gradients,) = torch.autograd.grad(scores(head(feeds)[tensor], targets).sum(), activations)
    return layer.channels_first(activations.detach()), layer.channels_first(gradients)


def gradient_cam(name: str, title: str) -> Callable[[Formula], Formula]:
    """Declares a formula of activations and gradients (`methods.cam`) as a method of the CAM family.

    The formula's keyword-only parameters are the method's options.
    """

    def declare(formula: Formula) -> Formula:
        def run(batch: Batch, targets: Sequence[Target], layer: Layer, **options: Any) -> Maps:
            return maps_of(formula(*capture(batch, targets, layer), **options))

        own = [p for p in inspect.signature(formula).parameters.values() if p.kind is p.KEYWORD_ONLY]
        first = [p for p in inspect.signature(run).parameters.values() if p.kind is not p.VAR_KEYWORD]
        run.__signature__ = inspect.Signature([*first, *own])  # type: ignore[attr-defined]
        run.__doc__ = formula.__doc__
        method(name, title, "cam")(run)
        return formula

    return declare


def maps_of(maps: Any) -> Maps:
    """The maps of a torch tensor (N, h, w); they are evidence as they are."""
    values = maps.detach().cpu().numpy().astype(np.float32)
    return Maps(values, values)


def require_spatial(layer: Layer) -> None:
    """Raises UsageError where a layer has no feature maps."""
    if not layer.is_spatial:
        raise UsageError(
            f"layer '{layer.name}' has shape {layer.shape}, no feature maps; choose a layer with height and width"
        )
