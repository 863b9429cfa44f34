"""What ascent changes: pixels, Fourier coefficients, or the phase of a picture with a natural spectrum.

A parameterization maps one tensor of parameters, one row per picture, to pictures in [0, 1] (pixels may leave that
range while they are optimized). All of them work row by row, so a picture never depends on its batch-mates, and on
any number of channels; colour is decorrelated where there are three.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from .colour import decorrelate, recorrelate

Size = tuple[int, int]
_PIVOT = 4.5  # cycles per picture


class Parameterization(Protocol):
    """The map between parameters and pictures of one size.

    Attributes:
        size: (height, width) of the pictures.
    """

    size: Size

    def noise(self, rng: np.random.Generator) -> Tensor:
        """The parameters of one random start, without a batch axis."""
        ...

    def image(self, parameters: Tensor) -> Tensor:
        """Pictures (N, C, H, W) from parameters (N, ...); differentiable."""
        ...

    def encode(self, image: Tensor) -> Tensor:
        """Parameters (N, ...) whose pictures are the given ones (N, C, H, W), as far as it goes."""
        ...

    def at(self, size: Size) -> Parameterization:
        """The same parameterization at another size."""
        ...

    def shrink(self, values: Tensor, whole: Parameterization) -> Tensor:
        """Parameters of this size from start parameters of a larger one, ``whole``."""
        ...

    def grow(self, values: Tensor, base: Tensor, into: Tensor) -> Tensor:
        """Parameters (or optimizer state) of a smaller size carried into this one.

        Args:
            values: as optimized at the smaller size.
            base: as they were before, at that size.
            into: the start parameters at this size, which give what the smaller size lacked.
        """
        ...


class Pixels:
    """Pixel values in 0..255, counted from ``origin``.

    Args:
        channels, size: of the picture.
        origin: one value per channel in 0..255 that a parameter of zero stands for: zero for the recipes that
            work on plain pixels, the model's mean for those that work on mean-free ones.
        mean, spread, kind: the start noise: uniform in ``mean +- spread``, or normal with that standard deviation,
            both in 0..255 and before ``origin`` is taken off.
    """

    def __init__(
        self,
        channels: int,
        size: Size,
        origin: np.ndarray,
        kind: str = "uniform",
        mean: float | np.ndarray = 128,
        spread: float = 10,
    ) -> None:
        self.channels, self.size, self.origin = channels, size, np.asarray(origin, dtype=np.float64)
        self.kind, self.mean, self.spread = kind, np.broadcast_to(mean, (channels,)), spread

    def noise(self, rng: np.random.Generator) -> Tensor:
        shape = (self.channels, *self.size)
        drawn = rng.standard_normal(shape) if self.kind == "normal" else 2 * rng.random(shape) - 1
        middle = (self.mean - self.origin)[:, None, None]
        return torch.from_numpy((middle + self.spread * drawn).astype(np.float32))

    def image(self, parameters: Tensor) -> Tensor:
        return (parameters + self._origin(parameters)) / 255

    def encode(self, image: Tensor) -> Tensor:
        return image * 255 - self._origin(image)

    def at(self, size: Size) -> Pixels:
        return Pixels(self.channels, size, self.origin, self.kind, self.mean, self.spread)

    def shrink(self, values: Tensor, whole: Parameterization) -> Tensor:
        return torch.nn.functional.interpolate(values, self.size, mode="bilinear", align_corners=False, antialias=True)

    def grow(self, values: Tensor, base: Tensor, into: Tensor) -> Tensor:
        """The start at this size plus the enlarged change: details lost in shrinking come back (DeepDream)."""
        change = torch.nn.functional.interpolate(values - base, into.shape[-2:], mode="bilinear", align_corners=False)
        return into + change

    def _origin(self, like: Tensor) -> Tensor:
        return torch.as_tensor(self.origin, dtype=like.dtype, device=like.device).reshape(1, -1, 1, 1)


class Fourier:
    """Fourier coefficients divided by frequency, decorrelated colour, and a sigmoid (Olah et al. 2017).

    With ``P`` the coefficients, ``f`` the frequency in cycles per pixel, ``w`` the longer side and ``m = max(w f, 1)``,
    the frequency in cycles per picture,

        image = sigmoid(recorrelate(irfft2(P w / m (4.5 / m) ** (decay - 1), "ortho") * contrast))

    which with decay 1 and contrast 1/4 is Lucid's map. For square pictures a coefficient has the same effect at every
    size, whatever the decay, which is what lets ascent begin small and grow.

    Args:
        channels, size: of the picture.
        decay: the power of the frequency; more of it prefers large shapes to small ones.
        contrast: less of it keeps values away from black and white, where the sigmoid holds them.
        deviation: of the normal start noise of the coefficients.
    """

    def __init__(
        self, channels: int, size: Size, decay: float = 1.0, contrast: float = 0.25, deviation: float = 0.01
    ) -> None:
        self.channels, self.size, self.decay, self.contrast = channels, size, decay, contrast
        self.deviation = deviation
        self._scale = _fourier_scale(size, decay)

    def noise(self, rng: np.random.Generator) -> Tensor:
        values = rng.standard_normal((self.channels, *self._scale.shape, 2)) * self.deviation
        return torch.from_numpy(values.astype(np.float32))

    def image(self, parameters: Tensor) -> Tensor:
        scale = torch.as_tensor(self._scale, dtype=parameters.dtype, device=parameters.device)
        spectrum = torch.view_as_complex((parameters * scale[None, None, :, :, None]).contiguous())
        return _squash(_inverse(spectrum, self.size, "ortho") * self.contrast)

    def encode(self, image: Tensor) -> Tensor:
        scale = torch.as_tensor(self._scale, dtype=image.dtype, device=image.device)
        spectrum = torch.fft.rfft2(_unsquash(image) / self.contrast, norm="ortho")
        return torch.view_as_real(spectrum) / scale[None, None, :, :, None]

    def at(self, size: Size) -> Fourier:
        return Fourier(self.channels, size, self.decay, self.contrast, self.deviation)

    def shrink(self, values: Tensor, whole: Parameterization) -> Tensor:
        return _low(values, (self.channels, *self._scale.shape, 2))

    def grow(self, values: Tensor, base: Tensor, into: Tensor) -> Tensor:
        return _embed(values, into)


class Maco:
    """The phase of a picture whose Fourier magnitude is that of natural images.

    T. Fel et al. 2023, Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained Optimization
    (arXiv:2306.06805). With ``m`` the natural magnitude, ``z`` the phase standardized to mean 0 and deviation 1,

        image = sigmoid(recorrelate(standardize(irfft2(m exp(i z)))))

    The picture is in [0, 1] and goes through the model's own preprocessing, where the reference code stretches it
    to a fixed range. The magnitude is measured by us, see `spectrum`.
    """

    def __init__(self, channels: int, size: Size) -> None:
        from .spectrum import natural_magnitude

        self.channels, self.size = channels, size
        self._magnitude = natural_magnitude(channels, size)

    def noise(self, rng: np.random.Generator) -> Tensor:
        return torch.from_numpy(rng.standard_normal(self._magnitude.shape).astype(np.float32))

    def image(self, parameters: Tensor) -> Tensor:
        magnitude = torch.as_tensor(self._magnitude, dtype=parameters.dtype, device=parameters.device)
        phase = _standardize(parameters)
        cosine, sine = picturewise(torch.cos, phase), picturewise(torch.sin, phase)
        spectrum = torch.complex(cosine * magnitude, sine * magnitude)
        return _squash(_standardize(_inverse(spectrum, self.size)))

    def encode(self, image: Tensor) -> Tensor:
        return torch.angle(torch.fft.rfft2(_unsquash(image)))

    def at(self, size: Size) -> Maco:
        return Maco(self.channels, size)

    def shrink(self, values: Tensor, whole: Parameterization) -> Tensor:
        return _low(values.unsqueeze(-1), (*self._magnitude.shape, 1)).squeeze(-1)

    def grow(self, values: Tensor, base: Tensor, into: Tensor) -> Tensor:
        return _embed(values.unsqueeze(-1), into.unsqueeze(-1)).squeeze(-1)


def picturewise(function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """An elementwise function, one picture at a time.

    The vector and the scalar code of exp, sin and their like differ in the last bit on the CPU, and which one computes
    an element depends on its place in the whole tensor, hence on the batch. A GPU has one code for all.
    """
    if values.is_cuda:
        return function(values)
    return torch.stack([function(one) for one in values.unbind(0)])


def _inverse(spectrum: Tensor, size: Size, norm: str | None = None) -> Tensor:
    """The pictures of spectra (N, C, H, W // 2 + 1).

    On the CPU a lone transform, one picture of one channel, is computed by other code than several, with other last
    bits, so it gets a companion.
    """
    if spectrum.is_cuda or spectrum.shape[0] * spectrum.shape[1] > 1:
        return torch.fft.irfft2(spectrum, s=size, norm=norm)
    return torch.fft.irfft2(torch.cat([spectrum, spectrum]), s=size, norm=norm)[:1]


def frequencies(size: Size) -> np.ndarray:
    """The frequency of each coefficient of a real 2-D transform, cycles per pixel, (H, W // 2 + 1)."""
    rows, columns = np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None]
    return np.sqrt(rows**2 + columns**2)


def _fourier_scale(size: Size, decay: float) -> np.ndarray:
    """The factor of each coefficient, (H, W // 2 + 1). At ``_PIVOT`` cycles per picture the decay changes nothing."""
    inverse = 1.0 / np.maximum(frequencies(size), 1.0 / max(size))
    return (inverse * (_PIVOT * inverse / max(size)) ** (decay - 1)).astype(np.float32)


def _squash(values: Tensor) -> Tensor:
    return picturewise(torch.sigmoid, recorrelate(values) if values.shape[1] == 3 else values)


def _unsquash(image: Tensor) -> Tensor:
    """The inverse of `_squash`; pure black and white, which would need infinite values, are moved inwards."""
    inner = image.clamp(0.02, 0.98)
    values = torch.log(inner) - torch.log1p(-inner)
    return decorrelate(values) if values.shape[1] == 3 else values


def _standardize(values: Tensor) -> Tensor:
    """Each row to mean 0 and deviation 1; 1e-4 as in Horama."""
    flat = values.flatten(1)
    shape = (-1, *([1] * (values.dim() - 1)))
    centred = values - flat.mean(1).reshape(shape)
    deviation = flat.std(1) if flat.shape[1] > 1 else torch.zeros_like(flat[:, 0])
    return centred / (deviation.reshape(shape) + 1e-4)


def _embed(values: Tensor, into: Tensor) -> Tensor:
    """Low frequencies of ``into`` (N, C, H, W // 2 + 1, k) replaced by ``values``, of a smaller picture.

    The smaller picture's highest (Nyquist) row and column are left out: they stand for two frequencies at once.
    """
    rows, columns = values.shape[2], values.shape[3] - 1
    up, down = (rows + 1) // 2, (rows - 1) // 2
    grown = into.clone()
    grown[:, :, :up, :columns] = values[:, :, :up, :columns]
    if down:
        grown[:, :, -down:, :columns] = values[:, :, -down:, :columns]
    return grown


def _low(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The low frequencies of ``values`` (N, C, H, W // 2 + 1, k) as the spectrum of a smaller picture."""
    rows = shape[1]
    up, down = (rows + 1) // 2, rows // 2
    kept = values[..., : shape[2], :]
    return torch.cat([kept[:, :, :up], kept[:, :, kept.shape[2] - down :]], dim=2)
