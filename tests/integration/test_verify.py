"""`convscope verify`: whole models agree on every tensor, with their source, and a wrong twin is found out."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

import convscope
from convscope.adapters.twin.build import TwinFactory
from convscope.adapters.verify import verify
from convscope.cli.main import run
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


def test_a_network_whose_signal_dies_out_has_no_gradient_to_verify() -> None:
    model = tiny.small_cnn()
    for tensor in model.graph.initializer:
        if tensor.name == "conv1.weight":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1e-18), tensor.name))
    result = verify(convscope.load(model, check=False), batch=1)
    assert result.gradient_rel is None
    assert result.ok


def test_a_gradient_that_is_not_the_derivative_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = convscope.load(tiny.small_cnn(), check=False)
    honest = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *args, **kwargs: [1.01 * g for g in honest(*args, **kwargs)])
    result = verify(graph, batch=1)
    assert result.gradient_rel is not None and result.gradient_rel > 1e-3
    assert not result.ok


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


def test_models_of_other_than_pictures_channels_are_verified_on_random_values(tmp_path: Path) -> None:
    nodes = [onnx.helper.make_node("Conv", ["x", "w"], ["y"], "conv")]
    weight = np.random.default_rng(0).normal(size=(4, 2, 3, 3)).astype(np.float32)
    path = tmp_path / "two.onnx"
    path.write_bytes(tiny.model(nodes, {"w": weight}, shape=("N", 2, 8, 8)).SerializeToString())
    result = verify(convscope.load(path, preprocessing="unit", check=False))
    assert result.ok and list(result.images) == ["2 random"]


def test_a_network_that_jumps_often_is_verified_by_narrower_steps() -> None:
    """As ONNX Runtime's dynamic quantizer writes biases, floored to steps of the picture's own scale."""
    rng = np.random.default_rng(0)
    weights = {"many": np.array(1e6, np.float32), "few": np.array(1e-6, np.float32),
               "w": rng.normal(size=(16, 3)).astype(np.float32)}  # fmt: skip
    nodes = [helper.make_node("Mul", ["x", "many"], ["m"]), helper.make_node("Floor", ["m"], ["f"]),
             helper.make_node("Mul", ["f", "few"], ["s"]), helper.make_node("Add", ["x", "s"], ["a"]),
             helper.make_node("Flatten", ["a"], ["v"]), helper.make_node("MatMul", ["v", "w"], ["y"])]  # fmt: skip
    found = verify(convscope.load(tiny.model(nodes, weights, ("N", 1, 4, 4), ("y",)), check=False))
    assert found.gradient_rel is not None and found.gradient_rel < 1e-6
