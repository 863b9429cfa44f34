"""Feature accentuation: a photograph changed so that what a unit sees in it stands out, and the rest stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...errors import UsageError
from ..graph.graph import Graph
from ..graph.labels import unit_name
from ..graph.layers import Layer
from ..pictures.crops import plane
from ..whole import is_number, whole
from .ascend import single
from .fitting import reduced_precision
from .many import OnProgress, Studio
from .maximize import logits_layer
from .network import Network, check_finite, unit_layer
from .recipe.objectives import Place
from .recipe.presets import Preset
from .recipe.presets import preset as find_preset
from .results import AscentResult
from .settings import checked_units, settings

KEEP = 4.0  # weight of the photograph's features; the activation counts in multiples of what it is on the photograph
_LARGEST = 1e6


@dataclass(frozen=True, eq=False)
class Change:
    """A penalty: how far the features of a hidden layer have moved from the photograph's.

    The square distance as a share of the photograph's own square sum, times ``weight``.

    Attributes:
        network: taps the layer.
        target: its tensor for the photograph, (1, ...).
        weight: of the penalty.
    """

    network: Network
    target: Tensor
    weight: float

    def __call__(self, image: Tensor) -> Tensor:
        features = self.network(image)[self.network.tensors[0]]
        distance = (features - self.target).square().flatten(1).sum(1)
        return self.weight * distance / self.target.square().sum().clamp_min(1e-12)


def accent(
    graph: Graph,
    image: np.ndarray,
    layer: Place | None,
    unit: int,
    *,
    keep: Place | None = None,
    weight: float = KEEP,
    preset: str | Preset = "accent",
    size: int | tuple[int, int] | None = None,
    steps: int | None = None,
    seed: int = 0,
    strip: int = 0,
    device: str = "auto",
    tuning: Mapping[str, float] | None = None,
    progress: OnProgress | None = None,
) -> AscentResult:
    """A photograph in which what a unit responds to is exaggerated (Hamblin et al. 2024, arXiv:2402.10039).

    What is maximized is the unit's mean activation over random views, as a multiple of its activation on the
    photograph, minus ``weight`` times the relative square distance to the photograph's features in a hidden layer.
    The paper's Fourier coefficients pass unchanged while their gradients are divided by a power of the frequency; here
    the coefficients are divided by it and stepped evenly (`presets`), which comes to the same for plain gradients, and
    keeps its effect under Adam, whose steps do not depend on a gradient's scale.

    Args:
        graph: from `convscope.load`.
        image: (H, W, C) in [0, 1].
        layer: name, tensor, index, `Layer` or submodule; None for the classes.
        unit: channel, or class.
        keep: the hidden layer whose features are kept; default `kept_layer`.
        weight: how much they are: 0 lets the photograph go.
        preset: `accent`, or any other.
        size: side of the picture, or (height, width); default the model's own.
        steps: of the ascent; default the preset's.
        seed: of everything random; the same seed gives the same picture.
        strip: how many pictures on the way to keep.
        device: "auto", "cpu" or "cuda[:n]".
        tuning: changes to the preset by name, for instance ``{"decay": 0.1}``.
        progress: called after every step.

    Returns:
        One picture with its history; its start is the photograph.

    Raises:
        UsageError: an unknown layer or unit, a weight out of range, a bad picture or size.
    """
    if not is_number(weight) or not 0 <= weight <= _LARGEST:
        raise UsageError(f"weight {weight} is not from 0 to {_LARGEST:g}; the usual one is {KEEP:g}")
    found = logits_layer(graph) if layer is None else unit_layer(graph, layer)
    (asked,) = checked_units(found, whole(unit, "unit"))
    held = kept_layer(graph, found) if keep is None else keep if isinstance(keep, Layer) else graph.layer(keep)
    pair = graph.image_size if size is None else size
    chosen = settings(
        graph,
        preset_name=find_preset(preset),
        size=pair,
        steps=steps,
        seed=seed,
        start=image,
        strip=strip,
        tuning=tuning,
    )
    studio = Studio(graph, found, chosen, device=device)
    photograph = torch.from_numpy(_start(studio)[None]).to(studio.network.device)
    hidden = Network(graph, [held.tensor], device, reduced_precision(graph, [held.tensor], chosen.preset, device))
    with torch.no_grad():
        target = hidden(photograph)[held.tensor]
        value = float(studio.measure([asked])(studio.network(photograph))[0])
    check_finite(target, graph, f"'{held.name}'")
    scale = max(abs(value), abs(studio.refer([asked])[asked]), 1e-6)
    recipe = studio.chosen.preset
    recipe = replace(recipe, patience=0, penalties=(*recipe.penalties, Change(hidden, target, weight)))
    objective = studio.measure([asked]) * (1 / scale)
    result = single(studio.network, replace(studio.chosen, preset=recipe), objective, found.name, progress)
    (made,) = result.units
    name = unit_name(graph, found, asked)
    reason = f"from {made.activation_start * scale:.3g} on the photograph to {made.activation_end * scale:.3g}"
    made = replace(
        made,
        unit=asked,
        activation_start=made.activation_start * scale,
        activation_end=made.activation_end * scale,
        reference=made.reference * scale,
        name=name,
        reason=f"{name.split(',')[0] or f'{found.name}[{asked}]'}: {reason}, with the features of {held.name} kept",
    )
    return replace(result, units=(made,))


def kept_layer(graph: Graph, layer: Layer) -> Layer:
    """The hidden layer whose features are kept: the last feature map at least four times as fine as the unit's own.

    What lies where in the photograph is still told there, and what makes it what it is to the unit is not yet decided.
    """
    before = [la for la in graph.layers[: layer.index] if la.has_maps and la.receptive_field is not None]
    if not before:
        later = next((la for la in graph.layers[layer.index + 1 :] if la.channels and layer.has_maps), None)
        advice = "take dream, which keeps none" if later is None else f"choose a later layer ('{later.name}')"
        raise UsageError(f"no feature map comes before '{layer.name}' whose features could be kept; {advice}")
    own = _stride(graph, layer if layer.has_maps else before[-1])
    fine = [la for la in before if la.op != "Pad" and 4 * _stride(graph, la) <= own]
    return fine[-1] if fine else before[0]


def _stride(graph: Graph, layer: Layer) -> float:
    """Rows of the picture per row of the layer; behind attention, where no stride is known, by the grid's own size."""
    side, rows = graph.image_size[0], plane(layer)[0]
    told = 0.0 if layer.receptive_field is None else layer.receptive_field.stride[0]
    return told if rows == 1 or 0.5 < told * rows / side < 1.6 else side / rows


def _start(studio: Studio) -> np.ndarray:
    """The photograph at the picture's size, (C, H, W)."""
    assert studio.chosen.start is not None
    return studio.chosen.start
