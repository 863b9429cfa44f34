"""What is asked in any usual form is done, what means nothing is refused in a line; nothing is rounded or dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import convscope
from convscope import objectives
from convscope.engine.ascent.accent import accent
from convscope.engine.ascent.facets import facets
from convscope.engine.ascent.filters import filters
from convscope.engine.ascent.maximize import maximize
from convscope.engine.ascent.network import Network
from convscope.engine.ascent.photograph import dream
from convscope.engine.ascent.recipe.presets import names
from convscope.engine.ascent.recipe.regularizers import BoxBlur
from convscope.engine.graph.graph import Graph
from convscope.errors import UsageError


def small(channels: int, size: tuple[int, int]) -> Graph:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 5, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3),
    )  # fmt: skip
    return convscope.load(net.eval(), example_input=torch.zeros(1, channels, *size), check=False)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return small(3, (16, 16))


def one(graph: Graph, **options: Any) -> Any:
    return filters(graph, "2", **{"units": [0], "steps": 2, "size": 16, **options})


PICTURE = np.random.default_rng(0).random((16, 16, 3)).astype(np.float32)
WRONG: list[tuple[Callable[[Graph], Any], str]] = [
    (lambda g: one(g, units=[1.7]), "unit 1.7 is not a whole number"),
    (lambda g: one(g, units=1.5), "unit 1.5 is not a whole number"),
    (lambda g: one(g, units=True), "unit True is not a whole number"),
    (lambda g: one(g, steps=2.7), "steps 2.7 is not a whole number"),
    (lambda g: one(g, steps="3"), "steps '3' is not a whole number"),
    (lambda g: one(g, seed=1.5), "seed 1.5 is not a whole number"),
    (lambda g: one(g, seed=None), "seed None is not a whole number"),
    (lambda g: one(g, strip=1.5), "strip 1.5 is not a whole number"),
    (lambda g: one(g, top=1.5), "top 1.5 is not a whole number"),
    (lambda g: one(g, size=10**7), "size 10000000 is too large"),
    (lambda g: one(g, position=(1.5, 0)), "position 1.5 is not a whole number"),
    (lambda g: one(g, position=(0, 0), neuron=False), "neuron=False asks for the mean"),
    (lambda g: filters(g, "6", [0], position=(0, 0), steps=2), "layer '6' has no map"),
    (lambda g: filters(g, True, [0], steps=2), "names no layer"),
    (lambda g: one(g, tuning={"decay": float("nan")}), "give a number from 0 to 1"),
    (lambda g: one(g, preset="yosinski-a", tuning={"blur_every": float("inf")}), "give a number from 1"),
    (lambda g: one(g, tuning=[1]), "is no mapping of settings"),
    (lambda g: maximize(g, 1.5, steps=2), "class 1.5 is not a whole number"),
    (lambda g: maximize(g, None, steps=2), "class None is not a whole number"),
    (lambda g: maximize(g, [0], top=0, steps=2), "top 0 is not positive"),
    (lambda g: filters(g, objectives.channel("2", 0), precision="half", steps=2), "precision 'half' is unknown"),
    (lambda g: convscope.ascend(g, objectives.channel("2", 2.7), size=16, steps=2), "2.7 is not a whole number"),
    (lambda g: convscope.ascend(g, objectives.channel("2", "12"), size=16, steps=2), "'12' is not a whole number"),
    (lambda g: convscope.ascend(g, objectives.channel("2", 0), 1.5, size=16), "count 1.5 is not a whole number"),
    (lambda g: objectives.interpolation("2", 0, 1, 2.5), "count 2.5 is not a whole number"),
    (lambda g: objectives.direction("2", np.ones(5), -1), "cosine_power -1 is not a number, 0 or more"),
    (lambda g: convscope.ascend(g, lambda t: t["2"].detach().mean((1, 2, 3)), size=16, steps=2), "has no gradient"),
    (lambda g: dream(g, PICTURE, "2", size=float("nan")), "size nan is not a whole number"),
    (lambda g: accent(g, PICTURE, "2", [0, 1], steps=2), r"unit \[0, 1\] is not a whole number"),
    (lambda g: facets(g, "2", 0, 2.5), "count 2.5 is not a whole number"),
]


@pytest.mark.parametrize("case", range(len(WRONG)))
def test_what_is_no_number_of_its_kind_is_refused_in_a_line(graph: Graph, case: int) -> None:
    call, message = WRONG[case]
    with pytest.raises(UsageError, match=message) as caught:
        call(graph)
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_and_whole_floats_are_numbers(graph: Graph) -> None:
    plain = one(graph, units=[0, 2], seed=1)
    for units in (np.array([0, 2]), (np.int64(0), 2.0)):
        same = one(graph, units=units, steps=np.int64(2), seed=np.uint8(1), size=np.int64(16))
        assert [u.image.tobytes() for u in same.units] == [u.image.tobytes() for u in plain.units]
    assert len(maximize(graph, np.array([0, 1]), steps=2)) == 2 and len(maximize(graph, np.int64(1), steps=2)) == 1
    assert dream(graph, PICTURE, "2", size=[12, 16], steps=4)[0].image.shape == (12, 16, 3)


def test_an_objective_s_picture_follows_the_tuning_and_is_told(graph: Graph) -> None:
    told: list[int] = []
    made = [
        filters(
            graph, objectives.channel("2", 0), size=16, steps=3, tuning=tuning, on_unit=lambda r: told.append(len(r))
        )
        for tuning in (None, {"decay": 0.5})
    ]
    assert made[1].settings == {"decay": 0.5} and told == [1, 1]
    assert not np.array_equal(made[0][0].image, made[1][0].image)


@pytest.mark.parametrize(("channels", "size"), [(3, (1, 24)), (3, (24, 1)), (2, (2, 2)), (4, (9, 21))])
def test_every_recipe_draws_on_every_shape(channels: int, size: tuple[int, int]) -> None:
    graph = small(channels, size)
    for preset in names():
        made = filters(graph, "2", [0], preset=preset, size=size, steps=2)[0]
        assert made.image.shape == (*size, channels) and np.isfinite(made.image).all(), preset


def test_a_box_blur_mirrors_as_numpy_does_also_where_there_is_one_row() -> None:
    rng = np.random.default_rng(0)
    for size in ((5, 7), (1, 6), (2, 1)):
        values = rng.random((1, 2, *size)).astype(np.float32)
        padded = np.pad(values, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        found = BoxBlur(3)(torch.from_numpy(values), torch.zeros(1), 0).numpy()
        assert np.allclose(found, windows.mean(axis=(4, 5)), atol=1e-6), size


@pytest.mark.parametrize("size", [(40, 1), (40, 2), (9, 2), (8, 8)])
def test_reduced_gradients_of_narrow_pictures_are_those_of_full_ones_but_for_rounding(size: tuple[int, int]) -> None:
    graph = small(3, size)
    pictures = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    values = []
    for reduced in (False, True):  # where the processor has no such instructions both are full
        network = Network(graph, [graph.layer("2").tensor], reduced=reduced)
        values.append(network(pictures.clone().requires_grad_())[graph.layer("2").tensor].detach())
    assert torch.allclose(values[0], values[1], atol=0.02)


def test_a_networks_own_size_may_be_longer_than_a_pictures() -> None:
    net = nn.Sequential(nn.Conv1d(1, 2, 9, 4), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(2, 2))
    sound = convscope.load(net.eval(), example_input=torch.zeros(1, 1, 20_000), check=False)
    assert filters(sound, "0", units=[0], steps=1)[0].image.shape == (1, 20_000, 1)
