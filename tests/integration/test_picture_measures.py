"""What the benchmarks of pictures measure: known spectra, photographs beside noise, and a class's logit over views."""

from __future__ import annotations

import numpy as np
import pytest

import convscope
from benchmarks import ascent, pictures_measures
from convscope.engine.ascent.network import Network


def power_law(exponent: float, side: int) -> np.ndarray:
    """A grey picture (H, W, 3) whose power falls with frequency to that exponent."""
    rows, columns = np.fft.fftfreq(side)[:, None] * side, np.fft.rfftfreq(side)[None] * side
    amplitude = np.maximum(np.hypot(rows, columns), 1.0) ** (exponent / 2)
    phase = np.random.default_rng(0).uniform(0, 2 * np.pi, amplitude.shape)
    plane = np.fft.irfft2(amplitude * np.exp(1j * phase), s=(side, side))
    return np.repeat((0.5 + 0.2 * plane / plane.std())[:, :, None], 3, axis=2).astype(np.float32)


@pytest.mark.parametrize("exponent", [-3.0, -2.0, 0.0])
@pytest.mark.parametrize("side", [96, 224])
def test_the_slope_is_the_exponent_of_a_power_law(exponent: float, side: int) -> None:
    assert pictures_measures.slope(power_law(exponent, side)) == pytest.approx(exponent, abs=0.25)


def test_photographs_are_near_their_mean_spectrum_and_noise_is_far() -> None:
    real = [pictures_measures.distance(picture) for picture in pictures_measures.photographs()]
    assert 0.3 < np.mean(real) < 1.0
    assert pictures_measures.distance(power_law(0.0, 224)) > 4
    assert pictures_measures.distance(power_law(-3.0, 224)) < 3


def test_the_distance_is_the_mean_square_of_the_spectra_s_ratio() -> None:
    picture = power_law(-2.5, 224)
    fainter = 0.5 + (picture - 0.5) / 2
    first, second = (np.log(pictures_measures.spectrum(p)[1]) for p in (picture, fainter))
    assert np.allclose(first - second, 2 * np.log(2), atol=1e-3)
    mean = np.mean([np.log(pictures_measures.spectrum(p)[1]) for p in pictures_measures.photographs()], axis=0)
    assert pictures_measures.distance(picture) == pytest.approx(float(((first - mean) ** 2).mean()))


def test_unseen_views_of_a_picture_are_judged_at_any_size() -> None:
    graph = convscope.load("lenet", check=False)
    plane = np.random.default_rng(0).random((28, 28, 1), np.float32)
    logits = Network(graph, [graph.logits], "cpu")
    assert np.isfinite(pictures_measures.unseen(logits, 3, plane))
    layer = next(la for la in graph.layers if la.op == "Relu")
    found = ascent.unseen(Network(graph, [layer.tensor], "cpu"), layer, 0, plane.transpose(2, 0, 1))
    assert found >= 0
