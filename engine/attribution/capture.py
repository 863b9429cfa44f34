"""Activations and gradients of a layer: the part below it runs forward only, the part above it with gradients."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...errors import UsageError
from ..executors.exact import grad
from ..graph.layers import Layer
from ..outputs.target import Target, scores, tensors_of
from .batch import Batch, Cut
from .maps import Maps, over_picture
from .registry import method

Formula = Callable[..., Any]  # (activations, gradients, *, options) -> maps, torch tensors; see `methods.cam`


def capture(batch: Batch, targets: Sequence[Target], layer: Layer) -> tuple[Any, Any]:
    """Activations and gradients of a layer, torch tensors (N, K, h, w); of tokens those of the grid.

    The forward session computes the layer and whatever bypasses it; only the part between the layer and the
    target runs in the twin, so no gradient is taken below the layer. That part runs once for all targets; of layers
    that are cut together (``batch.together``) one pass back gives all gradients. Branches that no target depends on
    (a detector's other levels, and of a class score the boxes) are not run.

    Raises:
        UsageError: the layer is no feature map, or the target does not depend on it.
    """
    import torch

    require_spatial(layer)
    head = _branches_above(batch, targets, layer) or head_above(batch, targets, layer)
    activations = head.feeds[layer.tensor].detach()
    gradients = head.gradients(targets, len(batch.x))[layer.tensor]
    gradients = torch.zeros_like(activations) if gradients is None else gradients
    return layer.maps(activations), layer.maps(gradients)


@dataclass(frozen=True, eq=False)
class Head:
    """The part above a cut, run once on a batch.

    Attributes:
        tensors: of the layers at the cut.
        feeds: tensors that were fed, by name, and the layers' own; these have or lead back to a gradient.
        outputs: the targets' tensors by name, or where there is a ``gathering`` the ends of branches.
        gathering: what makes the targets' tensors of the ends.
    """

    tensors: tuple[str, ...]
    feeds: dict[str, Any]
    outputs: dict[str, Any]
    gathering: Head | None = None
    _last: list[Any] = field(default_factory=list)

    def gradients(self, targets: Sequence[Target], count: int) -> dict[str, Any]:
        """The gradient at every layer by tensor, None where it is zero; kept until other targets are asked about."""
        asked = [id(target) for target in targets]
        if not self._last or self._last[0] != asked:
            self._last[:] = [asked, list(targets), self._gradients(targets, count)]
        gradients: dict[str, Any] = self._last[2]
        return gradients

    def pulled(self, targets: Sequence[Target], count: int) -> dict[str, Any]:
        """The gradients that are not zero, by tensor."""
        return {n: g for n, g in self.gradients(targets, count).items() if g is not None and bool(g.any())}

    def _gradients(self, targets: Sequence[Target], count: int) -> dict[str, Any]:

        if self.gathering is None:
            numbers, pulls = [scores(self.outputs, targets, count).sum()], None
        else:
            pulled = self.gathering.pulled(targets, count)
            numbers, pulls = [self.outputs[end] for end in pulled], list(pulled.values())
        if not numbers:
            return dict.fromkeys(self.tensors)
        feeds = [self.feeds[name] for name in self.tensors]
        found = grad(numbers, feeds, pulls, retain_graph=True, allow_unused=True)
        return dict(zip(self.tensors, found, strict=True))


def head_above(batch: Batch, targets: Sequence[Target], layer: Layer) -> Head:
    """What lies between a layer (or those cut together with it) and the targets' tensors, run on the batch."""
    layers, wanted = _cut_with(batch, layer), tensors_of(targets)
    key = tuple(part.tensor for part in layers), wanted
    if key not in batch.heads:
        batch.heads[key] = _run(batch, batch.executors.cut(layers, wanted), key[0])
    found: Head = batch.heads[key]
    return found


def _branches_above(batch: Batch, targets: Sequence[Target], layer: Layer) -> Head | None:
    """The branches that the targets depend on, as `head_above`, or None where the way to them has but one."""
    layers, wanted = _cut_with(batch, layer), tensors_of(targets)
    ends = batch.executors.ends(layers, wanted)
    if not ends:
        return None
    if (ends, wanted) not in batch.heads:
        batch.heads[ends, wanted] = _run(batch, batch.executors.gathering(ends, wanted), ends)
    gathering: Head = batch.heads[ends, wanted]
    key = tuple(part.tensor for part in layers), ends, wanted
    used: Head | None = batch.heads.get(key)
    if used is None or not used.outputs.keys() >= gathering.pulled(targets, len(batch.x)).keys():
        rounds = [targets, *(row for row in batch.asked if tensors_of(row) == wanted)]
        active = sorted({end for row in rounds for end in gathering.pulled(row, len(batch.x))})
        used = batch.heads[key] = _run_branches(batch, layers, active, gathering)
    return used


def _run_branches(batch: Batch, layers: Sequence[Layer], ends: Sequence[str], gathering: Head) -> Head:
    """The branches that lead from the layers to these ends; layers that none of them passes have no gradient."""
    executors, tensors = batch.executors, tuple(layer.tensor for layer in layers)
    below = executors.graph.index.ancestors(ends)
    passed = [layer for layer in layers if layer.tensor in below]
    head = _run(batch, executors.cut(passed, ends), tensors) if passed else Head(tensors, {}, {})
    for name in tensors:
        if name not in head.feeds:
            head.feeds[name] = executors.tensor(batch.values([name])[0]).requires_grad_()
    return replace(head, gathering=gathering)


def _run(batch: Batch, cut: Cut, tensors: tuple[str, ...]) -> Head:
    """What lies above a cut, run on the batch."""
    executors = batch.executors
    feeds = {n: executors.tensor(v) for n, v in zip(cut.names, batch.values(cut.names), strict=True)}
    for name in cut.roots:
        feeds[name].requires_grad_()
    twin = executors.twin(cut.computed, cut.names, cut.roots) if cut.computed else None
    outputs = twin(feeds, pictures=len(batch.x)) if twin is not None else {}
    feeds.update({name: outputs[name] for name in cut.inner})
    known = {name: feeds[name] for name in cut.targets if name in feeds}
    return Head(tensors, feeds, {**known, **outputs})


def _cut_with(batch: Batch, layer: Layer) -> tuple[Layer, ...]:
    """The layers that are cut together with this one, itself among them."""
    return batch.together if layer in batch.together else (layer,)


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
