"""Step rules and regularizers against torch.optim, scipy and formulas written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from convscope.engine.ascent.recipe.regularizers import (
    BoxBlur,
    ClipSmallContribution,
    ClipSmallNorm,
    ClipSmallValues,
    Decay,
    GaussianBlur,
    TotalVariation,
)
from convscope.engine.ascent.recipe.steps import Adam, Forecast, Normalized

ZERO = torch.zeros(1)


def _noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("nesterov", [False, True])
def test_adam_takes_torchs_steps(nesterov: bool) -> None:
    start = _noise(2, 3, 4)
    ours, theirs = start.clone(), start.clone().requires_grad_()
    kind = torch.optim.NAdam if nesterov else torch.optim.Adam
    optimizer = kind([theirs], lr=0.05, maximize=True)
    rule = Adam(0.05, nesterov=nesterov)
    state = rule.start(ours)
    for step in range(8):
        gradient = _noise(2, 3, 4, seed=step + 1)
        theirs.grad = gradient.clone()
        optimizer.step()
        ours = rule(ours, gradient, state, step)
    torch.testing.assert_close(ours, theirs.detach(), atol=1e-6, rtol=1e-5)


def test_the_rate_is_held_and_then_falls_along_half_a_cosine() -> None:
    rule = Adam(0.2, beta1=0.0, beta2=0.0, anneal=0.1, hold=0.5).over(8)  # without moments a step is the rate itself
    state, moved = rule.start(ZERO), []
    for step in range(8):
        moved.append(float(rule(ZERO, ZERO + 1, state, step)))
    cosine = [0.02 + 0.18 * 0.5 * (1 + np.cos(np.pi * k / 4)) for k in range(4)]
    assert moved == pytest.approx([0.2] * 4 + cosine, rel=1e-5)


def test_progress_raises_the_linear_forecast_by_what_is_desired() -> None:
    gradient = _noise(2, 3, 4, 4)
    moved = Forecast(1e8, 2.0)(torch.zeros_like(gradient), gradient, {}, 0)
    forecast = (moved * gradient).flatten(1).sum(1)
    torch.testing.assert_close(forecast, torch.full((2,), 2.0))
    limited = Forecast(1e-3, 2.0)(torch.zeros_like(gradient), gradient, {}, 0)
    torch.testing.assert_close(limited, 1e-3 * gradient)


def test_a_pictures_step_does_not_depend_on_its_neighbour() -> None:
    gradient = _noise(2, 3, 4, 4)
    loud = gradient.clone()
    loud[1] *= 1000
    for rule in (Normalized(), Normalized(1.5, "mean"), Forecast(100, 2), Adam()):
        zero = torch.zeros_like(gradient)
        one, other = (rule(zero, g, rule.start(zero), 0)[0] for g in (gradient, loud))
        assert torch.equal(one, other)


@pytest.mark.parametrize("deviation", [0.5, 1.0])
def test_the_blur_is_scipys(deviation: float) -> None:
    picture = _noise(2, 3, 11, 9)
    expected = ndimage.gaussian_filter(picture.numpy(), (0, 0, deviation, deviation))
    np.testing.assert_allclose(GaussianBlur(deviation)(picture, ZERO, 0).numpy(), expected, atol=1e-5)


def test_the_blur_keeps_its_pace() -> None:
    picture = _noise(1, 3, 8, 8)
    changed = [step for step in range(9) if not torch.equal(GaussianBlur(1.0, 4)(picture, ZERO, step), picture)]
    assert changed == [0, 4, 8]


def test_clippings_zero_the_asked_share_and_the_right_pixels() -> None:
    picture, gradient = _noise(2, 3, 10, 10), _noise(2, 3, 10, 10, seed=1)
    values = ClipSmallValues(20)(picture, gradient, 0)
    plain = picture[0].numpy()
    expected = np.where(np.abs(plain) < np.percentile(np.abs(plain), 20), 0, plain)
    np.testing.assert_array_equal(values[0].numpy(), expected)
    norms = ClipSmallNorm(50)(picture, gradient, 0)
    assert int((norms[1].abs().sum(0) == 0).sum()) == 50
    kept = norms[1].abs().sum(0) > 0
    length = picture[1].square().sum(0).sqrt()
    assert length[kept].min() > length[~kept].max()
    contributions = ClipSmallContribution(90)(picture, gradient, 0)
    size = (picture * gradient).sum(1).abs()[0]
    kept = contributions[0].abs().sum(0) > 0
    assert int(kept.sum()) == 10
    assert size[kept].min() > size[~kept].max()


def test_decay_box_and_total_variation_have_their_formulas() -> None:
    picture = _noise(1, 3, 6, 6)
    torch.testing.assert_close(Decay(0.2)(picture, ZERO, 0), picture * 0.8)
    boxed = BoxBlur(3)(picture, ZERO, 0)
    torch.testing.assert_close(boxed[0, 0, 2, 2], picture[0, 0, 1:4, 1:4].mean())
    torch.testing.assert_close(
        boxed[0, 0, 0, 0], torch.nn.functional.pad(picture, (1, 1, 1, 1), mode="reflect")[0, 0, :3, :3].mean()
    )
    stripes = torch.tensor([0.0, 1.0]).repeat(3).expand(1, 1, 6, 6)
    assert float(TotalVariation(2.0)(stripes)) == pytest.approx(2.0)
