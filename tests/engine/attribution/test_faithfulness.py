"""The measures of faithfulness on models whose right answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import convscope
from convscope.engine.attribution import Batch, Executors, Target, explain_batch, find_methods
from convscope.engine.attribution.faithfulness import measures as f
from convscope.engine.attribution.faithfulness.ranking import Ranked, average, rank
from convscope.engine.attribution.faithfulness.road import impute
from convscope.engine.attribution.faithfulness.sanity import cascade, randomized, weight_names
from convscope.engine.attribution.probabilities import class_probability
from convscope.engine.outputs.reads import Channel
from convscope.errors import UsageError

from .nets import images, residual


def cornered(**options: Any) -> tuple[Executors, Target]:
    """A network of two numbers that looks at the top left quarter of 8 x 8 images only."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    with torch.no_grad():
        net[1].weight.zero_()
        net[1].bias.copy_(torch.tensor([0.0, -2.0]))
        net[1].weight[1].view(3, 8, 8)[:, :4, :4] = 0.125
    graph = convscope.load(net.eval(), example_input=torch.zeros(2, 3, 8, 8), **options)
    return Executors(graph), Target(Channel(graph.logits, 1), "corner")


@pytest.fixture(scope="module")
def corner():
    """The same as a classifier of two classes."""
    return cornered(labels=["elsewhere", "corner"])


X = np.ones((3, 8, 8), np.float32)
RIGHT = np.zeros((8, 8), np.float32)
RIGHT[:4, :4] = 1
WRONG = RIGHT[::-1, ::-1].copy()


def test_deletion_of_a_linear_model_is_the_area_of_its_sigmoid(corner):
    """The 16 important pixels go first: z falls from 4 to -2 over a quarter of the way, then stays."""
    share = np.linspace(0, 1, 65)
    z = np.where(share <= 0.25, 6 - 24 * share, 0.0) - 2
    expected = np.trapezoid(1 / (1 + np.exp(-z)), dx=1 / 64)
    assert f.deletion(*corner[:1], X, RIGHT, corner[1], steps=64) == pytest.approx(expected, rel=1e-5)


def test_numbers_of_unknown_meaning_are_watched_as_they_are():
    """No softmax over what `predict` shows without one: 4 and -2 are the second number with and without the corner."""
    executors, target = cornered()
    assert executors.scores(np.stack([X, 0 * X]), [target], probability=True) == pytest.approx([4, -2])
    share = np.linspace(0, 1, 65)
    expected = np.trapezoid(np.where(share <= 0.25, 6 - 24 * share, 0.0) - 2, dx=1 / 64)
    assert f.deletion(executors, X, RIGHT, target, steps=64) == pytest.approx(expected, rel=1e-5)


def test_the_right_map_beats_the_wrong_one_in_every_measure(corner):
    executors, target = corner
    assert f.deletion(executors, X, RIGHT, target) < f.deletion(executors, X, WRONG, target)
    zero = np.zeros_like(X)
    zero[:, :4, :4] = 1
    assert f.insertion(executors, zero, RIGHT, target) > f.insertion(executors, zero, WRONG, target)
    assert f.average_drop_increase(executors, X, RIGHT, target)[0] == pytest.approx(0)
    assert f.average_drop_increase(executors, X, WRONG, target)[0] > 0.8
    assert f.road(executors, zero, RIGHT, target) > f.road(executors, zero, WRONG, target)


def test_independent_classes_have_sigmoid_probabilities_and_others_a_softmax():
    logits = np.array([1.0, 2.0, -1.0])
    assert class_probability(logits, 1) == pytest.approx(np.exp(2) / (np.exp(1) + np.exp(2) + np.exp(-1)))
    assert class_probability(logits, 1, "sigmoids") == pytest.approx(1 / (1 + np.exp(-2)))
    assert class_probability(logits[:1], 0) == pytest.approx(1 / (1 + np.exp(-1)))
    assert class_probability(logits[:1], 0, "sigmoid", sign=-1.0) == pytest.approx(1 / (1 + np.exp(1)))


def test_average_drop_is_relative_to_the_probability(corner):
    executors, target = corner
    half = np.full((8, 8), 0.5, np.float32)
    before, after = (1 / (1 + np.exp(-z)) for z in (4.0, 1.0))
    drop, increase = f.average_drop_increase(executors, X, half, target)
    assert drop == pytest.approx((before - after) / before, rel=1e-5) and increase == 0


def test_the_imputed_plane_continues_a_slope():
    """The weights are symmetric, so a linear ramp solves the system away from the border."""
    ramp = np.add.outer(np.arange(9.0), 2 * np.arange(9.0))[None].astype(np.float32)
    removed = np.zeros((9, 9), bool)
    removed[3:6, 3:6] = True
    assert np.allclose(impute(ramp, removed, 0.0, np.random.default_rng(0)), ramp, atol=1e-4)


