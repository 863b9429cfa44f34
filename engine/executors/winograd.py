"""3x3 convolutions with a quarter of the multiplications, for the many passes of ascent on a CPU.

Minimal filtering F(4x4, 3x3) (S. Winograd 1980; A. Lavin and S. Gray 2016, Fast Algorithms for Convolutional Neural
Networks, arXiv:1509.09308): a 6x6 tile of the input and the kernel are evaluated at 6 x 6 points, multiplied there,
matrix product by matrix product over the channels, and 4x4 outputs are interpolated. 36 multiplications do the work of
144.

Lavin and Gray's points 0, +-1, +-2, infinity lose a digit; points near 1 lose less (B. Barabasz et al. 2020, Error
Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks, arXiv:1803.10986). With ours, 0,
+-2/3, +-3/2, infinity, the error in float32 is that of torch's channels-last convolution, the gradient's up to 1.7
times it. And 1/p is a point with every point p, so the kernel turned around, which the gradient needs, has the same
values in another order: one set of them serves both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from .twin import Rule

_OUT, _IN = 4, 6  # sides of a tile of outputs, and of the inputs that it reads
_POINTS = np.array([0, 2 / 3, -2 / 3, 3 / 2, -3 / 2])
_RECIPROCAL = (5, 3, 4, 1, 2, 0)  # the place of 1/p for each point p, infinity being the last
_IN_ORDER = tuple(range(_IN))
_LARGEST_SHARE = 0.5  # of the direct convolution's multiplications; small maps fill their tiles badly
_LEAST_WORK = 200_000  # a picture's tiles x inputs x outputs; below, launching the parts takes longer than the whole
_FEWEST_TILES = 4  # of a picture: with fewer rows, those of a matrix product depend on their number


@dataclass(frozen=True)
class Limits:
    """What pays, measured beside the direct convolution over sizes and channels.

    Attributes:
        tiles: at once; few stay in the cache, many share the reading of the kernels.
        channels: the fewest, in and out; below, moving the tiles costs more than the products save.
    """

    tiles: int
    channels: int


_ALONE = Limits(tiles=256, channels=64)
# Several threads pass the tiles from core to core: with 64 channels that took up to three times what the products save.
_TOGETHER = Limits(tiles=1024, channels=256)


def limits() -> Limits:
    """For torch's number of threads."""
    return _ALONE if torch.get_num_threads() == 1 else _TOGETHER


@cache
def rows_stand_alone() -> bool:
    """Whether a row of a matrix product has the same bits whatever the number of rows; tried, not proved.

    So it is for MKL and four rows or more. Other libraries were not at hand.
    """
    generator = torch.Generator().manual_seed(0)
    for inner, outer in ((96, 80), (512, 512)):
        left = torch.rand(2, 100, inner, generator=generator)
        right = torch.rand(2, inner, outer, generator=generator)
        whole = torch.bmm(left, right)
        if not all(torch.equal(torch.bmm(left[:, :n].contiguous(), right), whole[:, :n]) for n in (4, 7, 24, 50)):
            return False
    return True


class Convolution(Protocol):
    """What is read of a twin's convolution module."""

    weight: Tensor
    bias: Tensor | None
    groups: int
    window: Any


class Winograd:
    """A rule for the twin's ``Conv`` nodes: those that gain by it are computed by minimal filtering.

    Kernels are evaluated on first use and kept: four times the memory of the weights.
    """

    def __init__(self) -> None:
        self._kernels: dict[nn.Module, Tensor] = {}
        self._memory = Workspace()

    def rules(self) -> dict[str, Rule]:
        """For `Twin.forward`; none where a picture's bits would depend on the batch."""
        return {"Conv": self} if rows_stand_alone() else {}

    def __call__(self, module: nn.Module, x: Tensor, *rest: Tensor) -> Tensor:
        """The convolution of x (N, C, H, W), float32, by whichever way is faster; differentiable once, in x."""
        convolution = cast(Convolution, module)
        padding = _padding(convolution, x) if not rest else None
        if padding is None:
            return module(x, *rest)
        if module not in self._kernels:
            self._kernels[module] = evaluated(convolution.weight)
        filtering = (self._kernels[module], convolution.bias, padding, self._memory)
        return _Filtered.apply(x, *filtering)


def evaluated(weight: Tensor) -> Tensor:
    """Kernels (O, C, 3, 3) at the 36 points: (36, C, O) float32."""
    _, kernel, _ = _matrices()
    outputs, inputs = weight.shape[:2]
    both = torch.from_numpy(np.kron(kernel, kernel))
    flat = weight.detach().double().permute(2, 3, 1, 0).reshape(9, -1)
    return (both @ flat).float().reshape(_IN**2, inputs, outputs)


class Workspace:
    """Memory that is used again: fresh pages of this size cost as much as the arithmetic done in them."""

    def __init__(self) -> None:
        self._flat: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        """Uninitialized float32 of that shape; whatever had the name before is lost."""
        count = math.prod(shape)
        if name not in self._flat or self._flat[name].numel() < count:
            self._flat[name] = torch.empty(count)
        return self._flat[name][:count].view(shape)


