"""Of a head with many branches only those are run that a number depends on, and its gradients are torch's own."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper
from torch import Tensor, nn

import convscope
from convscope.engine.attribution import Batch, Executors, explain_batch, find_methods
from convscope.engine.attribution.capture import capture
from convscope.engine.outputs import Target
from convscope.engine.outputs.reads import Box, Channel, Entry

from ...tiny import model
from .nets import residual

X = np.random.default_rng(0).normal(0, 1, (2, 3, 16, 16)).astype(np.float32)
FINE, COARSE = 5, 64 + 3  # anchors of the two levels, 8 x 8 and 4 x 4


class Pyramid(nn.Module):
    """Two levels, one above the other; each has a branch for boxes, decoded from bins, and one for two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, 2, 1)
        self.boxes = nn.ModuleList(self._branch(4 * 4) for _ in range(2))
        self.classes = nn.ModuleList(self._branch(2) for _ in range(2))
        self.bins = nn.Conv2d(4, 1, 1, bias=False)
        self.bins.weight.data[:] = torch.arange(4.0).reshape(1, 4, 1, 1)

    @staticmethod
    def _branch(outputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x).relu()
        coarse = self.coarse(fine).relu()
        self.levels = fine, coarse
        joined = [
            torch.cat([boxes(level), classes(level)], 1).flatten(2)
            for boxes, classes, level in zip(self.boxes, self.classes, self.levels, strict=True)
        ]
        boxes, classes = torch.cat(joined, 2).split([16, 2], 1)
        spread = boxes.unflatten(1, (4, 4)).transpose(1, 2).softmax(1)
        return torch.cat([self.bins(spread)[:, 0], classes.sigmoid()], 1)


@cache
def pyramid() -> tuple[Pyramid, Any]:
    torch.manual_seed(0)
    net = Pyramid().eval()
    return net, convscope.load(net, example_input=torch.zeros(1, 3, 16, 16), check=False)


def _layers(graph: Any) -> list[Any]:
    return [layer for layer in graph.layers if layer.op == "Relu"]


def _score(graph: Any, anchor: int) -> Target:
    return Target(Entry(((graph.outputs[0].name, (4, anchor)),)), "score")


def _left(graph: Any, anchor: int) -> Target:
    places = tuple((side, anchor) for side in range(4))
    return Target(Box(graph.outputs[0].name, places, "ltrb", "left"), "left")


def _own(net: Pyramid, rows: list[int], anchors: list[int]) -> list[np.ndarray]:
    """What torch gives for the output's entry of each picture, at both levels."""
    out = net(torch.from_numpy(X[: len(rows)]))
    total = sum(
        (out[i, row, anchor] for i, (row, anchor) in enumerate(zip(rows, anchors, strict=True))), out.new_zeros(())
    )
    found = torch.autograd.grad(total, net.levels, allow_unused=True)
    return [np.zeros(level.shape) if g is None else g.numpy() for g, level in zip(found, net.levels, strict=True)]


def _captured(batch: Batch, targets: list[Target], together: bool) -> list[np.ndarray]:
    layers = _layers(batch.graph)
    batch.together = tuple(layers) if together else ()
    return [capture(batch, targets, layer)[1].numpy() for layer in layers]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("anchor", [FINE, COARSE])
@pytest.mark.parametrize(("make", "row"), [(_score, 4), (_left, 0)])
def test_gradients_by_way_of_branches_are_torchs(make: Any, row: int, anchor: int, together: bool) -> None:
    net, graph = pyramid()
    found = _captured(Batch(Executors(graph, device="cpu"), X[:1]), [make(graph, anchor)], together)
    for ours, theirs in zip(found, _own(net, [row], [anchor]), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6 * max(1.0, np.abs(theirs).max()))


