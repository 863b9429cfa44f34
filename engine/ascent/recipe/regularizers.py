"""What keeps a picture natural: changes made to pixel parameters after each step, and penalties on the picture.

A regularizer gets the parameters, the gradient of this step and the step's number, and returns new parameters; each
picture is treated alone. Yosinski et al. 2015 (arXiv:1506.06579) define decay, blur and the two clippings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class Regularizer(Protocol):
    """A change of the parameters after a step."""

    def __call__(self, parameters: Tensor, gradient: Tensor, step: int) -> Tensor: ...


class Penalty(Protocol):
    """What is taken off the objective: (N,) from pictures (N, C, H, W)."""

    def __call__(self, image: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Decay:
    """``p * (1 - share)``: L2 decay."""

    share: float

    def __call__(self, parameters: Tensor, gradient: Tensor, step: int) -> Tensor:
        return parameters * (1 - self.share)


@dataclass(frozen=True)
class GaussianBlur:
    """A Gaussian blur of ``deviation`` pixels at the steps 0, every, 2 every, ...

    The kernel reaches to 4 deviations and the picture is mirrored at its edges (``d c b a | a b c d``), as
    scipy.ndimage.gaussian_filter does.
    """

    deviation: float
    every: int = 1

    def __call__(self, parameters: Tensor, gradient: Tensor, step: int) -> Tensor:
        if step % self.every:
            return parameters
        reach = int(4 * self.deviation + 0.5)
        weights = [math.exp(-0.5 * (k / self.deviation) ** 2) for k in range(-reach, reach + 1)]
        weights = [w / sum(weights) for w in weights]
        return _along(_along(parameters, weights, 2), weights, 3)


@dataclass(frozen=True)
class BoxBlur:
    """The mean over ``side`` x ``side`` pixels, mirrored at the edges without repeating the outermost one."""

    side: int = 3

    def __call__(self, parameters: Tensor, gradient: Tensor, step: int) -> Tensor:
        reach = self.side // 2
        padded = _mirrored(_mirrored(parameters, reach, 2), reach, 3)
        return F.avg_pool2d(padded, self.side, stride=1)


@dataclass(frozen=True)
class ClipSmallValues:
    """Zero for the ``percent`` of values that are smallest in magnitude."""

    percent: float

    def __call__(self, parameters: Tensor, gradient: Tensor, step: int) -> Tensor:
        magnitude = parameters.abs()
        return parameters.where(magnitude >= _percentile(magnitude, self.percent), 0.0)


@dataclass(frozen=True)
class ClipSmallNorm:
    """Zero for the ``percent`` of pixels whose norm over the channels is smallest."""

    percent: float

    def __call__(self, parameters: Tensor, gradient: Tensor, step: int) -> Tensor:
        norm = parameters.square().sum(1, keepdim=True).sqrt()
        return parameters.where(norm >= _percentile(norm, self.percent), 0.0)


@dataclass(frozen=True)
class ClipSmallContribution:
    """Zero for the ``percent`` of pixels that contribute least, by a linear forecast: |sum over channels of p g|."""

    percent: float

    def __call__(self, parameters: Tensor, gradient: Tensor, step: int) -> Tensor:
        contribution = (parameters * gradient).sum(1, keepdim=True).abs()
        return parameters.where(contribution >= _percentile(contribution, self.percent), 0.0)


@dataclass(frozen=True)
class ClipToRange:
    """Pixels kept within what a picture can show: ``origin + p`` stays in 0..255.

    Attributes:
        origin: what a parameter of zero stands for, one value per channel.
    """

    origin: tuple[float, ...]

    def __call__(self, parameters: Tensor, gradient: Tensor, step: int) -> Tensor:
        origin = torch.as_tensor(self.origin, dtype=parameters.dtype, device=parameters.device).reshape(1, -1, 1, 1)
        return (parameters + origin).clamp(0, 255) - origin


@dataclass(frozen=True)
class WeightedMean:
    """The weighted mean of several regularized pictures (J. Gildenblat 2016, keras-filter-visualization)."""

    parts: tuple[Regularizer, ...]
    weights: tuple[float, ...]

    def __call__(self, parameters: Tensor, gradient: Tensor, step: int) -> Tensor:
        total = sum(self.weights)
        changed = [
            part(parameters, gradient, step) * (w / total) for part, w in zip(self.parts, self.weights, strict=True)
        ]
        return torch.stack(changed).sum(0)


@dataclass(frozen=True)
class TotalVariation:
    """A penalty: the mean square of the differences between neighbouring pixels of a picture."""

    weight: float

    def __call__(self, image: Tensor) -> Tensor:
        across = (image[..., :, 1:] - image[..., :, :-1]).square().flatten(1).mean(1)
        down = (image[..., 1:, :] - image[..., :-1, :]).square().flatten(1).mean(1)
        return self.weight * (across + down)


@dataclass(frozen=True)
class L2:
    """A penalty: the mean square distance of the pixels from mid-grey."""

    weight: float

    def __call__(self, image: Tensor) -> Tensor:
        return self.weight * (image - 0.5).square().flatten(1).mean(1)


def _percentile(values: Tensor, percent: float) -> Tensor:
    """Of each picture, linear between ranks as numpy's; shaped to compare with ``values``."""
    flat = values.flatten(1)
    return torch.quantile(flat, percent / 100, dim=1).reshape(-1, *([1] * (values.dim() - 1)))


def _mirrored(image: Tensor, reach: int, axis: int) -> Tensor:
    """``reach`` more places on both sides, mirrored without repeating the outermost one; of one place, that place."""
    length = image.shape[axis]
    index = torch.arange(-reach, length + reach, device=image.device).abs() % max(2 * length - 2, 1)
    return image.index_select(axis, torch.where(index < length, index, 2 * length - 2 - index))


def _along(image: Tensor, weights: list[float], axis: int) -> Tensor:
    """A weighted sum of shifted pictures: the same bits in every batch, which a matrix product does not promise."""
    reach, length = len(weights) // 2, image.shape[axis]
    index = torch.arange(-reach, length + reach, device=image.device) % (2 * length)
    padded = image.index_select(axis, torch.where(index < length, index, 2 * length - 1 - index))
    return torch.stack([w * padded.narrow(axis, k, length) for k, w in enumerate(weights)]).sum(0)
