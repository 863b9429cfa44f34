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

from .base import Converted, Converter, Function, Node, parameter

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def same_pads(
    sizes: Sequence[int], window: Sequence[int], strides: Sequence[int], upper: bool
) -> tuple[list[int], list[int]]:
    """(begins, ends) of auto_pad SAME: output size = ceil(input size / stride); ``window`` counts dilation."""
    begins, ends = [], []
    for size, width, stride in zip(sizes, window, strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + width - size, 0)
        begin = total // 2 if upper else total - total // 2
        begins.append(begin)
        ends.append(total - begin)
    return begins, ends


def pad_spatial(x: Tensor, begins: Sequence[int], ends: Sequence[int], value: float = 0.0) -> Tensor:
    """Pads the spatial axes; begins and ends in axis order."""
    flat = [n for begin, end in zip(reversed(begins), reversed(ends), strict=True) for n in (begin, end)]
    return F.pad(x, flat, value=value)


class Window:
    """Kernel size, strides, dilations and padding of one node, for ``rank`` spatial axes."""

    def __init__(self, node: Node, kernel: Sequence[int]) -> None:
        rank = len(kernel)
        self.kernel = [int(k) for k in kernel]
        self.strides = [int(s) for s in node.get("strides", [1] * rank)]
        self.dilations = [int(d) for d in node.get("dilations", [1] * rank)]
        pads = [int(p) for p in node.get("pads", [0] * 2 * rank)]
        self.begins, self.ends = pads[:rank], pads[rank:]
        self.auto = str(node.get("auto_pad", "NOTSET") or "NOTSET")
        if self.auto == "VALID":
            self.begins, self.ends = [0] * rank, [0] * rank

    @property
    def reach(self) -> list[int]:
        """Input positions that one output position spans."""
        return [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]

    def pads(self, sizes: Sequence[int]) -> tuple[list[int], list[int]]:
        """(begins, ends) for an image of these sizes."""
        if self.auto in ("SAME_UPPER", "SAME_LOWER"):
            return same_pads(sizes, self.reach, self.strides, self.auto == "SAME_UPPER")
        return self.begins, self.ends


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
    begins, ends = window.begins, window.ends
    full = [(s - 1) * t + r for s, t, r in zip(x.shape[2:], window.strides, window.reach, strict=True)]
    wanted = node.get("output_shape")
    if wanted is not None or window.auto.startswith("SAME"):
        sizes = (
            wanted[-rank:] if wanted is not None else [s * t for s, t in zip(x.shape[2:], window.strides, strict=True)]
        )
        totals = [f + e - int(w) for f, e, w in zip(full, extra, sizes, strict=True)]
        upper = window.auto == "SAME_UPPER"
        if wanted is None:  # a kernel narrower than its stride: ONNX Runtime adds nothing to reach input x stride
            totals = [max(t, 0) for t in totals]
        halves = [max(t, 0) // 2 for t in totals]
        begins = halves if upper else [max(t, 0) - h for t, h in zip(totals, halves, strict=True)]
        ends = [t - b for t, b in zip(totals, begins, strict=True)]  # what output_shape asks beyond is added at the end
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
