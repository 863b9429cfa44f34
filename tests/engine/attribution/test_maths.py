"""The formulas against closed forms that a person can check."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from convscope.engine.attribution.faithfulness.sanity import rank_correlation
from convscope.engine.attribution.maps import heatmaps, share_inside, unit_range
from convscope.engine.attribution.methods import cam


def lecture() -> tuple[torch.Tensor, torch.Tensor]:
    """The lecture's example: feature maps 4 x 4 x 3, gradients of channels 1 and 2 rising by 0.1 both ways."""
    place = np.add.outer(np.arange(4), np.arange(4)) * 0.1
    gradients = np.stack([0.1 + place, 0.5 + place, np.zeros((4, 4))])
    activations = np.arange(48, dtype=np.float64).reshape(3, 4, 4) / 10
    return torch.from_numpy(activations)[None], torch.from_numpy(gradients)[None]


def test_the_lectures_gradients_pool_to_04_and_08():
    """The lecture prints 0.45 for the first channel; 0.1 to 0.7 rising evenly both ways has the mean 0.4."""
    _, gradients = lecture()
    assert float(gradients[0, 0].max()) == pytest.approx(0.7)
    assert float(gradients[0, 1].max()) == pytest.approx(1.1)
    assert gradients.mean(dim=(2, 3))[0].tolist() == pytest.approx([0.4, 0.8, 0.0])


def test_grad_cam_of_the_lectures_example_is_the_weighted_sum():
    activations, gradients = lecture()
    expected = 0.4 * activations[0, 0] + 0.8 * activations[0, 1]
    assert torch.allclose(cam.grad_cam(activations, gradients)[0], expected)


def test_on_a_linear_head_grad_cam_hires_cam_and_x_grad_cam_agree():
    """With S = sum_k w_k sum_ij A_kij the gradient is w_k everywhere, and all three are sum_k w_k A_k."""
    activations = torch.rand(2, 5, 4, 4, dtype=torch.float64)
    weights = torch.randn(2, 5, dtype=torch.float64)
    gradients = weights[:, :, None, None].expand_as(activations)
    expected = cam.weighted(activations, weights)
    for method in (cam.grad_cam, cam.hires_cam, cam.x_grad_cam):
        assert torch.allclose(method(activations, gradients), expected)


def test_hires_cam_and_x_grad_cam_are_complete_for_piecewise_linear_scores():
    """The maps add up to sum A G, the part of the score that a ReLU network without biases has."""
    activations = torch.rand(2, 5, 4, 4, dtype=torch.float64)
    gradients = torch.randn(2, 5, 4, 4, dtype=torch.float64)
    total = (activations * gradients).sum(dim=(1, 2, 3))
    assert torch.allclose(cam.hires_cam(activations, gradients).sum(dim=(1, 2)), total)
    assert torch.allclose(cam.x_grad_cam(activations, gradients).sum(dim=(1, 2)), total)


def test_grad_cam_plus_plus_of_one_active_position():
    """One position, A = 2, G = 0.5: alpha = 0.25 / (0.5 + 2 * 0.125) = 1/3, weight 1/6, map 1/3."""
    activations = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    activations[0, 0, 0, 1] = 2
    gradients = torch.zeros_like(activations)
    gradients[0, 0, 0, 1] = 0.5
    assert float(cam.grad_cam_plus_plus(activations, gradients)[0, 0, 1]) == pytest.approx(1 / 3)


def test_a_silent_channel_has_no_weight_in_any_map():
    activations = torch.rand(1, 3, 4, 4)
    activations[:, 1] = 0
    gradients = torch.randn(1, 3, 4, 4)
    without = torch.cat([activations[:, :1], activations[:, 2:]], 1), torch.cat([gradients[:, :1], gradients[:, 2:]], 1)
    formulas = (cam.grad_cam, cam.grad_cam_plus_plus, cam.hires_cam, cam.x_grad_cam, cam.layer_cam, cam.eigen_grad_cam)
    for method in formulas:
        found = method(activations, gradients)
        assert torch.isfinite(found).all()
        assert torch.allclose(found, method(*without), atol=1e-5)


def test_eigen_cam_of_a_rank_one_map_is_that_map():
    pattern = torch.rand(4, 4, dtype=torch.float64)
    direction = torch.tensor([3.0, 4.0], dtype=torch.float64)
    activations = (direction[:, None, None] * pattern)[None]
    assert torch.allclose(cam.eigen_cam(activations)[0], 5 * pattern)


def test_layer_cam_counts_positive_gradients_only():
    activations = torch.ones(1, 1, 1, 2)
    gradients = torch.tensor([[[[2.0, -3.0]]]])
    assert cam.layer_cam(activations, gradients).tolist() == [[[2.0, 0.0]]]


def test_heatmaps_are_rectified_and_reach_one_without_shifting_the_zero():
    maps = heatmaps(np.asarray([[[-1.0, 1.0], [2.0, 4.0]]]), (2, 2))
    assert maps.tolist() == [[[0.0, 0.25], [0.5, 1.0]]]


def test_a_map_without_evidence_stays_zero_and_finite():
    assert not heatmaps(np.full((1, 3, 3), -2.0), (6, 6)).any()
    assert np.isfinite(heatmaps(np.full((1, 3, 3), np.nan), (6, 6))).all()


def test_unit_range_of_a_constant_map_is_zero():
    assert not unit_range(np.full((2, 3, 3), 7.0)).any()


def test_share_inside_a_box():
    heat = np.zeros((4, 4))
    heat[:2, :2] = 1
    assert share_inside(heat, (0, 0, 2, 1)) == 0.5


def test_rank_correlation_is_one_for_any_rising_function_and_zero_for_constants():
    a = np.random.default_rng(0).random((2, 9))
    assert rank_correlation(a, np.exp(3 * a)) == pytest.approx(1.0)
    assert rank_correlation(a, -a) == pytest.approx(-1.0)
    assert rank_correlation(a, np.zeros((2, 9))) == 0.0
