"""What a picture is a function of, checked before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import numpy as np

from ...errors import UsageError
from ..graph import Graph
from ..layers import Layer
from .presets import Noise, Preset, preset


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
    """

    preset: Preset
    size: tuple[int, int]
    steps: int
    seed: int = 0
    start: np.ndarray | None = None
    strip: int = 0


def settings(
    graph: Graph,
    *,
    preset_name: str | Preset = "convscope",
    size: int | tuple[int, int] | None = None,
    steps: int | None = None,
    seed: int = 0,
    start: np.ndarray | None = None,
    noise: Noise | None = None,
    strip: int = 0,
) -> Settings:
    """Checked settings with the preset's own numbers where none are given.

    Args:
        start: (H, W, C) or (H, W) in [0, 1]; resized to ``size``.
        noise: start from this pixel noise, whatever the preset's parameterization.

    Raises:
        UsageError: an unknown preset, or a size or number of steps that is not positive.
    """
    recipe = preset(preset_name)
    pair = (size, size) if isinstance(size, int) else size or (recipe.size, recipe.size)
    if min(pair) < 1:
        raise UsageError(f"size {size} is not positive; give the side of the pictures in pixels, for instance 128")
    count = recipe.steps if steps is None else steps
    if count < 1:
        raise UsageError(f"steps {steps} is not positive; this preset's own number is {recipe.steps}")
    if noise is not None:
        if noise.kind not in ("uniform", "normal"):
            raise UsageError(f"noise '{noise.kind}' is unknown; choose uniform or normal")
        recipe = replace(recipe, noise=noise)
    return Settings(recipe, pair, count, seed, _fitted_start(start, graph, pair), strip)


def checked_units(layer: Layer, units: Sequence[int] | int | None) -> list[int]:
    """The units as a list; raises UsageError for one out of range."""
    count = layer.channels or 0
    if units is None:
        return list(range(count))
    wanted = [units] if isinstance(units, int) else list(units)
    for unit in wanted:
        if not 0 <= unit < count:
            raise UsageError(f"unit {unit} is out of range: layer '{layer.name}' has {count} units (0-{count - 1})")
    return wanted


def provenance(graph: Graph, chosen: Settings) -> dict[str, Any]:
    """What the pictures are a function of, and what made them."""
    import torch

    version = import_module(__name__.split(".")[0]).__version__  # mypy knows the root by no name
    return {
        "convscope": version,
        "torch": torch.__version__,
        "graph_sha256": graph.sha256,
        "source": graph.source.path,
        "source_sha256": graph.source.sha256,
        "preprocessing": graph.preprocessing.to_json(),
        "preset_source": chosen.preset.source,
        "start": "noise" if chosen.start is None else "picture",
    }


def _fitted_start(start: np.ndarray | None, graph: Graph, size: tuple[int, int]) -> np.ndarray | None:
    if start is None:
        return None
    import torch

    picture = np.asarray(start, dtype=np.float32)
    picture = picture[:, :, None] if picture.ndim == 2 else picture
    if graph.channels == 1 and picture.shape[2] == 3:
        picture = picture @ np.array([[0.299], [0.587], [0.114]], dtype=np.float32)
    elif picture.shape[2] != graph.channels:
        picture = np.repeat(picture[:, :, :1], graph.channels, axis=2)
    tensor = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None]
    resized = torch.nn.functional.interpolate(tensor, size, mode="bilinear", align_corners=False, antialias=True)
    return resized[0].numpy()
