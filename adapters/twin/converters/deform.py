"""Deformable convolution (Zhu et al. 2019): each tap of the kernel looks where learned offsets send it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Converted, Converter, Function, Node


def _deform_conv(node: Node) -> Converted:
    """Inputs: x (N, C, H, W), weight (out, C / group, kh, kw), offset, bias, mask."""
    groups, shared = int(node.get("group", 1)), int(node.get("offset_group", 1))
    weight = node.constant(1)
    if weight is not None and weight.ndim != 4:
        raise node.unsupported(f"{weight.ndim - 2} spatial axes; 2 are supported")
    strides, dilations, pads = node.get("strides", [1, 1]), node.get("dilations", [1, 1]), node.get("pads", [0] * 4)

    def run(x: Tensor, w: Tensor, offset: Tensor, bias: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        n, c, height, width = x.shape
        taps, (rows, columns) = w.shape[2] * w.shape[3], offset.shape[2:]
        base = _taps(w, rows, columns, strides, dilations, pads).to(x)
        moved = offset.reshape(n * shared, taps, 2, rows, columns) + base
        # pixel p of an axis of s pixels lies at (2 p + 1) / s - 1 for grid_sample; outside is zero
        y, z = ((2 * moved[:, :, i] + 1) / size - 1 for i, size in ((0, height), (1, width)))
        grid = torch.stack([z, y], -1).reshape(n * shared, taps * rows, columns, 2)
        found = F.grid_sample(x.reshape(n * shared, c // shared, height, width), grid, align_corners=False)
        found = found.reshape(n * shared, c // shared, taps, rows, columns)
        if mask is not None:
            found = found * mask.reshape(n * shared, 1, taps, rows, columns)
        seen = found.reshape(n, groups, c // groups * taps, rows * columns)
        result = torch.matmul(w.reshape(groups, w.shape[0] // groups, -1), seen).reshape(n, -1, rows, columns)
        return result if bias is None else result + bias.reshape(-1, 1, 1)

    return Converted(Function(run), node.inputs)


def _taps(w: Tensor, rows: int, columns: int, strides: list[int], dilations: list[int], pads: list[int]) -> Tensor:
    """Where each tap looks before it is moved: (taps, 2, rows, columns), in pixels."""
    lines = [
        torch.arange(kernel)[:, None] * dilations[i] + torch.arange(count)[None] * strides[i] - pads[i]
        for i, (kernel, count) in enumerate(((w.shape[2], rows), (w.shape[3], columns)))
    ]
    shape = (w.shape[2], w.shape[3], rows, columns)
    y, x = lines[0][:, None, :, None].expand(shape), lines[1][None, :, None, :].expand(shape)
    return torch.stack([y, x], 2).reshape(-1, 2, rows, columns)


CONVERTERS: dict[tuple[str, str], Converter] = {("", "DeformConv"): _deform_conv}
