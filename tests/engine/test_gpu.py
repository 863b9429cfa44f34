"""A real GPU beside the processor: the same numbers where one pass gives them, pictures as strong where many steps do.

What a GPU forbids is tried everywhere by a stand-in for one (`test_second_device`); here its own kernels compute.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import convscope
from convscope.adapters.twin.build import TwinFactory
from convscope.engine.activations.stream import activations
from convscope.engine.ascent.filters import filters
from convscope.engine.ascent.maximize import maximize
from convscope.engine.ascent.network import Network
from convscope.engine.ascent.photograph import dream, invert
from convscope.engine.ascent.recipe.presets import PRESETS
from convscope.engine.atlas.build import Manner
from convscope.engine.attack import gradient_attack
from convscope.engine.attribution import METHODS, explain
from convscope.engine.executors.exact import float32_exactly
from convscope.engine.installation import examine

from ..node_tests import NodeTest, outcomes
from ..zoo import light_model
from .ascent.nets import small
from .attribution.nets import ResidualNet, images, seeded

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

PHOTO = np.random.default_rng(0).random((40, 48, 3)).astype(np.float32)
RESTING = ("dream", "accent")  # presets that start from a photograph


def _close(here: np.ndarray, there: np.ndarray, share: float = 1e-4) -> None:
    """Within a share of the largest value."""
    assert np.ptp(here) > 0
    np.testing.assert_allclose(there, here, rtol=0, atol=share * float(np.abs(here).max()))


def test_onnx_runtime_computes_on_the_gpu_too() -> None:
    report = examine()
    assert report["torch"]["cuda"] and not [p for p in report["problems"] if "CUDA" in p], report["problems"]
    assert small().session([small().layer("conv2").tensor], device="cuda").provider.startswith("CUDA")


@pytest.mark.parametrize("executor", ["twin", "session"])
def test_float32_is_float32(executor: str) -> None:
    """TF32, a GPU's default for convolutions, would be off by some 5e-4 of the largest value."""
    graph = convscope.load(light_model("resnet50"), check=False)
    tensor = graph.layers[60].tensor
    x = np.random.default_rng(0).normal(size=(2, 3, 224, 224)).astype(np.float32)
    here = graph.session([tensor], device="cpu").run(x)[tensor]
    if executor == "session":
        there = graph.session([tensor], device="cuda").run(x)[tensor]
    else:
        there = graph.twin([tensor], device="cuda").only(torch.from_numpy(x).cuda()).detach().cpu().numpy()
    _close(here, there, 2e-5)


def test_the_callers_own_precision_comes_back() -> None:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    with float32_exactly():
        cudnn: Any = torch.backends.cudnn
        assert cudnn.conv.fp32_precision == "ieee"
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before


@pytest.mark.parametrize("method", METHODS)
def test_attribution(method: str) -> None:
    graph = convscope.load(seeded(ResidualNet()), example_input=torch.zeros(2, 3, 32, 32))
    explained = functools.partial(explain, graph, images(1, 32), method, preprocessed=True)
    _close(explained(device="cpu").heatmap, explained(device="cuda").heatmap, 1e-3)


@pytest.mark.parametrize("name", ["squeezenet", "resnet50"])
@pytest.mark.parametrize("method", ["gradcam", "saliency"])
def test_attribution_of_real_networks(name: str, method: str) -> None:
    graph = convscope.load(light_model(name), check=False)
    explained = functools.partial(explain, graph, PHOTO, method)
    here, there = explained(device="cpu").heatmap, explained(device="cuda").heatmap
    if method == "gradcam":
        _close(here, there, 2e-3)
    else:  # one ReLU or pool that rounding decides the other way moves the values around it
        assert np.corrcoef(here.ravel(), there.ravel())[0, 1] > 0.9999
        _close(here, there, 2e-2)


def test_attacks() -> None:
    graph, picture = small(), np.random.default_rng(0).random((3, 16, 16)).astype(np.float32)
    here, there = (gradient_attack(graph, picture, method="fgsm", device=d).attacked for d in ("cpu", "cuda"))
    assert (here == there).mean() > 0.99  # signs of gradients; some are nearly zero


