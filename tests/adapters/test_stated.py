"""What a file leaves to the runtime: the padding "same" of dilated windows, and the order of an unsorted TopK."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import helper

import convscope
from convscope.adapters.load import load_here
from convscope.adapters.verify import verify
from convscope.engine.graph.graph import Graph

from ..tiny import model

RNG = np.random.default_rng(0)
KERNEL = {"w": RNG.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32)}
FIXED, OPEN = ("N", 3, 17, 16), ("N", 3, "H", "W")


def twin(graph: Graph) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    made = graph.twin(["y"])
    return lambda feeds: {"y": made(torch.from_numpy(feeds["x"]))["y"].numpy()}


def dilated(op: str, read: str, made: str, **settings: Any) -> onnx.NodeProto:
    return helper.make_node(op, read.split(), [made], dilations=[2, 2], **settings)


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize(("shape", "stride"), [(FIXED, 1), (FIXED, 2), (OPEN, 1)])
def test_a_dilated_pool_with_same_padding_is_onnx_runtime_s_and_its_shape_is_told(
    op: str, auto: str, shape: tuple[int | str, ...], stride: int, tmp_path: Path
) -> None:
    pool = dilated(op, "c", "y", kernel_shape=[3, 2], strides=[stride] * 2, auto_pad=auto)
    path = tmp_path / "pool.onnx"
    onnx.save(model([helper.make_node("Conv", ["x", "w"], ["c"]), pool], KERNEL, shape, opset=19), path)
    graph = load_here(path, size=(17, 16))
    found = graph.session(["y"], device="cpu").run({"x": RNG.normal(size=(1, 3, 17, 16)).astype(np.float32)})["y"]
    assert graph.layer("y").shape[1:] == found.shape[1:]
    result = verify(graph)
    assert result.ok
    assert result.source_rel == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize(("shape", "stride"), [(FIXED, 1), (FIXED, 2), (OPEN, 1), (OPEN, 2), (OPEN, 3)])
def test_a_dilated_convolution_with_same_padding_which_onnx_runtime_refuses_is_computed_as_specified(
    shape: tuple[int | str, ...], stride: int, auto: str, tmp_path: Path
) -> None:
    path = tmp_path / "conv.onnx"
    conv = dilated("Conv", "x w", "y", strides=[stride] * 2, auto_pad=auto)
    onnx.save(model([conv], KERNEL, shape), path)
    graph = load_here(path, size=(17, 16))
    assert graph.layer("y").op == "Conv"
    for sides in ((17, 16), (20, 21), (4, 3), (1, 2)) if shape is OPEN else ((17, 16),):
        x = RNG.normal(size=(2, 3, *sides)).astype(np.float32)
        # output ceil(size / stride); total padding (output - 1) * stride + 5 - size, the odd one last, or first
        totals = [max((-(-n // stride) - 1) * stride + 5 - n, 0) for n in sides]
        pads = [(n // 2, n - n // 2)[:: 1 if auto == "SAME_UPPER" else -1] for n in totals]
        padded = F.pad(torch.from_numpy(x), (*pads[1], *pads[0]))
        expected = F.conv2d(padded, torch.from_numpy(KERNEL["w"]), stride=stride, dilation=2).numpy()
        for run in (graph.session(["y"], device="cpu").run, twin(graph)):
            np.testing.assert_allclose(run({"x": x})["y"], expected, atol=1e-5)
    result = verify(graph)
    assert result.ok
    assert result.source_rel is None


def test_the_first_come_first_where_a_topk_leaves_the_order_open(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("TopK", ["f", "k"], ["y", "places"], "best", sorted=0),
    ]  # fmt: skip
    path = tmp_path / "topk.onnx"
    onnx.save(model(nodes, {**KERNEL, "k": np.array([5])}), path)
    graph = convscope.load(path)
    assert any("best" in note and "order" in note for note in graph.source.notes)
    found = graph.session(["y"], device="cpu").run({"x": RNG.normal(size=(2, 3, 16, 16)).astype(np.float32)})["y"]
    assert (np.diff(found, axis=1) <= 0).all()
    result = verify(graph)
    assert result.ok
    assert result.source_rel == pytest.approx(0, abs=1e-5)
