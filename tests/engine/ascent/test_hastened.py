"""The recipe of a first look: few steps, no second chances, no claim that a unit is dead."""

from __future__ import annotations

import pytest
import torch

from convscope.engine.ascent.album import picture_identity
from convscope.engine.ascent.filters import filters
from convscope.engine.ascent.many import Studio
from convscope.engine.ascent.network import _Redirect
from convscope.engine.ascent.recipe.presets import PRESETS, hastened
from convscope.engine.ascent.settings import settings

from .nets import small, with_silent_filters


@pytest.mark.parametrize("name", ["strongest", "objects", "lucid"])
def test_its_pictures_are_byte_identical_in_batches_of_1_and_16(name: str) -> None:
    graph, recipe = small(), hastened(PRESETS[name])
    one, sixteen = (
        filters(graph, "conv2", [5, 1, 7], preset=recipe, size=24, steps=5, batch=batch).units for batch in (1, 16)
    )
    for alone, among in zip(one, sixteen, strict=True):
        assert alone.image.tobytes() == among.image.tobytes()
        assert alone.history == among.history


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_its_pictures_are_kept_apart_from_those_of_the_recipe_itself(name: str) -> None:
    graph = small()
    layer = graph.layer("conv2")
    plain, hasty = (
        picture_identity(graph, layer.tensor, settings(graph, layer, preset_name=recipe, size=24, steps=5))
        for recipe in (PRESETS[name], hastened(PRESETS[name]))
    )
    assert plain != hasty


def test_a_silent_unit_is_tried_once_and_not_called_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = with_silent_filters()
    tried: list[list[int]] = []
    attempt = Studio._attempt
    monkeypatch.setattr(
        Studio, "_attempt", lambda self, units, *a, **k: tried.append(units) or attempt(self, units, *a, **k)
    )
    asked = {"size": 16, "steps": 4}
    slow = filters(graph, "relu", preset="strongest", **asked).units
    silent = [one.unit for one in slow if one.status == "dead"]
    assert silent and len(tried) > 1
    tried.clear()
    quick = filters(graph, "relu", preset=hastened(PRESETS["strongest"]), **asked).units
    assert tried == [list(range(len(quick)))]
    assert all(one.rescue == "" for one in quick)
    for unit in silent:
        assert quick[unit].status == "weak"
        assert quick[unit].reason == "silent on photographs and after 4 steps; more tries may wake it"


def test_a_gate_that_every_picture_passes_hands_the_plain_gradient_on() -> None:
    x = torch.tensor([[1.0, -1.0, 2.0], [3.0, -2.0, -1.0]], requires_grad=True)
    _Redirect.apply(x, x.detach().clamp_min(0)).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [[1.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    y = torch.tensor([[1.0, -1.0], [-3.0, -2.0]], requires_grad=True)
    _Redirect.apply(y, y.detach().clamp_min(0)).sum().backward()  # the second picture would get nothing
    assert y.grad is not None and y.grad.tolist() == [[1.0, 0.0], [1.0, 1.0]]
