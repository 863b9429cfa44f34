"""Faults planted between the ONNX file and the twin: the first wrong tensor is named, each time."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from math import prod, sqrt
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import convscope
from convscope.adapters.check import check_parity
from convscope.adapters.twin.build import TwinFactory
from convscope.engine.graph.graph import Graph
from convscope.errors import ParityError, RefusedInput
from tests import tiny

Edit = Callable[[onnx.ModelProto], None]


def network() -> onnx.ModelProto:
    """Twenty nodes deep, one of each kind that importers are known to get wrong; every tensor feeds the output."""
    rng = np.random.default_rng(3)

    def normal(*dims: int) -> np.ndarray:
        return rng.normal(0, 1 / sqrt(max(prod(dims[1:]), 1)), dims).astype(np.float32)

    weights = {
        "w1": normal(8, 3, 3, 3), "b1": normal(8) / 4,
        "scale": rng.uniform(0.5, 1.5, 8).astype(np.float32), "shift": normal(8) / 4,
        "mean": rng.uniform(0.1, 0.4, 8).astype(np.float32), "var": rng.uniform(0.02, 0.6, 8).astype(np.float32),
        "w2": normal(8, 4, 3, 3), "b2": normal(8) / 4, "w3": normal(8, 8, 3, 3), "w4": normal(8, 8, 3, 3),
        "gain": rng.uniform(0.5, 1.5, 16).astype(np.float32), "offset": normal(16) / 4,
        "sizes": np.array([1, 1, 2, 2], np.float32), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
        "w5": normal(4, 6, 3, 3), "slope": rng.uniform(0.1, 0.5, (6, 1, 1)).astype(np.float32),
        "axes": np.array([2, 3], np.int64), "w6": normal(6, 6), "b6": normal(6) / 4,
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["conv1"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["conv1", "scale", "shift", "mean", "var"], ["norm"], epsilon=1e-3),
        node("LeakyRelu", ["norm"], ["leaky"], alpha=0.1),
        node("AveragePool", ["leaky"], ["average"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Conv", ["average", "w2", "b2"], ["grouped"], pads=[1, 1, 1, 1], group=2),
        node("Clip", ["grouped", "low", "high"], ["clipped"]),
        node("MaxPool", ["clipped"], ["pooled"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        node("Conv", ["pooled", "w3"], ["dilated"], pads=[2, 2, 2, 2], dilations=[2, 2]),
        node("Conv", ["pooled", "w4"], ["branch"], pads=[1, 1, 1, 1]),
        node("Concat", ["dilated", "branch"], ["joined"], axis=1),
        node("InstanceNormalization", ["joined", "gain", "offset"], ["instance"]),
        node("Resize", ["instance", "", "sizes"], ["resized"], mode="linear"),
        node("DepthToSpace", ["resized"], ["deep"], blocksize=2),
        node("Pad", ["deep", "pads"], ["padded"], mode="reflect"),
        node("ConvTranspose", ["padded", "w5"], ["transposed"], pads=[1, 1, 1, 1]),
        node("PRelu", ["transposed", "slope"], ["parametric"]),
        node("Softmax", ["parametric"], ["attention"], axis=1),
        node("Mul", ["attention", "parametric"], ["attended"]),
        node("ReduceMean", ["attended", "axes"], ["features"], keepdims=0),
        node("Gemm", ["features", "w6", "b6"], ["logits"], transB=1),
        node("Softmax", ["logits"], ["y"], axis=1),
    ]
    weights |= {"low": np.array(-0.2, np.float32), "high": np.array(0.5, np.float32)}
    return tiny.model(nodes, weights, opset=18)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return convscope.load(network())


def node_of(model: onnx.ModelProto, tensor: str) -> onnx.NodeProto:
    return next(n for n in model.graph.node if tensor in n.output)


def attribute(tensor: str, **values: Any) -> tuple[str, Edit]:
    """Other attributes in the node that computes the tensor."""

    def edit(model: onnx.ModelProto) -> None:
        node = node_of(model, tensor)
        kept = [a for a in node.attribute if a.name not in values]
        del node.attribute[:]
        node.attribute.extend([*kept, *(helper.make_attribute(k, v) for k, v in values.items())])

    return tensor, edit


def weight(tensor: str, name: str, change: Callable[[np.ndarray], np.ndarray]) -> tuple[str, Edit]:
    """Another value in a weight that only the tensor's node reads."""

    def edit(model: onnx.ModelProto) -> None:
        found = next(t for t in model.graph.initializer if t.name == name)
        found.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(numpy_helper.to_array(found).copy())), name))

    return tensor, edit


