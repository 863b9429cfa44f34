"""From a photograph: dreams and inversions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from ...errors import UsageError
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..pictures.sides import height_width
from ..whole import is_number, whole
from .ascend import single
from .many import OnProgress
from .network import Network, check_finite, unit_layer
from .recipe import objectives
from .recipe.canvases import FourierCanvas
from .recipe.presets import Preset, Stage
from .recipe.presets import preset as find_preset
from .recipe.regularizers import TotalVariation
from .recipe.steps import Adam
from .recipe.transforms import Plain
from .results import AscentResult
from .settings import checked_picture, checked_units, settings

INVERSION = Preset(
    name="invert",
    source="Mahendran and Vedaldi 2015, arXiv:1412.0035, with the parameterization of Olah et al. 2017",
    picture=FourierCanvas(),
    rule=Adam(0.1),
    steps=256,
    penalties=(TotalVariation(1.0),),
    redirect=16,
)

DREAM = 384  # pixels of a dream's longer side
_LARGEST_GAIN = 1000.0


def dream(
    graph: Graph,
    image: np.ndarray,
    layer: Layer | str | int,
    units: Sequence[int] | int | None = None,
    *,
    preset: str | Preset = "dream",
    size: int | tuple[int, int] | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    strip: int = 0,
    tuning: Mapping[str, float] | None = None,
    progress: OnProgress | None = None,
) -> AscentResult:
    """A photograph changed towards what a layer, or some of its units, see in it (DeepDream).

    Args:
        graph: from `convscope.load`.
        image: (H, W, C) in [0, 1].
        layer: whose activations grow.
        units: only these; default all.
        preset: by default DeepDream's octaves.
        size: the longer side, pixels, or (height, width); default `DREAM`, or the model's own where it takes no other.
        steps: in all octaves together; default the preset's.
        seed: of everything random; the same seed gives the same picture.
        device: "auto", "cpu" or "cuda[:n]".
        strip: how many pictures on the way to keep.
        tuning: changes to the preset by name, for instance ``{"decay": 0.1}``.
        progress: called after every step.

    Returns:
        One picture; its activations are half the mean square of the layer.
    """
    found = unit_layer(graph, layer)
    wanted = None if units is None else checked_units(found, units)
    image = checked_picture(image, graph.channels)
    network = Network(graph, [found.tensor], device)
    if isinstance(size, Sequence):
        pair = height_width(size)
    else:
        pair = _scaled(image, DREAM if size is None else size)
    if size is None and not _takes(network, pair):
        pair = graph.image_size
    chosen = settings(
        graph, preset_name=preset, size=pair, steps=steps, seed=seed, start=image, strip=strip, tuning=tuning
    )
    return single(network, chosen, objectives.layer(found, wanted), found.name, progress)


def _scaled(image: np.ndarray, side: int) -> tuple[int, int]:
    """(height, width) of the picture (H, W, C) with that longer side."""
    if whole(side, "size") < 1:
        raise UsageError(f"size {side} is not positive; give the longer side of the dream in pixels")
    scale = side / max(image.shape[:2])
    return max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))


def _takes(network: Network, size: tuple[int, int]) -> bool:
    """Whether the network takes pictures of this size, up to where it is cut."""
    try:
        with torch.no_grad():
            network(torch.zeros(1, network.channels, *size, device=network.device))
    except UsageError:
        return False
    return True


def invert(
    graph: Graph,
    image: np.ndarray,
    layer: Layer | str | int,
    *,
    gain: float = 1.0,
    preset: str | Preset = INVERSION,
    size: int | tuple[int, int] | None = None,
    steps: int | None = None,
    seed: int = 0,
    device: str = "auto",
    strip: int = 0,
    tuning: Mapping[str, float] | None = None,
    progress: OnProgress | None = None,
) -> AscentResult:
    """The picture, from noise, that gives a layer what a photograph gave it: what the layer still knows.

    Args:
        graph: from `convscope.load`.
        image: (H, W, C) in [0, 1].
        layer: whose values are matched.
        gain: above 1 the values are asked for so many times larger: a caricature.
        preset: by default Fourier coefficients under a total-variation penalty. Of any other, the random views and the
            smaller stages are left out: values are compared place by place.
        size: side of the picture, or (height, width); default the model's own size.
        steps: of the ascent; default the preset's.
        seed: of everything random; the same seed gives the same picture.
        device: "auto", "cpu" or "cuda[:n]".
        strip: how many pictures on the way to keep.
        tuning: changes to the preset by name, for instance ``{"decay": 0.1}``.
        progress: called after every step.

    Returns:
        One picture; its activation is minus the relative square distance, 0 for a perfect match.
    """
    found = graph.layer(layer) if not isinstance(layer, Layer) else layer
    if not is_number(gain) or not 0 < gain <= _LARGEST_GAIN:
        raise UsageError(f"gain {gain} is not in (0, {_LARGEST_GAIN:g}]; 1 inverts, above 1 exaggerates")
    pair = graph.image_size if size is None else height_width(size)
    recipe = replace(find_preset(preset), transform=Plain(), stages=(Stage(1.0, 1.0),))
    chosen = settings(graph, preset_name=recipe, size=pair, steps=steps, seed=seed, strip=strip, tuning=tuning)
    network = Network(graph, [found.tensor], device)
    photograph = settings(graph, size=pair, start=image).start
    assert photograph is not None
    with torch.no_grad():
        target = network(torch.from_numpy(photograph)[None].to(network.device))[found.tensor]
    check_finite(target, graph, f"'{found.name}'")
    result = single(network, chosen, objectives.likeness(found, target, gain), found.name, progress)
    shown_photograph = np.ascontiguousarray(photograph.transpose(1, 2, 0))
    return replace(result, units=(replace(result.units[0], start=shown_photograph),))
