"""Minimal filtering: the same convolution and gradient, as exact, whatever shares the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from torch.nn import functional as F

import convscope
from convscope.adapters.twin.converters.conv import Convolution
from convscope.engine.ascent.filters import filters
from convscope.engine.ascent.network import Network
from convscope.engine.executors import winograd
from convscope.engine.executors.winograd import Winograd, evaluated, filtered
from convscope.engine.graph.graph import Graph
from tests import tiny

sides = st.integers(2, 37)


@pytest.fixture(autouse=True)
def _limits_of_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "limits", lambda: winograd._ALONE)


def _case(
    shape: tuple[int, int, int, int], outputs: int, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator)
    weight = torch.randn(outputs, shape[1], 3, 3, generator=generator) / (9 * shape[1]) ** 0.5
    return x, weight, torch.randn(outputs, generator=generator)


def _distance(one: torch.Tensor, exact: torch.Tensor) -> float:
    return float((one.double() - exact).square().mean().sqrt() / exact.square().mean().sqrt())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 70), st.integers(1, 70), sides, sides, st.integers(0, 2), st.booleans())
def test_it_is_the_convolution(
    count: int, inputs: int, outputs: int, height: int, width: int, padding: int, biased: bool
) -> None:
    if min(height, width) + 2 * padding < 3:
        return
    x, weight, bias = _case((count, inputs, height, width), outputs)
    made = filtered(x, evaluated(weight), bias if biased else None, padding)
    exact = F.conv2d(x.double(), weight.double(), bias.double() if biased else None, padding=padding)
    assert made.shape == exact.shape
    assert float((made - exact).abs().max()) <= 5e-6 * float(exact.abs().max().clamp_min(1.0))


def test_it_is_about_as_exact_as_the_direct_convolution() -> None:
    x, weight, bias = _case((2, 128, 36, 36), 128)
    x = x.relu() + 0.3  # as behind a ReLU: Lavin and Gray's points lose most where the mean is not zero (1.6e-6)
    exact = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
    assert _distance(filtered(x, evaluated(weight), bias, 1), exact) < 8e-7


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_its_gradient_is_the_convolutions(padding: int) -> None:
    x, weight, bias = _case((2, 64, 26, 30), 80)
    module = _module(weight, bias, pads=[padding] * 4)
    pull = torch.randn(module(x).shape, generator=torch.Generator().manual_seed(1))

    def gradient(run: Callable[[torch.Tensor], torch.Tensor], values: torch.Tensor) -> torch.Tensor:
        values = values.clone().requires_grad_()
        return torch.autograd.grad((run(values) * pull).sum(), values)[0]

    rule = Winograd()
    exact = gradient(lambda v: F.conv2d(v, weight.double(), bias.double(), padding=padding), x.double())
    made = gradient(lambda v: rule(module, v), x)
    assert _distance(made, exact) < 1.2e-6 and not torch.equal(made, gradient(module, x))


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [2, 2]},
        {"dilations": [2, 2]},
        {"group": 2},
        {"pads": [0, 1, 2, 1]},
        {"pads": [0, 1, 0, 1]},
        {"pads": [3, 3, 3, 3]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    ],
)
def test_other_convolutions_are_computed_as_before(attributes: dict[str, Any]) -> None:
    weight, bias = torch.randn(128, 128 // attributes.get("group", 1), 3, 3), torch.randn(128)
    module, x = _module(weight, bias, **attributes), torch.randn(2, 128, 21, 21)
    assert torch.equal(Winograd()(module, x), module(x))


@pytest.mark.parametrize(
    ("channels", "kernel", "side"), [(32, 3, 40), (64, 5, 40), (64, 1, 40), (64, 3, 14), (512, 3, 3)]
)
def test_where_it_does_not_pay_the_convolution_is_direct(channels: int, kernel: int, side: int) -> None:
    x = torch.randn(2, channels, side, side)
    module = _module(torch.randn(channels, channels, kernel, kernel), torch.randn(channels), pads=[kernel // 2] * 4)
    assert torch.equal(Winograd()(module, x), module(x))


def test_several_threads_ask_for_more_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for threads, channels in ((1, 64), (2, 256)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert winograd.limits().channels == channels


@settings(max_examples=25, deadline=None)
@given(st.integers(64, 90), st.integers(64, 90), st.integers(5, 41), st.integers(5, 41), st.integers(2, 9))
def test_a_pictures_values_do_not_depend_on_the_batch(
    inputs: int, outputs: int, height: int, width: int, count: int
) -> None:
    x, weight, bias = _case((count, inputs, height, width), outputs)
    kernels = evaluated(weight)
    whole = filtered(x, kernels, bias, 1)
    for i in (0, count - 1):
        assert torch.equal(filtered(x[i : i + 1], kernels, bias, 1), whole[i : i + 1])


def test_where_a_matrix_products_rows_depend_on_their_number_it_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Winograd().rules()
    plain = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda a, b: plain(a, b) * (1 + 1e-6 * a.shape[1]))
    winograd.rows_stand_alone.cache_clear()
    try:
        assert not Winograd().rules()
    finally:
        winograd.rows_stand_alone.cache_clear()


@pytest.mark.parametrize("preset", ["chollet", "lucid"])
def test_pictures_of_wide_networks_are_byte_identical_in_batches_of_1_4_and_16(preset: str) -> None:
    made = [
        filters(_wide(), "second", [5, 1, 7, 2, 9], preset=preset, size=28, steps=4, batch=n, precision="float32")
        for n in (1, 4, 16)
    ]
    for other in made[1:]:
        for one, two in zip(made[0].units, other.units, strict=True):
            assert one.image.tobytes() == two.image.tobytes() and one.history == two.history


def test_ascent_takes_it_for_gradients_and_not_for_what_it_reports() -> None:
    graph = _wide()
    network = Network(graph, [graph.layer("second").tensor], "cpu")
    pictures = torch.rand(2, 3, 28, 28)
    with torch.no_grad():
        reported = network(pictures)[network.tensors[0]]
    direct = graph.twin((network.tensors[0],), channels_last=True).only(graph.preprocessing.normalize(pictures))
    climbed = network(pictures.requires_grad_())[network.tensors[0]]
    torch.testing.assert_close(reported, direct, rtol=0, atol=1e-6)
    assert not torch.equal(climbed, reported)
    torch.testing.assert_close(climbed, reported, rtol=0, atol=2e-6 * float(reported.detach().abs().max()))


def _module(weight: torch.Tensor, bias: torch.Tensor, **attributes: Any) -> torch.nn.Module:
    """The twin's own module for such a node."""
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], "/conv", **attributes)]
    channels = weight.shape[1] * attributes.get("group", 1)
    made = tiny.model(
        nodes, {"w": weight.numpy(), "b": bias.numpy()}, shape=("N", channels, None, None), outputs=("y",)
    )
    twin = convscope.load(made, check=False).twin(("y",))
    module = twin.nodes[twin.calls[0].key]
    assert isinstance(module, Convolution)
    return module


def _wide() -> Graph:
    """Two convolutions with ReLUs, the second of 64 to 80 channels."""
    rng = np.random.default_rng(0)
    weights = {
        "a": rng.normal(0, 0.3, (64, 3, 3, 3)).astype(np.float32),
        "b": rng.normal(0, 0.06, (80, 64, 3, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["c"], "/c", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["first"], "/first"),
        helper.make_node("Conv", ["first", "b"], ["d"], "/d", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["d"], ["second"], "/second"),
    ]
    made = tiny.model(nodes, weights, shape=("N", 3, None, None), outputs=("second",))
    return convscope.load(made, preprocessing="torch", check=False)
