"""Padding, resizing and sampling.

Resize is computed axis by axis: a matrix of weights per axis holds ONNX's definition exactly, for every mode
and coordinate transformation; the common cases go through F.interpolate, which computes the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ....errors import UnsupportedOperator
from ..geometry import AxisRule, axis_weights, centred, output_sizes, pad_places, resize_rule
from .base import Converted, Converter, Function, Node, whole_numbers


def _pad(node: Node) -> Converted:
    mode = str(node.get("mode", "constant"))
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise node.unsupported(f"padding mode '{mode}'")
    attribute = node.get("pads", node.get("paddings"))
    given = [int(p) for p in attribute] if attribute is not None else node.integers(1)
    fill, axes = node.constant(2), node.integers(3)
    value = float(node.get("value", 0.0)) if fill is None or fill.size == 0 else float(np.ravel(fill)[0])

    def run(x: Tensor, pads: Tensor | None = None, filler: Tensor | None = None, along: Tensor | None = None) -> Tensor:
        amounts = given if given is not None else [int(p) for p in pads.tolist()] if pads is not None else []
        dims = axes if axes is not None else along.tolist() if along is not None else range(len(amounts) // 2)
        content = float(filler.reshape(-1)[0]) if filler is not None and fill is None else value
        return pad(x, amounts, [d % x.ndim for d in dims], mode, content)

    if given is not None and not node.is_computed(2) and not node.is_computed(3):
        return Converted(Function(run), node.inputs[:1])
    return Converted(Function(run), node.inputs)


def pad(x: Tensor, amounts: Sequence[int], axes: Sequence[int], mode: str, value: float = 0.0) -> Tensor:
    """ONNX padding.

    Args:
        x: any rank.
        amounts: begins of all ``axes``, then ends; negative values cut.
        axes: non-negative axes.
        mode: "constant", "reflect", "edge" or "wrap".
        value: of the constant mode.
    """
    pairs = {axis: (amounts[i], amounts[i + len(axes)]) for i, axis in enumerate(axes)}
    if mode == "constant":
        flat = [n for axis in range(x.ndim - 1, -1, -1) for n in pairs.get(axis, (0, 0))]
        return F.pad(x, flat, value=value) if x.dtype != torch.bool else F.pad(x.byte(), flat, value=value).bool()
    for axis, (begin, end) in pairs.items():
        if begin or end:
            places = pad_places(x.shape[axis], begin, end, mode)
            x = x.index_select(axis, whole_numbers(tuple(places.tolist()), x.device))
    return x


def _resize(node: Node) -> Converted:
    rule = resize_rule(node.op, node.opset, node)
    old = node.op == "Upsample" or node.opset < 11
    scale_at, size_at, roi_at = (1, -1, -1) if old else (2, 3, 1)
    attribute = node.get("scales")
    found = node.constant(scale_at)
    scales = [float(s) for s in (attribute if attribute is not None else np.ravel(found) if found is not None else [])]
    sizes = node.integers(size_at) if size_at > 0 else None
    roi = node.constant(roi_at) if roi_at > 0 and rule.transform == "tf_crop_and_resize" else None
    axes, policy = node.get("axes"), str(node.get("keep_aspect_ratio_policy", "stretch"))
    outside = float(node.get("extrapolation_value", 0.0))
    if rule.mode not in ("nearest", "linear", "cubic", "bilinear"):
        raise node.unsupported(f"resize mode '{rule.mode}'")

    def run(x: Tensor, *rest: Tensor | None) -> Tensor:
        # a computed scale or size arrives as a tensor, in the order of the node's own inputs
        later = dict(zip(range(1, len(rest) + 1), rest, strict=True))
        by = scales or _values(later.get(scale_at))
        to = sizes or (_values(later.get(size_at)) if size_at > 0 else None)
        dims = [int(a) % x.ndim for a in axes] if axes is not None else list(range(x.ndim))
        region = (
            roi if roi is not None else _values(later.get(roi_at)) if rule.transform.startswith("tf_crop") else None
        )
        return resize(x, dims, by, [int(t) for t in to] if to else None, rule, policy, region, outside)

    settled = bool(scales or sizes) and not node.is_computed(roi_at if roi_at > 0 else 99)
    return Converted(Function(run), node.inputs[:1] if settled else node.inputs)


def resize(
    x: Tensor,
    axes: Sequence[int],
    scales: Sequence[float] | None,
    sizes: Sequence[int] | None,
    rule: AxisRule,
    policy: str = "stretch",
    roi: Sequence[float] | np.ndarray | None = None,
    outside: float = 0.0,
) -> Tensor:
    """ONNX Resize along ``axes``, to ``sizes`` or by ``scales``.

    Raises:
        UnsupportedOperator: a region that cuts an axis which keeps its size.
    """
    before = [x.shape[a] for a in axes]
    factors, targets = output_sizes(before, scales, sizes, policy)
    regions = [None if roi is None else (float(roi[i]), float(roi[i + len(axes)])) for i in range(len(axes))]
    for size, target, region in zip(before, targets, regions, strict=True):
        if size == target and region not in (None, (0.0, 1.0)):
            raise UnsupportedOperator(
                "operator Resize: tf_crop_and_resize with a region that cuts an axis which keeps its size; "
                "ONNX cuts there, ONNX Runtime does not"
            )
    if targets == before:
        return x  # as ONNX Runtime, also where a scale such as 1.1 was rounded away
    if not x.is_floating_point():  # ONNX Runtime drops what lies behind the point
        found = resize(x.double(), axes, scales, sizes, rule, policy, roi, outside)
        return found.float().trunc().to(x.dtype)
    quick = _by_interpolate(x, axes, factors, targets, rule)
    if quick is not None:
        return quick
    beyond: Tensor | None = None
    for i, (axis, region) in enumerate(zip(axes, regions, strict=True)):
        if targets[i] == x.shape[axis] and (factors[i] == 1.0 or rule.antialias):
            continue  # with antialiasing ONNX Runtime leaves every axis alone that keeps its size
        matrix, out = _weights(x.shape[axis], targets[i], factors[i], rule, region, x.device, x.dtype)
        x = torch.movedim(torch.matmul(torch.movedim(x, axis, -1), matrix.T), -1, axis)
        if out is not None:
            line = out.reshape(*(-1 if a == axis else 1 for a in range(x.ndim)))
            beyond = line if beyond is None else beyond | line
    return x if beyond is None else torch.where(beyond, torch.full_like(x, outside), x)


@lru_cache(maxsize=64)
def _weights(
    before: int,
    after: int,
    scale: float,
    rule: AxisRule,
    region: tuple[float, float] | None,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor | None]:
    """`axis_weights` on a device; None where no output lies beyond the region."""
    weights, out = axis_weights(before, after, scale, rule, region)
    with torch.inference_mode(False):  # they may be kept for a gradient later
        return torch.from_numpy(weights).to(device, dtype), torch.from_numpy(out).to(device) if out.any() else None


# (transformation, rounding) by which enlarging k times repeats every value k times
_REPEATS = {
    ("asymmetric", "floor"),
    ("asymmetric", "simple"),
    *((t, r) for t in ("half_pixel", "pytorch_half_pixel") for r in ("round_prefer_floor", "round_prefer_ceil")),
}


def _by_interpolate(
    x: Tensor, axes: Sequence[int], factors: Sequence[float], targets: Sequence[int], rule: AxisRule
) -> Tensor | None:
    """The common cases by torch's own kernels: (N, C, H, W), whole sizes, two transformations."""
    spatial = [(a, f, t) for a, f, t in zip(axes, factors, targets, strict=True) if t != x.shape[a] or f != 1.0]
    if x.ndim != 4 or rule.antialias or any(a < 2 for a, _, _ in spatial) or not x.is_floating_point():
        return None
    if any(abs(t / x.shape[a] - f) > 1e-6 for a, f, t in spatial):
        return None
    size = list(x.shape[2:])
    for axis, _, target in spatial:
        size[axis - 2] = target
    whole = all(t % x.shape[a] == 0 for a, _, t in spatial)
    if rule.mode == "nearest" and whole and (rule.transform, rule.nearest) in _REPEATS:
        return F.interpolate(x, size=size, mode="nearest")
    one = any(t == 1 for _, _, t in spatial)
    if rule.mode in ("linear", "bilinear") and rule.transform == "align_corners" and not one:
        return F.interpolate(x, size=size, mode="bilinear", align_corners=True)
    if rule.mode in ("linear", "bilinear") and rule.transform == "half_pixel" and not rule.exclude_outside:
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    return None


