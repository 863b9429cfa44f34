"""Activations and gradients of a layer: the part below it runs forward only, the part above it with gradients."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import UsageError
from ..graph.layers import Layer
from ..outputs.target import Target, scores, tensors_of
from .batch import Batch
from .maps import Maps
from .registry import method

Formula = Callable[..., Any]  # (activations, gradients, *, options) -> maps, torch tensors; see `methods.cam`


def capture(batch: Batch, targets: Sequence[Target], layer: Layer) -> tuple[Any, Any]:
    """Activations and gradients of a layer, torch tensors (N, K, h, w); of tokens those of the grid.

    The forward session computes the layer and whatever bypasses it; only the part between the layer and the
    target runs in the twin, so no gradient is taken below the layer. That part runs once for all targets; of layers
    that are cut together (``batch.together``) one pass back gives all gradients.

    Raises:
        UsageError: the layer is no feature map, or the target does not depend on it.
    """
    import torch

    require_spatial(layer)
    head = head_above(batch, targets, layer)
    score = scores(head.outputs, targets, len(batch.x)).sum()
    names = [known.tensor for known in head.layers]
    found = torch.autograd.grad(score, [head.feeds[name] for name in names], retain_graph=True, allow_unused=True)
    activations = head.feeds[layer.tensor].detach()
    gradients = found[names.index(layer.tensor)]
    gradients = torch.zeros_like(activations) if gradients is None else gradients
    return layer.maps(activations), layer.maps(gradients)


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
        outputs = executors.twin(computed, names, cut)(feeds) if computed else {}
        known = {name: feeds[name] for name in wanted if name in feeds}
        batch.heads[cut, wanted] = Head(layers, feeds, {**known, **outputs})
    found: Head = batch.heads[cut, wanted]
    return found


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
    if not layer.has_maps:
        raise UsageError(
            f"layer '{layer.name}' has shape {layer.shape}, no feature maps; choose a layer with height and width"
        )
