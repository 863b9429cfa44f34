"""One trained network, imported three ways, gives one heatmap."""

from __future__ import annotations

import functools
import io
import os
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras")

import convscope  # noqa: E402
from convscope.engine.attribution import explain  # noqa: E402

from .nets import relative  # noqa: E402

explain_input = functools.partial(explain, preprocessed=True)  # of arrays in model space

METHODS = ("gradcam", "hirescam", "layercam", "eigencam", "ablationcam", "saliency", "inputxgradient", "guidedbackprop")


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """scikit-learn's 8 x 8 digits, enlarged to 16 px."""
    datasets = pytest.importorskip("sklearn.datasets")
    pixels, labels = datasets.load_digits(return_X_y=True)
    x = torch.from_numpy(pixels.reshape(-1, 1, 8, 8).astype(np.float32) / 16)
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"), torch.from_numpy(labels)


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Sequential, np.ndarray, float]:
    """A small convolutional network after a few steps of training, four images, and its accuracy."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x, y = digits()
    net = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 16, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * 64, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for step in range(60):
        rows = torch.arange(64) + step * 24 % 1500
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
        optimizer.step()
    net.eval()
    accuracy = float((net(x[1600:]).argmax(1) == y[1600:]).float().mean())
    return net, x[1700:1704].numpy(), accuracy


@pytest.fixture(scope="module")
def graphs(trained) -> dict[str, convscope.Graph]:
    """The same weights by way of ONNX, Keras (channels last) and Torch."""
    net, x, _ = trained
    buffer = io.BytesIO()
    exported: Any = buffer  # the annotation forgets file objects
    torch.onnx.export(
        net, (torch.from_numpy(x),), exported, dynamo=False, dynamic_axes={"x": {0: "n"}}, input_names=["x"]
    )
    model = keras.Sequential([
        keras.layers.Input((16, 16, 1)),
        keras.layers.Conv2D(12, 3, padding="same", activation="relu", name="first"),
        keras.layers.MaxPooling2D(2, name="pool"),
        keras.layers.Conv2D(16, 3, padding="same", activation="relu", name="second"),
        keras.layers.Permute((3, 1, 2)),
        keras.layers.Flatten(),
        keras.layers.Dense(10, name="classes"),
    ])  # fmt: skip
    for name, layer in (("first", net[0]), ("second", net[3])):
        model.get_layer(name).set_weights(
            [layer.weight.detach().permute(2, 3, 1, 0).numpy(), layer.bias.detach().numpy()]
        )
    model.get_layer("classes").set_weights([net[6].weight.detach().T.numpy(), net[6].bias.detach().numpy()])
    return {
        "onnx": convscope.load(onnx.load_from_string(buffer.getvalue())),
        "keras": convscope.load(model),
        "torch": convscope.load(net, example_input=torch.from_numpy(x)),
    }


def test_the_network_has_learned_something(trained):
    assert trained[2] > 0.8


@pytest.mark.parametrize("method", METHODS)
def test_three_formats_give_one_heatmap(trained, graphs, method):
    found = {name: explain_input(graph, trained[1], method) for name, graph in graphs.items()}
    classes = {name: [a.target.index for a in each] for name, each in found.items()}
    assert classes["onnx"] == classes["keras"] == classes["torch"]
    for name in ("onnx", "keras"):
        for ours, reference in zip(found[name], found["torch"], strict=True):
            assert relative(ours.values, reference.values) < 1e-4, name
            assert np.abs(ours.heatmap - reference.heatmap).max() < 1e-4, name


def test_the_default_layer_is_the_same_feature_map(graphs):
    shapes = {g.last_spatial_layer().channels for g in graphs.values()}
    assert shapes == {16}
