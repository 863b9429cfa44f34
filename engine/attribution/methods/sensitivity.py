"""Global sensitivity analysis: which cells of a grid the score depends on, from forward passes alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....errors import UsageError
from ...outputs.target import Target
from ..batch import Batch
from ..maps import Maps, resized
from ..registry import method


@method("sobol", "Sobol", "perturbation", many=True)
def sobol(batch: Batch, targets: Sequence[Target], *, cells: int = 8, designs: int = 32, seed: int = 0) -> Maps:
    """How much of the score's variance each cell of a random mask has a part in.

    Fel et al. 2021, "Look at the Variance! Efficient Black-box Explanations with Sobol-based Sensitivity Analysis",
    arXiv:2111.04138: the picture is multiplied by masks of ``cells`` x ``cells`` with values in [0, 1], drawn by a
    scrambled Sobol sequence; total indices by Jansen's estimator, ST_i = E (f(A) - f(C_i))^2 / (2 Var f(A)), where C_i
    is A with the i-th cell of B. ``designs`` * (cells^2 + 2) passes. Masks are enlarged bilinearly, and multiply the
    model's input. It knows no sign: cells that speak against the target count as well.
    """
    from scipy.stats import qmc  # takes longer to import than most methods run

    count = cells * cells
    if cells < 1 or designs < 2 or count * 2 > qmc.Sobol.MAXDIM:
        raise UsageError(f"sobol: cells {cells}, designs {designs}; need cells >= 1 and designs >= 2")
    drawn = qmc.Sobol(2 * count, rng=np.random.default_rng(seed)).random_base2(int(designs - 1).bit_length())[:designs]
    first, second = drawn[:, :count], drawn[:, count:]
    mixed = np.repeat(first[None], count, axis=0)
    for i in range(count):
        mixed[i, :, i] = second[:, i]
    masks = np.concatenate([first, second, mixed.reshape(-1, count)])
    values = np.empty((len(batch.x), cells, cells), dtype=np.float32)
    for index in range(len(batch.x)):
        found = masked_scores(batch, index, targets[index], masks, cells)
        values[index] = total_indices(found[:designs], found[2 * designs :].reshape(count, designs)).reshape(cells, -1)
    return Maps(values, values)


def total_indices(first: np.ndarray, mixed: np.ndarray) -> np.ndarray:
    """(d,) Jansen's estimates of the total Sobol indices from f(A) (N,) and f(C_i) (d, N); 0 for a constant score."""
    variance = float(first.var())
    spread = ((first[None] - mixed) ** 2).mean(axis=1) / 2
    found: np.ndarray = spread / variance if variance > 0 else np.zeros(len(mixed))
    return found


@method("hsic", "HSIC", "perturbation", many=True)
def hsic(batch: Batch, targets: Sequence[Target], *, cells: int = 8, designs: int = 500, seed: int = 0) -> Maps:
    """How strongly the score depends on whether each cell is shown, linear or not.

    Novello et al. 2022, "Making Sense of Dependence: Efficient Black-box Explanations Using Dependence Measure",
    arXiv:2206.06219: the Hilbert-Schmidt independence criterion between a cell of random binary masks (kernel: equal or
    not) and the score (Gaussian kernel, its width the median distance of scores that differ): tr(K H L H) / (n - 1)^2.
    """
    from scipy.stats import qmc

    if cells < 1 or designs < 4:
        raise UsageError(f"hsic: cells {cells}, designs {designs}; need cells >= 1 and designs >= 4")
    count = cells * cells
    masks = (qmc.LatinHypercube(count, rng=np.random.default_rng(seed)).random(designs) < 0.5).astype(np.float64)
    values = np.empty((len(batch.x), cells, cells), dtype=np.float32)
    for index in range(len(batch.x)):
        found = masked_scores(batch, index, targets[index], masks, cells)
        values[index] = dependence(masks, found).reshape(cells, -1)
    return Maps(values, values)


def dependence(masks: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(d,) HSIC of each column of binary masks (n, d) with the scores (n,); 0 for a constant score."""
    distances = (found[:, None] - found[None]) ** 2
    apart = distances[np.triu_indices(len(found), 1)]
    if not (apart := apart[apart > 0]).size:
        return np.zeros(masks.shape[1])
    width = float(np.median(apart))  # of those that differ: a box that most masks lose scores 0 with all of them
    kernel = np.exp(-distances / (2 * width))
    centred = kernel - kernel.mean(axis=0) - kernel.mean(axis=1, keepdims=True) + kernel.mean()
    # the kernel of equal bits is z z' + (1 - z)(1 - z)'; centred rows add up to nothing, so both parts are the same
    found_: np.ndarray = 2 * np.einsum("ni,nm,mi->i", masks, centred, masks) / (len(found) - 1) ** 2
    return found_


def masked_scores(batch: Batch, index: int, target: Target, masks: np.ndarray, cells: int) -> np.ndarray:
    """(n,) scores of one picture multiplied by masks (n, cells^2), enlarged; a batch of them at a time."""
    size, found = batch.executors.batch, []
    for start in range(0, len(masks), size):
        grids = masks[start : start + size].reshape(-1, cells, cells).astype(np.float32)
        hidden = batch.x[index] * resized(grids, batch.size)[:, None]
        short = size - len(hidden)
        if short and len(masks) > size:  # one shape for all passes
            hidden = np.concatenate([hidden, np.repeat(hidden[-1:], short, axis=0)])
        found.append(batch.executors.scores(hidden, [target], probability=True)[: len(grids)])
    return np.concatenate(found)
