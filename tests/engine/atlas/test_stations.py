"""Which layers an atlas has, and where their channels come from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper

import convscope
from convscope.engine.atlas.drawing import block_names, drawn_graph
from convscope.engine.atlas.stations import IMAGE, Stations
from convscope.engine.graph.graph import Graph
from convscope.errors import UsageError

from ...tiny import model
from .places import network


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def _load(nodes: Sequence[tuple[str, list[str], str, Any]], weights: dict[str, np.ndarray]) -> Graph:
    made = [helper.make_node(op, inputs, [out], out, **more) for op, inputs, out, more in nodes]
    shape = ("N", 3, 8, 8)
    return convscope.load(model(made, weights, shape, outputs=(nodes[-1][2],)), preprocessing="unit", check=False)


SAME = {"pads": [1, 1, 1, 1]}


def residual() -> Graph:
    """conv a - relu - conv b (a branch) + a's relu - relu; then a concatenation, a pool and a dense layer."""
    weights = {"wa": _normal(0, 4, 3, 3, 3), "wb": _normal(1, 4, 4, 3, 3), "wc": _normal(2, 2, 4, 1, 1),
               "wd": _normal(3, 5, 6 * 4)}  # fmt: skip
    nodes = [
        ("Conv", ["x", "wa"], "a", SAME), ("Relu", ["a"], "ra", {}), ("Conv", ["ra", "wb"], "b", SAME),
        ("Add", ["b", "ra"], "s", {}), ("Relu", ["s"], "rs", {}), ("Conv", ["rs", "wc"], "c", {}),
        ("Sigmoid", ["c"], "g", {}), ("Mul", ["c", "g"], "sw", {}), ("Concat", ["rs", "sw"], "k", {"axis": 1}),
        ("MaxPool", ["k"], "p", {"kernel_shape": [4, 4], "strides": [4, 4]}), ("Flatten", ["p"], "f", {}),
        ("Gemm", ["f", "wd"], "y", {"transB": 1}),
    ]  # fmt: skip
    return _load(nodes, weights)


def test_units_are_shown_once_behind_their_activation() -> None:
    assert [s.layer.name for s in Stations(network()).all] == ["relu1", "relu2", "fc"]
    found = Stations(residual()).all
    # b is shown by the sum; c's swish is one activation of two nodes; concatenation, pool and flattening make none
    assert [s.layer.tensor for s in found] == ["ra", "rs", "sw", "y"]


def test_channels_are_followed_through_concatenation_pooling_and_flattening() -> None:
    graph = residual()
    stations = Stations(graph)
    by_tensor = {s.layer.tensor: s.layer.index for s in stations.all}
    way = stations.way("p")
    assert way is not None
    assert way.layers.tolist() == [by_tensor["rs"]] * 4 + [by_tensor["sw"]] * 2
    assert way.units.tolist() == [0, 1, 2, 3, 0, 1]
    flat = stations.way("f")
    assert flat is not None
    assert flat.units.tolist() == [u for u in (0, 1, 2, 3, 0, 1) for _ in range(4)]
    image = stations.way("x")
    assert image is not None
    assert image.layers.tolist() == [IMAGE] * 3


def test_channels_are_followed_past_slices_of_places_and_of_channels() -> None:
    ends = {name: np.array([value]) for name, value in (("zero", 0), ("four", 4), ("rows", 2), ("channels", 1))}
    ends |= {"last": np.array([-1]), "before": np.array([-100]), "back": np.array([-2])}
    weights = {"wa": _normal(0, 6, 3, 3, 3), "wb": _normal(1, 2, 6, 1, 1), "wc": _normal(2, 2, 4, 1, 1),
               "wd": _normal(3, 2, 3, 1, 1), **ends}  # fmt: skip
    start: list[tuple[str, list[str], str, Any]] = [("Conv", ["x", "wa"], "a", SAME), ("Relu", ["a"], "ra", {})]
    places = Stations(_load([*start, ("Slice", ["ra", "zero", "four", "rows"], "cut", {}),
                             ("Conv", ["cut", "wb"], "y", {})], weights)).way("cut")  # fmt: skip
    assert places is not None
    assert places.units.tolist() == [0, 1, 2, 3, 4, 5]
    some = Stations(_load([*start, ("Slice", ["ra", "zero", "four", "channels"], "cut", {}),
                           ("Conv", ["cut", "wc"], "y", {})], weights)).way("cut")  # fmt: skip
    assert some is not None
    assert some.units.tolist() == [0, 1, 2, 3]
    backwards = Stations(_load([*start, ("Slice", ["ra", "last", "before", "channels", "back"], "cut", {}),
                                ("Conv", ["cut", "wd"], "y", {})], weights)).way("cut")  # fmt: skip
    assert backwards is not None
    assert backwards.units.tolist() == [5, 3, 1]


