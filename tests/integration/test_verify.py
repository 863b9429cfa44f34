"""`convscope verify`: whole models agree on every tensor, with their source, and a wrong twin is found out."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import convscope
import onnx
import pytest
from convscope.adapters.twin import TwinFactory
from convscope.adapters.verify import verify
from convscope.cli.main import run
from onnx import numpy_helper

from tests import tiny, zoo


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet", "densenet121", "inception_v2"])
def test_zoo_graphs_agree_on_every_tensor_with_the_original_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.onnx"
    path.write_bytes(zoo.light_model(name).SerializeToString())
    graph = convscope.load(path, check=False)
    result = verify(graph, batch=1)
    assert result.tensors_compared == result.tensors_total == len(graph.model.graph.node)
    assert result.worst["rel"] < 1e-4
    assert result.source_rel is not None
    assert result.source_rel < 1e-4
    assert result.source_tensors > 0.9 * result.tensors_total
    assert result.batch_rel < 1e-4


def test_a_small_network_is_verified_with_its_gradient(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "small.onnx"
    path.write_bytes(tiny.small_cnn().SerializeToString())
    assert run(["verify", str(path), "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert found["tensors_compared"] == found["tensors_total"] == 10
    assert found["gradient_rel"] < 1e-6
    assert found["source_rel"] < 1e-5


def test_a_doctored_twin_fails_the_verification() -> None:
    graph = convscope.load(tiny.small_cnn())
    doctored = onnx.ModelProto.FromString(graph.model.SerializeToString())
    for tensor in doctored.graph.initializer:
        if tensor.name == "conv2.weight":
            weight = numpy_helper.to_array(tensor).copy()
            weight[0, 0, 0, 0] += 1
            tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    wrong = dataclasses.replace(graph, twin_factory=TwinFactory(doctored))
    result = verify(wrong)
    assert not result.ok
    assert result.worst["rel"] > 1e-3
