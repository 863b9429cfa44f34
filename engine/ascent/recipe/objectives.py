"""What ascent maximizes: one number per picture, computed from tapped tensors.

``channel("conv4", 3) - 0.1 * layer("conv2")``: objectives have an algebra (`algebra`), as in the
feature-visualization literature (Olah et al. 2017). A tap is a layer's output, or the tensor before its activation.
Row i of the batch belongs to picture i, and its value depends on that row alone; `diversity`, which compares
pictures by definition, compares within fixed groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ....errors import UsageError
from ...graph.graph import Graph
from ...graph.labels import find_class
from ...graph.layers import Layer
from ...whole import each, whole
from ..settings import checked_units
from .algebra import Objective, Place, Taps, Tensors, named, objective, on_layer, place_name

__all__ = [
    "Objective",
    "Place",
    "Taps",
    "channel",
    "direction",
    "diversity",
    "excitation",
    "interpolation",
    "joint",
    "layer",
    "likeness",
    "logit",
    "neuron",
    "objective",
]


def channel(layer: Place, units: int | Sequence[int], tensor: str | None = None) -> Objective:
    """The mean of a unit over all positions.

    Args:
        layer: where the unit is.
        units: one unit for every picture, or one per picture.
        tensor: tap this tensor in the layer's stead, for instance the one before its activation.
    """
    label = f"{place_name(layer)}[{_words(units)}]"

    def on(found: Layer) -> Objective:
        name = tensor or found.tensor
        return Objective((name,), lambda v: _mean(_pick(found, v[name], units)), label)

    return on_layer(layer, label, on)


def excitation(
    layer: Place, units: int | Sequence[int], tensor: str | None = None, negative: bool = False
) -> Objective:
    """The mean over all positions of a unit's positive part; of all its values where none is positive.

    At a layer of signed values (a convolution before its activation) the plain mean says little: a blank picture
    that inhibits a unit nowhere has a higher one than a picture that excites it at some positions and inhibits it
    at others, and an edge filter's mean is about zero on any picture.

    Args:
        layer: where the unit is.
        units: one unit for every picture, or one per picture.
        tensor: tap this tensor in the layer's stead, for instance the one before its activation.
        negative: of minus the values: how much the unit is inhibited.
    """
    label = f"{place_name(layer)}[{_words(units)}] where {'negative' if negative else 'positive'}"

    def on(found: Layer) -> Objective:
        name = tensor or found.tensor

        def value(values: Tensors) -> Tensor:
            maps = _pick(found, values[name], units)
            maps = maps.reshape(len(maps), -1) * (-1 if negative else 1)
            excited = (maps > 0).any(1, keepdim=True)
            return torch.where(excited, maps.clamp_min(0), maps).mean(1)

        return Objective((name,), value, label)

    return on_layer(layer, label, on)


def neuron(
    layer: Place, units: int | Sequence[int], position: tuple[int, ...] | None = None, tensor: str | None = None
) -> Objective:
    """A unit at one position: (row, column), or by default the middle of its map."""
    where = "centre" if position is None else ",".join(map(str, position))
    label = f"{place_name(layer)}[{_words(units)}] at {where}"

    def on(found: Layer) -> Objective:
        name = tensor or found.tensor

        def value(values: Tensors) -> Tensor:
            maps = _pick(found, values[name], units)
            sizes = maps.shape[1:]
            at = tuple(s // 2 for s in sizes)
            at = at if position is None else tuple(whole(p, "position") for p in position)
            if len(at) != len(sizes) or any(not -s <= p < s for p, s in zip(at, sizes, strict=True)):
                raise UsageError(f"position {at} is outside layer '{found.name}', whose map is {tuple(sizes)}")
            for p in at:
                maps = maps[:, p]
            return maps

        return Objective((name,), value, label)

    return on_layer(layer, label, on)


def layer(layer: Place, units: Sequence[int] | None = None) -> Objective:
    """Half the mean square of a layer, or of some of its units: DeepDream (Mordvintsev et al. 2015)."""
    label = f"{place_name(layer)} squared" + ("" if units is None else f"[{_words(units)}]")

    def on(found: Layer) -> Objective:
        def value(values: Tensors) -> Tensor:
            maps = found.maps(values[found.tensor])
            chosen = maps if units is None else maps[:, checked_units(found, units)]
            return 0.5 * chosen.square().flatten(1).mean(1)

        return Objective((found.tensor,), value, label)

    return on_layer(layer, label, on)


def logit(classes: int | str | Sequence[int]) -> Objective:
    """A class's value before the softmax: one class for every picture, by number or name, or one number per picture."""
    label = f"class {_words(classes)}"

    def on(graph: Graph) -> Objective:
        chosen = find_class(graph, classes) if isinstance(classes, str) else classes

        def value(values: Tensors) -> Tensor:
            return _rows(values[graph.logits].flatten(1), chosen, f"class of {graph.name}")

        return Objective((graph.logits,), value, label)

    return named(on, label)