@pytest.mark.parametrize("preset", [name for name in PRESETS if name not in RESTING])
def test_pictures_excite_the_unit_as_the_processors_do(preset: str) -> None:
    options: dict[str, Any] = {"preset": preset, "size": 32, "steps": 48, "precision": "float32"}
    here, there = (filters(small(), "conv2", [1, 3, 5], device=d, **options).units for d in ("cpu", "cuda"))
    for one, other in zip(here, there, strict=True):
        assert other.activation_end == pytest.approx(one.activation_end, rel=0.15), one.unit


@pytest.mark.parametrize("preset", ["strongest", "objects", "parts", "lucid", "chollet"])
def test_a_picture_is_the_same_twice_and_as_strong_in_company(preset: str) -> None:
    """To the bit where nothing is resampled: the gradient of a resampled view is added in no fixed order."""
    options: dict[str, Any] = {"preset": preset, "size": 32, "steps": 40, "device": "cuda"}
    alone, again = (filters(small(), "conv2", [3], **options).units[0] for _ in range(2))
    company = filters(small(), "conv2", [1, 3, 5, 7], **options).units[1]
    if preset == "chollet":
        assert again.image.tobytes() == alone.image.tobytes()
    np.testing.assert_allclose(again.image, alone.image, atol=0.02)
    assert company.activation_end == pytest.approx(alone.activation_end, rel=0.1)


def test_classes_dreams_and_inversions() -> None:
    graph = small()
    here, there = (maximize(graph, [0, 2], size=32, steps=40, device=d, precision="float32") for d in ("cpu", "cuda"))
    for one, other in zip(here, there, strict=True):
        assert other.activation_end == pytest.approx(one.activation_end, rel=0.15)
    assert np.ptp(dream(graph, PHOTO, "conv2", None, size=32, steps=12, device="cuda")[0].image) > 0
    assert np.ptp(invert(graph, PHOTO, "conv2", size=32, steps=12, device="cuda")[0].image) > 0


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet", "resnet50"])
def test_a_real_network_is_recorded(name: str) -> None:
    graph = convscope.load(light_model(name), check=False)
    layer = [layer for layer in graph.layers if layer.is_spatial and layer.channels][-1]
    network = Network(graph, [layer.tensor], "cuda", reduced=True)
    for _ in range(6):
        x = torch.rand(2, 3, 224, 224, device="cuda", requires_grad=True)
        (value,) = network(x).values()
        assert bool(torch.isfinite(torch.autograd.grad(value.square().sum(), x)[0]).all())
    assert network._run.works and network._run._replay is not None  # type: ignore[attr-defined]


def test_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(test: NodeTest, form: str) -> dict[str, np.ndarray]:
        with torch.no_grad():
            feeds = {name: torch.from_numpy(np.array(value)).cuda() for name, value in test.inputs.items()}
            found = TwinFactory(test.model)(tuple(test.outputs), tuple(feeds), device="cuda")(feeds)
            return {name: value.cpu().numpy() for name, value in found.items()}

    monkeypatch.setattr("tests.node_tests._run", run)
    found = {test.name: text for test, text in outcomes("computed")}
    assert {name: text for name, text in found.items() if text.startswith("wrong")} == {}
    assert sum(text == "passed" for text in found.values()) > 800


def test_activations_and_statistics(tmp_path: Path) -> None:
    graph = convscope.load(light_model("squeezenet"), check=False)
    photos = _photos(tmp_path)
    layers = [graph.layers[i] for i in (0, 20, 40)]
    for picture in photos:
        here, there = (next(iter(activations(graph, [picture], layers, device=d))).values for d in ("cpu", "cuda"))
        for layer in layers:
            _close(here[layer.name], there[layer.name], 2e-5)
    convscope.stats(graph, photos, layers[1].name, device="cuda", folder=tmp_path / "stats")
    assert (tmp_path / "stats" / "index.html").exists()


def test_an_atlas(tmp_path: Path) -> None:
    graph = small()
    for workers in (1, 2):
        folder = tmp_path / f"{workers}"
        convscope.atlas(graph, _photos(tmp_path), folder, size=24, manner=Manner(device="cuda", workers=workers))
        assert (folder / "index.html").exists()


def _photos(folder: Path) -> list[Path]:
    paths = [folder / f"{i}.png" for i in range(3)]
    for i, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (32, 40, 3), np.uint8)).save(path)
    return paths