def test_pictures_with_numbers_of_different_branches_share_a_run() -> None:
    net, graph = pyramid()
    batch = Batch(Executors(graph, device="cpu"), X)
    found = _captured(batch, [_score(graph, FINE), _left(graph, COARSE)], together=True)
    for ours, theirs in zip(found, _own(net, [4, 0], [FINE, COARSE]), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def _runs(graph: Any, targets: list[Target], monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The ends of branches that ODAM of these targets computes with gradients, run by run."""
    executors = Executors(graph, device="cpu")
    ends = set(executors.ends(_layers(graph), targets[0].tensors))
    assert len(ends) == 4
    runs: list[list[str]] = []
    plain = Executors.twin

    def recorded(self: Executors, outputs: list[str], *rest: Any) -> Any:
        runs.append([name for name in outputs if name in ends])
        return plain(self, outputs, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Executors, "twin", recorded)
        explain_batch(Batch(executors, X[:1]), find_methods("odam"), targets, _layers(graph))
    return [run for run in runs if run]


def test_a_score_needs_the_classes_of_its_own_level_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = pyramid()[1]
    fine, coarse = (_runs(graph, [_score(graph, anchor)], monkeypatch) for anchor in (FINE, COARSE))
    (left,) = _runs(graph, [_left(graph, FINE)], monkeypatch)
    assert [len(run) for run in (*fine, *coarse, left)] == [1, 1, 1]
    assert len({*fine[0], *coarse[0], *left}) == 3


def test_several_numbers_share_one_run_of_all_their_branches(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = pyramid()[1]
    (run,) = _runs(graph, [_score(graph, FINE), _score(graph, COARSE), _left(graph, COARSE)], monkeypatch)
    assert len(run) == 3


def test_where_one_way_leads_to_the_number_there_is_nothing_to_choose() -> None:
    graph = residual()[1]
    layer = graph.layer("block1.relu2")
    assert Executors(graph, device="cpu").ends([layer], [graph.logits]) == ()


def test_a_layer_that_is_itself_such_an_end_has_the_gradient_that_is_asked_of_it() -> None:
    net, graph = pyramid()
    batch = Batch(Executors(graph, device="cpu"), X[:1])
    last = [layer for layer in graph.layers if layer.op == "Conv" and layer.channels == 2]
    batch.together = (*_layers(graph), *last)
    target = _score(graph, COARSE)
    ours = [capture(batch, [target], layer)[1].numpy() for layer in batch.together]
    for found, theirs in zip(ours[:2], _own(net, [4], [COARSE]), strict=True):
        np.testing.assert_allclose(found, theirs, atol=1e-6)
    p = float(net(torch.from_numpy(X[:1])).detach()[0, 4, COARSE])
    assert not ours[2].any()
    assert ours[3][0, 0, 0, 3] == pytest.approx(p * (1 - p), rel=1e-5) and np.count_nonzero(ours[3]) == 1


def test_a_branch_does_not_end_in_whole_numbers_at_which_there_is_no_gradient() -> None:
    """As in a network that ONNX Runtime quantizes while it runs: its scale is a way of its own."""
    rng = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {
        "w": rng.integers(-128, 127, (4, 3, 3, 3)).astype(np.int8),
        "share": np.full(1, 0.01, np.float32),
    }
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], "relu"),
        helper.make_node("DynamicQuantizeLinear", ["r"], ["q", "s", "z"], "quantize"),
        helper.make_node("ConvInteger", ["q", "w", "z"], ["c"], "conv"),
        helper.make_node("Cast", ["c"], ["d"], "cast", to=1),
        helper.make_node("Mul", ["s", "share"], ["t"], "scale"),
        helper.make_node("Mul", ["d", "t"], ["e"], "scaled"),
        helper.make_node("ReduceMean", ["e"], ["y"], "mean", axes=[2, 3], keepdims=0),
    ]
    graph = convscope.load(model(nodes, weights), check=False)
    executors = Executors(graph, device="cpu", batch=1)
    batch = Batch(executors, X[:1])
    _, found = capture(batch, [Target(Channel("y", 2), "")], graph.layer("relu"))
    feeds = torch.from_numpy(batch.values(["r"])[0]).requires_grad_()
    (expected,) = torch.autograd.grad(graph.twin(["y"], ["r"])({"r": feeds})["y"][0, 2], feeds)
    np.testing.assert_allclose(found, expected, atol=1e-6 * float(expected.abs().max()))