def direction(layer: Place, vector: Sequence[float] | np.ndarray, cosine_power: float = 0.0) -> Objective:
    """The mean over positions of <a, v>, times cosine(a, v) ** ``cosine_power`` (at least 0.1).

    Args:
        layer: where; ``vector`` has one value per channel of it.
        vector: the direction; only its direction counts.
        cosine_power: the more, the less a large activation that points elsewhere counts.
    """
    label = f"a direction in {place_name(layer)}"
    if not (isinstance(cosine_power, Real) and 0 <= cosine_power < math.inf):
        raise UsageError(f"cosine_power {cosine_power!r} is not a number, 0 or more")
    values = np.asarray(vector, dtype=np.float32)

    def on(found: Layer) -> Objective:
        unit = _unit_vector(found, values)

        def value(tensors: Tensors) -> Tensor:
            maps = _maps(found, tensors)
            v = unit.to(maps.device, maps.dtype).reshape(1, -1, 1)
            dot = (maps * v).sum(1)
            if cosine_power:
                cosine = dot / maps.square().sum(1).add(1e-12).sqrt()
                dot = dot * cosine.clamp_min(0.1) ** cosine_power
            return dot.mean(1)

        return Objective((found.tensor,), value, label)

    return on_layer(layer, label, on)


def _unit_vector(layer: Layer, values: np.ndarray) -> Tensor:
    if values.shape != (layer.channels,) or not np.isfinite(values).all() or not np.any(values):
        raise UsageError(
            f"a direction in layer '{layer.name}' has {layer.channels} finite values, not all zero; "
            f"this one has shape {values.shape}"
        )
    values = values / np.abs(values).max()  # the squares of very small values are zero
    return torch.from_numpy(values / np.linalg.norm(values))


def joint(layer: Place, units: Sequence[int], weights: Sequence[float] | None = None) -> Objective:
    """Several units at once in every picture, each with its weight (default one)."""
    each = [1.0] * len(units) if weights is None else [float(weight) for weight in weights]
    if len(each) != len(units) or not each:
        raise UsageError(f"{len(units)} units and {len(each)} weights; give one or more units, and a weight for each")
    first, *rest = (channel(layer, unit) * weight for unit, weight in zip(units, each, strict=True))
    return sum(rest, first)


def interpolation(layer: Place, first: int, second: int, count: int) -> Objective:
    """``count`` pictures on the way from one unit to another: weights (1, 0) to (0, 1) in even steps."""
    count = whole(count, "count")
    if count < 1:
        raise UsageError(f"an interpolation of {count} pictures was asked for; it takes one or more")
    share = torch.linspace(0, 1, count)
    label = f"{place_name(layer)}[{first}] to [{second}]"

    def on(found: Layer) -> Objective:
        def value(values: Tensors) -> Tensor:
            one, other = (channel(found, unit)(values) for unit in (first, second))
            if len(one) != count:
                raise UsageError(f"an interpolation of {count} pictures was asked for {len(one)}; make as many")
            t = share.to(one.device)
            return (1 - t) * one + t * other

        return Objective((found.tensor,), value, label)

    return on_layer(layer, label, on)


