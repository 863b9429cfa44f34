"""What a number means as a layer's key, and what a live object is called."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convscope
from convscope.errors import UsageError
from tests import tiny


class Chain(nn.Sequential):
    """Its layers are called 0, 1, 2 ..."""


def chain() -> convscope.Graph:
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()), nn.Conv2d(2, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 1)]
    return convscope.load(Chain(*layers).eval(), example_input=torch.zeros(1, 3, 12, 12), check=False)


def test_a_number_is_the_layer_of_that_name_before_it_is_an_index() -> None:
    graph = chain()
    assert [layer.name for layer in graph.layers] == ["0.0", "0.1", "1", "2", "3"]
    assert graph.layer("1") is graph.layers[2] and graph.layer("3") is graph.layers[4]
    assert graph.layer(1) is graph.layers[1]
    assert graph.layer("4") is graph.layers[4] and graph.layer("-1") is graph.layers[4]
    assert graph.layer("0") is graph.layers[0]  # the block "0" ends at 0.1, but the table shows no block
    assert [layer.name for layer in graph.match("1,4")] == ["1", "3"]
    for beyond in (7, "7", "-9", "99999999999999999999"):
        with pytest.raises(UsageError, match="layer"):
            graph.layer(beyond)


def test_numbered_tensors_do_not_hide_the_table_s_indices() -> None:
    model = tiny.small_cnn()
    numbers = {"c1": "5", "b1": "100"}
    for node in model.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = numbers.get(name, name)
    graph = convscope.load(model, check=False)
    assert graph.layer("5") is graph.layers[5]
    assert graph.layer("100").op == "BatchNormalization"
    assert graph.layer("conv1").tensor == "5"


def test_a_live_module_is_called_as_its_class() -> None:
    assert chain().name == "Chain"
    assert chain().source.name == "Chain"
    assert convscope.load(tiny.small_cnn(), check=False).name == "tiny"
