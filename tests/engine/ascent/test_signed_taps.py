"""Layers of signed values: a blank picture must not pass for an exciting one."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from onnx import helper

import convscope
from convscope.engine.ascent.filters import filters
from convscope.engine.ascent.maximize import maximize
from convscope.engine.ascent.network import Network, feeds_gate, is_signed
from convscope.engine.ascent.recipe.objectives import excitation
from convscope.engine.ascent.verdicts import activations
from convscope.engine.graph.graph import Graph

from ...tiny import model
from .nets import small, with_silent_filters


def _stem() -> Graph:
    """A convolution read by a batch norm and a swish.

    Unit 0 is an edge filter, unit 1 below zero on any picture, unit 2 a constant, unit 3 inhibited by an even picture
    and excited at edges.
    """
    weight = np.zeros((4, 3, 3, 3), dtype=np.float32)
    weight[0, :, :, 0], weight[0, :, :, 2] = -1, 1
    weight[1, 0, 1, 1] = 0.5
    weight[3] = weight[0] - 0.02
    bias = np.array([0, -2, -1, 0], dtype=np.float32)
    ones, zeros = np.ones(4, dtype=np.float32), np.zeros(4, dtype=np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv"),
        helper.make_node("BatchNormalization", ["c", "one", "zero", "zero2", "one2"], ["n"], "bn"),
        helper.make_node("Sigmoid", ["n"], ["s"], "sigmoid"),
        helper.make_node("Mul", ["n", "s"], ["y"], "swish"),
    ]
    weights = {"w": weight, "b": bias, "one": ones, "zero": zeros, "zero2": zeros.copy(), "one2": ones.copy()}
    return convscope.load(model(nodes, weights, shape=("N", 3, None, None)), preprocessing="unit", check=False)


def test_which_layers_have_signed_values() -> None:
    graph = small()
    assert [is_signed(graph, graph.layer(name)) for name in ("conv1", "bn1", "relu1", "pool1", "conv2", "fc")] == [
        *(True, True, False, False, True, False)
    ]
    assert [feeds_gate(graph, graph.layer(name)) for name in ("conv1", "bn1", "conv2")] == [False, True, True]


def test_excitation_is_the_mean_of_the_positive_part_or_of_all_where_there_is_none() -> None:
    layer = small().layer("conv2")
    maps = torch.zeros(2, 12, 2, 2)
    maps[0, 3] = torch.tensor([[1.0, -5.0], [3.0, -1.0]])
    maps[1, 3] = torch.tensor([[-1.0, -5.0], [-3.0, -1.0]])
    torch.testing.assert_close(excitation(layer, 3)({layer.tensor: maps}), torch.tensor([1.0, -2.5]))
    torch.testing.assert_close(excitation(layer, [3, 3])({layer.tensor: maps}), torch.tensor([1.0, -2.5]))


def test_an_edge_filter_before_its_activation_is_shown_edges_and_called_ok() -> None:
    made = filters(_stem(), "conv", [0, 3], size=24, steps=60)
    for unit in made.units:
        assert unit.status == "ok" and unit.activation_end > 2 * unit.reference > 0
        across = np.abs(np.diff(unit.image, axis=1)).mean()
        assert across > 1.5 * np.abs(np.diff(unit.image, axis=0)).mean()  # vertical edges


def test_a_blank_picture_is_weak_even_where_its_mean_beats_every_photographs() -> None:
    graph = _stem()
    layer = graph.layer("conv")
    network = Network(graph, [layer.tensor], "cpu")
    black = np.zeros((2, 3, 24, 24), dtype=np.float32)
    blank = activations(network, partial(excitation, layer), [3, 3], black)[0]
    photo = filters(graph, "conv", 3, size=24, steps=1, preset="chollet")[0].reference
    assert blank <= 0 < photo


def test_a_unit_below_zero_that_no_gate_holds_back_is_not_dead() -> None:
    low, constant = filters(_stem(), "conv", [1, 2], size=16, steps=40).units
    assert low.status == "ok" and -2 < low.reference <= low.activation_end < 0
    assert constant.status == "dead" and constant.reason.startswith("no input changes it; given up")


@pytest.mark.parametrize("preset", ["convscope", "chollet"])
def test_a_convolution_whose_relu_stays_at_zero_is_dead_at_its_own_tap_too(preset: str) -> None:
    alive, dead = filters(with_silent_filters(), "conv", [0, 1], preset=preset, size=16, steps=20).units
    assert alive.status in ("ok", "weak") and alive.activation_end > 0
    assert dead.status == "dead" and "no higher than -1 from any start" in dead.reason


def test_the_negative_picture_lowers_what_the_gate_reads_where_the_positive_one_raises_it() -> None:
    graph = small()
    layer, weights = graph.layer("relu2"), Network(graph, ["c2"], "cpu")
    raised, lowered = (filters(graph, "relu2", [0, 4], size=24, steps=40, negative=n).units for n in (False, True))
    for up, down in zip(raised, lowered, strict=True):
        assert down.status == "ok" and down.activation_end > max(down.activation_start, down.reference) > 0
        pictures = torch.from_numpy(np.stack([up.image, down.image]).transpose(0, 3, 1, 2).copy())
        with torch.no_grad():
            before = weights(pictures)["c2"][:, up.unit]
        assert before[0].clamp_min(0).mean() > 2 * before[1].clamp_min(0).mean() and before[1].mean() < before[0].mean()
        assert down.activation_end == pytest.approx(float((-before[1]).clamp_min(0).mean()), rel=0.02)
    assert layer.channels == 12


def test_a_class_is_shown_what_speaks_against_it() -> None:
    graph = small()
    against = maximize(graph, 2, size=24, steps=40, negative=True)
    assert against[0].activation_end > against[0].activation_start and against.provenance["negative"]
    plain = Network(graph, [graph.logits], "cpu")
    with torch.no_grad():
        logits = plain(torch.from_numpy(against[0].image.transpose(2, 0, 1)[None].copy()))[graph.logits]
    assert against[0].activation_end == pytest.approx(-float(logits[0, 2]), rel=0.02)