def inputs(tensor: str, change: Callable[[list[str]], list[str]]) -> tuple[str, Edit]:
    """Other inputs of the tensor's node."""

    def edit(model: onnx.ModelProto) -> None:
        node = node_of(model, tensor)
        wanted = change(list(node.input))
        del node.input[:]
        node.input.extend(wanted)

    return tensor, edit


def one_group(tensor: str, name: str) -> tuple[str, Edit]:
    """A grouped convolution taken for a plain one: every output sees the channels of all groups."""

    def edit(model: onnx.ModelProto) -> None:
        weight(tensor, name, lambda w: np.concatenate([w, w], 1))[1](model)
        attribute(tensor, group=1)[1](model)

    return tensor, edit


def one_more(w: np.ndarray) -> np.ndarray:
    w[5, 1, 2, 0] += 0.1
    return w


FAULTS: dict[str, tuple[str, Edit]] = {
    "one weight": weight("conv1", "w1", one_more),
    "red and blue swapped": weight("conv1", "w1", lambda w: w[:, ::-1]),
    "bias dropped": inputs("conv1", lambda names: names[:2]),
    "epsilon": attribute("norm", epsilon=1e-5),
    "mean and variance swapped": inputs("norm", lambda names: [*names[:3], names[4], names[3]]),
    "slope of leaky ReLU": attribute("leaky", alpha=0.01),
    "padding counted in the average": attribute("average", count_include_pad=1),
    "padding at one side": attribute("grouped", pads=[0, 0, 2, 2]),
    "groups": one_group("grouped", "w2"),
    "clip bound": weight("clipped", "high", lambda v: v + 0.1),
    "rounding down": attribute("pooled", ceil_mode=0),
    "dilation": attribute("dilated", dilations=[1, 1], pads=[1, 1, 1, 1]),
    "two output channels swapped": weight("dilated", "w3", lambda w: w[[0, 2, 1, 3, 4, 5, 6, 7]]),
    "stride": attribute("branch", strides=[2, 2]),
    "order of concatenation": inputs("joined", lambda names: names[::-1]),
    "resize by nearest": attribute("resized", mode="nearest"),
    "coordinates of resize": attribute("resized", coordinate_transformation_mode="align_corners"),
    "order of depth to space": attribute("deep", mode="CRD"),
    "padding by the edge": attribute("padded", mode="edge"),
    "flipped kernel": weight("transposed", "w5", lambda w: w[:, :, ::-1, ::-1]),
    "slope of another channel": weight("parametric", "slope", lambda s: s[::-1]),
    "softmax axis": attribute("attention", axis=3),
    "reduced axis": weight("features", "axes", lambda _: np.array([1, 3], np.int64)),
    "transposed matrix": attribute("logits", transB=0),
    "bias without its factor": attribute("logits", beta=0.5),
}


def with_doctored_twin(graph: Graph, edit: Edit) -> Graph:
    doctored = onnx.ModelProto()
    doctored.CopyFrom(graph.model)
    edit(doctored)
    assert doctored != graph.model
    return dataclasses.replace(graph, twin_factory=TwinFactory(doctored))


def named_tensor(graph: Graph, edit: Edit) -> str | None:
    """The tensor that the check names as the first wrong one; None where it finds nothing wrong."""
    try:
        check_parity(with_doctored_twin(graph, edit))
    except ParityError as error:
        found = re.search(r"part at tensor '([^']*)'", str(error))
        return found.group(1) if found else str(error)
    return None


@pytest.mark.parametrize("fault", FAULTS)
def test_the_first_wrong_tensor_is_named(graph: Graph, fault: str) -> None:
    tensor, edit = FAULTS[fault]
    assert named_tensor(graph, edit) == tensor


def test_a_tensor_that_the_twin_cannot_compute_at_all_is_named(graph: Graph) -> None:
    _, edit = attribute("grouped", group=4)  # its weight has the channels of two groups
    with pytest.raises(RefusedInput, match="at tensor 'grouped'"):
        check_parity(with_doctored_twin(graph, edit))


def test_without_a_fault_every_tensor_passes(graph: Graph) -> None:
    found = check_parity(graph)
    assert len(found) == len(graph.model.graph.node)
    assert max(d.rel for d in found) < 1e-5


def test_the_faults_lie_at_least_at_sixteen_different_tensors_of_the_network(graph: Graph) -> None:
    places = {tensor for tensor, _ in FAULTS.values()}
    assert len(FAULTS) >= 20
    assert len(places) >= 16
    assert places <= {name for node in graph.model.graph.node for name in node.output}
