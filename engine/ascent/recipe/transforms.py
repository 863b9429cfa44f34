"""Random views of a picture, so that ascent finds what excites a unit wherever and however it lies.

A transform draws a row of numbers per picture and step from the picture's own stream, and makes the views from
pictures and rows. All pictures of a batch get views of one size, and each view is computed from its own picture
only. Everything is differentiable with respect to the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class Transform(Protocol):
    """Views of pictures."""

    @property
    def views(self) -> int:
        """How many views each picture has in a step."""
        ...

    def draw(self, rng: np.random.Generator, steps: int) -> np.ndarray:
        """The random numbers of one picture for ``steps`` steps, (steps, numbers)."""
        ...

    def __call__(self, image: Tensor, rows: np.ndarray, full: tuple[int, int]) -> Tensor:
        """Views (N * views, C, h, w), those of one picture in succession.

        Args:
            image: pictures (N, C, H, W).
            rows: (N, numbers), this step's row of each picture.
            full: (height, width) that the picture will have when it is finished: pixel counts refer to it.
        """
        ...


@dataclass(frozen=True)
class Plain:
    """The picture itself."""

    @property
    def views(self) -> int:
        return 1

    def draw(self, rng: np.random.Generator, steps: int) -> np.ndarray:
        return np.zeros((steps, 0))

    def __call__(self, image: Tensor, rows: np.ndarray, full: tuple[int, int]) -> Tensor:
        return image


@dataclass(frozen=True)
class Robust:
    """Pad, crop at random, scale, rotate, crop at random: Lucid's standard transforms as one resampling.

    Olah et al. 2017 chain five operations; their composition is an affine map, so one bilinear resampling does
    all of them, at one size whatever the scale. Outside the picture there is ``fill`` (Lucid pads so, and has
    black where the rotation reaches beyond the padding). Pixel counts are for the finished picture and shrink
    with it when ascent begins small.

    Attributes:
        pad: margin added on each side, pixels.
        jitters: how many pixels the crop before and after scaling takes off in all; the place is random.
        scales, angles: one of each is drawn; angles in degrees.
        fill: value around the picture.
        keep: make the views as large as the picture, for networks that take only one size.
    """

    pad: int = 12
    jitters: tuple[int, int] = (8, 4)
    scales: tuple[float, ...] = tuple(1 + (i - 5) / 50 for i in range(11))
    angles: tuple[float, ...] = (*range(-10, 11), 0, 0, 0, 0, 0)
    fill: float = 0.5
    keep: bool = False

    @property
    def views(self) -> int:
        return 1

    def draw(self, rng: np.random.Generator, steps: int) -> np.ndarray:
        before, after = self.jitters
        columns = [
            rng.integers(0, before + 1, (steps, 2)) - before / 2,
            rng.integers(0, after + 1, (steps, 2)) - after / 2,
            rng.choice(np.asarray(self.scales, dtype=float), (steps, 1)),
            rng.choice(np.asarray(self.angles, dtype=float), (steps, 1)),
        ]
        return np.concatenate(columns, axis=1)

    def __call__(self, image: Tensor, rows: np.ndarray, full: tuple[int, int]) -> Tensor:
        height, width = image.shape[-2:]
        share = min(height, width) / min(full)
        margin = 0 if self.keep else round((2 * self.pad - sum(self.jitters)) * share)
        size = height + margin, width + margin
        angle = np.deg2rad(rows[:, 5])
        cosine, sine = np.cos(angle) / rows[:, 4], np.sin(angle) / rows[:, 4]
        first, second = rows[:, 0:2] * share, rows[:, 2:4] * share
        columns = cosine * second[:, 0] - sine * second[:, 1] + first[:, 0]
        lines = sine * second[:, 0] + cosine * second[:, 1] + first[:, 1]
        matrix = np.stack([cosine, -sine, columns, sine, cosine, lines], axis=1)
        return resample(image, matrix, size, fill=self.fill)


@dataclass(frozen=True)
class Zoom:
    """A square part of the picture from anywhere in it, turned, shown as large as the picture itself.

    A view from near shows the network details that it must recognize without their surroundings, one from far how
    they hang together; so that one thing is drawn at one size, not copies of it at all sizes. Where the turned part
    reaches beyond the picture its border is repeated.

    Attributes:
        low, high: height and width of the part as a share of the picture's, uniform between them.
        angle: degrees; the turn is uniform in -angle to angle.
        whole: make the views as large as the finished picture also while it is small, for networks that take only one
            size.
    """

    low: float = 0.5
    high: float = 1.0
    angle: float = 10.0
    whole: bool = False

    @property
    def views(self) -> int:
        return 1

    def draw(self, rng: np.random.Generator, steps: int) -> np.ndarray:
        share = rng.uniform(self.low, self.high, (steps, 1))
        place = rng.uniform(-0.5, 0.5, (steps, 2)) * (1 - share)
        turn = rng.uniform(-self.angle, self.angle, (steps, 1))
        return np.concatenate([share, place, turn], axis=1)

    def __call__(self, image: Tensor, rows: np.ndarray, full: tuple[int, int]) -> Tensor:
        height, width = image.shape[-2:]
        size = full if self.whole else (height, width)
        down, across = size[0] / height, size[1] / width  # not alike where a small picture's sides were rounded
        turn = np.deg2rad(rows[:, 3])
        cosine, sine = rows[:, 0] * np.cos(turn), rows[:, 0] * np.sin(turn)
        matrix = np.stack(
            [cosine / across, -sine / down, rows[:, 1] * width, sine / across, cosine / down, rows[:, 2] * height],
            axis=1,
        )
        return resample(image, matrix, size, border=True)


@dataclass(frozen=True)
class Roll:
    """The picture shifted around its edges by up to ``jitter`` pixels (Mordvintsev et al. 2015, DeepDream)."""

    jitter: int = 32

    @property
    def views(self) -> int:
        return 1

    def draw(self, rng: np.random.Generator, steps: int) -> np.ndarray:
        return rng.integers(-self.jitter, self.jitter + 1, (steps, 2)).astype(float)

    def __call__(self, image: Tensor, rows: np.ndarray, full: tuple[int, int]) -> Tensor:
        shifts = [(int(dy), int(dx)) for dx, dy in rows]
        return torch.stack([torch.roll(one, shift, (1, 2)) for one, shift in zip(image, shifts, strict=True)])


@dataclass(frozen=True)
class Crops:
    """Square crops around the middle, resized and made noisy (Fel et al. 2023, MACO).

    Attributes:
        number: crops of each picture in a step.
        low, high: side of a crop as a share of the picture's shorter side, uniform between them.
        spread: standard deviation of the crops' centres around the middle, as a share.
        noise: weight of the normal and of the centred uniform noise added to each view, in picture units.
        side: side of the views as a share of the picture's shorter side.
    """

    number: int = 6
    low: float = 0.25
    high: float = 0.30
    spread: float = 0.15
    noise: float = 0.01
    side: float = 0.5

    @property
    def views(self) -> int:
        return self.number

    def draw(self, rng: np.random.Generator, steps: int) -> np.ndarray:
        shape = (steps, self.number)
        sides = rng.uniform(self.low, self.high, shape)
        seeds = rng.integers(0, 2**32, (steps, 1)).astype(float)
        return np.concatenate(
            [rng.normal(0, self.spread, shape), rng.normal(0, self.spread, shape), sides, seeds], axis=1
        )

    def __call__(self, image: Tensor, rows: np.ndarray, full: tuple[int, int]) -> Tensor:
        short, count = min(image.shape[-2:]), self.number
        side = max(1, round(self.side * short))
        across = rows[:, :count].reshape(-1) * image.shape[-1]
        down = rows[:, count : 2 * count].reshape(-1) * image.shape[-2]
        zoom = rows[:, 2 * count : 3 * count].reshape(-1) * short / side
        zero = np.zeros_like(zoom)
        matrix = np.stack([zoom, zero, across, zero, zoom, down], axis=1)
        repeated = image.repeat_interleave(count, dim=0)
        views = resample(repeated, matrix, (side, side), border=True)
        return views + self._noise(rows, views) if self.noise else views

    def _noise(self, rows: np.ndarray, like: Tensor) -> Tensor:
        drawn = _drawn_on_gpu if like.is_cuda else _drawn
        shape = (self.number, *like.shape[1:])
        return torch.cat([drawn(int(seed), shape, like.device) for seed in rows[:, -1]]) * self.noise


def _drawn(seed: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Normal plus centred uniform noise of that seed."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    return torch.from_numpy(rng.standard_normal(shape, np.float32) + rng.random(shape, np.float32) - 0.5).to(device)


def _drawn_on_gpu(seed: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """The same by the GPU's own generator: other numbers, but hundreds of pictures a step need not wait for a CPU."""
    rng = torch.Generator(device).manual_seed(seed)
    uniform = torch.rand(shape, generator=rng, device=device) - 0.5
    return torch.randn(shape, generator=rng, device=device) + uniform