def _values(tensor: Tensor | None) -> list[float] | None:
    return None if tensor is None or tensor.numel() == 0 else [float(v) for v in tensor.reshape(-1).tolist()]


def _grid_sample(node: Node) -> Converted:
    modes = {
        "linear": "bilinear",
        "cubic": "bicubic",
        "bilinear": "bilinear",
        "bicubic": "bicubic",
        "nearest": "nearest",
    }
    mode = modes.get(str(node.get("mode", "bilinear")))
    if mode is None:
        raise node.unsupported(f"sampling mode '{node.get('mode')}'")
    padding, corners = str(node.get("padding_mode", "zeros")), bool(node.get("align_corners", 0))

    def run(x: Tensor, grid: Tensor) -> Tensor:
        return F.grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=corners)

    return Converted(Function(run), node.inputs)


def _affine_grid(node: Node) -> Converted:
    corners, size = bool(node.get("align_corners", 0)), node.integers(1)
    if size is None:
        raise node.unsupported("a size that is computed while the model runs")
    return Converted(Function(lambda theta: F.affine_grid(theta, size, align_corners=corners)), node.inputs[:1])


def _center_crop_pad(node: Node) -> Converted:
    axes, constant = node.get("axes"), node.integers(1)

    def run(x: Tensor, shape: Tensor | None = None) -> Tensor:
        wanted = constant if shape is None else [int(n) for n in shape.tolist()]
        dims = [int(a) % x.ndim for a in axes] if axes is not None else list(range(x.ndim))
        pairs = [centred(x.shape[a], n) for n, a in zip(wanted or [], dims, strict=True)]
        return pad(x, [*(begin for begin, _ in pairs), *(end for _, end in pairs)], dims, "constant")

    return Converted(Function(run), node.inputs if constant is None else node.inputs[:1])


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "Pad"): _pad,
    ("", "Resize"): _resize,
    ("", "Upsample"): _resize,
    ("", "GridSample"): _grid_sample,
    ("", "AffineGrid"): _affine_grid,
    ("", "CenterCropPad"): _center_crop_pad,
}
