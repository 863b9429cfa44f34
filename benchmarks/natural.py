"""Measures what natural pictures are like, and writes engine/ascent/recipe/natural.npz.

    python -m benchmarks.natural

Two things from the photographs that scikit-image ships (public domain or CC0: astronaut, coffee, chelsea, rocket,
camera, brick, grass, gravel; see docs/presets.md):

* ``magnitude`` (3, 128, 65): the mean Fourier magnitude of 128-pixel crops at four scales, in decorrelated colour,
  mean taken off and Hann-windowed: the spectrum of the `maco` preset;
* ``crop_0 ...``: sixteen 128-pixel crops as JPEG bytes: what "real photographs reach" is measured on them.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data

from convscope.engine.ascent.recipe.colour import decorrelate

SIDE = 128
COLOUR = ("astronaut", "coffee", "chelsea", "rocket")
# photograph -> (scale, left, top) of its reference crops, after scaling
CROPS: dict[str, tuple[tuple[float, int, int], ...]] = {
    "astronaut": ((0.5, 60, 0), (1.0, 150, 40), (0.5, 100, 120)),
    "coffee": ((0.5, 100, 40), (1.0, 180, 60), (0.7, 20, 90)),
    "chelsea": ((0.6, 40, 20), (1.0, 100, 60), (1.0, 200, 100)),
    "rocket": ((0.4, 60, 20), (1.0, 260, 120)),
    "camera": ((0.4, 30, 20), (1.0, 180, 80)),
    "brick": ((0.5, 60, 60),),
    "grass": ((0.5, 60, 60),),
    "gravel": ((0.5, 60, 60),),
}


def photograph(name: str, scale: float = 1.0) -> np.ndarray:
    """An RGB photograph (H, W, 3) in [0, 1], resized."""
    pixels = getattr(data, name)()
    picture = Image.fromarray(pixels).convert("RGB")
    size = round(picture.width * scale), round(picture.height * scale)
    return np.asarray(picture.resize(size, Image.Resampling.LANCZOS), dtype=np.float32) / 255


def magnitude(count: int = 150, seed: int = 0) -> np.ndarray:
    """The mean magnitude over ``count`` random crops of each photograph and scale, (3, 128, 65)."""
    rng = np.random.default_rng(seed)
    window = np.outer(np.hanning(SIDE), np.hanning(SIDE))
    total, number = np.zeros((3, SIDE, SIDE // 2 + 1)), 0
    for name in COLOUR:
        for scale in (1.0, 0.75, 0.5, 0.35):
            pixels = photograph(name, scale)
            if min(pixels.shape[:2]) < SIDE:
                continue
            for _ in range(count):
                y, x = (int(rng.integers(0, s - SIDE + 1)) for s in pixels.shape[:2])
                crop = torch.from_numpy(pixels[y : y + SIDE, x : x + SIDE].transpose(2, 0, 1)[None])
                plain = decorrelate(crop)[0].numpy()
                plain = plain - plain.mean(axis=(1, 2), keepdims=True)
                total += np.abs(np.fft.rfft2(plain * window))
                number += 1
    return total / number


def crops() -> list[bytes]:
    """The reference crops as JPEG."""
    files = []
    for name, places in CROPS.items():
        for scale, x, y in places:
            pixels = photograph(name, scale)[y : y + SIDE, x : x + SIDE]
            assert pixels.shape == (SIDE, SIDE, 3), (name, scale, pixels.shape)
            buffer = io.BytesIO()
            Image.fromarray((pixels * 255).round().astype(np.uint8)).save(buffer, "JPEG", quality=88)
            files.append(buffer.getvalue())
    return files


def main() -> None:
    """Writes the asset."""
    values = magnitude()
    arrays = {"magnitude": (values / values.max()).astype(np.float32)}
    arrays |= {f"crop_{i}": np.frombuffer(file, dtype=np.uint8) for i, file in enumerate(crops())}
    path = Path(__file__).parent.parent / "engine" / "ascent" / "recipe" / "natural.npz"
    np.savez_compressed(path, allow_pickle=False, **arrays)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB, {len(arrays) - 1} crops")


if __name__ == "__main__":
    main()