def resample(
    image: Tensor,
    matrix: np.ndarray,
    size: tuple[int, int],
    *,
    fill: float = 0.5,
    border: bool = False,
) -> Tensor:
    """Pictures seen through an affine map each, bilinear.

    Args:
        image: (N, C, H, W).
        matrix: (N, 6) rows ``a b c d e f``: the view's point (x, y), in pixels from its middle, shows the
            picture's point (a x + b y + c, d x + e y + f), in pixels from the picture's middle.
        size: (height, width) of the views.
        fill: value outside the picture.
        border: outside, repeat the picture's border instead.
    """
    (height, width), device = image.shape[-2:], image.device
    y = (torch.arange(size[0], dtype=torch.float32, device=device) - (size[0] - 1) / 2).reshape(1, -1, 1)
    x = (torch.arange(size[1], dtype=torch.float32, device=device) - (size[1] - 1) / 2).reshape(1, 1, -1)
    a, b, c, d, e, f = torch.from_numpy(np.ascontiguousarray(matrix.T, np.float32)).to(device).reshape(6, -1, 1, 1)
    across, down = (a * x + b * y + c) * (2 / width), (d * x + e * y + f) * (2 / height)
    grid = torch.stack([across, down], dim=-1)
    if border:
        return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return F.grid_sample(image - fill, grid, mode="bilinear", padding_mode="zeros", align_corners=False) + fill
