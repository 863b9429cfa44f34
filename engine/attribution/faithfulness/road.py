"""Noisy linear imputation: the pixels that ROAD removes, filled from their neighbours."""

from __future__ import annotations

import numpy as np

# Weights of the eight neighbours, Rong et al. 2022, section 4.2: edges 1/6, corners 1/12.
_NEIGHBOURS = [(-1, 0, 1 / 6), (1, 0, 1 / 6), (0, -1, 1 / 6), (0, 1, 1 / 6)] + [
    (row, column, 1 / 12) for row in (-1, 1) for column in (-1, 1)
]


def impute(x: np.ndarray, removed: np.ndarray, noise: float, random: np.random.Generator) -> np.ndarray:
    """``x`` with the removed pixels set to the weighted mean of their neighbours, plus noise.

    Rong et al. 2022, arXiv:2202.00449: every removed pixel equals the weighted mean of its eight neighbours,
    known or removed themselves, which is one sparse linear system; at the border the weights that exist count.

    Args:
        x: (C, H, W) model input.
        removed: (H, W) bool.
        noise: standard deviation of the Gaussian noise on the filled values.
        random: draws the noise.
    """
    result = x.copy()
    if not removed.any():
        return result
    if removed.all():  # nothing is known: the mean is all that is left
        filled = np.broadcast_to(x.mean(axis=(1, 2))[:, None], (len(x), removed.sum()))
    else:
        filled = _solve(x, removed)
    result[:, removed] = filled + noise * random.standard_normal(filled.shape)
    return result


def _solve(x: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """(C, M) values of the M removed pixels, in reading order."""
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import splu

    height, width = removed.shape
    rows, columns = np.nonzero(removed)
    number = np.full(removed.shape, -1)
    number[removed] = np.arange(len(rows))
    own = np.arange(len(rows))
    total, known = np.zeros(len(rows)), np.zeros((len(rows), len(x)))
    entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for down, right, weight in _NEIGHBOURS:
        r, c = rows + down, columns + right
        inside = (r >= 0) & (r < height) & (c >= 0) & (c < width)
        total[inside] += weight
        r, c, mine = r[inside], c[inside], own[inside]
        unknown = removed[r, c]
        known[mine[~unknown]] += weight * x[:, r[~unknown], c[~unknown]].T
        entries.append((mine[unknown], number[r, c][unknown], np.full(int(unknown.sum()), -weight)))
    entries.append((own, own, total))
    row, column, value = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    system = csr_array((value, (row, column)), shape=(len(rows), len(rows)))
    factors = splu(
        system.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )  # symmetric and diagonally dominant: no pivoting is needed
    return factors.solve(known).T
