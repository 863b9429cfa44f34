"""Everything that computes gradients puts its tensors where a GPU wants them; tried on a stand-in for one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import convscope
from convscope.adapters.twin.build import TwinFactory
from convscope.engine.ascent.ascend import ascend
from convscope.engine.ascent.filters import filters
from convscope.engine.ascent.maximize import maximize
from convscope.engine.ascent.photograph import dream, invert
from convscope.engine.ascent.recipe import objectives
from convscope.engine.ascent.recipe.objectives import Objective
from convscope.engine.ascent.recipe.presets import PRESETS
from convscope.engine.attack import gradient_attack
from convscope.engine.attribution import METHODS, explain
from convscope.engine.graph.graph import Graph
from convscope.engine.graph.layers import Layer

from ..far import FAR, FarTensor, second_device
from ..node_tests import NodeTest, outcomes
from .ascent.nets import small, with_silent_filters
from .attribution.nets import ResidualNet, images, seeded

explain_input = functools.partial(explain, preprocessed=True)  # of arrays in model space

PHOTO = np.random.default_rng(0).random((20, 24, 3)).astype(np.float32)


def _same(made: Callable[[str], np.ndarray]) -> None:
    """The stand-in computes on the processor, so all that may differ is the way tensors lie in memory."""
    here = made("cpu")
    with second_device():
        there = made("cuda")
    assert isinstance(there, np.ndarray) and np.ptp(here) > 0
    np.testing.assert_allclose(there, here, atol=1e-5)


def test_the_stand_in_refuses_what_a_gpu_refuses() -> None:
    with second_device():
        far = torch.ones(2, 3).to(FAR)
        assert isinstance(far, FarTensor) and far.device == FAR and float((far + far).sum()) == 12
        with pytest.raises(RuntimeError, match="on the processor"):
            far + torch.ones(2, 3)
        with pytest.raises(RuntimeError, match="on the processor"):
            torch.cat([far, torch.arange(3.0).reshape(1, 3)])
        with pytest.raises(RuntimeError):
            far.numpy()
        assert (far + torch.tensor(1.0)).cpu().numpy().sum() == 12  # a number may come from anywhere


@pytest.mark.parametrize("preset", PRESETS)
def test_filters(preset: str) -> None:
    options = {"preset": preset, "size": 24, "steps": 6, "strip": 2, "precision": "float32"}
    _same(lambda device: np.stack([u.image for u in filters(small(), "conv2", [1, 3], device=device, **options).units]))


def test_units_that_need_every_further_try_and_a_photographs_start() -> None:
    def made(device: str) -> np.ndarray:
        options: dict[str, Any] = {"size": 16, "steps": 4, "preset": "chollet", "device": device}
        units = filters(with_silent_filters(), 0, [1, 2], start=PHOTO, **options).units
        return np.stack([u.image for u in units])

    _same(made)


def test_classes() -> None:
    _same(lambda d: maximize(small(), [0, 2], size=24, steps=6, device=d, precision="float32")[0].image)


@pytest.mark.parametrize("units", [None, [1, 2]])
def test_dreams(units: list[int] | None) -> None:
    _same(lambda device: dream(small(), PHOTO, "conv2", units, size=32, steps=8, device=device)[0].image)


@pytest.mark.parametrize("gain", [1.0, 2.0])
def test_inversions(gain: float) -> None:
    _same(lambda device: invert(small(), PHOTO, "conv2", gain=gain, size=24, steps=6, device=device)[0].image)


@pytest.mark.parametrize(
    "objective",
    [
        lambda graph, layer: objectives.neuron(layer, 2, (1, 2)),
        lambda graph, layer: objectives.joint(layer, [1, 2], [1.0, 0.5]) - objectives.channel(layer, 3),
        lambda graph, layer: objectives.interpolation(layer, 1, 2, 2),
        lambda graph, layer: objectives.direction(layer, np.linspace(-1, 1, layer.channels or 0), 1.0),
        lambda graph, layer: objectives.channel(layer, 1) + objectives.diversity(layer, 2),
        lambda graph, layer: objectives.excitation(layer, [1, 2]),
        lambda graph, layer: objectives.logit(1),
    ],
    ids=["neuron", "joint", "interpolation", "direction", "diversity", "excitation", "logit"],
)
def test_objectives(objective: Callable[[Graph, Layer], Objective]) -> None:
    def made(device: str) -> np.ndarray:
        graph = small()
        wanted = objective(graph, graph.layer("conv2"))
        return np.stack(ascend(graph, wanted, 2, preset="yosinski-a", size=24, steps=4, device=device))

    _same(made)


@pytest.mark.parametrize("method", METHODS)
def test_attribution(method: str) -> None:
    graph = convscope.load(seeded(ResidualNet()), example_input=torch.zeros(2, 3, 32, 32))
    _same(lambda device: explain_input(graph, images(1, 32), method, device=device).heatmap)


def test_attacks() -> None:
    graph, picture = small(), np.random.default_rng(0).random((3, 16, 16)).astype(np.float32)
    _same(lambda device: gradient_attack(graph, picture, method="pgd", steps=3, device=device).attacked)


def test_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    def far(test: NodeTest, form: str) -> dict[str, np.ndarray]:
        with second_device(), torch.no_grad():
            feeds = {name: torch.from_numpy(np.array(value)).to(FAR) for name, value in test.inputs.items()}
            found = TwinFactory(test.model)(tuple(test.outputs), tuple(feeds), device="cuda")(feeds)
            return {name: value.cpu().numpy() for name, value in found.items()}

    monkeypatch.setattr("tests.node_tests._run", far)
    found = {test.name: text for test, text in outcomes("computed")}
    assert {name: text for name, text in found.items() if text.startswith("wrong")} == {}
    assert sum(text == "passed" for text in found.values()) > 800
