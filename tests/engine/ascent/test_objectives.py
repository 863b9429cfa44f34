"""What ascent maximizes: the algebra, and objectives that look at several pictures."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch

from convscope.engine.ascent.photograph import ascend
from convscope.engine.ascent.recipe.objectives import (
    Objective,
    Tensors,
    channel,
    direction,
    diversity,
    interpolation,
    joint,
    neuron,
    whole_layer,
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
