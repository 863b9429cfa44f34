"""Convolutions in one, two and three dimensions, at any image size.

Symmetric padding goes straight to torch's kernel; only asymmetric padding is a step of its own. SAME padding
depends on the image and is worked out at run time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry import Window
from .base import Converted, Converter, Function, Node, parameter

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def pad_spatial(x: Tensor, begins: Sequence[int], ends: Sequence[int], value: float = 0.0) -> Tensor:
    """Pads the spatial axes; begins and ends in axis order."""
    flat = [n for begin, end in zip(reversed(begins), reversed(ends), strict=True) for n in (begin, end)]
    return F.pad(x, flat, value=value)


class Convolution(nn.Module):
    """Weight (out, in / groups, ...), bias (out,) or None."""

    bias: nn.Parameter | None

    def __init__(self, weight: np.ndarray, bias: np.ndarray | None, window: Window, groups: int) -> None:
        super().__init__()
        self.weight = parameter(weight)
        self.bias = None if bias is None else parameter(bias)
        self.window = window
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        return _convolve(x, self.weight, self.bias, self.window, self.groups)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, window: Window, groups: int) -> Tensor:
    begins, ends = window.pads(x.shape[2:])
    if begins != ends or min(begins) < 0:  # torch's kernels cannot crop
        x, begins = pad_spatial(x, begins, ends), [0] * len(begins)
    return _CONV[weight.ndim - 2](x, weight, bias, window.strides, begins, window.dilations, groups)


def _conv(node: Node) -> Converted:
    groups = int(node.get("group", 1))
    weight, bias = node.constant(1), node.constant(2)
    if weight is not None and not node.is_computed(2):
        _check_rank(node, weight.ndim - 2)
        window = Window(node, weight.shape[2:])
        return Converted(Convolution(weight, bias, window, groups), node.inputs[:1])
    kernel = node.get("kernel_shape")

    def run(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        return _convolve(x, w, b, Window(node, kernel or list(w.shape[2:])), groups)

    return Converted(Function(run), node.inputs)


class TransposedConvolution(nn.Module):
    """Weight (in, out / groups, ...), bias (out,) or None."""

    bias: nn.Parameter | None

    def __init__(self, weight: np.ndarray, bias: np.ndarray | None, node: Node) -> None:
        super().__init__()
        self.weight = parameter(weight)
        self.bias = None if bias is None else parameter(bias)
        self.node = node

    def forward(self, x: Tensor) -> Tensor:
        return _convolve_transposed(x, self.weight, self.bias, self.node)


def _convolve_transposed(x: Tensor, weight: Tensor, bias: Tensor | None, node: Node) -> Tensor:
    """Computed without padding; what padding would take away is cut off, output padding added."""
    window, rank = Window(node, list(weight.shape[2:])), weight.ndim - 2
    extra = [int(p) for p in node.get("output_padding", [0] * rank)]
    begins, ends = window.transposed_pads(x.shape[2:], node)
    groups = int(node.get("group", 1))
    if (
        begins == ends
        and all(b >= 0 for b in begins)
        and all(e < max(s, d) for e, s, d in zip(extra, window.strides, window.dilations, strict=True))
    ):
        return _TRANSPOSED[rank](x, weight, bias, window.strides, begins, extra, groups, window.dilations)
    y = _TRANSPOSED[rank](x, weight, None, window.strides, 0, 0, groups, window.dilations)
    y = pad_spatial(y, [-b for b in begins], [e - n for e, n in zip(extra, ends, strict=True)])
    return y if bias is None else y + bias.reshape(-1, *(1,) * rank)


def _conv_transpose(node: Node) -> Converted:
    weight, bias = node.constant(1), node.constant(2)
    if weight is not None and not node.is_computed(2):
        _check_rank(node, weight.ndim - 2)
        return Converted(TransposedConvolution(weight, bias, node), node.inputs[:1])

    def run(x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        return _convolve_transposed(x, w, b, node)

    return Converted(Function(run), node.inputs)


def _col2im(node: Node) -> Converted:
    """Blocks added up where they overlap: a transposed convolution whose kernel sets each value at its own place."""

    def run(x: Tensor, image: Tensor, block: Tensor) -> Tensor:
        sizes, kernel = [int(n) for n in image.tolist()], [int(n) for n in block.tolist()]
        _check_rank(node, len(kernel))
        window, taps = Window(node, kernel), math.prod(kernel)
        padded = [n + b + e for n, b, e in zip(sizes, window.begins, window.ends, strict=True)]
        counts = [(n - r) // s + 1 for n, r, s in zip(padded, window.reach, window.strides, strict=True)]
        rest = [(n - r) % s for n, r, s in zip(padded, window.reach, window.strides, strict=True)]
        single = torch.eye(taps, dtype=x.dtype, device=x.device).reshape(taps, 1, *kernel)
        turned = _TRANSPOSED[len(kernel)]
        y = turned(x.reshape(-1, taps, *counts), single, None, window.strides, 0, 0, 1, window.dilations)
        y = pad_spatial(y, [-b for b in window.begins], [r - e for r, e in zip(rest, window.ends, strict=True)])
        return y.reshape(x.shape[0], -1, *sizes)

    return Converted(Function(run), node.inputs)


def _check_rank(node: Node, rank: int) -> None:
    if rank not in _CONV:
        raise node.unsupported(f"{rank} spatial axes; 1 to 3 are supported")


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "Conv"): _conv,
    ("", "ConvTranspose"): _conv_transpose,
    ("", "Col2Im"): _col2im,
}
