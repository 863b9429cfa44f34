"""Spectra: Fourier transforms, windows and the weights of mel bands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .base import Converted, Converter, Function, Node

# Cosines of a window, by order: sum of c_k cos(2 pi k n / N)
_WINDOWS = {
    "HannWindow": (0.5, -0.5),
    "HammingWindow": (25 / 46, -21 / 46),
    "BlackmanWindow": (0.42, -0.5, 0.08),
}


def _dft(node: Node) -> Converted:
    """(..., 1 or 2) -> (..., 2): real numbers, or real and imaginary parts beside each other."""
    is_inverse, is_onesided = bool(node.get("inverse", 0)), bool(node.get("onesided", 0))
    fixed = int(node.get("axis", 1)) if node.opset < 20 else None

    def run(x: Tensor, length: Tensor | None = None, axis: Tensor | None = None) -> Tensor:
        dim = fixed if fixed is not None else int(axis.reshape(-1)[0]) if axis is not None else -2
        dim %= x.ndim
        count = int(length.reshape(-1)[0]) if length is not None else None
        return _transformed(x, dim, count, is_inverse, is_onesided)

    return Converted(Function(run), node.inputs)


def _transformed(x: Tensor, dim: int, count: int | None, is_inverse: bool, is_onesided: bool) -> Tensor:
    values = x[..., 0] if x.shape[-1] == 1 else torch.view_as_complex(x.contiguous())
    if is_inverse and is_onesided:  # half a spectrum becomes real numbers
        whole = 2 * (values.shape[dim] - 1) if count is None else count
        return torch.fft.irfft(values, whole, dim).unsqueeze(-1)
    size = values.shape[dim] if count is None else count
    found = torch.fft.ifft(values, size, dim) if is_inverse else torch.fft.fft(values, size, dim)
    found = found.narrow(dim, 0, size // 2 + 1) if is_onesided else found
    return torch.view_as_real(found.resolve_conj().contiguous())


def _stft(node: Node) -> Converted:
    """(N, L, 1 or 2) -> (N, frames, bins, 2); a frame that would go beyond the end is left out."""
    is_onesided = bool(node.get("onesided", 1))

    def run(signal: Tensor, step: Tensor, window: Tensor | None = None, length: Tensor | None = None) -> Tensor:
        hop = int(step.reshape(-1)[0])
        size = int(length.reshape(-1)[0]) if length is not None else 0 if window is None else window.shape[0]
        frames = signal.unfold(1, size, hop).movedim(-1, 2)  # (N, frames, size, 1 or 2)
        if window is not None:
            frames = frames * window.to(frames.dtype)[:, None]
        return _transformed(frames, 2, None, False, is_onesided)

    return Converted(Function(run), node.inputs)


def _window(node: Node) -> Converted:
    cosines, is_periodic = _WINDOWS[node.op], bool(node.get("periodic", 1))

    def run(size: Tensor) -> Tensor:
        count = int(size.reshape(-1)[0])
        turn = 2 * np.pi / (count if is_periodic else count - 1)
        places = torch.arange(count, device=size.device, dtype=torch.float64) * turn
        total: Tensor = sum((c * torch.cos(k * places) for k, c in enumerate(cosines)), torch.zeros_like(places))
        return total.float()

    return Converted(Function(run), node.inputs)


def _mel_weights(node: Node) -> Converted:
    """(bins of the spectrum, bands): triangles whose corners lie evenly on the mel scale."""

    def run(bands: Tensor, length: Tensor, rate: Tensor, low: Tensor, high: Tensor) -> Tensor:
        numbers = [float(v.reshape(-1)[0]) for v in (bands, length, rate, low, high)]
        return torch.from_numpy(mel_weights(numbers)).to(bands.device)

    return Converted(Function(run), node.inputs)


def mel_weights(numbers: Sequence[float]) -> np.ndarray:
    """Weights (length // 2 + 1, bands), float32.

    Args:
        numbers: bands, length of the transform, samples per second, lowest and highest frequency in hertz.
    """
    bands, length = int(numbers[0]), int(numbers[1])
    rate, low, high = (np.float32(v) for v in numbers[2:])
    bins = length // 2 + 1

    def mel(frequency: np.float32) -> float:
        return float(2595 * np.log10(1 + np.float64(frequency) / 700))

    start, end = mel(low), mel(high)
    step = (end - start) / (bands + 2)
    corners = 700 * (10 ** ((start + np.arange(bands + 2) * step) / 2595) - 1)
    places = ((length + 1) * corners // rate).astype(np.int64)
    weights = np.zeros((bins, bands), np.float32)
    for band in range(bands):
        left, top, right = (int(p) for p in places[band : band + 3])
        if top == left:
            weights[top, band] = 1
        else:
            rising = np.arange(left, top + 1)
            weights[rising, band] = (rising - left) / (top - left)
        if right > top:
            falling = np.arange(top, right)
            weights[falling, band] = (right - falling) / (right - top)
    return weights


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "DFT"): _dft,
    ("", "STFT"): _stft,
    ("", "MelWeightMatrix"): _mel_weights,
    **{("", op): _window for op in _WINDOWS},
}
