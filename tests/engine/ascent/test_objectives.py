"""What ascent maximizes: the algebra, and objectives that look at several pictures."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch

import convscope
from convscope.engine.ascent.ascend import ascend
from convscope.engine.ascent.filters import filters
from convscope.engine.ascent.recipe.objectives import (
    Objective,
    Tensors,
    channel,
    direction,
    diversity,
    interpolation,
    joint,
    neuron,
)
from convscope.engine.ascent.recipe.objectives import (
    layer as whole_layer,
)
from convscope.engine.ascent.recipe.presets import PRESETS
from convscope.engine.graph.layers import Layer
from convscope.errors import UsageError

from .nets import small


def test_objectives_add_negate_and_scale() -> None:
    layer = small().layer("conv2")
    values = {layer.tensor: torch.rand(4, 12, 3, 3)}
    a, b = channel(layer, 1), channel(layer, 2)
    expected = 2 * values[layer.tensor][:, 1].mean((1, 2)) - values[layer.tensor][:, 2].mean((1, 2))
    torch.testing.assert_close((2 * a - b)(values), expected)
    torch.testing.assert_close(joint(layer, [1, 2], [2, -1])(values), expected)
    torch.testing.assert_close(neuron(layer, [1, 2, 3, 4])(values)[2], values[layer.tensor][2, 3, 1, 1])
    torch.testing.assert_close(interpolation(layer, 1, 2, 4)(values)[[0, 3]], torch.stack([a(values)[0], b(values)[3]]))
    along = np.zeros(12)
    along[1] = 5
    torch.testing.assert_close(direction(layer, along)(values), a(values))


def test_diversity_is_lowest_for_equal_pictures() -> None:
    layer = small().layer("conv2")
    maps = torch.rand(4, 12, 3, 3)
    same = diversity(layer, 2)({layer.tensor: maps[[0, 0, 1, 1]]})
    torch.testing.assert_close(same, -torch.ones(4))
    assert bool((diversity(layer, 2)({layer.tensor: maps}) > -1).all())


def test_objectives_see_a_row_for_each_picture_however_many_views_it_has() -> None:
    graph = small()
    layer = graph.layer("conv2")
    rows = []

    def value(values: Tensors) -> torch.Tensor:
        rows.append(len(values[layer.tensor]))
        return values[layer.tensor].flatten(1).mean(1)

    ascend(graph, Objective((layer.tensor,), value, "counted"), 3, preset="maco", size=24, steps=2)
    assert PRESETS["maco"].transform.views > 1 and set(rows) == {3}


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        (lambda layer: channel(layer, 99), "no unit of layer 'conv2' with number 99; they are 0 to 11"),
        (lambda layer: channel(layer, -1), "number -1"),
        (lambda layer: channel(layer, [1, 2]), "2 numbers of a unit of layer 'conv2' for 3 pictures"),
        (lambda layer: interpolation(layer, 1, 2, 4), "interpolation of 4 pictures was asked for 3"),
        (lambda layer: diversity(layer, 2), "groups of 2 pictures, which 3 do not fill"),
        (lambda layer: whole_layer(layer, [12]), "unit 12 is out of range"),
    ],
)
def test_objectives_that_do_not_fit_are_refused_in_a_line(goal: Callable[[Layer], Objective], words: str) -> None:
    graph = small()
    with pytest.raises(UsageError, match=re.escape(words)):
        ascend(graph, goal(graph.layer("conv2")), 3, size=24, steps=2)


def test_ascend_makes_several_pictures_of_one_objective() -> None:
    graph = small()
    layer = graph.layer("conv2")
    goal = channel(layer, 3) + 0.1 * diversity(layer, 2)
    pictures = ascend(graph, goal, 2, size=24, steps=4)
    assert len(pictures) == 2 and pictures[0].shape == (24, 24, 3)
    assert not np.array_equal(pictures[0], pictures[1])


def test_layers_are_named_and_looked_up_when_the_objective_meets_its_graph() -> None:
    graph = small()
    layer = graph.layer("conv2")
    values = {layer.tensor: torch.rand(4, 12, 3, 3)}
    named = (sum([channel("conv2", 1), channel("conv2", 2)]) - 0.5 * whole_layer("conv2")) / 2 + 1
    maps = values[layer.tensor]
    means = maps.mean((2, 3))
    expected = (means[:, 1] + means[:, 2] - 0.25 * maps.square().mean((1, 2, 3))) / 2 + 1
    torch.testing.assert_close(named.on(graph)(values), expected)
    torch.testing.assert_close((-named).on(graph)(values), -expected)
    torch.testing.assert_close((3 - named).on(graph)(values), 3 - expected)
    for make in (neuron, diversity, channel):
        torch.testing.assert_close(make("conv2", 2).on(graph)(values), make(layer, 2)(values))
    with pytest.raises(UsageError, match="closest: 'conv2'"):
        channel("conv22", 1).on(graph)
    with pytest.raises(UsageError, match="only named"):
        named(values)


def test_a_submodule_of_the_loaded_network_names_its_layer() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 5, 3)).eval()
    graph = convscope.load(net, example_input=torch.zeros(2, 3, 16, 16), check=False)
    assert graph.layer(net[2]) == graph.layer("2")
    assert channel(net[2], 1).on(graph).tensors == (graph.layer("2").tensor,)
    (by_module,) = ascend(graph, channel(net[2], 1), size=16, steps=3)
    (by_name,) = ascend(graph, channel("2", 1), size=16, steps=3)
    (by_callable,) = ascend(graph, lambda taps: taps[net[2]][:, 1].mean((1, 2)), size=16, steps=3)
    assert np.array_equal(by_module, by_name)
    assert np.array_equal(by_module, by_callable)
    with pytest.raises(UsageError, match="names no layer"):
        graph.layer(torch.nn.ReLU())


def test_filters_takes_an_objective_in_a_layers_place() -> None:
    graph = small()
    result = filters(graph, channel("conv2", 1) - 0.1 * whole_layer("conv1"), size=24, steps=4)
    assert len(result) == 1
    assert result[0].activation_end > result[0].activation_start
    (alone,) = ascend(graph, channel("conv2", 1) - 0.1 * whole_layer("conv1"), size=24, steps=4)
    assert np.array_equal(result[0].image, alone)
    assert len(filters(graph, lambda taps: taps["conv2"][:, 1].mean(), size=24, steps=2)) == 1
    with pytest.raises(UsageError, match="says by itself"):
        filters(graph, channel("conv2", 1), [1, 2])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: channel("conv2", 1) * channel("conv2", 2), "another objective"),
        (lambda: channel("conv2", 1) * "two", "finite numbers"),
        (lambda: channel("conv2", 1) + None, "finite numbers"),
        (lambda: channel("conv2", 1) * float("nan"), "finite numbers"),
        (lambda: channel("conv2", 1) / 0, "divided by zero"),
        (lambda: 1 / channel("conv2", 1), "nothing can be divided"),
        (lambda: channel(None, 1), "names no layer"),  # type: ignore[arg-type]
        (lambda: ascend(small(), "conv2"), "is no objective"),  # type: ignore[arg-type]
        (lambda: ascend(small(), channel("nothing", 1)), "is not in"),
        (lambda: ascend(small(), channel("conv2", 99), size=24), "no unit"),
        (lambda: ascend(small(), channel("conv2", 1) * 0 - channel("conv2", 1).on(small()) * 0 + 1, 0), "0 pictures"),
        (lambda: ascend(small(), lambda taps: taps["nothing"]), "is not in"),
        (lambda: ascend(small(), lambda taps: taps["conv2"]), "one number per picture"),
        (lambda: ascend(small(), lambda taps: taps["conv2"][:, 99].mean()), "failed: IndexError"),
        (lambda: ascend(small(), lambda taps: 1.0), "one number per picture"),  # type: ignore[arg-type,return-value]
        (lambda: ascend(small(), lambda: 1), "failed: TypeError"),  # type: ignore[arg-type,misc]
        (lambda: ascend(small(), lambda taps: torch.ones(2)), "reads no layer"),
    ],
)
def test_every_wrong_use_is_a_usage_error(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        wrong()
