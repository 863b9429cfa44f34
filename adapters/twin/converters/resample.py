"""ONNX Resize along one axis as a matrix: output = weights @ input, exactly as the specification says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

import numpy as np


@dataclass(frozen=True)
class AxisRule:
    """The attributes of Resize that matter along one axis, in ONNX's own words.

    ``nearest`` may also be "simple", ONNX Runtime's rounding where the operator has no attribute for it (Upsample, and
    Resize before opset 11, whose text leaves it open): up where the image shrinks, down otherwise.
    """

    mode: str
    transform: str
    nearest: str = "round_prefer_floor"
    cubic: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False


def output_sizes(
    before: Sequence[int], scales: Sequence[float] | None, sizes: Sequence[int] | None, policy: str
) -> tuple[list[float], list[int]]:
    """(scale, size) of every resized axis."""
    if sizes:
        ratios = [t / b for t, b in zip(sizes, before, strict=True)]
        if policy == "stretch":
            return ratios, list(sizes)
        one = min(ratios) if policy == "not_larger" else max(ratios)
        return [one] * len(ratios), [floor(one * b + 0.5) for b in before]
    factors = list(scales or [1.0] * len(before))
    # in float32, as ONNX Runtime: 10 * 0.7 is 7 there, and 6.99999988 in float64
    return factors, [floor(np.float32(b) * np.float32(f)) for b, f in zip(before, factors, strict=True)]


def axis_weights(
    before: int, after: int, scale: float, rule: AxisRule, roi: tuple[float, float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The matrix (after, before), float64, and which outputs lie beyond the region of interest (after,)."""
    places = _source_places(before, after, scale, rule.transform, roi)
    matrix = np.zeros((after, before))
    if rule.mode == "nearest":
        how = ("ceil" if scale < 1 else "floor") if rule.nearest == "simple" else rule.nearest
        matrix[np.arange(after), _nearest(places, how).clip(0, before - 1)] = 1.0
    else:
        stretch = min(scale, 1.0) if rule.antialias else 1.0
        reach = (1 if rule.mode != "cubic" else 2) / stretch
        for row, place in enumerate(places.astype(np.float64)):
            columns = np.arange(floor(place - reach) + 1, floor(place + reach) + 1)
            values = _kernel((columns - place) * stretch, rule)
            inside = (columns >= 0) & (columns < before)
            if rule.exclude_outside:
                values = np.where(inside, values, 0.0)
            total = values.sum()
            if (rule.exclude_outside or rule.antialias) and total:
                values = values / total
            np.add.at(matrix[row], columns.clip(0, before - 1), values)
    beyond = (places < 0) | (places > before - 1) if rule.transform == "tf_crop_and_resize" else np.zeros(after, bool)
    return matrix, beyond


def _source_places(
    before: int, after: int, scale: float, transform: str, roi: tuple[float, float] | None
) -> np.ndarray:
    """Where each output position lies on the input axis; in float32, as ONNX Runtime, whose rounding decides ties."""
    x, factor, half = np.arange(after, dtype=np.float32), np.float32(scale), np.float32(0.5)
    last = np.float32(before - 1)
    if transform == "align_corners":
        return x * last / np.float32(after - 1) if after > 1 else np.zeros_like(x)
    if transform == "asymmetric":
        exact = factor == np.float32(after / before)  # the scale comes from a whole size
        return x * np.float32(before / after) if exact else x * (np.float32(1) / factor)
    if transform == "pytorch_half_pixel":
        return (x + half) / factor - half if after > 1 else np.zeros_like(x)
    if transform == "tf_half_pixel_for_nn":
        return (x + half) / factor
    if transform == "tf_crop_and_resize":
        start, end = (np.float32(bound) for bound in roi or (0.0, 1.0))
        if after > 1:
            return start * last + x * (end - start) * last / np.float32(after - 1)
        return np.full(after, half * (start + end) * last)
    if transform == "half_pixel_symmetric":
        adjustment = np.float32(after) / (factor * np.float32(before))
        return np.float32(before) / 2 * (1 - adjustment) + (x + half) / factor - half
    return (x + half) / factor - half  # half_pixel


def _nearest(places: np.ndarray, how: str) -> np.ndarray:
    rounded = {
        "round_prefer_floor": np.ceil(places - 0.5),
        "round_prefer_ceil": np.floor(places + 0.5),
        "floor": np.floor(places),
        "ceil": np.ceil(places),
    }[how]
    return rounded.astype(np.int64)


def _kernel(distance: np.ndarray, rule: AxisRule) -> np.ndarray:
    d = np.abs(distance)
    if rule.mode != "cubic":
        return np.clip(1 - d, 0, None)
    a = rule.cubic
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
