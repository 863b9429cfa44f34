"""Which recipe a layer gets by default, and how large its pictures are."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

import convscope
from convscope.engine.ascent.filters import filters
from convscope.engine.ascent.maximize import maximize
from convscope.engine.ascent.recipe.presets import PRESETS
from convscope.engine.ascent.results import enlarged
from convscope.engine.ascent.settings import settings
from convscope.engine.ascent.suited import suited
from convscope.engine.graph.graph import Graph

from ...tiny import model


def tower(convolutions: int, side: int | None = 224, head: bool = False) -> Graph:
    """3x3 convolutions of stride 1, then 2, 2, 2, ...: receptive fields 3, 5, 9, 17, 33, ...; then classes."""
    rng, nodes, weights, current = np.random.default_rng(0), [], {}, "x"
    for i in range(convolutions):
        weights[f"w{i}"] = rng.normal(0, 0.3, (4, 3 if i == 0 else 4, 3, 3)).astype(np.float32)
        stride = [1, 1] if i == 0 else [2, 2]
        nodes.append(
            helper.make_node("Conv", [current, f"w{i}"], [f"c{i}"], f"c{i}", pads=[1, 1, 1, 1], strides=stride)
        )
        current = f"c{i}"
    if head:
        weights["fc"] = rng.normal(0, 1, (5, 4)).astype(np.float32)
        nodes += [
            helper.make_node("GlobalAveragePool", [current], ["g"], "pool"),
            helper.make_node("Flatten", ["g"], ["f"], "flat"),
            helper.make_node("Gemm", ["f", "fc"], ["classes"], "fc", transB=1),
        ]
    nodes[-1].output[0] = "y"
    return convscope.load(model(nodes, weights, shape=("N", 3, side, side)), preprocessing="unit", check=False)


@pytest.mark.parametrize(
    ("layer", "recipe", "side"),
    [("c0", "tile", 24), ("c2", "tile", 36), ("c4", "strongest", 128), ("c6", "strongest", 128), ("c8", "parts", 128)],
)
def test_the_recipe_follows_what_a_position_sees_of_the_picture(layer: str, recipe: str, side: int) -> None:
    graph = tower(9)
    chosen = settings(graph, graph.layer(layer))
    seen = graph.layer(layer).receptive_field
    assert seen is not None and (chosen.preset.name, chosen.size) == (recipe, (side, side)), seen


def test_a_size_that_the_user_names_is_the_size_and_no_tile() -> None:
    graph = tower(9)
    chosen = settings(graph, graph.layer("c0"), size=96)
    assert (chosen.preset.name, chosen.size) == ("strongest", (96, 96))
    assert suited(graph, graph.layer("c7"), (128, 128)).name == "parts"  # 257 pixels seen of 128
    assert suited(graph, graph.layer("c5"), (32, 32)).name == "strongest"  # 65 pixels seen of 32, too few to begin with


def test_classes_are_drawn_as_objects_at_the_models_own_size() -> None:
    made = maximize(tower(2, 48, head=True), 3, steps=6)
    assert (made.preset, made.size) == ("objects", (48, 48))


def test_a_network_for_small_pictures_is_shown_at_its_own_size_enlarged_by_a_whole_number() -> None:
    graph = tower(3, 28)
    made = filters(graph, "c1", 0, steps=2)
    assert made.size == (28, 28) and made[0].image.shape == (28, 28, 3)
    assert made.grid().shape == (112, 112, 3)


def test_enlarging_repeats_pixels_and_leaves_large_pictures_alone() -> None:
    small = np.random.default_rng(0).random((28, 20, 1), dtype=np.float32)
    large = enlarged(small)
    assert large.shape == (112, 80, 1)
    assert all(np.array_equal(large[i::4, j::4], small) for i in range(4) for j in range(4))
    assert enlarged(np.zeros((128, 64, 3), np.float32)).shape == (128, 64, 3)


def test_a_preset_that_is_named_is_used_at_every_layer() -> None:
    graph = tower(9)
    assert settings(graph, graph.layer("c8"), preset_name="lucid").preset is PRESETS["lucid"]
    assert settings(graph).preset is PRESETS["strongest"]


@pytest.mark.parametrize("preset", ["convscope", "maco"])
def test_a_head_of_one_size_sees_small_pictures_and_crops_enlarged(preset: str) -> None:
    """Where a network takes pictures of one size only, ascent still begins small, or shows crops, as large as ever."""
    weights = {"w": np.random.default_rng(0).normal(0, 1, (5, 3 * 32 * 32)).astype(np.float32)}
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "w"], ["y"], "fc", transB=1),
    ]
    graph = convscope.load(model(nodes, weights, shape=("N", 3, 32, 32)), preprocessing="unit", check=False)
    made = maximize(graph, [1, 4], steps=30, preset=preset)
    assert made.size == (32, 32) and all(u.activation_end > u.activation_start for u in made.units)
