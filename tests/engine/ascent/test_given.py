"""What a user gives to ascent: right in every usual form, or refused in a line before any work."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import helper

import convscope
from convscope.engine.ascent.ascend import ascend
from convscope.engine.ascent.filters import filters
from convscope.engine.ascent.maximize import maximize
from convscope.engine.ascent.photograph import dream, invert
from convscope.engine.ascent.recipe.canvases import Noise
from convscope.engine.ascent.recipe.objectives import diversity, excitation, interpolation, joint
from convscope.engine.graph.graph import Graph
from convscope.errors import RefusedInput, UsageError

from ...tiny import model
from .nets import small

PHOTO = np.random.default_rng(0).random((20, 24, 3)).astype(np.float32)


def channels(count: int) -> Graph:
    """One convolution with a ReLU on pictures of so many channels."""
    weight = np.random.default_rng(0).normal(0, 0.3, (4, count, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"], "relu"),
    ]
    made = model(nodes, {"w": weight}, shape=("N", count, None, None))
    return convscope.load(made, preprocessing="unit", check=False)


@pytest.mark.parametrize("preset", ["lucid", "maco", "chollet"])
def test_pixel_noise_is_the_start_under_every_parameterization(preset: str) -> None:
    def start(noise: Noise | None) -> np.ndarray:
        made = filters(small(), "conv2", [1, 2], preset=preset, size=24, steps=1, noise=noise, precision="float32")
        return np.stack([unit.start for unit in made.units])

    dark = start(Noise("uniform", 40, 10))
    assert not np.array_equal(dark[0], dark[1]) and not np.array_equal(dark, start(None))
    if preset != "maco":  # whose magnitudes are fixed
        assert abs(dark.mean() - 40 / 255) < 0.02


def test_a_position_is_a_place_in_the_picture() -> None:
    for preset in ("convscope", "lucid", "maco", "dream"):
        made = filters(channels(3), "relu", 1, size=32, steps=30, position=(2, 28), preset=preset, precision="float32")
        change = np.abs(made[0].image - made[0].start).sum(2)
        rows, columns = np.nonzero(change > 0.5 * change.max())
        assert made[0].status != "dead"
        if preset != "maco":  # where every coefficient changes the whole picture
            assert abs(rows.mean() - 2) < 6 and abs(columns.mean() - 28) < 6, preset


def test_begun_alike_in_every_format_and_by_every_way_to_name_the_units() -> None:
    every = dream(small(), PHOTO, "conv2", size=24, steps=4)[0].image
    listed = dream(small(), PHOTO, "conv2", list(range(12)), size=24, steps=4)[0].image
    np.testing.assert_allclose(every, listed, atol=1e-4)


def test_a_dense_layer_is_ascended_at_the_models_own_size() -> None:
    assert filters(small(), "fc", 1, steps=2)[0].image.shape[:2] == small().image_size


def test_numpys_whole_numbers_are_whole_numbers() -> None:
    graph = small()
    layer = graph.layer("conv2")
    made = filters(graph, "conv2", np.arange(2), size=np.int64(16), steps=np.int64(2), seed=np.int64(1))
    assert json.loads(json.dumps(made.to_json()))["size"] == 16
    maximize(graph, np.int64(1), size=16, steps=2)
    ascend(graph, joint(layer, np.arange(2), np.ones(2)), 1, size=16, steps=2)
    ascend(graph, excitation(graph.layer("fc"), 1) + diversity(graph.layer("fc"), 2), 2, size=16, steps=2)


def test_nan_in_one_unit_or_late_is_refused() -> None:
    graph = channels(3)
    weight = next(t.name for t in graph.model.graph.initializer)
    broken = np.random.default_rng(0).normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32)
    broken[1] = np.nan
    wrong = graph.with_weights({weight: broken})
    with pytest.raises(RefusedInput, match="NaN or infinity"):
        filters(wrong, "conv", [1], size=16, steps=2)
    grows = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("Mul", ["c", "steep"], ["m"], "mul"),
        helper.make_node("Exp", ["m"], ["y"], "exp"),
    ]
    made = model(
        grows, {"w": np.ones((1, 3, 1, 1), np.float32), "steep": np.array(60, np.float32)}, shape=("N", 3, None, None)
    )
    graph = convscope.load(made, preprocessing="unit", check=False)
    dark = {"size": 8, "photos": np.zeros((1, 3, 8, 8))}  # on which nothing is infinite yet
    with pytest.raises(RefusedInput, match="NaN or infinity"):
        filters(graph, "exp", 0, steps=30, preset="yosinski-b", **dark)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (lambda g: filters(g, "conv2", []), "no unit is asked for"),
        (lambda g: maximize(g, []), "no unit is asked for"),
        (lambda g: dream(g, PHOTO, "conv2", []), "no unit is asked for"),
        (lambda g: filters(g, "conv2", 0, top=-1), "top -1 is not positive"),
        (lambda g: filters(g, "conv2", 0, strip=-5), "strip -5 is negative"),
        (lambda g: filters(g, "conv2", 0, size=(4, 5, 6)), "neither a number of pixels nor"),
        (lambda g: filters(g, "conv2", 0, size=()), "neither a number of pixels nor"),
        (lambda g: filters(g, "conv2", 0, size=1.5), "neither a number of pixels nor"),
        (lambda g: filters(g, "conv2", 0, noise=Noise("normal", float("nan"))), "give numbers in 0..255"),
        (lambda g: filters(g, "conv2", 0, noise=Noise(), start=PHOTO), "exclude each other"),
        (lambda g: filters(g, "conv2", 0, start=PHOTO * 255), "values outside"),
        (lambda g: filters(g, "conv2", 0, start=np.full((4, 4, 3), np.nan)), "no finite numbers"),
        (lambda g: filters(g, "conv2", 0, photos=np.zeros((0, 3, 8, 8))), "are not (number, 3 channels"),
        (lambda g: filters(g, "conv2", 0, photos=np.full((1, 3, 8, 8), np.nan)), "no finite numbers"),
        (lambda g: dream(g, np.zeros((0, 4, 3)), "conv2"), "is not (height, width, channels)"),
        (lambda g: dream(g, np.zeros(4), "conv2"), "is not (height, width, channels)"),
        (lambda g: dream(g, np.zeros((8, 8, 4)), "conv2"), "has 4 channels, the model takes 3"),
        (lambda g: invert(g, PHOTO, "conv2", gain=1e30), "gain 1e+30 is not in"),
        (lambda g: ascend(g, joint(g.layer("conv2"), []), 1), "give one or more units"),
        (lambda g: ascend(g, diversity(g.layer("conv2"), 0), 1), "a group of 0 is none"),
        (lambda g: ascend(g, interpolation(g.layer("conv2"), 0, 1, -1), 1), "interpolation of -1 pictures"),
        (lambda g: ascend(g, joint(g.layer("conv2"), [0]), 0), "0 pictures were asked for"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(asked: Callable[[Graph], Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        asked(small())
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_bytes_are_the_picture_that_they_show() -> None:
    picture = (PHOTO * 255).astype(np.uint8)
    both = [dream(small(), one, "conv2", size=24, steps=2)[0].image for one in (picture, picture / 255)]
    np.testing.assert_array_equal(*both)


def test_photographs_to_judge_by_may_have_another_size_and_gray_serves_every_model() -> None:
    photos = np.random.default_rng(0).random((3, 3, 40, 30))
    made = filters(small(), "conv2", None, size=16, steps=2, preset="chollet", photos=photos)
    assert len(made.units) == 12
    assert filters(channels(4), "relu", 0, size=16, steps=2, start=PHOTO[:, :, 0])[0].image.shape == (16, 16, 4)
    with pytest.raises(UsageError, match="3 channels, the model takes 4"):
        dream(channels(4), PHOTO, "relu", size=16)


def test_a_glob_that_one_layer_has_names_it() -> None:
    graph = small()
    assert filters(graph, "c*v2", 0, size=16, steps=1).layer == "conv2"
    with pytest.raises(UsageError, match=r"'conv\*' means 2 layers of .* \('conv1', 'conv2'\); name one of them"):
        filters(graph, "conv*", 0, size=16, steps=1)


@pytest.mark.parametrize("several", ["conv1,conv2", ["conv1", "conv2"], "conv2, conv1"])
def test_a_list_of_layers_where_one_is_asked_for_is_refused_with_what_it_means(several: str | list[str]) -> None:
    graph = small()
    with pytest.raises(UsageError, match=r"means 2 layers of .* \('conv1', 'conv2'\); name one of them"):
        convscope.filters(graph, several, units=[0], diversity=2, size=16, steps=1)
    with pytest.raises(UsageError, match="means 2 layers"):
        dream(graph, PHOTO, several, size=16)
    with pytest.raises(UsageError, match="layer 'nothere' is not in"):
        graph.layer("conv1,nothere")
    assert graph.layer("conv2,").name == graph.layer(["conv2", "conv2"]).name == "conv2"
    for none in (",", []):
        with pytest.raises(UsageError, match="name"):
            graph.layer(none)


def test_a_picture_of_one_pixel_is_a_picture() -> None:
    assert filters(channels(1), "relu", 0, size=1, steps=2, preset="maco")[0].image.shape == (1, 1, 1)


def test_a_notebook_shows_pictures_of_any_number_of_channels() -> None:
    made = filters(channels(130), "relu", 0, size=128, steps=1, preset="chollet")
    assert made._repr_html_().count("data:image/webp") == 1
