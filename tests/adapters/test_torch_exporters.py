"""One network through torch's two exporters at many opsets: every file gives the same layers."""

from __future__ import annotations

import io
import warnings
from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import convscope
from tests.adapters.test_torch import seeded

LAYERS = [
    "stem.0", "stem.1", "stem.2",
    "layer1.0.conv", "layer1.0.bn", "layer1.0.relu", "layer1.0/Add", "layer1.0.relu_1",
    "layer1.1.conv", "layer1.1.bn", "layer1.1.relu", "layer1.1/Add", "layer1.1.relu_1",
    "pool", "Flatten", "fc",
]  # fmt: skip
FOLDED = [name for name in LAYERS if name not in ("stem.1", "layer1.0.bn", "layer1.1.bn")]  # as the exporters do


def names(model: onnx.ModelProto) -> list[str]:
    return [layer.name for layer in convscope.load(model, check=False).layers]


@cache
def image() -> torch.Tensor:
    return torch.rand((2, 3, 24, 24), generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 20])
@pytest.mark.parametrize("keep", [False, True])
def test_the_tracing_exporter_gives_the_same_names(opset: int, keep: bool) -> None:
    buffer = io.BytesIO()
    mode = torch.onnx.TrainingMode.PRESERVE if keep else torch.onnx.TrainingMode.EVAL
    torch.onnx.export(
        seeded(), (image(),), buffer, dynamo=False, opset_version=opset, training=mode,  # type: ignore[arg-type]
        input_names=["input"], dynamic_axes={"input": {0: "N"}}, do_constant_folding=not keep,
    )  # fmt: skip
    assert names(onnx.load_model_from_string(buffer.getvalue())) == (LAYERS if keep else FOLDED)


@pytest.mark.parametrize(("opset", "keep"), [(18, False), (20, True)])
def test_the_dynamo_exporter_gives_the_same_names(opset: int, keep: bool) -> None:
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        seeded(), (image(),), dynamo=True, opset_version=opset, dynamic_shapes=({0: batch},), optimize=not keep,
        verbose=False,
    )  # fmt: skip
    assert program is not None
    assert names(program.model_proto) == (LAYERS if keep else FOLDED)


def test_our_own_export_gives_the_same_names() -> None:
    graph = convscope.load(seeded(), example_input=image(), check=False)
    found = [layer.name for layer in graph.layers]
    assert found == [name if name != "Flatten" else "dropout" for name in LAYERS]
    assert graph.layer("layer1.1").name == "layer1.1.relu_1"


def test_a_network_in_double_is_exported_and_computed_in_float32() -> None:
    """ONNX Runtime has no convolution in double. Oracle: the network itself."""
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 3)).double()
    x = torch.rand(1, 3, 16, 16, dtype=torch.float64)
    for graph in (convscope.load(net, example_input=x), convscope.load(net, size=16)):
        feeds = {graph.inputs[0].name: x.float().numpy()}
        found = graph.session([graph.logits], device="cpu").run(feeds)[graph.logits]
        assert np.allclose(found, net(x).detach().numpy(), atol=1e-5)
        assert any("computed in float32" in note for note in graph.source.notes)
