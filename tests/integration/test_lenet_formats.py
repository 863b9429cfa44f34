"""The shipped LeNet from its five formats is one and the same graph: layers, outputs, input and classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from convscope.engine.compare import compare
from convscope.engine.graph.graph import Graph
from tests.integration.shipped_lenet import FORMATS, OTHERS, graph, pictures

SCALE = 1e-5  # of the largest value


@pytest.mark.parametrize("suffix", OTHERS)
def test_the_layer_table_is_the_same(suffix: str) -> None:
    def table(one: Graph) -> list[tuple[object, ...]]:
        return [
            (la.name, la.op, la.shape, la.channels, la.channel_axis, la.receptive_field, la.parameters, la.macs)
            for la in one.layers
        ]

    assert table(graph(suffix)) == table(graph("onnx"))
    assert [la.name for la in graph("onnx").layers][:3] == ["conv1", "relu1", "pool1"]


@pytest.mark.parametrize("suffix", OTHERS)
def test_every_layer_has_the_same_values(suffix: str) -> None:
    x, values = pictures(), []
    for one in (graph("onnx"), graph(suffix)):
        tensors = [la.tensor for la in one.layers]
        results = one.session(tensors, device="cpu").run(x)
        values.append([results[t] for t in tensors])
    for layer, expected, found in zip(graph("onnx").layers, *values, strict=True):
        limit = SCALE * np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=limit, err_msg=layer.name)


@pytest.mark.parametrize("suffix", OTHERS)
def test_every_layer_has_the_same_weights(suffix: str) -> None:
    result = compare(graph("onnx"), graph(suffix), max_rel=SCALE)
    assert result.verdict == "identical"
    assert not any(result.cause)  # no difference in any setting or weight


@pytest.mark.parametrize("suffix", OTHERS)
def test_the_input_and_the_classes_are_the_same(suffix: str) -> None:
    one, onnx = graph(suffix), graph("onnx")
    assert one.preprocessing.found == "companion"
    assert one.preprocessing.layout == ("NHWC" if suffix in ("keras", "h5") else "NCHW")  # of the source
    assert replace(one.preprocessing, found="embedded", layout="NCHW") == onnx.preprocessing
    assert one.labels == onnx.labels == tuple("0123456789")
    assert (one.image_size, one.channels) == (onnx.image_size, onnx.channels) == ((28, 28), 1)


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_twin_is_the_same_network_too(suffix: str) -> None:
    import torch

    x = pictures()
    with torch.no_grad():
        found = [g.twin([g.logits])(torch.from_numpy(x))[g.logits] for g in (graph("onnx"), graph(suffix))]
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=SCALE * float(found[0].abs().max()))
