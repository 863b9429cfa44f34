"""What a picture is a function of, checked before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...errors import UsageError
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..pictures.read import check_range, checked_pixels
from ..pictures.sides import height_width
from ..whole import each, is_number, whole
from .recipe.canvases import Noise
from .recipe.presets import AUTO, Preset, preset
from .recipe.tuning import tuned
from .suited import default_size, suited

_LARGEST = 16_383  # pixels a side: what a picture file can hold, and more than memory does


@dataclass(frozen=True)
class Settings:
    """What a unit's picture is a function of, beside graph, layer and unit.

    Attributes:
        preset: the recipe, with the user's changes.
        size: (height, width).
        steps: how many.
        seed: of the random streams.
        start: a picture (C, H, W) in [0, 1] instead of noise.
        strip: pictures on the way to keep.
        noise: pixel noise to start from where the recipe's own start is another.
        negative: minimize: what inhibits the unit.
        alpha: keep how much each place mattered.
        tuning: the user's changes to the recipe by name; ``preset`` has them.
        is_sized: whether the user named the size: else a network that does not take it gets its own.
    """

    preset: Preset
    size: tuple[int, int]
    steps: int
    seed: int = 0
    start: np.ndarray | None = None
    strip: int = 0
    noise: Noise | None = None
    negative: bool = False
    alpha: bool = False
    tuning: Mapping[str, float] = field(default_factory=dict)
    is_sized: bool = True


def settings(
    graph: Graph,
    layer: Layer | None = None,
    *,
    preset_name: str | Preset = AUTO,
    size: int | tuple[int, int] | None = None,
    steps: int | None = None,
    seed: int = 0,
    start: np.ndarray | None = None,
    noise: Noise | None = None,
    strip: int = 0,
    negative: bool = False,
    alpha: bool = False,
    tuning: Mapping[str, float] | None = None,
) -> Settings:
    """Checked settings with the preset's own numbers where none are given.

    Args:
        graph: the model.
        layer: where the units are: the recipe that suits it, and its size, where none are named.
        preset_name: a name or a `Preset`.
        size: side of the pictures, or (height, width).
        steps: how many; default the preset's.
        seed: of the random streams.
        start: (H, W, C) or (H, W) in [0, 1]; resized to ``size``.
        noise: start from this pixel noise, whatever the preset's parameterization.
        strip: pictures on the way to keep.
        negative: minimize: what inhibits the unit.
        alpha: keep how much each place mattered.
        tuning: changes to the preset, see `recipe.tuning`.

    Raises:
        UsageError: an unknown preset, a size or number of steps that is not positive, noise or a picture to start from
            that is none.
    """
    asked = None if size is None else height_width(size)
    recipe = suited(graph, layer, asked) if preset_name == AUTO and layer is not None else preset(preset_name)
    recipe = tuned(recipe, tuning or {})
    pair = asked or default_size(graph, layer, recipe)
    if asked is not None and max(asked) > _LARGEST:  # a signal of the model's own may be longer
        raise UsageError(f"size {max(asked)} is too large: a picture has at most {_LARGEST} pixels a side")
    count = recipe.steps if steps is None else whole(steps, "steps")
    if count < 1:
        raise UsageError(f"steps {steps} is not positive; this preset's own number is {recipe.steps}")
    strip = whole(strip, "strip")
    if strip < 0:
        raise UsageError(f"strip {strip} is negative; give the number of pictures on the way, 0 for none")
    if noise is not None:
        check_noise(noise)
        if start is not None:
            raise UsageError("noise and a picture to start from exclude each other; give one of them")
    if noise is not None and recipe.picture.of_pixels:
        recipe, noise = replace(recipe, noise=noise), None
    return Settings(
        preset=recipe,
        size=pair,
        steps=count,
        seed=whole(seed, "seed"),
        start=_fitted_start(start, graph, pair),
        strip=strip,
        noise=noise,
        negative=negative,
        alpha=alpha,
        tuning=dict(tuning or {}),
        is_sized=asked is not None or start is not None,
    )


def check_noise(noise: Noise) -> None:
    """Raises UsageError for a kind that there is none of, or numbers that are none."""
    if not isinstance(noise, Noise):
        raise UsageError(f"noise={noise!r} is no noise; write uniform or normal")
    if noise.kind not in ("uniform", "normal"):
        raise UsageError(f"noise '{noise.kind}' is unknown; choose uniform or normal")
    if not all(is_number(n) and 0 <= n <= 255 for n in (noise.spread, 0 if noise.mean is None else noise.mean)):
        raise UsageError(f"noise of mean {noise.mean} and spread {noise.spread}: give numbers in 0..255")


def checked_units(layer: Layer, units: Sequence[int] | int | None) -> list[int]:
    """The units as a list; raises UsageError for one out of range."""
    count = layer.channels or 0
    if units is None:
        return list(range(count))
    wanted = [whole(unit, "unit") for unit in each(units)]
    if not wanted:
        raise UsageError(f"no unit is asked for; layer '{layer.name}' has {count} (0-{count - 1})")
    for unit in wanted:
        if not 0 <= unit < count:
            raise UsageError(f"unit {unit} is out of range: layer '{layer.name}' has {count} units (0-{count - 1})")
    return wanted


def provenance(graph: Graph, chosen: Settings) -> dict[str, Any]:
    """What the pictures are a function of beside the record and the settings."""
    return {
        "source_sha256": graph.source.sha256,
        "preset_source": chosen.preset.source,
        "start": "noise" if chosen.start is None else "picture",
        "negative": chosen.negative,
    }


def checked_picture(image: Any, channels: int) -> np.ndarray:
    """A given picture for a model of that many channels, (H, W, C) float32 in [0, 1].

    A picture in gray serves every model, and one in colour a model of one channel; uint8 is divided by 255.

    Raises:
        UsageError: another shape, no pixels, values outside [0, 1], or channels that the model does not take.
    """
    picture = checked_pixels(image)
    if channels == 1 and picture.shape[2] == 3:
        return picture @ np.array([[0.299], [0.587], [0.114]], dtype=np.float32)
    if picture.shape[2] == 1:
        return np.repeat(picture, channels, axis=2)
    if picture.shape[2] != channels:
        raise UsageError(f"the picture has {picture.shape[2]} channels, the model takes {channels}")
    return picture


def checked_photographs(photos: np.ndarray, channels: int, size: tuple[int, int]) -> np.ndarray:
    """Photographs to judge by, (N, C, H, W) float32 in [0, 1] of the given channels, resized to the pictures' size.

    Raises:
        UsageError: another shape, none, or values outside [0, 1].
    """
    import torch

    found = np.asarray(photos, dtype=np.float32)
    if found.ndim != 4 or found.shape[1] != channels or 0 in found.shape:
        raise UsageError(f"photographs of shape {found.shape} are not (number, {channels} channels, height, width)")
    check_range(found)
    tensor = torch.from_numpy(np.ascontiguousarray(found))
    resized = torch.nn.functional.interpolate(tensor, size, mode="bilinear", align_corners=False, antialias=True)
    return found if found.shape[2:] == size else resized.numpy()


def _fitted_start(start: np.ndarray | None, graph: Graph, size: tuple[int, int]) -> np.ndarray | None:
    if start is None:
        return None
    import torch

    picture = checked_picture(start, graph.channels)
    tensor = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None]
    resized = torch.nn.functional.interpolate(tensor, size, mode="bilinear", align_corners=False, antialias=True)
    return resized[0].numpy()
