"""What a recipe changes: each gives the parameterization of a picture, and says what fits it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from .parameterizations import Fourier, Maco, Parameterization, Pixels, Size
from .regularizers import ClipToRange, Regularizer


@dataclass(frozen=True)
class Noise:
    """The start of pixel recipes, in 0..255: "uniform" in mean +- spread, or "normal" with that deviation.

    A mean of None is the model's own mean.
    """

    kind: str = "uniform"
    mean: float | None = 128
    spread: float = 10


class Canvas(Protocol):
    """What is changed.

    Attributes:
        of_pixels: it is pixels, which start from `Noise` and can be blurred and clipped.
        decays: its parameters have a size that a decay takes something of.
    """

    @property
    def of_pixels(self) -> bool: ...

    @property
    def decays(self) -> bool: ...

    def parameterization(self, channels: int, size: Size, origin: np.ndarray, noise: Noise) -> Parameterization:
        """The map from parameters to pictures.

        Args:
            channels: of the picture.
            size: (height, width) of the picture.
            origin: the picture value (0..255) of the model's mean, one per channel.
            noise: that pixels start from.
        """

    def limits(self, origin: np.ndarray) -> tuple[Regularizer, ...]:
        """What keeps the parameters where there are pictures, before every step."""


@dataclass(frozen=True)
class PixelCanvas:
    """Pixel values; ``centred`` ones are counted from the model's mean, and clipped to 0..255 before every step."""

    centred: bool = False
    of_pixels: ClassVar[bool] = True
    decays: ClassVar[bool] = True

    def parameterization(self, channels: int, size: Size, origin: np.ndarray, noise: Noise) -> Parameterization:
        zero = origin if self.centred else np.zeros(channels)
        return Pixels(channels, size, zero, noise.kind, origin if noise.mean is None else noise.mean, noise.spread)

    def limits(self, origin: np.ndarray) -> tuple[Regularizer, ...]:
        return (ClipToRange(tuple(float(v) for v in origin)),) if self.centred else ()


@dataclass(frozen=True)
class FourierCanvas:
    """Fourier coefficients; ``decay`` and ``contrast`` as for `Fourier`."""

    decay: float = 1.0
    contrast: float = 0.25
    of_pixels: ClassVar[bool] = False
    decays: ClassVar[bool] = True

    def parameterization(self, channels: int, size: Size, origin: np.ndarray, noise: Noise) -> Parameterization:
        return Fourier(channels, size, self.decay, self.contrast)

    def limits(self, origin: np.ndarray) -> tuple[Regularizer, ...]:
        return ()


@dataclass(frozen=True)
class MacoCanvas:
    """The phase alone of a picture with a natural spectrum (`Maco`)."""

    of_pixels: ClassVar[bool] = False
    decays: ClassVar[bool] = False

    def parameterization(self, channels: int, size: Size, origin: np.ndarray, noise: Noise) -> Parameterization:
        return Maco(channels, size)

    def limits(self, origin: np.ndarray) -> tuple[Regularizer, ...]:
        return ()
