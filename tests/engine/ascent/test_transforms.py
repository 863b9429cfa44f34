"""Random views: geometry by hand, one stream per picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from convscope.engine.ascent.recipe.transforms import Crops, Plain, Robust, Roll, Transform, Zoom, resample

STILL = np.array([[0.0, 0, 0, 0, 1, 0]])


def _image(count: int = 1, side: int = 20) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_without_motion_the_view_is_the_picture_in_its_padding() -> None:
    image = _image()
    view = Robust(pad=4, jitters=(2, 2))(image, STILL, (20, 20))
    assert view.shape == (1, 3, 24, 24)
    torch.testing.assert_close(view[..., 2:-2, 2:-2], image)
    assert torch.all(view[..., :2, :] == 0.5)


def test_jitter_moves_by_whole_pixels() -> None:
    image = _image()
    rows = STILL.copy()
    rows[0, :2] = 3, -2  # the window's middle moves 3 to the right and 2 up
    view = Robust(pad=0, jitters=(0, 0))(image, rows, (20, 20))
    torch.testing.assert_close(view[..., 2:, :-3], image[..., :-2, 3:], atol=1e-5, rtol=0)


def test_a_quarter_turn_turns_the_picture() -> None:
    image = _image()
    rows = STILL.copy()
    rows[0, 5] = 90
    view = Robust(pad=0, jitters=(0, 0))(image, rows, (20, 20))
    torch.testing.assert_close(view, torch.rot90(image, 1, (2, 3)), atol=1e-4, rtol=0)


def test_scaling_by_two_shows_the_middle_twice_as_large() -> None:
    ramp = torch.arange(20.0).expand(1, 1, 20, 20)
    rows = STILL.copy()
    rows[0, 4] = 2
    view = Robust(pad=0, jitters=(0, 0))(ramp, rows, (20, 20))
    torch.testing.assert_close(view[0, 0, 10, 1:] - view[0, 0, 10, :-1], torch.full((19,), 0.5), atol=1e-4, rtol=0)


def test_the_standard_views_have_lucids_numbers() -> None:
    rows = Robust().draw(np.random.default_rng(0), 4000)
    assert set(np.unique(rows[:, 0])) == set(np.arange(-4.0, 5))
    assert set(np.unique(rows[:, 2])) == set(np.arange(-2.0, 3))
    np.testing.assert_allclose(np.unique(rows[:, 4]), np.arange(0.90, 1.101, 0.02))
    assert set(np.unique(rows[:, 5])) == set(range(-10, 11))
    assert 6 / 26 * 0.8 < np.mean(rows[:, 5] == 0) < 6 / 26 * 1.2
    assert Robust()(torch.zeros(1, 3, 128, 128), rows[:1], (128, 128)).shape[-1] == 140


def test_a_zoom_on_a_corner_shows_the_corner_as_large_as_the_picture() -> None:
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(20.0), indexing="ij")
    corner = np.array([[0.5, -0.25, 0.25, 0.0]])  # half the side, to the left and down, not turned
    view = Zoom()(torch.stack([x, y])[None], corner, (20, 20))
    assert view.shape == (1, 2, 20, 20)
    wanted = (torch.arange(20.0) + 0.5) / 2 - 0.5
    torch.testing.assert_close(view[0, 0, 5, 1:], wanted[1:], atol=1e-4, rtol=0)
    torch.testing.assert_close(view[0, 1, :-1, 5], wanted[:-1] + 10, atol=1e-4, rtol=0)


def test_a_zoom_stays_on_the_picture_before_it_turns() -> None:
    share, across, down, turn = Zoom(0.5, 1.0, 10.0).draw(np.random.default_rng(0), 4000).T
    assert 0.5 <= share.min() < 0.51 and 0.99 < share.max() <= 1 and 9.9 < np.abs(turn).max() <= 10
    for place in (across, down):
        assert np.all(np.abs(place) + share / 2 <= 0.5 + 1e-12)


def test_a_zoom_shows_a_small_picture_as_large_as_the_finished_one_where_asked() -> None:
    still = np.array([[1.0, 0, 0, 0]])
    view = Zoom(whole=True)(torch.arange(10.0).expand(1, 1, 10, 10), still, (20, 20))
    assert view.shape == (1, 1, 20, 20)
    torch.testing.assert_close(view[0, 0, 0, 1:-1], ((torch.arange(20.0) + 0.5) / 2 - 0.5)[1:-1], atol=1e-5, rtol=0)


def test_a_small_picture_whose_sides_were_rounded_is_shown_at_the_finished_ones_exact_size() -> None:
    """A spectrum of 25 x 96 begins as 6 x 24: once four times as large it would be 24 x 96, or 25 x 100."""
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(24.0), indexing="ij")
    view = Zoom(whole=True)(torch.stack([x, y])[None], np.array([[1.0, 0, 0, 0]]), (25, 96))
    assert view.shape == (1, 2, 25, 96)
    torch.testing.assert_close(view[0, 0, 12, 2:-2], ((torch.arange(96.0) + 0.5) / 4 - 0.5)[2:-2], atol=1e-4, rtol=0)
    torch.testing.assert_close(
        view[0, 1, 3:-3, 50], ((torch.arange(25.0) + 0.5) * 6 / 25 - 0.5)[3:-3], atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("transform", [Plain(), Robust(), Roll(5), Crops(number=3, noise=0.1), Zoom()])
def test_a_view_depends_on_its_own_picture_and_stream_only(transform: Transform) -> None:
    image = _image(3)
    rows = np.stack([transform.draw(np.random.default_rng(i), 1)[0] for i in range(3)])
    together = transform(image, rows, (20, 20))
    alone = transform(image[1:2], rows[1:2], (20, 20))
    assert torch.equal(together[transform.views : 2 * transform.views], alone)


def test_gradients_reach_the_picture_through_every_transform() -> None:
    for transform in (Robust(), Roll(3), Crops(), Zoom()):
        image = _image().requires_grad_()
        transform(image, transform.draw(np.random.default_rng(0), 1), (20, 20)).sum().backward()
        assert image.grad is not None and bool((image.grad != 0).any())


def test_resampling_can_repeat_the_border() -> None:
    image = torch.ones(1, 1, 4, 4)
    far = np.array([[1.0, 0, 10, 0, 1, 0]])
    assert torch.all(resample(image, far, (2, 2), border=True) == 1)
    assert torch.all(resample(image, far, (2, 2), fill=0.25) == 0.25)