def test_a_sum_s_units_are_made_by_its_branch_and_by_what_goes_past_it() -> None:
    stations = Stations(residual())
    total = next(s for s in stations.all if s.layer.tensor == "rs")
    assert [(maker.node is None, maker.tensor) for maker in stations.makers(total)] == [(False, "b"), (True, "ra")]


def test_a_glob_means_the_layers_that_show_units_and_a_name_its_own() -> None:
    stations = Stations(network())
    assert [la.name for la in stations.chosen("*1")] == ["relu1"]
    assert [la.name for la in stations.chosen("conv1,relu2")] == ["conv1", "relu2"]
    with pytest.raises(convscope.UsageError, match="layer 'nothing' is not in"):
        stations.chosen("nothing")


def test_the_drawing_has_every_layer_and_its_edges() -> None:
    graph = residual()
    drawn = drawn_graph(graph)
    names = [node[0] for node in drawn["nodes"]]
    edges = {(names[a] if a >= 0 else "picture", names[b]) for a, b in drawn["edges"]}
    assert edges >= {("picture", "a"), ("a", "ra"), ("ra", "s"), ("b", "s"), ("rs", "k"), ("sw", "k"), ("f", "y")}
    assert len(names) == len(graph.layers)


@pytest.mark.parametrize(
    ("names", "blocks"),
    [
        (["stem", "layer1.0.conv1", "layer1.0.bn1", "fc"], ["", "layer1.0", "layer1.0", ""]),
        (["block1_conv1", "block1_pool", "block2_conv1"], ["block1", "block1", ""]),
        (["a.1.x", "a.1.y", "b", "a.1.z", "a.1.w"], ["a.1", "a.1", "", "a.1 (2)", "a.1 (2)"]),
        (["features.0", "features.1"], ["", ""]),
    ],
)
def test_blocks_are_runs_of_neighbours_whose_names_begin_alike(names: list[str], blocks: list[str]) -> None:
    assert block_names(names) == blocks


class _Attentive(torch.nn.Module):
    """Tokens of 4 x 4 patches behind a class token, through torch's own encoder, which moves them in front."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.head = torch.nn.Conv2d(3, 16, 4, 4), torch.nn.Linear(16, 3)
        self.first = torch.nn.Parameter(torch.randn(1, 1, 16))
        self.block = torch.nn.TransformerEncoderLayer(16, 2, 24, dropout=0, batch_first=True, norm_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.first.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        return self.head(self.block(tokens)[:, 0])


@pytest.mark.parametrize("batch", ["open", "one"])
@pytest.mark.filterwarnings("ignore")  # of torch's older exporter
def test_layers_of_an_encoder_of_torch_are_stations_but_those_that_count_tokens(
    batch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mha, "_is_fastpath_enabled", False)  # a fused operator that no export has
    torch.manual_seed(0)
    file, axes = tmp_path / "net.onnx", {"x": {0: "n"}} if batch == "open" else None
    picture, names = torch.zeros(1, 3, 16, 16), ["x"]
    network = _Attentive().eval()
    torch.onnx.export(network, (picture,), file, dynamo=False, input_names=names, dynamic_axes=axes)
    graph = convscope.load(file)
    shown = Stations(graph).chosen(None)
    assert [layer.channels for layer in shown] == [16, 48, 16, 24, 16, 3]
    pictures = np.random.default_rng(0).random((3, 3, 16, 16), dtype=np.float32)
    apart: dict[str, list[np.ndarray]] = {layer.tensor: [] for layer in shown}
    for picture in pictures:
        for name, value in graph.session(list(apart)).run(picture[None]).items():
            apart[name].append(value)
    together = graph.session(list(apart)).run(pictures)
    for layer in shown:
        axis = graph.batch_axes.get(layer.tensor, 0)
        np.testing.assert_allclose(together[layer.tensor], np.concatenate(apart[layer.tensor], axis), atol=1e-5)
    grids = [layer.tokens.count if layer.tokens else None for layer in shown]
    assert grids == [None, None, 17, 17, 17, None]  # attention's own projection has its tokens in front
    rows = next(la for la in graph.layers if la.op == "Gemm" and la.channels == 16)
    with pytest.raises(UsageError, match="no layer of net with units that holds one result for each picture"):
        Stations(graph).chosen(rows.name)