def filtered(
    x: Tensor,
    kernels: Tensor,
    bias: Tensor | None,
    padding: int,
    order: tuple[int, ...] = _IN_ORDER,
    memory: Workspace | None = None,
) -> Tensor:
    """The convolution with evaluated kernels.

    Args:
        x: (N, C, H, W) float32, best in channels-last memory.
        kernels: (36, C, O).
        bias: (O,).
        padding: zeros on each side.
        order: of the points along each axis in ``kernels``.
        memory: for what lies between.

    Returns:
        (N, O, H + 2 * padding - 2, W + 2 * padding - 2), channels last. A picture's values do not depend on the
        batch as far as a row of a matrix product does not depend on the number of rows.
    """
    count, channels, height, width = x.shape
    high, wide = height + 2 * padding - 2, width + 2 * padding - 2
    rows, columns = -(-high // _OUT), -(-wide // _OUT)
    result = x.new_empty(count, high, wide, kernels.shape[2])
    tiles = limits().tiles
    strip = max(1, min(rows, tiles // columns))
    pictures = max(1, tiles // (rows * columns)) if strip == rows else 1
    memory, transforms = memory or Workspace(), _transforms(order)
    x = x.permute(0, 2, 3, 1)
    for first in range(0, count, pictures):
        for row in range(0, rows, strip):
            top, bottom = _OUT * row - padding, _OUT * min(row + strip, rows) - padding + 2
            part = x[first : first + pictures, max(top, 0) : min(bottom, height)]
            framed = memory("framed", len(part), bottom - top, _OUT * columns + 2, channels).zero_()
            framed[:, max(-top, 0) :][:, : part.shape[1], padding : padding + width] = part
            target = result[first : first + pictures, _OUT * row : _OUT * (row + strip)]
            outputs = _strip(framed, kernels, *transforms, memory)[:, : target.shape[1], :wide]
            if bias is None:
                target.copy_(outputs)
            else:
                torch.add(outputs, bias, out=target)
    return result.permute(0, 3, 1, 2)


def _strip(x: Tensor, kernels: Tensor, outwards: Tensor, inwards: Tensor, memory: Workspace) -> Tensor:
    """Whole tiles: x (n, 4 r + 2, 4 c + 2, C) -> (n, 4 r, 4 c, O)."""
    windows = x.unfold(1, _IN, _OUT).unfold(2, _IN, _OUT)  # (n, r, c, C, 6, 6)
    count, rows, columns, channels = windows.shape[:4]
    tiles, outputs = count * rows * columns, kernels.shape[2]
    flat = memory("a", _IN, _IN, count, rows, columns, channels).copy_(windows.permute(4, 5, 0, 1, 2, 3))
    points = _twice(inwards, flat.view(_IN, _IN, -1), memory).view(_IN**2, tiles, channels)
    products = torch.bmm(points, kernels, out=memory("c", _IN**2, tiles, outputs))
    grid = _twice(outwards, products.view(_IN, _IN, -1), memory).view(_OUT, _OUT, count, rows, columns, outputs)
    placed = memory("b", count, rows, _OUT, columns, _OUT, outputs).copy_(grid.permute(2, 3, 0, 4, 1, 5))
    return placed.view(count, _OUT * rows, _OUT * columns, outputs)


def _twice(matrix: Tensor, values: Tensor, memory: Workspace) -> Tensor:
    """The matrix (m, 6) along both of the first axes: (6, 6, k) -> (m, m, k)."""
    size = len(matrix)
    half = torch.mm(matrix, values.view(_IN, -1), out=memory("b", size, values[0].numel()))
    return torch.bmm(
        matrix.expand(size, -1, -1), half.view(size, _IN, -1), out=memory("a", size, size, values.shape[2])
    )


class _Filtered(torch.autograd.Function):
    """The convolution and its gradient in the input, which is a convolution with the kernels turned around."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: Tensor, bias: Tensor | None, padding: int, memory: Workspace) -> Tensor:
        ctx.kernels, ctx.padding, ctx.memory = kernels, padding, memory
        return filtered(x, kernels, bias, padding, memory=memory)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        turned = ctx.kernels.transpose(1, 2)
        back = filtered(gradients[0], turned, None, 2 - ctx.padding, _RECIPROCAL, ctx.memory)
        return back, None, None, None, None


def _padding(convolution: Convolution, x: Tensor) -> int | None:
    """The zeros on each side, if this is a convolution that gains; otherwise None."""
    weight, window = convolution.weight, convolution.window
    if x.dim() != 4 or x.dtype != torch.float32 or weight.shape[2:] != (3, 3) or convolution.groups != 1:
        return None
    if window.strides != [1, 1] or window.dilations != [1, 1] or min(weight.shape[:2]) < limits().channels:
        return None
    begins, ends = window.pads(x.shape[2:])
    if begins != ends or begins[0] != begins[1] or not 0 <= begins[0] <= 2:
        return None
    high, wide = (side + 2 * begins[0] - 2 for side in x.shape[2:])
    tiles = -(-high // _OUT) * -(-wide // _OUT)
    worth = tiles >= _FEWEST_TILES and tiles * weight.shape[0] * weight.shape[1] >= _LEAST_WORK
    worth = worth and _IN**2 * tiles <= _LARGEST_SHARE * 9 * high * wide
    return int(begins[0]) if worth else None


def _matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the outputs (4, 6), the kernel (6, 3) and the inputs (6, 6), by Toom and Cook, float64.

    Each evaluates a polynomial at the points, or, transposed and inverted, interpolates one. Kernels are divided by the
    point, so that a kernel turned around has at p the value that it has at 1/p otherwise.
    """

    def powers(count: int) -> np.ndarray:
        return np.vstack([_POINTS[:, None] ** np.arange(count), np.eye(count)[-1:]])

    scale = np.where(_POINTS == 0, 1, _POINTS)
    scale = np.append(scale, 1)[:, None]
    return powers(_OUT).T, powers(3) / scale, np.linalg.inv(powers(_IN)).T * scale


@cache
def _transforms(order: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The matrices of outputs and inputs, float32, for points in that order."""
    outwards, _, inwards = _matrices()
    return torch.from_numpy(outwards[:, list(order)]).float(), torch.from_numpy(inwards[list(order)]).float()
