"""From what a method computes to a heatmap over the input's pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..graph.layers import Layer


@dataclass(frozen=True, eq=False)
class Maps:
    """What a method found for a batch.

    Attributes:
        values: (N, ...) float32, signed, as the method's paper defines it: (N, h, w) at a layer's resolution,
            or (N, C, H, W) for methods that attribute to the input's values.
        evidence: (N, h, w) float32: where the target is supported; negative parts are cut off for the heatmap.
        figures: (N,) numbers that the method reports about itself (completeness gap) by name.
        notes: sentences for the user.
    """

    values: np.ndarray
    evidence: np.ndarray
    figures: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def heatmaps(evidence: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(N, H, W) float32 in [0, 1]: positive evidence, resized and divided by its maximum.

    ReLU and division by the maximum are the published post-processing of Grad-CAM. The minimum is not
    subtracted (pytorch-grad-cam does), so 0 means no evidence. Bilinear with half-pixel centres.
    """
    maps = resized(np.maximum(np.nan_to_num(evidence, posinf=0.0, neginf=0.0), 0.0), size)
    largest = maps.max(axis=(1, 2), keepdims=True)
    return maps / np.where(largest > 0, largest, 1.0)


def resized(maps: np.ndarray, size: tuple[int, int], *, align_corners: bool = False) -> np.ndarray:
    """(N, h, w) -> (N, H, W) float32, bilinear."""
    maps = np.ascontiguousarray(maps, dtype=np.float32)
    if maps.shape[1:] == tuple(size):
        return maps
    import torch

    stack = torch.from_numpy(maps)[:, None]
    mode = torch.nn.functional.interpolate(stack, size=tuple(size), mode="bilinear", align_corners=align_corners)
    return mode[:, 0].numpy()


def over_picture(maps: np.ndarray, layer: Layer, size: tuple[int, int], *, align_corners: bool = False) -> np.ndarray:
    """A layer's maps (N, h, w) at the picture's size (N, H, W): bilinear, and of a volume between its slices too."""
    grid = layer.tokens
    if grid is None or not layer.is_volume:
        return resized(maps, size, align_corners=align_corners)
    import torch

    stack = torch.from_numpy(np.ascontiguousarray(maps, dtype=np.float32))
    volume = stack.reshape(len(maps), 1, grid.slices, grid.rows // grid.slices, grid.columns)
    wanted = (grid.depth, size[0] // grid.depth, size[1])
    mode = torch.nn.functional.interpolate(volume, size=wanted, mode="trilinear", align_corners=align_corners)
    return mode.reshape(len(maps), *size).numpy()


def unit_range(maps: np.ndarray, *, epsilon: float = 0.0) -> np.ndarray:
    """(..., h, w) with each map's minimum at 0 and maximum at 1; a constant map becomes 0.

    ``epsilon`` is added to the range, as other implementations do.
    """
    low = maps.min(axis=(-2, -1), keepdims=True)
    span = maps.max(axis=(-2, -1), keepdims=True) - low + epsilon
    return (maps - low) / np.where(span > 0, span, 1.0)


def share_inside(heatmap: np.ndarray, box: tuple[int, int, int, int]) -> float:
    """The share of a heatmap's mass inside a box (top, left, bottom, right), bottom and right exclusive."""
    top, left, bottom, right = box
    total = float(heatmap.sum())
    return float(heatmap[top:bottom, left:right].sum()) / total if total > 0 else 0.0
