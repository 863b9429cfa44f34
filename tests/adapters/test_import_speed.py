"""What keeps the import of large networks short still gives right results."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from convscope.adapters.normalize.draft import Draft
from convscope.adapters.torch.export import export_module


def test_the_first_exporter_takes_a_plain_network_and_its_marks() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()
    export, failures = export_module(net, (torch.rand(1, 3, 8, 8),))
    assert not failures
    assert sorted(export.names.values()) == ["0", "1", "2"]


def test_fresh_names_are_never_taken() -> None:
    info = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in ("x", "y")]
    nodes = [helper.make_node("Relu", ["x"], ["a__1"]), helper.make_node("Relu", ["a__1"], ["y"])]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:])
    draft = Draft.of(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    draft.set_constant("a__3", np.zeros(1))
    names = [draft.fresh("a") for _ in range(4)]
    assert len({*names, "x", "y", "a__1", "a__3"}) == 8


def test_a_keras_file_is_loaded_without_drawing_the_weights_that_it_replaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed")
    from convscope.adapters.keras.load import import_keras, load_keras_file

    keras = import_keras()
    layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3, name="conv"), keras.layers.BatchNormalization()]
    model = keras.Sequential(layers)
    model.save(tmp_path / "model.keras")
    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", lambda *_, **__: pytest.fail("drawn"))
    exported = load_keras_file(tmp_path / "model.keras")
    assert "conv" in {*exported.names.values(), *exported.aliases}


def test_a_keras_network_whose_padding_and_groups_come_from_shapes_needs_no_second_exporter() -> None:
    if importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed")
    from convscope.adapters.keras.load import export_keras, import_keras

    layers = import_keras().layers
    x = image = layers.Input((13, 13, 3))
    x = layers.SeparableConv2D(4, 3, padding="same", name="separable")(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool")(x)
    x = layers.LayerNormalization(name="norm")(x)
    exported = export_keras(import_keras().Model(image, layers.GlobalAveragePooling2D()(x)))
    assert not exported.notes
    assert {"separable", "pool", "norm"} <= {*exported.names.values(), *exported.aliases}
