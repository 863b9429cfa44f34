"""Similarity and matching against literal re-implementations of the papers."""

from __future__ import annotations

import numpy as np
import pytest

from convscope.engine.compare.matching import match, weight_likeness
from convscope.engine.compare.similarity import MinibatchCka, Moments, linear_cka, unbiased_hsic


def _data(n: int = 60, p: int = 7, q: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) * rng.uniform(0.1, 3, p) + 4
    return x, x[:, :q] @ rng.normal(size=(q, q)) + 0.7 * rng.normal(size=(n, q)) - 2


def _gram_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Kornblith et al. 2019, eq. 3 and 4: HSIC(K, L) = tr(KHLH) / (n - 1)^2, CKA = HSIC / sqrt(HSIC HSIC)."""
    n = len(x)
    h = np.eye(n) - np.ones((n, n)) / n

    def hsic(k: np.ndarray, el: np.ndarray) -> float:
        return float(np.trace(k @ h @ el @ h)) / (n - 1) ** 2

    k, el = x @ x.T, y @ y.T
    return hsic(k, el) / np.sqrt(hsic(k, k) * hsic(el, el))


def test_streamed_cka_equals_the_gram_formula() -> None:
    x, y = _data()
    moments = Moments(7, 5)
    for rows in np.array_split(np.arange(60), 7):
        moments.add(x[rows], y[rows])
    assert abs(moments.cka() - _gram_cka(x, y)) < 1e-9
    assert abs(linear_cka(x, y) - _gram_cka(x, y)) < 1e-9


def test_cka_ignores_rotation_and_scale() -> None:
    x, y = _data()
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(7, 7)))
    assert linear_cka(x, 3 * x @ turn) == pytest.approx(1, abs=1e-12)
    assert linear_cka(x @ turn, y) == pytest.approx(linear_cka(x, y), abs=1e-12)


def test_unbiased_hsic_equals_the_sum_over_distinct_indices() -> None:
    """Song et al. 2012, the U-statistic itself: means over all tuples of distinct examples."""
    from itertools import permutations

    x, y = _data(n=7)
    k, el = x @ x.T, y @ y.T
    pairs = np.mean([k[i, j] * el[i, j] for i, j in permutations(range(7), 2)])
    fours = list(permutations(range(7), 4))
    apart = np.mean([k[i, j] * el[q, r] for i, j, q, r in fours])
    triples = np.mean([k[i, j] * el[i, q] for i, j, q in permutations(range(7), 3)])
    assert unbiased_hsic(k, el) == pytest.approx(pairs + apart - 2 * triples, rel=1e-9)


def test_minibatch_cka_is_the_ratio_of_mean_hsic() -> None:
    x, y = _data()
    streamed, terms = MinibatchCka(1, 1), []
    for rows in np.array_split(np.arange(60), 6):
        streamed.add([x[rows]], [y[rows]])
        k, el = x[rows] @ x[rows].T, y[rows] @ y[rows].T
        terms.append((unbiased_hsic(k, el), unbiased_hsic(k, k), unbiased_hsic(el, el)))
    cross, own_x, own_y = np.mean(terms, axis=0)
    assert streamed.result()[0, 0] == pytest.approx(cross / np.sqrt(own_x * own_y), abs=1e-6)


def _canonical(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Canonical correlations by orthonormal bases of the centred data (Bjorck and Golub 1973)."""
    qx, _ = np.linalg.qr(x - x.mean(axis=0))
    qy, _ = np.linalg.qr(y - y.mean(axis=0))
    left, rho, _ = np.linalg.svd(qx.T @ qy)
    return rho, qx @ left


def test_svcca_and_pwcca_equal_canonical_correlations_of_the_data() -> None:
    x, y = _data()
    moments = Moments(7, 5)
    moments.add(x, y)
    rho, variables = _canonical(x, y)
    assert moments.svcca(keep=1.0) == pytest.approx(rho.mean(), abs=1e-6)
    weights = np.abs(variables[:, :5].T @ (x - x.mean(axis=0))).sum(axis=1)
    assert moments.pwcca() == pytest.approx((weights * rho).sum() / weights.sum(), abs=1e-6)


def test_procrustes_equals_the_best_rotation_found_by_scipy() -> None:
    from scipy.linalg import orthogonal_procrustes

    x, _ = _data()
    y = x @ np.random.default_rng(2).normal(size=(7, 7))
    moments = Moments(7, 7)
    moments.add(x, y)
    one, two = (v - v.mean(axis=0) for v in (x, y))
    one, two = one / np.linalg.norm(one), two / np.linalg.norm(two)
    turn, _ = orthogonal_procrustes(one, two)
    distance = np.linalg.norm(one @ turn - two) ** 2
    assert moments.procrustes() == pytest.approx(1 - distance / 2, abs=1e-9)


@pytest.mark.parametrize("shape", [(64, 3, 3, 3), (128, 64, 3, 3)])
def test_matching_recovers_a_noisy_permutation(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    weight, order = rng.normal(size=shape), rng.permutation(shape[0])
    noisy = weight[order] + rng.normal(0, 0.1 * weight.std(), shape)
    found = match(weight_likeness(weight, noisy), "weights")
    right = (order[found.b] == found.a).mean()
    assert right >= 0.99
    assert found.share == 1.0
    assert (found.confidence > 0).all()


def test_unrelated_units_have_no_counterpart() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 400, 20))
    moments = Moments(20, 20)
    moments.add(x, y)
    assert match(moments.correlation()).share == 0.0


def test_a_unit_that_never_changes_matches_nothing() -> None:
    x, y = _data()
    x[:, 2] = 1.0
    moments = Moments(7, 5)
    moments.add(x, y)
    assert np.all(moments.correlation()[2] == 0)
