"""Activations, streamed and reduced, are those of a plain run of the session."""

from __future__ import annotations

from pathlib import Path

import convscope
import numpy as np
import pytest
import torch
from convscope.engine.activations import activations
from convscope.engine.images import model_input, read_image
from convscope.engine.reductions import STATISTICS, output_name, reduced_session
from onnx import helper
from PIL import Image

from tests import tiny


@pytest.fixture(scope="module")
def graph() -> convscope.Graph:
    return convscope.load(tiny.small_cnn(), check=False)


@pytest.fixture
def folder(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    for i in range(7):
        Image.fromarray(rng.integers(0, 255, (20 + i, 30, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    return sorted(tmp_path.iterdir())


def plain(graph: convscope.Graph, paths: list[Path], tensor: str) -> np.ndarray:
    x = np.concatenate([model_input(read_image(p), graph) for p in paths])
    return graph.session([tensor], device="cpu").run(x)[tensor]


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_streamed_activations_equal_one_run_whatever_the_batch(
    graph: convscope.Graph, folder: list[Path], batch: int
) -> None:
    layers = [graph.layer("conv1"), graph.layer("relu2"), graph.layer("fc")]
    found = list(activations(graph, folder, layers, batch=batch, device="cpu"))
    assert [p for b in found for p in b.paths] == folder
    assert [b.first for b in found] == list(range(0, 7, batch))
    for layer in layers:
        together = np.concatenate([b.values[layer.name] for b in found])
        np.testing.assert_allclose(together, plain(graph, folder, layer.tensor), atol=1e-5)


def test_a_broken_picture_is_reported_and_left_out(graph: convscope.Graph, folder: list[Path]) -> None:
    folder[2].write_bytes(b"broken")
    failures: list[Path] = []
    layers = [graph.layer("conv1")]
    found = list(activations(graph, folder, layers, batch=4, device="cpu", failed=lambda p, e: failures.append(p)))
    assert failures == [folder[2]]
    assert [p for b in found for p in b.paths] == [p for p in folder if p != folder[2]]


def test_batches_do_not_share_memory(graph: convscope.Graph, folder: list[Path]) -> None:
    found = list(activations(graph, folder, [graph.layer("conv1")], batch=2, device="cpu"))
    assert not np.array_equal(found[0].values["conv1"], found[1].values["conv1"])


@pytest.mark.parametrize("opset", [11, 17, 18])
def test_reductions_in_the_graph_equal_numpy(opset: int) -> None:
    graph = convscope.load(tiny.small_cnn(opset=opset), check=False)
    layers = [graph.layer("relu1"), graph.layer("fc")]
    x = np.random.default_rng(1).random((3, 3, 16, 16), dtype=np.float32)
    found = reduced_session(graph, layers, device="cpu").run(x)
    for layer in layers:
        values = graph.session([layer.tensor], device="cpu").run(x)[layer.tensor]
        flat = values.reshape(*values.shape[:2], -1)
        expected = {
            "mean": flat.mean(2), "max": flat.max(2), "argmax": flat.argmax(2), "zeros": (flat == 0).mean(2),
            "variance": flat.var(2), "min": flat.min(2),
        }  # fmt: skip
        for statistic in STATISTICS:
            np.testing.assert_allclose(found[output_name(layer, statistic)], expected[statistic], atol=1e-5)


def test_a_channels_last_layer_is_reduced_along_its_channels() -> None:
    weights = {"w": np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)}
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["t", "w"], ["y"]),
    ]
    graph = convscope.load(tiny.model(nodes, weights), check=False)
    layer = graph.layer("y")
    assert layer.channels == 6
    x = np.random.default_rng(1).random((2, 3, 16, 16), dtype=np.float32)
    values = graph.session(["y"], device="cpu").run(x)["y"]
    found = reduced_session(graph, [layer], device="cpu").run(x)
    np.testing.assert_allclose(found[output_name(layer, "max")], values.max((1, 2)), atol=1e-6)


def test_activations_equal_torch_hooks_and_keras_intermediate_models(folder: list[Path], tmp_path: Path) -> None:
    from convscope.adapters.from_keras import import_keras

    keras = import_keras()
    model = keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3), alpha=0.35)
    names = ["block_1_expand", "block_6_depthwise_BN", "block_13_project_BN"]
    graph = convscope.load(model, check=False)
    x = np.concatenate([model_input(read_image(p), graph, (32, 32)) for p in folder[:2]])
    middle = keras.Model(model.inputs, [model.get_layer(n).output for n in names])
    expected = [v.detach().numpy().transpose(0, 3, 1, 2) for v in middle(x.transpose(0, 2, 3, 1))]
    layers = [graph.layer(n) for n in names]
    (found,) = activations(graph, folder[:2], layers, batch=2, device="cpu", size=(32, 32))
    for layer, value in zip(layers, expected, strict=True):
        np.testing.assert_allclose(found.values[layer.name], value, atol=1e-4 * np.abs(value).max())

    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 5, 3)).eval()
    kept: dict[str, np.ndarray] = {}
    handle = network[1].register_forward_hook(lambda m, i, o: kept.update(relu=o.detach().numpy()))
    graph = convscope.load(network, example_input=torch.zeros(1, 3, 16, 16), check=False)
    x = np.concatenate([model_input(read_image(p), graph, (16, 16)) for p in folder[:2]])
    network(torch.from_numpy(x))
    handle.remove()
    relu = next(la for la in graph.layers if la.op == "Relu")
    (found,) = activations(graph, folder[:2], [relu], batch=2, device="cpu", size=(16, 16))
    np.testing.assert_allclose(found.values[relu.name], kept["relu"], atol=1e-5)