def test_imputing_everything_or_nothing_is_defined():
    x = np.random.default_rng(0).random((3, 4, 4)).astype(np.float32)
    assert (impute(x, np.zeros((4, 4), bool), 0.1, np.random.default_rng(0)) == x).all()
    everything = impute(x, np.ones((4, 4), bool), 0.0, np.random.default_rng(0))
    assert np.allclose(everything, x.mean(axis=(1, 2), keepdims=True), atol=1e-6)


def test_the_pointing_game_hits_inside_the_box_and_within_its_tolerance():
    heat = np.zeros((40, 40))
    heat[20, 20] = 1
    assert f.pointing_game(heat, [(18, 18, 25, 25)], tolerance=0)
    assert not f.pointing_game(heat, [(0, 0, 20, 40)], tolerance=0)
    assert f.pointing_game(heat, [(0, 0, 10, 40)])
    assert not f.pointing_game(np.zeros((40, 40)), [(0, 0, 40, 40)])  # no maximum, whatever argmax says
    with pytest.raises(UsageError, match="at least one box"):
        f.pointing_game(heat, [])


def test_max_sensitivity_of_the_identity_is_the_largest_noise():
    x = np.full((3, 8, 8), 2.0, np.float32)
    noise = np.random.default_rng(5).uniform(-0.1, 0.1, (4, 3, 8, 8))
    expected = max(np.linalg.norm(n) for n in noise) / np.linalg.norm(x)
    assert f.max_sensitivity(lambda rows: rows, x, radius=0.1, samples=4, seed=5) == pytest.approx(expected, rel=1e-4)
    assert f.max_sensitivity(lambda rows: np.ones_like(rows), x) == 0


def test_randomization_keeps_each_weights_values_and_names_them_in_order():
    graph = residual()[1]
    names = weight_names(graph)
    assert len(names) == 6
    other = randomized(graph, names[-2:], seed=0)
    old, new = ({t.name: convscope_array(t) for t in g.model.graph.initializer} for g in (graph, other))
    for name in names:
        assert (np.sort(old[name].ravel()) == np.sort(new[name].ravel())).all()
        assert (old[name] == new[name]).all() == (name not in names[-2:])
    assert other.sha256 != graph.sha256


def test_both_executors_see_the_randomized_weights():
    graph = residual()[1]
    other = randomized(graph, weight_names(graph), seed=0)
    x = images(2, 32)
    session = other.session([other.logits]).run(x)[other.logits]
    twin = other.twin([other.logits])(torch.from_numpy(x))[other.logits].numpy()
    assert np.allclose(session, twin, atol=1e-4)
    assert not np.allclose(session, graph.session([graph.logits]).run(x)[graph.logits], atol=1e-2)


def test_a_method_that_ignores_the_weights_is_flagged_and_one_that_uses_them_is_not():
    from convscope.engine.attribution.maps import Maps
    from convscope.engine.attribution.registry import Method

    def edges(batch, targets):
        found = np.abs(batch.x).mean(axis=1)
        return Maps(found, found)

    graph = residual()[1]
    batch = Batch(Executors(graph), images(2, 32))
    methods = [Method("edges", "Edges", "gradient", False, "few", edges), *find_methods("saliency")]
    found = cascade(batch, methods, [Target(Channel(graph.logits, 0), "0")] * 2, [], stages=3)
    assert found[0].insensitive and found[0].similarity == pytest.approx((1.0, 1.0, 1.0))
    assert not found[1].insensitive and found[1].similarity[-1] < 0.5
    assert found[0].stages == (2, 4, 6)


def test_the_ranking_puts_a_measured_winner_first_and_averages_images():
    graph = residual()[1]
    batch = Batch(Executors(graph), images(2, 32))
    results = explain_batch(batch, find_methods("gradcam,saliency,eigencam"), 1)
    done = []
    rows = [rank(batch, i, results[i], boxes=[(0, 0, 32, 32)], progress=done.append) for i in range(2)]
    assert len(done) == 6
    for ranked in rows:
        assert {r.method for r in ranked} == {"gradcam", "saliency", "eigencam"}
        assert ranked[0].rank == 1 and all(r.sensitivity is not None and r.similarity is not None for r in ranked)
        assert all(r.pointing == 1 for r in ranked)
    means = average(rows)
    saliency = [r.deletion for ranked in rows for r in ranked if r.method == "saliency"]
    assert next(r for r in means if r.method == "saliency").deletion == pytest.approx(np.mean(saliency))
    best = Ranked("a", 1, 0.1, 0.9, 0.1, 1.0, 0.5)
    worst = Ranked("b", 2, 0.8, 0.2, 0.7, 0.0, 0.1)
    assert [r.method for r in average([[worst, best]])] == ["a", "b"]


def convscope_array(tensor):
    from onnx import numpy_helper

    return numpy_helper.to_array(tensor)
