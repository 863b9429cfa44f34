"""Gradients in bfloat16: only where the processor has instructions for it and the recipe allows it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import helper

import convscope
from convscope.engine.ascent import network as network_module
from convscope.engine.ascent.filters import filters
from convscope.engine.ascent.fitting import reduced_precision
from convscope.engine.ascent.network import Network
from convscope.engine.ascent.recipe.presets import PRESETS
from convscope.engine.executors import devices
from convscope.errors import UsageError
from tests import tiny

from .nets import small


def _network(monkeypatch: pytest.MonkeyPatch, reduced: bool) -> Network:
    monkeypatch.setattr(network_module, "fast_bfloat16", lambda device: True)
    return Network(small(), [small().layer("conv2").tensor], "cpu", reduced)


def _gradient(network: Network) -> torch.Tensor:
    pictures = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    value = network(pictures)[network.tensors[0]][:, 3].mean()
    (gradient,) = torch.autograd.grad(value, pictures)
    return gradient


def test_reduced_gradients_point_where_float32s_do(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (_gradient(_network(monkeypatch, reduced)).flatten() for reduced in (False, True))
    assert not torch.equal(one, two) and two.dtype == torch.float32
    assert float(torch.nn.functional.cosine_similarity(one, two, dim=0)) > 0.999


def test_what_is_measured_without_a_gradient_is_measured_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        one, two = (next(iter(_network(monkeypatch, r)(pictures).values())) for r in (False, True))
    assert torch.equal(one, two)


def test_the_classic_recipes_compute_in_float32_everywhere() -> None:
    exact = {name for name, preset in PRESETS.items() if preset.exact}
    assert exact == {"chollet", "jacobgil", "dream", *(f"yosinski-{row}" for row in "abcd")}


def test_float32_can_be_asked_for_and_the_result_says_what_was_used() -> None:
    made = filters(small(), "conv2", 0, size=16, steps=2, precision="float32")
    assert made.provenance["gradients"] == "float32"
    auto = filters(small(), "conv2", 0, size=16, steps=2)
    fast = devices.fast_bfloat16(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    assert auto.provenance["gradients"] == ("bfloat16" if fast else "float32")
    classic = filters(small(), "conv2", 0, size=16, steps=2, preset="chollet", precision="bfloat16")
    assert classic.provenance["gradients"] == auto.provenance["gradients"]
    with pytest.raises(UsageError, match="precision 'half' is unknown; choose auto, bfloat16 or float32"):
        filters(small(), "conv2", 0, size=16, steps=1, precision="half")


def test_networks_with_grouped_convolutions_stay_in_float32_on_a_cpu() -> None:
    def with_groups(groups: int) -> convscope.Graph:
        weights = {"a": np.ones((8, 3, 3, 3), np.float32), "b": np.ones((8, 8 // groups, 3, 3), np.float32)}
        nodes = [
            helper.make_node("Conv", ["x", "a"], ["first"], "/first"),
            helper.make_node("Conv", ["first", "b"], ["second"], "/second", group=groups),
        ]
        return convscope.load(tiny.model(nodes, weights, outputs=("second",)), check=False)

    def reduced(groups: int, tensor: str, precision: str = "auto") -> bool:
        return reduced_precision(with_groups(groups), [tensor], PRESETS["strongest"], "cpu", precision)

    assert reduced(1, "second") and reduced(8, "first")
    assert not reduced(8, "second")
    assert reduced(8, "second", "bfloat16") and not reduced(1, "second", "float32")


def test_an_operator_without_a_bfloat16_kernel_is_computed_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    network = _network(monkeypatch, True)
    plain = network.twin.forward

    def lacking(x: torch.Tensor, rules: object = None) -> dict[str, torch.Tensor]:
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("\"some_op\" not implemented for 'BFloat16'")
        return plain(x, None)

    monkeypatch.setattr(network.twin, "forward", lacking)
    one = _gradient(network)
    assert not network.reduced
    np.testing.assert_array_equal(one.numpy(), _gradient(_network(monkeypatch, False)).numpy())
