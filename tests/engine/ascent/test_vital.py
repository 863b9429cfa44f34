"""Sort matching: the published loss, what it leaves free, and pictures nearer to photographs than without it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import convscope
from convscope.engine.ascent import network
from convscope.engine.ascent.filters import filters
from convscope.engine.ascent.many import Studio
from convscope.engine.ascent.matched import Matching, matched_layers
from convscope.engine.ascent.maximize import maximize
from convscope.engine.ascent.network import Network
from convscope.engine.ascent.recipe.matching import Ranked, importance, mismatch
from convscope.engine.ascent.results import AscentResult
from convscope.engine.ascent.settings import settings
from convscope.engine.graph.graph import Graph
from convscope.errors import UsageError

from ...tiny import model
from .nets import small

RNG = np.random.default_rng(0)
BLUE = np.stack([np.full((24, 24), 0.1), RNG.random((24, 24)), np.full((24, 24), 0.9)])[None].astype(np.float32)


def _maps(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32))


@given(st.integers(0, 99), st.integers(1, 5), st.integers(2, 12), st.integers(2, 12))
def test_the_mismatch_is_the_square_distance_between_sorted_values(
    seed: int, channels: int, positions: int, theirs: int
) -> None:
    maps, photographs = _maps(seed, channels, positions), _maps(seed + 1, 3, channels, theirs)
    weights = torch.linspace(0.2, 1, channels)
    wanted = np.sort(photographs.numpy(), axis=2).mean(0)
    ranks = np.linspace(0, 1, theirs)
    wanted = np.stack([np.interp(np.linspace(0, 1, positions), ranks, row) for row in wanted])
    far = ((np.sort(maps.numpy(), axis=1) - wanted) ** 2).mean(1)
    expected = (weights.numpy() * far).sum() / (weights.numpy() * (wanted**2).mean(1)).sum()
    found = mismatch(maps, Ranked.of(list(photographs), weights))
    assert float(found) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_a_photograph_matches_itself_wherever_its_features_lie() -> None:
    maps = _maps(3, 4, 30)
    wanted = Ranked.of([maps], torch.ones(4))
    assert float(mismatch(maps, wanted)) == 0
    assert float(mismatch(maps[:, torch.randperm(30)], wanted)) == pytest.approx(0, abs=1e-9)
    assert float(mismatch(2 * maps, wanted)) == pytest.approx(1, rel=1e-5)


def test_channels_without_weight_do_not_count() -> None:
    maps, other = _maps(1, 2, 9), _maps(2, 2, 9)
    wanted = Ranked.of([torch.stack([maps[0], other[1]])], torch.tensor([1.0, 0.0]))
    assert float(mismatch(maps, wanted)) == 0


def test_importance_is_gradient_times_activation_where_it_speaks_for_the_unit() -> None:
    maps, gradients = _maps(1, 3, 5, 7), _maps(2, 3, 5, 7)
    expected = np.maximum((maps.numpy() * gradients.numpy()).sum(2).mean(0), 0)
    assert importance(maps, gradients).numpy() == pytest.approx(expected / expected.max(), rel=1e-5, abs=1e-7)
    assert importance(-maps.abs(), maps.abs() + 1).tolist() == [1] * 5


def test_the_last_map_of_each_stride_is_matched_and_what_has_one_position_is_not() -> None:
    graph = small()
    assert [la.name for la in matched_layers(graph, graph.layer("fc"))] == ["relu1", "relu2"]
    assert [la.name for la in matched_layers(graph, graph.layer("conv2"))] == ["relu1", "conv2"]


def test_a_network_without_feature_maps_is_refused_by_name() -> None:
    weights = {"w": np.ones((48, 2), np.float32)}
    nodes = [helper.make_node("Flatten", ["x"], ["f"], "flat"), helper.make_node("MatMul", ["f", "w"], ["y"], "dense")]
    graph = convscope.load(model(nodes, weights, shape=(1, 3, 4, 4)), preprocessing="unit", check=False)
    with pytest.raises(UsageError, match="preset vital compares feature maps, and tiny has none on the way to 'y'"):
        filters(graph, "dense", 0, preset="vital", steps=2)


def _distance(graph: Graph, made: AscentResult) -> float:
    """Mean square distance of relu1's sorted values to those of the blue photograph, in numpy."""
    network = Network(graph, [graph.layer("relu1").tensor], "cpu")
    with torch.no_grad():
        pictures = np.concatenate([made[0].image.transpose(2, 0, 1)[None], BLUE]).astype(np.float32)
        mine, theirs = np.sort(network(torch.from_numpy(pictures))[network.tensors[0]].flatten(2).numpy(), axis=2)
    return float(((mine - theirs) ** 2).mean())


def test_pictures_have_the_features_of_the_photographs_that_are_given() -> None:
    graph = small()
    options = {"size": 24, "steps": 40, "photos": BLUE}
    plain, matched = (filters(graph, "conv2", 3, preset=name, **options) for name in ("parts", "vital"))
    assert _distance(graph, matched) < 0.5 * _distance(graph, plain)
    assert matched[0].status == "ok" and matched.preset == "vital"


def test_a_class_is_drawn_after_the_photographs_given() -> None:
    graph = small()
    ours, theirs = (maximize(graph, 1, preset="vital", size=24, steps=4, photos=p) for p in (BLUE, 1 - BLUE))
    assert not np.array_equal(ours[0].image, theirs[0].image)


def test_a_matched_picture_is_the_same_in_every_batch() -> None:
    graph = small()
    alone, together = (filters(graph, "conv2", [1, 3, 5], preset="vital", size=16, steps=6, batch=b) for b in (1, 3))
    assert [u.image.tobytes() for u in alone.units] == [u.image.tobytes() for u in together.units]


@pytest.mark.parametrize("busy", [0.0, 1e12])
def test_photographs_are_compared_once_for_each_unit_whether_pictures_go_through_the_network_alone_or_not(
    busy: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    plain = Matching.chosen
    monkeypatch.setattr(network, "_BUSY", busy)

    def counted(self: Matching, unit: int) -> np.ndarray:
        asked.append(unit)
        return plain(self, unit)

    monkeypatch.setattr(Matching, "chosen", counted)
    filters(small(), "conv2", [1, 3, 5, 7], preset="vital", size=16, steps=3, batch=2)
    assert sorted(asked) == [1, 3, 5, 7]


def test_only_photographs_that_excite_the_unit_half_as_much_as_the_best_are_matched() -> None:
    graph = small()
    photographs = (
        RNG.random((20, 3, 16, 16)).astype(np.float32) * np.linspace(0, 1, 20, dtype=np.float32)[:, None, None, None]
    )
    layer = graph.layer("relu2")
    studio = Studio(
        graph, layer, settings(graph, layer, preset_name="vital", size=16), device="cpu", photos=photographs
    )
    assert studio._matching is not None
    with torch.no_grad():
        values = studio.measure([2])(studio.network(torch.from_numpy(photographs))).numpy()
    wanted = sorted(np.flatnonzero(values >= 0.5 * values.max()), key=lambda i: -values[i])
    assert studio._matching.chosen(2).tolist() == wanted
