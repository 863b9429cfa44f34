"""From a picture to the model's input: the presets against Keras's and torchvision's published formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convscope.engine.graph.preprocessing import PREPROCESSINGS, Preprocessing, preprocessing_of
from convscope.errors import UsageError

IMAGE = np.random.default_rng(0).random((2, 3, 4, 5)).astype(np.float32)


def test_caffe_is_bgr_minus_the_imagenet_means() -> None:
    x = preprocessing_of("caffe").normalize(IMAGE)
    for channel, (source, mean) in enumerate([(2, 103.939), (1, 116.779), (0, 123.68)]):
        np.testing.assert_allclose(x[:, channel], IMAGE[:, source] * 255 - mean, rtol=1e-5, atol=1e-4)


def test_tf_maps_to_minus_one_to_one() -> None:
    np.testing.assert_allclose(preprocessing_of("tf").normalize(IMAGE), IMAGE * 2 - 1, atol=1e-6)


def test_torch_subtracts_mean_and_divides_by_std() -> None:
    x = preprocessing_of("torch").normalize(IMAGE)
    np.testing.assert_allclose(x[:, 1], (IMAGE[:, 1] - 0.456) / 0.224, rtol=1e-5)


def test_raw_is_the_range_of_bytes() -> None:
    np.testing.assert_allclose(preprocessing_of("raw").normalize(IMAGE), IMAGE * 255, rtol=1e-6)


@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_denormalize_undoes_normalize_in_numpy_and_torch(name: str) -> None:
    chosen = preprocessing_of(name)
    np.testing.assert_allclose(chosen.denormalize(chosen.normalize(IMAGE)), IMAGE, atol=1e-5)
    tensor = torch.from_numpy(IMAGE)
    torch.testing.assert_close(chosen.denormalize(chosen.normalize(tensor)), tensor, rtol=0, atol=1e-5)
    torch.testing.assert_close(chosen.normalize(tensor), torch.from_numpy(chosen.normalize(IMAGE)))


def test_the_gradient_flows_to_the_picture() -> None:
    image = torch.from_numpy(IMAGE).requires_grad_(True)
    (gradient,) = torch.autograd.grad(preprocessing_of("caffe").normalize(image).sum(), image)
    assert torch.all(gradient == 255)


@given(st.floats(-10, 10), st.floats(0.1, 10), st.floats(-5, 0), st.floats(1, 255))
def test_bounds_are_the_inputs_extremes(mean: float, std: float, low: float, high: float) -> None:
    chosen = Preprocessing(low, high, (mean,), (std,))
    least, most = chosen.bounds(3)
    ends = np.stack([chosen.normalize(np.full((1, 3, 1, 1), v)) for v in (0.0, 1.0)])
    np.testing.assert_allclose(least, ends.min(0).ravel(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(most, ends.max(0).ravel(), rtol=1e-9, atol=1e-9)


def test_a_mean_of_the_wrong_length_and_an_unknown_preset_are_named() -> None:
    with pytest.raises(UsageError, match="mean has 2 values"):
        Preprocessing(mean=(1.0, 2.0)).normalize(IMAGE)
    with pytest.raises(UsageError, match="'vgg' is unknown"):
        preprocessing_of("vgg")
