"""Options from Python in every usual form, and refusals in one line, before any work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import convscope
from convscope import objectives
from convscope.engine.graph.graph import Graph
from convscope.engine.outputs.reading import Question
from convscope.engine.runs import explain as explain_run
from convscope.errors import UsageError

PICTURE = np.random.default_rng(0).random((12, 12, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def graph() -> Graph:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    )
    return convscope.load(net.eval(), example_input=torch.zeros(1, 3, 12, 12), check=False, labels=["a", "b", "c"])


WRONG: list[tuple[Callable[[Graph], Any], str]] = [
    *[(lambda g, verb=verb, wrong=wrong: getattr(convscope, verb)(g, [PICTURE], layer="0", batch=wrong), "batch")
      for verb in ("top", "stats", "activations") for wrong in (0, 1.5, "a")],
    (lambda g: convscope.top(g, [PICTURE], layer="0", k=0), "k 0 is less than 1"),
    (lambda g: convscope.top(g, [PICTURE], layer="0", k=1.5), "k 1.5 is not a whole number"),
    (lambda g: convscope.top(g, [PICTURE], layer="0", units=[9]), "unit 9 is out of range"),
    (lambda g: convscope.top(g, [PICTURE], layer="0", units=[-1]), "unit -1 is less than 0"),
    (lambda g: convscope.activations(g, [PICTURE], layer="0", units=[]), "no unit is asked for"),
    (lambda g: convscope.activations(g, [PICTURE], layer="0", units=[1.5]), "unit 1.5 is not a whole number"),
    (lambda g: convscope.activations(g, [PICTURE], layer="0", save="hdf5"), "save='hdf5' is unknown"),
    (lambda g: convscope.activations(g, [PICTURE], layer="0", units="top:2"), "units='top:2' are other units in every"),
    (lambda g: convscope.weights(g, units=[6]), "unit 6 is out of range"),
    (lambda g: convscope.predict(g, PICTURE, top=1.5), "top 1.5 is not a whole number"),
    (lambda g: convscope.predict(g, PICTURE, like=[1, 2, 3]), "like= means nothing for"),
    (lambda g: convscope.predict(g, PICTURE, like=[1, 2], decoder="embedding"), "like= has 2 numbers"),
    (lambda g: convscope.predict(g, PICTURE, like=["a"], decoder="embedding"), "holds no numbers"),
    (lambda g: convscope.predict(g, PICTURE, like=[1, 2, np.nan], decoder="embedding"), "no finite numbers"),
    (lambda g: convscope.predict(g, PICTURE, device=3), "device '3' is unknown"),
    (lambda g: convscope.attack(g, PICTURE, steps=1.5), "steps 1.5 is not a whole number"),
    (lambda g: convscope.attack(g, PICTURE, pixels=1.5), "pixels 1.5 is not a whole number"),
    (lambda g: convscope.attack(g, PICTURE, seed=None), "seed None is not a whole number"),
    (lambda g: convscope.attack(g, PICTURE, epsilon=0.1), "epsilon= means nothing for method=pixels"),
    (lambda g: convscope.attack(g, PICTURE, method="pgd", pixels=2), "pixels= means nothing for method=pgd"),
    (lambda g: convscope.explain(g, PICTURE, "saliency", layer="0"), "layer= means nothing for saliency"),
    (lambda g: explain_run.Options(method="rise,lime", layer="0").check(), "layer= means nothing for rise, lime"),
    (lambda g: explain_run.Options(boxes=((0, 0, 2, 2),)).check(), "boxes= with four sides is where the object is"),
    (lambda g: convscope.activations(g, PICTURE, "0", save="npz"), "save= writes into a folder"),
    (lambda g: convscope.weights(g, save=True), "save= writes into a folder"),
    (lambda g: convscope.compare(g, g, images=PICTURE), "takes picture files and folders"),
    (lambda g: convscope.compare(g, g, images=[]), "takes picture files and folders"),
    (lambda g: convscope.compare(g, g, max_rel=float("nan")), "max_rel=nan is not a number"),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(WRONG)))
def test_an_option_that_means_nothing_is_refused_in_a_line(graph: Graph, case: int) -> None:
    call, message = WRONG[case]
    with pytest.raises(UsageError, match=message) as caught:
        call(graph)
    assert "\n" not in str(caught.value)


# What takes a whole number takes 2.0 and NumPy's numbers for 2, and nothing near it.
WHOLE: list[Callable[[Graph, Any], Any]] = [
    lambda g, two: convscope.explain(g, PICTURE, "saliency", two).target.name,
    lambda g, two: convscope.explain(g, PICTURE, "rise", masks=two, batch=two).heatmap.tolist(),
    lambda _, two: vars(Question(box=two, region=(0, 0, two, two), count=two)),
    lambda g, two: g.layer(two).name,
    lambda g, two: convscope.explain(g, PICTURE, "gradcam", layer=[two - 2]).layers,
    lambda g, two: convscope.top(g, [PICTURE], "0", k=two, batch=two).content["layers"],
    lambda g, two: convscope.predict(g, PICTURE, top=two).content["images"],
    lambda g, two: convscope.attack(g, PICTURE, method="pgd", steps=two, target=two, seed=two).content["after"],
    lambda g, two: convscope.filters(g, "0", two, steps=two, size=6 * two, seed=two, batch=two)[0].image.tolist(),
    lambda g, two: convscope.filters(g, objectives.channel(two - 2, 0), steps=two)[0].image.tolist(),
    lambda g, two: convscope.verify(g, batch=two, size=6 * two, seed=two),
    lambda g, two: convscope.load(g.model, size=6 * two, check=False).image_size,
]


@pytest.mark.parametrize("case", range(len(WHOLE)))
def test_a_whole_number_is_one_in_whatever_type_and_a_half_is_none(graph: Graph, case: int) -> None:
    plain = WHOLE[case](graph, 2)
    assert WHOLE[case](graph, 2.0) == plain
    assert WHOLE[case](graph, np.float32(2)) == plain
    with pytest.raises(UsageError) as caught:
        WHOLE[case](graph, 2.3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("units", ["4,1", [1, 4], np.array([1, 4]), (np.int64(1), 4.0, 4)])
def test_units_are_named_by_text_or_by_numbers(graph: Graph, units: Any) -> None:
    whole = convscope.activations(graph, PICTURE, "0")["0"]
    assert np.array_equal(convscope.activations(graph, PICTURE, "0", units=units)["0"], whole[:, [1, 4]])
    rows = convscope.top(graph, [PICTURE], layer="0", units=units).content["layers"][0]["units"]
    assert [row["unit"] for row in rows] == [1, 4]
    filters = convscope.weights(graph, units=units).content["layers"][0]["filters"]
    assert [row["unit"] for row in filters] == [1, 4]
