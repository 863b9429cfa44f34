"""Feature accentuation: the unit's feature grows, the photograph stays, and how much is a matter of the weight."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from convscope.engine.ascent.accent import Change, accent, kept_layer
from convscope.engine.ascent.network import Network
from convscope.engine.ascent.recipe.spectrum import reference_pictures
from convscope.errors import UsageError

from .nets import small

PHOTO = np.ascontiguousarray(reference_pictures(3, (32, 32))[4].transpose(1, 2, 0))


def test_the_unit_responds_more_and_the_photograph_stays_the_more_the_more_it_weighs() -> None:
    graph, moved, raised = small(), [], []
    for weight in (0.0, 1.0, 100.0):
        made = accent(graph, PHOTO, "conv2", 3, weight=weight, size=32, steps=40)
        unit = made[0]
        assert unit.unit == 3 and unit.status == "ok" and unit.activation_end > unit.activation_start
        np.testing.assert_allclose(unit.start, PHOTO.clip(0.02, 0.98), atol=1e-3)
        moved.append(float(np.abs(unit.image - unit.start).mean()))
        raised.append(unit.activation_end)
    assert moved[0] > moved[1] > moved[2] > 0 and raised[0] > raised[1] > raised[2]


def test_the_penalty_is_the_relative_square_distance_of_hidden_features() -> None:
    graph = small()
    network = Network(graph, ["c1"], "cpu")
    first, second = (torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    with torch.no_grad():
        target, other = network(first)["c1"], network(second)["c1"]
        penalty = Change(network, target, 2.5)(torch.cat([first, second]))
    expected = 2.5 * float(((other - target) ** 2).sum() / (target**2).sum())
    assert penalty.tolist() == pytest.approx([0.0, expected], rel=1e-4, abs=1e-6)


def test_a_class_is_accented_and_by_default_an_earlier_map_is_kept() -> None:
    graph = small()
    made = accent(graph, PHOTO, None, 2, size=32, steps=20)
    assert made.units[0].name == "", "nothing names the class"
    named = accent(replace(graph, labels=("a", "b", "tiger cat, moggy", "d", "e")), PHOTO, None, 2, size=32, steps=1)
    assert named.units[0].name == "tiger cat, moggy" and named.units[0].reason.startswith("tiger cat: from ")
    assert made.layer == "fc" and made[0].activation_end > made[0].activation_start
    kept = kept_layer(graph, graph.layer("fc"))
    assert kept.is_spatial and kept.index < graph.layer("conv2").index


@pytest.mark.parametrize("weight", [-1.0, float("nan")])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(UsageError, match="is not from 0 to"):
        accent(small(), PHOTO, "conv2", 3, weight=weight)
