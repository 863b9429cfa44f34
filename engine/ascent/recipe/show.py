"""From the pixels that the network saw to the picture that a person is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Show(Protocol):
    """How pixels become the picture shown."""

    def __call__(self, pixels: np.ndarray, origin: np.ndarray) -> np.ndarray:
        """The picture (C, H, W), to be clipped to [0, 1].

        Args:
            pixels: (C, H, W) float32, where 0 and 1 are black and white; may lie outside.
            origin: the model's mean, 0..255, one per channel.
        """


@dataclass(frozen=True)
class Clip:
    """As they are."""

    def __call__(self, pixels: np.ndarray, origin: np.ndarray) -> np.ndarray:
        return pixels


@dataclass(frozen=True)
class Standard:
    """With this mean and standard deviation over the whole picture, in the units of 0..255 (Chollet 2016)."""

    mean: float = 0.5
    deviation: float = 0.1

    def __call__(self, pixels: np.ndarray, origin: np.ndarray) -> np.ndarray:
        values = pixels * 255
        even: np.ndarray = (values - values.mean()) / (values.std() + np.float32(1e-5))
        return even * np.float32(self.deviation) + np.float32(self.mean)


@dataclass(frozen=True)
class Stretch:
    """Counted from the model's mean, which is mid-grey, and scaled so that the largest magnitude reaches 0 or 1.

    Yosinski et al. 2015, their toolbox.
    """

    def __call__(self, pixels: np.ndarray, origin: np.ndarray) -> np.ndarray:
        values: np.ndarray = pixels * 255 - origin.astype(np.float32)[:, None, None]
        return values / max(2 * float(np.abs(values).max()), 1e-10) + np.float32(0.5)


@dataclass(frozen=True)
class Percentile:
    """From this percentile of all values, which becomes 0, to that one, which becomes 1 (Horama's ``plot_maco``)."""

    low: float = 1
    high: float = 99

    def __call__(self, pixels: np.ndarray, origin: np.ndarray) -> np.ndarray:
        low, high = np.percentile(pixels, (self.low, self.high))
        return (pixels - np.float32(low)) / np.float32(max(high - low, 1e-10))


def shown(pixels: np.ndarray, how: Show, origin: np.ndarray) -> np.ndarray:
    """A picture (H, W, C) float32 in [0, 1]; arguments as for `Show`."""
    picture = how(pixels.astype(np.float32), origin)
    return np.ascontiguousarray(np.clip(picture, 0, 1).transpose(1, 2, 0))
