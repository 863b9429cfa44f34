"""Random masks for methods that only watch the score."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..maps import resized


def random_masks(
    random: np.random.Generator, count: int, cells: int, keep: float, size: tuple[int, int], batch: int
) -> Iterator[np.ndarray]:
    """RISE masks (n, H, W): the grid is one cell larger than the image, cropped at a random offset.

    Drawn mask by mask, so that ``batch`` does not change them.
    """
    cell = [-(-s // cells) for s in size]
    full = ((cells + 1) * cell[0], (cells + 1) * cell[1])
    for start in range(0, count, batch):
        drawn = [
            (random.random((cells, cells)) < keep, random.integers(0, cell)) for _ in range(min(batch, count - start))
        ]
        large = resized(np.stack([grid for grid, _ in drawn]).astype(np.float32), full)
        yield np.stack([m[t : t + size[0], c : c + size[1]] for m, (_, (t, c)) in zip(large, drawn, strict=True)])
