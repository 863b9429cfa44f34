"""Activations and gradients of a layer: the part below it runs forward only, the part above it with gradients."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import UsageError
from ..graph.layers import Layer
from ..outputs.target import Target, scores, tensors_of
from .batch import Batch
from .maps import Maps, over_picture
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
    activations = head.feeds[layer.tensor].detach()
    gradients = head.gradients(targets, len(batch.x))[layer.tensor]
    gradients = torch.zeros_like(activations) if gradients is None else gradients
    return layer.maps(activations), layer.maps(gradients)


@dataclass(frozen=True, eq=False)
class Head:
    """The part above a cut, run once on a batch.

    Attributes:
        layers: the cut.
        feeds: tensors that were fed, by name, and the layers' own; these have or lead back to a gradient.
        outputs: the targets' tensors by name.
    """

    layers: tuple[Layer, ...]
    feeds: dict[str, Any]
    outputs: dict[str, Any]
    _last: list[Any] = field(default_factory=list)

    def gradients(self, targets: Sequence[Target], count: int) -> dict[str, Any]:
        """The gradient at every layer by tensor, None where it is zero; kept until other targets are asked about."""
        import torch

        asked = [id(target) for target in targets]
        if not self._last or self._last[0] != asked:
            names = [known.tensor for known in self.layers]
            score = scores(self.outputs, targets, count).sum()
            found = torch.autograd.grad(
                score, [self.feeds[name] for name in names], retain_graph=True, allow_unused=True
            )
            self._last[:] = [asked, list(targets), dict(zip(names, found, strict=True))]
        gradients: dict[str, Any] = self._last[2]
        return gradients


def head_above(batch: Batch, targets: Sequence[Target], layer: Layer) -> Head:
    """What lies between a layer (or those cut together with it) and the targets' tensors, run on the batch."""
    executors, wanted = batch.executors, tensors_of(targets)
    layers = batch.together if layer in batch.together else (layer,)
    key = tuple(part.tensor for part in layers), wanted
    if key not in batch.heads:
        cut = executors.cut(layers, wanted)
        feeds = {n: executors.tensor(v) for n, v in zip(cut.names, batch.values(cut.names), strict=True)}
        for name in cut.roots:
            feeds[name].requires_grad_()
        outputs = executors.twin(cut.computed, cut.names, cut.roots)(feeds) if cut.computed else {}
        feeds.update({name: outputs[name] for name in cut.inner})
        known = {name: feeds[name] for name in wanted if name in feeds}
        batch.heads[key] = Head(layers, feeds, {**known, **outputs})
    found: Head = batch.heads[key]
    return found


def gradient_cam(name: str, title: str) -> Callable[[Formula], Formula]:
    """Declares a formula of activations and gradients (`methods.cam`) as a method of the CAM family.

    The formula's keyword-only parameters are the method's options.
    """

    def declare(formula: Formula) -> Formula:
        def run(batch: Batch, targets: Sequence[Target], layer: Layer, **options: Any) -> Maps:
            return maps_of(formula(*capture(batch, targets, layer), **options), batch, layer)

        own = [p for p in inspect.signature(formula).parameters.values() if p.kind is p.KEYWORD_ONLY]
        first = [p for p in inspect.signature(run).parameters.values() if p.kind is not p.VAR_KEYWORD]
        run.__signature__ = inspect.Signature([*first, *own])  # type: ignore[attr-defined]
        run.__doc__ = formula.__doc__
        method(name, title, "cam")(run)
        return formula

    return declare


def maps_of(maps: Any, batch: Batch, layer: Layer) -> Maps:
    """A layer's maps (N, h, w), a torch tensor or an array, which are evidence as they are.

    Of a volume the evidence is enlarged to the picture's size already, since that is done between slices too.
    """
    values = (maps if isinstance(maps, np.ndarray) else maps.detach().cpu().numpy()).astype(np.float32)
    if not layer.is_volume:
        return Maps(values, values)
    return Maps(values, over_picture(np.maximum(np.nan_to_num(values), 0), layer, batch.size))


def require_spatial(layer: Layer) -> None:
    """Raises UsageError where a layer has no feature maps."""
    if not layer.has_maps:
        raise UsageError(
            f"layer '{layer.name}' has shape {layer.shape}, no feature maps; choose a layer with height and width"
        )
