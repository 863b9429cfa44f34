"""One network as .keras, ONNX from Keras, ONNX from torch and a live torch module: identical, pair by pair."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if importlib.util.find_spec("keras") is None:
    pytest.skip("keras is not installed", allow_module_level=True)

import torch
from torch import nn

import convscope
from convscope.adapters.keras.load import import_keras
from convscope.engine.compare import compare

keras = import_keras()
pytestmark = pytest.mark.filterwarnings("ignore")  # the exporters warn a lot
CONVOLUTIONS = ((1, 8), (2, 12))  # per block: how many, how many filters


def _keras_network() -> Any:
    layers = keras.layers
    x = image = keras.Input((16, 16, 3))
    for block, (count, filters) in enumerate(CONVOLUTIONS, 1):
        for k in range(1, count + 1):
            name = f"block{block}_conv{k}"
            x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=name, bias_initializer="normal")(x)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    x = layers.Dense(20, activation="relu", name="fc1", bias_initializer="normal")(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(5, activation="softmax", name="predictions")(x))


def _torch_network(source: Any) -> nn.Sequential:
    """The same weights; the first dense layer's columns go from (H, W, C) to (C, H, W)."""
    modules: list[nn.Module] = []
    channels = 3
    for count, filters in CONVOLUTIONS:
        for _ in range(count):
            modules += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()]
            channels = filters
        modules.append(nn.MaxPool2d(2))
    modules += [nn.Flatten(), nn.Linear(192, 20), nn.ReLU(), nn.Linear(20, 5), nn.Softmax(1)]
    with torch.no_grad():
        trained = [m for m in modules if isinstance(m, (nn.Conv2d, nn.Linear))]
        for layer, module in zip([la for la in source.layers if la.weights], trained, strict=True):
            kernel, bias = (torch.tensor(np.asarray(w)) for w in layer.get_weights())
            weight = kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
            if weight.shape[1] == 192:
                weight = weight.reshape(20, 4, 4, 12).permute(0, 3, 1, 2).reshape(20, 192)
            module.weight.copy_(weight)
            module.bias.copy_(bias)
    return nn.Sequential(*modules).eval()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp("formats")
    keras.utils.set_random_seed(0)
    source = _keras_network()
    source.save(folder / "net.keras")
    source(np.zeros((1, 16, 16, 3), np.float32))
    source.export(folder / "keras.onnx", format="onnx", verbose=False)
    network = _torch_network(source)
    names: dict[str, Any] = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}}
    torch.onnx.export(network, (torch.zeros(1, 3, 16, 16),), str(folder / "torch.onnx"), dynamo=False, **names)
    return {
        "keras": folder / "net.keras",
        "onnx from keras": folder / "keras.onnx",
        "onnx from torch": folder / "torch.onnx",
        "torch": network,
    }


def _load(source: Any) -> Any:
    example = torch.zeros(1, 3, 16, 16) if isinstance(source, nn.Module) else None
    return convscope.load(source, preprocessing="caffe", check=False, example_input=example)


@pytest.mark.parametrize("other", ["onnx from keras", "onnx from torch", "torch"])
def test_the_same_weights_are_identical_in_every_format(files: dict[str, Any], other: str) -> None:
    result = compare(_load(files["keras"]), _load(files[other]))
    assert result.verdict == "identical"
    assert max(result.rel) < 1e-5
    assert (result.only_a, result.only_b) == ((), ())
    anchors = [p for p in result.pairs if p.a.is_anchor]
    assert len(anchors) == 5
    assert {p.found_by for p in anchors} <= {"name", "weights"}


def test_a_forgotten_flatten_order_is_named(files: dict[str, Any]) -> None:
    network = files["torch"]
    wrong = nn.Sequential(*list(network)).eval()
    dense = next(i for i, m in enumerate(wrong) if isinstance(m, nn.Linear))
    weight = network[dense].weight.reshape(20, 12, 4, 4).permute(0, 2, 3, 1).reshape(20, 192)
    replaced = nn.Linear(192, 20)
    replaced.weight, replaced.bias = nn.Parameter(weight.detach().clone()), network[dense].bias
    wrong[dense] = replaced
    first = compare(_load(network), _load(wrong)).first_difference
    assert first is not None
    assert first.causes[0].kind == "flatten order"
