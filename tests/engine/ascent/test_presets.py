"""One step of each classic recipe against its formula, written independently on the torch side."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from torch.nn import functional as F

from convscope.engine.ascent.filters import filters
from convscope.engine.ascent.loop import Ascent, AscentBatch
from convscope.engine.ascent.many import Studio
from convscope.engine.ascent.recipe.parameterizations import Pixels
from convscope.engine.ascent.recipe.presets import PRESETS, names, preset
from convscope.engine.ascent.recipe.show import Percentile, Standard, shown
from convscope.engine.ascent.settings import settings
from convscope.engine.graph.graph import Graph
from convscope.errors import UsageError

from .nets import small

SIZE = 24
LAYER, UNIT = "conv2", 3
MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)[:, None, None] * 255


def _one(name: str, steps: int = 1) -> tuple[np.ndarray, np.ndarray, torch.nn.Module]:
    """Start and result of a preset in 0..255, (C, H, W), and a plain function of 0..255 pixels to the unit's map."""
    graph = small()
    layer = graph.layer(LAYER)
    studio = Studio(graph, layer, settings(graph, preset_name=name, size=SIZE, steps=steps))
    made = AscentBatch(
        studio.network, studio.goal, studio.chosen.preset, [Ascent(("k",), UNIT)], (SIZE, SIZE), steps
    ).run()[0]
    return made.start * 255, made.pixels * 255, _Map(graph)


