"""The shipped LeNet from its five formats is one and the same graph: layers, outputs, input and classes."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import convscope
import numpy as np
import pytest
from convscope.engine.compare import compare
from convscope.engine.graph import Graph
from convscope.models import lenet

FOLDER = Path(lenet.__file__).parent / "lenet"
FORMATS = ("onnx", "pt2", "safetensors", "keras", "h5")
SCALE = 1e-5  # of the largest value


@pytest.fixture(scope="module")
def graphs() -> dict[str, Graph]:
    """Every format that can be read here; the ONNX file is the one that the others are held against."""
    found = {}
    for suffix in FORMATS:
        if suffix in ("keras", "h5") and importlib.util.find_spec("keras") is None:
            continue
        arch = "convscope.models.lenet:LeNet" if suffix == "safetensors" else None
        found[suffix] = convscope.load(FOLDER / f"lenet.{suffix}", arch=arch)
    return found


def other(graphs: dict[str, Graph], suffix: str) -> Graph:
    if suffix not in graphs:
        pytest.skip(f"lenet.{suffix} needs keras, which is not installed")
    return graphs[suffix]


def pictures() -> np.ndarray:
    """(6, 1, 28, 28): strokes and noise in [0, 1]."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:28, :28]
    strokes = [np.exp(-((rows * np.sin(a) + columns * np.cos(a) - 14) ** 2) / 6) for a in (0.0, 0.4, 0.8, 1.2)]
    return np.stack([*strokes, *rng.random((2, 28, 28))])[:, None].astype(np.float32)


@pytest.mark.parametrize("suffix", FORMATS[1:])
def test_the_layer_table_is_the_same(graphs: dict[str, Graph], suffix: str) -> None:
    def table(graph: Graph) -> list[tuple[object, ...]]:
        return [
            (la.name, la.op, la.shape, la.channels, la.channel_axis, la.receptive_field, la.parameters, la.macs)
            for la in graph.layers
        ]

    assert table(other(graphs, suffix)) == table(graphs["onnx"])
    assert [la.name for la in graphs["onnx"].layers][:3] == ["conv1", "relu1", "pool1"]


@pytest.mark.parametrize("suffix", FORMATS[1:])
def test_every_layer_has_the_same_values(graphs: dict[str, Graph], suffix: str) -> None:
    x, values = pictures(), []
    for graph in (graphs["onnx"], other(graphs, suffix)):
        tensors = [la.tensor for la in graph.layers]
        results = graph.session(tensors, device="cpu").run(x)
        values.append([results[t] for t in tensors])
    for layer, expected, found in zip(graphs["onnx"].layers, *values, strict=True):
        limit = SCALE * np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=limit, err_msg=layer.name)


@pytest.mark.parametrize("suffix", FORMATS[1:])
def test_every_layer_has_the_same_weights(graphs: dict[str, Graph], suffix: str) -> None:
    result = compare(graphs["onnx"], other(graphs, suffix), max_rel=SCALE)
    assert result.verdict == "identical"
    assert not any(result.cause)  # no difference in any setting or weight


@pytest.mark.parametrize("suffix", FORMATS[1:])
def test_the_input_and_the_classes_are_the_same(graphs: dict[str, Graph], suffix: str) -> None:
    graph, onnx = other(graphs, suffix), graphs["onnx"]
    assert graph.preprocessing.found == "companion"
    assert graph.preprocessing.layout == ("NHWC" if suffix in ("keras", "h5") else "NCHW")  # of the source
    assert replace(graph.preprocessing, found="embedded", layout="NCHW") == onnx.preprocessing
    assert graph.labels == onnx.labels == tuple("0123456789")
    assert (graph.image_size, graph.channels) == (onnx.image_size, onnx.channels) == ((28, 28), 1)


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_twin_is_the_same_network_too(graphs: dict[str, Graph], suffix: str) -> None:
    import torch

    x = pictures()
    with torch.no_grad():
        found = [g.twin([g.logits])(torch.from_numpy(x))[g.logits] for g in (graphs["onnx"], other(graphs, suffix))]
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=SCALE * float(found[0].abs().max()))
