"""What natural pictures are like: their Fourier magnitude, and a few crops of photographs.

Both are measured by ``python -m benchmarks.natural`` on scikit-image's photographs and ship in ``natural.npz``.
"""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

import numpy as np

_FILE = Path(__file__).with_name("natural.npz")


@cache
def measured() -> dict[str, np.ndarray]:
    """The asset's arrays: ``magnitude`` (3, 128, 65) in decorrelated colour, ``crop_i`` JPEG bytes."""
    with np.load(_FILE, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def natural_magnitude(channels: int, size: tuple[int, int]) -> np.ndarray:
    """The magnitude of natural pictures of that size, (C, H, W // 2 + 1) float32, up to a factor.

    Resampled over frequency in cycles per picture, linearly in the logarithms; beyond the measured 64 cycles it
    goes on falling with 1 / f. Three channels are in decorrelated colour; any other number uses the first,
    luminance-like one.
    """
    source = measured()["magnitude"]
    planes = [_resampled(source[c if channels == 3 else 0], size) for c in range(channels)]
    return np.stack(planes).astype(np.float32)


@cache
def reference_pictures(channels: int, size: tuple[int, int]) -> np.ndarray:
    """Crops of photographs (16, C, H, W) float32 in [0, 1]; gray where the model has one channel.

    Models with another number of channels than 1 and 3 get the luminance in each.
    """
    from PIL import Image

    arrays = measured()
    files = [arrays[f"crop_{i}"] for i in range(len(arrays) - 1)]
    pictures = []
    for file in files:
        picture = Image.open(io.BytesIO(file.tobytes())).convert("RGB")
        resized = picture.resize((size[1], size[0]), Image.Resampling.BICUBIC)
        pixels = np.asarray(resized, dtype=np.float32).transpose(2, 0, 1) / 255
        if channels != 3:
            grey = np.tensordot(np.array([0.299, 0.587, 0.114], dtype=np.float32), pixels, axes=1)
            pixels = np.repeat(grey[None], channels, axis=0)
        pictures.append(pixels)
    return np.stack(pictures)


def _resampled(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """One plane (128, 65) at the frequencies of another size."""
    from scipy.ndimage import map_coordinates

    half = plane.shape[0] // 2
    rows, columns = np.meshgrid(np.fft.fftfreq(size[0]) * size[0], np.fft.rfftfreq(size[1]) * size[1], indexing="ij")
    radius = np.sqrt(rows**2 + columns**2)
    shrink = np.minimum(1.0, (half - 1) / np.maximum(np.maximum(np.abs(rows), columns), 1e-9))
    centred = np.log(np.roll(plane, half, axis=0) + 1e-12)
    values = map_coordinates(centred, [rows * shrink + half, columns * shrink], order=1, mode="nearest")
    result = np.exp(values) * shrink
    result[radius == 0] = plane[0, 0]
    return np.asarray(result)