class _Map(torch.nn.Module):
    """From pixels in 0..255 to the unit's map, preprocessing and convolutions written out."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.weights = {
            t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.model.graph.initializer
        }

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        x = (pixels / 255 - mean[:, None, None]) / std[:, None, None]
        w = self.weights
        x = F.conv2d(x, w["conv1.weight"], w["conv1.bias"], padding=1)
        x = F.batch_norm(x, w["bn1.running_mean"], w["bn1.running_var"], w["bn1.weight"], w["bn1.bias"])
        return F.conv2d(F.max_pool2d(F.relu(x), 2), w["conv2.weight"], w["conv2.bias"], padding=1)[:, UNIT]


def _gradient(network: torch.nn.Module, pixels: np.ndarray, centre: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.from_numpy(pixels)[None].requires_grad_()
    maps = network(x)
    value = maps[0, maps.shape[1] // 2, maps.shape[2] // 2] if centre else maps.mean()
    (gradient,) = torch.autograd.grad(value, x)
    return x.detach()[0], gradient[0]


def _yosinskis_blur(pixels: np.ndarray, deviation: float) -> np.ndarray:
    from scipy import ndimage

    return np.asarray(ndimage.gaussian_filter(pixels, (0, deviation, deviation)))


def test_one_chollet_step_is_its_formula() -> None:
    start, end, network = _one("chollet")
    assert start.min() >= 118 and start.max() <= 138
    x, g = _gradient(network, start)
    expected = x + g / (g.square().mean().sqrt() + 1e-5)
    np.testing.assert_allclose(end, expected.numpy(), rtol=1e-5, atol=1e-3)


def test_one_jacobgil_step_is_its_formula() -> None:
    start, end, network = _one("jacobgil")
    assert start.min() >= 128 and start.max() <= 148
    x, g = _gradient(network, start)
    stepped = (x + 0.9 * g / (g.square().mean().sqrt() + 1e-5)).numpy().astype(np.float64)
    mirrored = np.pad(stepped, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    box = sum(mirrored[:, i : i + SIZE, j : j + SIZE] for i in range(3) for j in range(3)) / 9
    clipped = np.where(np.abs(stepped) < np.percentile(np.abs(stepped), 1), 0, stepped)
    expected = (3 * box + 3 * 0.8 * stepped + clipped) / 7
    np.testing.assert_allclose(end, expected, rtol=1e-5, atol=1e-3)


def test_one_yosinski_step_is_the_toolboxs() -> None:
    start, end, network = _one("yosinski-c", steps=2)
    x, g = _gradient(network, np.clip(start, 0, 255), centre=True)
    moved = _yosinskis_blur(((x + 100 * g).numpy() - MEAN) * (1 - 1e-4), 1.0)
    np.testing.assert_allclose(end, np.clip(moved + MEAN, 0, 255), rtol=1e-4, atol=1e-2)


def test_one_yosinski_step_of_row_a_is_the_toolboxs() -> None:
    """The rate that forecasts a gain of 2, at most 100; blur 0.5; the half of the pixels with small norm to zero."""
    start, end, network = _one("yosinski-a", steps=2)
    x, g = _gradient(network, np.clip(start, 0, 255), centre=True)
    rate = min(100.0, 2 / float(g.square().sum()))
    moved = _yosinskis_blur((x + rate * g).numpy() - MEAN, 0.5)
    norm = np.sqrt((moved**2).sum(0))
    kept = moved * (norm >= np.percentile(norm, 50))
    assert 0.4 < (kept == 0).mean() < 0.6
    np.testing.assert_allclose(end, np.clip(kept + MEAN, 0, 255), rtol=1e-4, atol=1e-2)


def test_one_yosinski_step_of_row_b_is_the_toolboxs() -> None:
    """Rate 100; a decay of 0.3; the fifth of the pixels with the smallest norm to zero."""
    start, end, network = _one("yosinski-b", steps=2)
    x, g = _gradient(network, np.clip(start, 0, 255), centre=True)
    moved = ((x + 100 * g).numpy() - MEAN) * 0.7
    norm = np.sqrt((moved**2).sum(0))
    kept = moved * (norm >= np.percentile(norm, 20))
    np.testing.assert_allclose(end, np.clip(kept + MEAN, 0, 255), rtol=1e-4, atol=1e-2)


def test_one_yosinski_step_of_row_d_is_the_toolboxs() -> None:
    """The rate that forecasts a gain of 2; blur 0.5; the 90 % of the pixels that contribute least to zero."""
    start, end, network = _one("yosinski-d", steps=2)
    x, g = _gradient(network, np.clip(start, 0, 255), centre=True)
    rate = min(1e8, 2 / float(g.square().sum()))
    moved = _yosinskis_blur((x + rate * g).numpy() - MEAN, 0.5)
    contribution = np.abs((moved * g.numpy()).sum(0))
    kept = moved * (contribution >= np.percentile(contribution, 90))
    np.testing.assert_allclose(end, np.clip(kept + MEAN, 0, 255), rtol=1e-4, atol=1e-2)


def test_the_numbers_of_the_sources() -> None:
    lucid = PRESETS["lucid"]
    assert (lucid.steps, lucid.size, lucid.rule.rate, lucid.redirect) == (512, 128, 0.05, 16)  # type: ignore[attr-defined]
    assert (PRESETS["chollet"].steps, PRESETS["jacobgil"].steps) == (20, 20)
    assert [PRESETS[f"yosinski-{row}"].steps for row in "abcd"] == [500, 750, 1000, 1000]
    assert names()[0] == "convscope"


def test_chollets_picture_has_mean_a_half_and_deviation_a_tenth() -> None:
    pixels = np.random.default_rng(0).normal(0.5, 0.02, (3, 32, 32))
    picture = shown(pixels, Standard(), np.zeros(3))
    assert picture.mean() == pytest.approx(0.5, abs=1e-3) and picture.std() == pytest.approx(0.1, abs=1e-3)


def test_macos_picture_is_shown_from_its_first_percentile_to_its_last_as_horama_does() -> None:
    pixels = np.random.default_rng(0).normal(0.5, 0.02, (3, 32, 32)).astype(np.float32)
    clipped = np.clip(pixels, np.percentile(pixels, 1.0), np.percentile(pixels, 99.0))
    expected = (clipped - clipped.min()) / (clipped - clipped.min()).max()
    np.testing.assert_allclose(shown(pixels, Percentile(), np.zeros(3)), expected.transpose(1, 2, 0), atol=1e-5)
    assert not shown(np.full((3, 4, 4), 0.5), Percentile(), np.zeros(3)).any()  # a blank picture divides by nothing


def test_an_unknown_preset_is_refused_with_the_list() -> None:
    with pytest.raises(UsageError, match="preset 'x' is unknown; choose one of convscope, strongest, objects"):
        preset("x")


@pytest.mark.parametrize("name", names())
def test_every_preset_raises_what_it_maximizes(name: str) -> None:
    steps = 12 if name in ("chollet", "jacobgil") else 24
    unit = filters(small(), LAYER, UNIT, preset=name, size=32, steps=steps)[0]
    assert unit.activation_end > unit.activation_start or name == "yosinski-b"  # a decay of 0.3 may win
    assert unit.image.shape == (32, 32, 3) and 0 <= unit.image.min() <= unit.image.max() <= 1


def test_dreams_start_is_shrunk_and_its_details_come_back() -> None:
    space = Pixels(1, (16, 16), np.zeros(1))
    noise = torch.rand(1, 1, 16, 16)
    base = space.at((8, 8)).shrink(noise, space)
    assert torch.equal(space.grow(base, base, noise), noise)