def diversity(layer: Place, group: int) -> Objective:
    """Minus the mean similarity of each picture's style to that of its group's others (Olah et al. 2017).

    Style is the Gram matrix of the layer's channels over positions, similarity the cosine of two of them.

    Args:
        layer: where style is compared, usually the unit's own layer.
        group: pictures i * group to (i + 1) * group - 1 are compared with each other.
    """
    group = whole(group, "group")
    if group < 1:
        raise UsageError(f"diversity compares groups of pictures; a group of {group} is none")
    label = f"diversity of {place_name(layer)}"

    def on(found: Layer) -> Objective:
        def value(values: Tensors) -> Tensor:
            maps = _maps(found, values)
            if len(maps) % group:
                raise UsageError(f"diversity compares groups of {group} pictures, which {len(maps)} do not fill")
            gram = F.normalize((maps @ maps.transpose(1, 2)).flatten(1), dim=1).reshape(-1, group, maps.shape[1] ** 2)
            similar = gram @ gram.transpose(1, 2)
            others = similar.sum(2) - similar.diagonal(dim1=1, dim2=2)
            return -(others / max(group - 1, 1)).flatten()

        return Objective((found.tensor,), value, label)

    return on_layer(layer, label, on)


def likeness(layer: Layer, target: Tensor, gain: float = 1.0) -> Objective:
    """How near a layer is to ``gain`` times what a given picture gave: minus the relative square distance.

    Gain 1 inverts the features (Mahendran and Vedaldi 2015, arXiv:1412.0035); above 1 it exaggerates what the
    layer saw: a caricature.

    Args:
        layer: where features are compared.
        target: the layer's raw tensor for the picture, (1, ...).
        gain: factor of the target.
    """
    wanted = (target * gain).detach()
    scale = float(wanted.square().sum().clamp_min(1e-12))
    return Objective(
        (layer.tensor,), lambda v: -(v[layer.tensor] - wanted).square().flatten(1).sum(1) / scale, f"like {layer.name}"
    )


def _maps(layer: Layer, values: Tensors) -> Tensor:
    """(N, channels, positions); a dense layer has one position."""
    found = layer.maps(values[layer.tensor])
    return found.flatten(2) if found.dim() > 2 else found.unsqueeze(2)


def _pick(layer: Layer, values: Tensor, units: int | Sequence[int]) -> Tensor:
    """Each row's unit: (N, positions...)."""
    return _rows(layer.maps(values), units, f"unit of layer '{layer.name}'")


def _rows(values: Tensor, chosen: int | Sequence[int], what: str) -> Tensor:
    """Column ``chosen`` of every row, or of each row its own; UsageError where there is none."""
    columns = [whole(column, f"number of a {what}") for column in each(chosen)]
    rows, count = values.shape[:2]
    outside = [column for column in columns if not 0 <= column < count]
    if outside:
        raise UsageError(f"there is no {what} with number {outside[0]}; they are 0 to {count - 1}")
    if len(columns) == 1:
        return values[:, columns[0]]
    if len(columns) != rows:
        raise UsageError(f"{len(columns)} numbers of a {what} for {rows} pictures; give one, or one for each picture")
    index = torch.as_tensor(columns, device=values.device)
    return values[torch.arange(rows, device=values.device), index]


def _mean(maps: Tensor) -> Tensor:
    """Over all positions; a dense layer has none."""
    return maps.flatten(1).mean(1) if maps.dim() > 1 else maps


def _words(units: int | str | Sequence[int]) -> str:
    return ",".join(map(str, each(units)))
