"""Pictures from parameters: against the published formulas, written out slowly, and against lucent."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from convscope.engine.ascent.recipe.colour import DECORRELATION, decorrelate, recorrelate
from convscope.engine.ascent.recipe.parameterizations import Fourier, Maco, Pixels
from convscope.engine.ascent.recipe.spectrum import measured, natural_magnitude, reference_pictures
from convscope.engine.ascent.streams import stream


@pytest.mark.parametrize("space", [Fourier(1, (32, 32)), Fourier(1, (24, 40)), Maco(1, (48, 48)), Fourier(3, (32, 32))])
def test_a_picture_has_the_same_bits_alone_and_among_others(space: Fourier | Maco) -> None:
    parameters = torch.stack([space.noise(np.random.default_rng(number)) for number in range(5)]).requires_grad_()
    together = space.image(parameters)
    (gradients,) = torch.autograd.grad(together.square().sum(), parameters)
    for number in range(5):
        one = parameters[number : number + 1].detach().requires_grad_()
        alone = space.image(one)
        assert torch.equal(alone[0], together[number])
        assert torch.equal(torch.autograd.grad(alone.square().sum(), one)[0][0], gradients[number])


def test_the_decorrelation_matrix_has_the_published_values() -> None:
    root = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
    largest = np.sqrt(0.26**2 + 0.27**2 + 0.27**2)
    np.testing.assert_allclose(DECORRELATION, root / largest, atol=1e-12)


def test_decorrelation_is_undone_by_recorrelation() -> None:
    image = torch.rand(2, 3, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(recorrelate(decorrelate(image)), image)


@pytest.mark.parametrize(("decay", "contrast"), [(1.0, 0.25), (1.5, 0.125)])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (6, 10)])
def test_the_fourier_image_is_the_documented_sum_of_waves(size: tuple[int, int], decay: float, contrast: float) -> None:
    height, width = size
    rng = np.random.default_rng(0)
    space = Fourier(3, size, decay, contrast)
    parameters = rng.normal(0, 1, (3, height, width // 2 + 1, 2))
    scaled = np.zeros((3, height, width // 2 + 1), dtype=complex)
    for row in range(height):
        for column in range(width // 2 + 1):
            fy = (row if row <= (height - 1) // 2 else row - height) / height
            cycles = max(np.hypot(fy, column / width) * max(size), 1)
            scale = max(size) / cycles * (4.5 / cycles) ** (decay - 1)
            scaled[:, row, column] = (parameters[:, row, column, 0] + 1j * parameters[:, row, column, 1]) * scale
    plane = np.fft.irfft2(scaled, s=size, axes=(1, 2)) * np.sqrt(height * width) * contrast
    expected = 1 / (1 + np.exp(-np.einsum("cd,dhw->chw", DECORRELATION, plane)))
    image = space.image(torch.from_numpy(parameters[None].astype(np.float32)))[0].numpy()
    np.testing.assert_allclose(image, expected, atol=1e-5)


@pytest.mark.parametrize("size", [(16, 16), (12, 18)])
def test_the_lucid_image_is_lucents_for_the_same_noise(size: tuple[int, int]) -> None:
    if importlib.util.find_spec("lucent") is None:
        pytest.skip("torch-lucent is not installed (requirements-reference.txt)")
    from ...torchvision_schemas import declare

    declare()
    try:
        from lucent.optvis.param.color import to_valid_rgb
        from lucent.optvis.param.spatial import fft_image
    except ImportError as error:
        pytest.skip(f"lucent cannot be imported: {error}")
    parameters, image = fft_image([2, 3, *size])
    theirs = to_valid_rgb(image, decorrelate=True)().detach().numpy()
    ours = Fourier(3, size).image(parameters[0].detach()).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(("decay", "contrast"), [(1.0, 0.25), (1.5, 0.125)])
def test_a_coefficient_means_the_same_at_every_size(decay: float, contrast: float) -> None:
    small, large = Fourier(3, (16, 16), decay, contrast), Fourier(3, (32, 32), decay, contrast)
    noise = torch.randn(1, 3, 16, 9, 2, generator=torch.Generator().manual_seed(0)) * 0.3
    noise[:, :, 6:11] = 0
    noise[:, :, :, 6:] = 0
    grown = large.grow(noise, noise, torch.zeros(1, 3, 32, 17, 2))
    torch.testing.assert_close(large.image(grown)[..., ::2, ::2], small.image(noise), atol=1e-5, rtol=0)
    torch.testing.assert_close(small.shrink(grown, large)[:, :, :6], noise[:, :, :6])


@pytest.mark.parametrize(("decay", "contrast"), [(1.0, 0.25), (1.5, 0.125)])
def test_a_photograph_survives_the_fourier_code(decay: float, contrast: float) -> None:
    picture = torch.from_numpy(reference_pictures(3, (32, 32))[:2])
    space = Fourier(3, (32, 32), decay, contrast)
    torch.testing.assert_close(space.image(space.encode(picture)), picture.clamp(0.02, 0.98), atol=1e-4, rtol=0)


def test_pixels_count_from_the_models_mean() -> None:
    space = Pixels(3, (2, 2), np.array([123.0, 117.0, 104.0]))
    image = space.image(torch.zeros(1, 3, 2, 2))[0, :, 0, 0].numpy() * 255
    np.testing.assert_allclose(image, [123, 117, 104], atol=1e-4)
    picture = torch.rand(1, 3, 2, 2)
    torch.testing.assert_close(space.image(space.encode(picture)), picture)


def test_the_start_noise_is_as_asked() -> None:
    uniform = Pixels(3, (64, 64), np.zeros(3)).noise(stream(0)).numpy()
    assert uniform.min() >= 118 and uniform.max() <= 138 and abs(uniform.mean() - 128) < 0.3
    normal = Pixels(3, (64, 64), np.zeros(3), "normal", 127, 10).noise(stream(1)).numpy()
    assert abs(normal.mean() - 127) < 0.5 and abs(normal.std() - 10) < 0.3


def test_a_maco_picture_has_the_natural_magnitude_whatever_its_phase() -> None:
    space = Maco(1, (32, 32))
    image = space.image(torch.randn(1, *space._magnitude.shape, generator=torch.Generator().manual_seed(0)))
    logits = torch.log(image) - torch.log1p(-image)
    found = np.abs(np.fft.rfft2(logits[0, 0].numpy()))[1:, 1:-1]
    wanted = space._magnitude[0][1:, 1:-1]
    ratio = found / wanted
    assert np.std(np.log(ratio)) < 0.02


def test_the_shipped_spectrum_falls_with_frequency_as_natural_pictures_do() -> None:
    plane = measured()["magnitude"][0]
    rings = [plane[0, 2:5].mean(), plane[0, 8:12].mean(), plane[0, 30:40].mean()]
    assert rings[0] > 2 * rings[1] > 4 * rings[2]
    assert natural_magnitude(3, (48, 40)).shape == (3, 48, 21)
    assert np.isfinite(natural_magnitude(3, (300, 300))).all()


def test_streams_depend_on_every_part_of_the_key() -> None:
    assert stream("a", 1).random() == stream("a", 1).random()
    assert stream("a", 1).random() != stream("a", 2).random()
    assert stream("a", 1).random() != stream("a1").random()
