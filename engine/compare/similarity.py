"""How alike two layers are: linear CKA, SVCCA, PWCCA, Procrustes; one pass over the images, bounded memory.

Rows of ``x`` (n, p) and ``y`` (n, q) are the same examples: images, or positions of feature maps. Only sums of
products are kept, so the number of examples does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Moments:
    """Streaming first and second moments of two sets of features seen on the same examples."""

    def __init__(self, p: int, q: int) -> None:
        self.count = 0
        self.mean_x, self.mean_y = np.zeros(p), np.zeros(q)
        self.xx, self.yy, self.xy = np.zeros((p, p)), np.zeros((q, q)), np.zeros((p, q))

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """Takes in more examples, (n, p) and (n, q); update of Chan, Golub and LeVeque 1979, stable."""
        n = len(x)
        x, y = x.astype(np.float64), y.astype(np.float64)
        mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
        dx, dy = mean_x - self.mean_x, mean_y - self.mean_y
        x, y = x - mean_x, y - mean_y
        share = self.count * n / (self.count + n)
        self.xx += x.T @ x + share * np.outer(dx, dx)
        self.yy += y.T @ y + share * np.outer(dy, dy)
        self.xy += x.T @ y + share * np.outer(dx, dy)
        self.count += n
        self.mean_x += dx * n / self.count
        self.mean_y += dy * n / self.count

    def correlation(self) -> np.ndarray:
        """(p, q) Pearson correlations; 0 where a feature never changes."""
        size = np.sqrt(np.outer(np.diag(self.xx), np.diag(self.yy)))
        return np.divide(self.xy, size, out=np.zeros_like(self.xy), where=size > 1e-30)

    def cka(self) -> float:
        """Linear CKA, ||Y'X||_F^2 / (||X'X||_F ||Y'Y||_F) (Kornblith et al. 2019, arXiv:1905.00414, eq. 5)."""
        below = np.linalg.norm(self.xx) * np.linalg.norm(self.yy)
        return min(float((self.xy**2).sum() / below), 1.0) if below > 0 else 0.0

    def svcca(self, keep: float = 0.99) -> float:
        """Mean canonical correlation of the leading directions (Raghu et al. 2017, arXiv:1706.05806).

        Args:
            keep: share of the variance that the kept singular directions explain.
        """
        rho, _ = self._canonical(keep)
        return float(rho.mean()) if rho.size else 0.0

    def pwcca(self, keep: float = 1 - 1e-10) -> float:
        """Canonical correlations weighted by how much of X they account for (Morcos et al. 2018, arXiv:1806.05759).

        Weight i is the sum over X's features j of |<h_i, x_j>|, h_i being X's canonical variables.
        """
        rho, directions = self._canonical(keep)
        if not rho.size:
            return 0.0
        weights = np.abs(directions.T @ self.xx).sum(axis=1)[: rho.size]
        return float((weights * rho).sum() / weights.sum())

    def procrustes(self) -> float:
        """1 - d/2 with d the orthogonal Procrustes distance of the centred, unit-norm X and Y.

        d = ||X||_F^2 + ||Y||_F^2 - 2 ||X'Y||_* (Ding et al. 2021, arXiv:2108.01661): 1 for equal up to rotation
        and scale, 0 for orthogonal.
        """
        size = np.sqrt(np.trace(self.xx) * np.trace(self.yy))
        return float(np.linalg.svd(self.xy, compute_uv=False).sum() / size) if size > 0 else 0.0

    def _canonical(self, keep: float) -> tuple[np.ndarray, np.ndarray]:
        """Canonical correlations, and X's canonical directions (p, k) in feature space."""
        white_x, white_y = _whitening(self.xx, keep), _whitening(self.yy, keep)
        left, rho, _ = np.linalg.svd(white_x.T @ self.xy @ white_y, full_matrices=False)
        return np.clip(rho, 0, 1), white_x @ left


def _whitening(covariance: np.ndarray, keep: float) -> np.ndarray:
    """(p, k) map to uncorrelated unit-variance features that keep the given share of the variance."""
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    if values[0] <= 0:
        return np.zeros((len(values), 0))
    total = np.cumsum(np.maximum(values, 0))
    k = int(np.searchsorted(total, keep * total[-1]) + 1)
    k = min(k, int((values > 1e-12 * values[0]).sum()))
    return vectors[:, :k] / np.sqrt(values[:k])


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear CKA of (n, p) and (n, q), biased, of all examples at once (Kornblith et al. 2019)."""
    moments = Moments(x.shape[1], y.shape[1])
    moments.add(x, y)
    return moments.cka()


def unbiased_hsic(k: np.ndarray, el: np.ndarray) -> float:
    """HSIC_1 of two Gram matrices (n, n), n >= 4 (Song et al. 2012, JMLR 13, eq. 5).

    With zeroed diagonals: [tr(KL) + 1'K1 1'L1 / ((n-1)(n-2)) - 2/(n-2) 1'KL1] / (n (n-3)).
    """
    n = len(k)
    k, el = k - np.diag(np.diag(k)), el - np.diag(np.diag(el))
    total = (k * el.T).sum() + k.sum() * el.sum() / ((n - 1) * (n - 2)) - 2 * (k.sum(0) @ el.sum(1)) / (n - 2)
    return float(total / (n * (n - 3)))


class MinibatchCka:
    """Linear CKA between every layer of A and every layer of B from minibatches.

    The three HSIC terms are averaged over minibatches by the unbiased estimator before the ratio is taken
    (Nguyen et al. 2021, arXiv:2010.15327, eq. 4), so that memory holds one minibatch's Gram matrices.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self.cross = np.zeros((rows, columns))
        self.own_a, self.own_b = np.zeros(rows), np.zeros(columns)

    def add(self, a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> None:
        """One minibatch: each layer's activations, (n, ...) with the same n >= 4 images."""
        grams_a, grams_b = [_gram(x) for x in a], [_gram(x) for x in b]
        self.own_a += [unbiased_hsic(k, k) for k in grams_a]
        self.own_b += [unbiased_hsic(k, k) for k in grams_b]
        self.cross += [[unbiased_hsic(k, el) for el in grams_b] for k in grams_a]

    def result(self) -> np.ndarray:
        """(rows, columns); NaN where a layer's activations do not vary."""
        below = np.sqrt(np.maximum(np.outer(self.own_a, self.own_b), 0))
        return np.divide(self.cross, below, out=np.full_like(self.cross, np.nan), where=below > 0)


def _gram(x: np.ndarray) -> np.ndarray:
    flat = x.reshape(len(x), -1).astype(np.float64)
    flat = flat - flat.mean(axis=0)  # HSIC_1 is blind to a shift; without it the float sums cancel badly
    scale = np.abs(flat).max()
    flat = flat / scale if scale > 0 else flat
    gram = flat @ flat.T
    return np.asarray(gram * (scale**2 if np.isfinite(scale**2) else 1.0))
