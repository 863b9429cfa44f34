"""Sizes are computed on the processor, everything else on the device, and a pass does not go back and forth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import helper

import convscope
from convscope.adapters.twin.placement import on_processor
from convscope.engine.ascent.network import Network
from convscope.engine.graph.graph import Graph

from ..engine.attribution.nets import channels_last, gated, residual, segmenter
from ..far import FAR, second_device
from ..tiny import model
from ..zoo import light_model


def sized() -> Graph:
    """Padded to a multiple of four, as exports for every size do, then weighted by a ramp as wide as the picture."""
    weights: dict[str, np.ndarray] = {
        "w": np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32),
        "four": np.array([4], np.int64),
        "none": np.array([0], np.int64),
        "last": np.array([3], np.int64),
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "scalar": np.array([], np.int64),
        "zeros": np.zeros(7, np.int64),
    }
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "last"], ["width"]),
        helper.make_node("Mod", ["width", "four"], ["over"]),
        helper.make_node("Sub", ["four", "over"], ["missing"]),
        helper.make_node("Mod", ["missing", "four"], ["pad"]),
        helper.make_node("Concat", ["zeros", "pad"], ["pads"], axis=0),
        helper.make_node("Pad", ["x", "pads"], ["padded"]),
        helper.make_node("Conv", ["padded", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["width", "pad"], ["full"]),
        helper.make_node("Reshape", ["full", "scalar"], ["count"]),
        helper.make_node("Range", ["zero", "count", "one"], ["places"]),
        helper.make_node("Cast", ["places"], ["ramp"], to=1),
        helper.make_node("Mul", ["c", "ramp"], ["y"], "ramped"),
    ]
    return convscope.load(model(nodes, weights, shape=("N", 3, None, None)), preprocessing="unit", check=False)


def test_what_follows_from_sizes_and_constants_alone_is_on_the_processor() -> None:
    graph = sized().model.graph
    near = on_processor(list(graph.node), [graph.input[0].name])
    made = {node.op_type: not near.isdisjoint(node.output) for node in graph.node}
    expected = {"Shape": True, "Range": True, "Cast": True, "Pad": False, "Conv": False, "Mul": False}
    assert {op: made[op] for op in expected} == expected


def test_sizes_that_change_reach_the_device_anew() -> None:
    graph = sized()
    tensor = graph.layers[-1].tensor
    with second_device():
        here, there = (graph.twin([tensor], device=device) for device in ("cpu", "cuda"))
        for side in (6, 9, 6):
            x = torch.rand(2, 3, side, side + 1)
            torch.testing.assert_close(there.only(x.to(FAR)).cpu(), here.only(x))


@pytest.mark.parametrize(
    "name", ["sized", "residual", "gated", "channels_last", "segmenter", "squeezenet", "shufflenet", "resnet50"]
)
def test_a_second_pass_and_its_gradient_never_leave_the_device(name: str) -> None:
    nets = {"residual": residual, "gated": gated, "channels_last": channels_last, "segmenter": segmenter}
    if name in nets:
        plain = nets[name]()[1]
        graph = convscope.load(plain.model, preprocessing="unit", check=False, size=plain.image_size)
    else:
        graph = sized() if name == "sized" else convscope.load(light_model(name), check=False)
    layer = [layer for layer in graph.layers if layer.channels][-1]
    with second_device() as crossings:
        network = Network(graph, [layer.tensor], "cuda")
        for _ in range(2):
            x = torch.rand(2, 3, *graph.image_size).to(FAR).requires_grad_()
            x = graph.preprocessing.normalize(x)
            crossings.clear()
            (value,) = network._pass(x)
            torch.autograd.grad(value.square().sum(), x)
        assert crossings == []
