"""No word of a call is dropped in silence, and none gives the numbers of another call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

import convscope
from convscope import objectives
from convscope.engine.activations.weights import kernel, near_duplicates, numbers
from convscope.engine.graph.graph import Graph
from convscope.engine.runs.stats import summary
from convscope.errors import UsageError
from tests.tiny import model, small_cnn

SMALL: dict[str, Any] = {"size": 16, "steps": 2}


@pytest.fixture(scope="module")
def graph() -> Graph:
    return convscope.load(small_cnn(), check=False)


def _pictures(seed: int) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).random((2, 16, 16, 3), dtype=np.float32))


@pytest.mark.parametrize("verb", [convscope.stats, convscope.top])
def test_other_arrays_in_a_folder_are_never_taken_for_the_first(
    graph: Graph, tmp_path: Path, verb: Callable[..., Any]
) -> None:
    first = verb(graph, _pictures(0), "conv1", folder=tmp_path).content["layers"]
    assert verb(graph, _pictures(0), "conv1", folder=tmp_path).content["layers"] == first
    with pytest.raises(UsageError, match="gone; force=True starts again"):
        verb(graph, _pictures(1), "conv1", folder=tmp_path)


REFUSED: dict[str, Any] = {
    "units": [0], "folder": "made", "diversity": 3, "noise": "uniform", "neuron": True, "negative": True, "alpha": True,
    "batch": 4, "photos": [np.zeros((16, 16, 3), np.float32)], "animate": True, "columns": 2, "margin": 3, "live": True,
    "force": True,
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_an_objective_cannot_use_is_refused(graph: Graph, name: str) -> None:
    with pytest.raises(UsageError, match=f"^{name}= is of pictures of units"):
        convscope.filters(graph, objectives.channel("conv1", 0), **{name: REFUSED[name]}, **SMALL)


def test_an_objective_tells_its_steps_and_takes_a_precision(graph: Graph) -> None:
    seen: list[Any] = []
    convscope.filters(graph, objectives.channel("conv1", 0), precision="float32", on_event=seen.append, **SMALL)
    assert seen
    with pytest.raises(UsageError, match="precision 'half'"):
        convscope.filters(graph, objectives.channel("conv1", 0), precision="half", **SMALL)


@pytest.mark.parametrize("name", ["animate", "live"])
def test_what_is_written_into_a_folder_needs_one(graph: Graph, name: str) -> None:
    words: dict[str, Any] = {name: True, **SMALL}
    with pytest.raises(UsageError, match=f"{name}=True writes into a folder"):
        convscope.filters(graph, "conv1", 0, **words)
    with pytest.raises(UsageError, match=f"{name}=True writes into a folder"):
        convscope.maximize(graph, 0, **words)


@pytest.mark.parametrize("name", ["batch", "live"])
def test_facets_refuse_what_they_do_not_use(graph: Graph, tmp_path: Path, name: str) -> None:
    words: dict[str, Any] = {name: True if name == "live" else 2, **SMALL}
    with pytest.raises(UsageError, match=f"{name}= and diversity= exclude each other"):
        convscope.filters(graph, "conv1", 0, diversity=2, folder=tmp_path, **words)


def test_compare_refuses_what_it_is_told_of_pictures_that_it_does_not_make(graph: Graph, tmp_path: Path) -> None:
    for words in ({"pictures": 3}, {"steps": 2, "match": True}, {"seed": 1, "folder": tmp_path}):
        with pytest.raises(UsageError, match="add match=True and a folder"):
            convscope.compare(graph, graph, **words)  # type: ignore[arg-type]


def test_a_layer_inside_an_operation_can_be_compared_alone(graph: Graph) -> None:
    result = convscope.compare(graph, graph, layer="conv1")
    assert [pair.a.name for pair in result.pairs] == ["bn1"]  # what it gives with its batch-norm
    with pytest.raises(UsageError, match=r"none of the layers asked for .* only move values"):
        convscope.compare(graph, graph, layer="flatten")


def test_units_come_in_the_order_of_the_list(graph: Graph) -> None:
    picture = _pictures(0)[0]
    every = convscope.activations(graph, picture, "conv1")["conv1"]
    for units in ([3, 1], [7, 6, 5, 4, 3, 2, 1, 0]):
        assert np.array_equal(convscope.activations(graph, picture, "conv1", units)["conv1"], every[:, units])
    rows = convscope.top(graph, picture, "conv1", [3, 1]).content["layers"][0]["units"]
    assert [row["unit"] for row in rows] == [3, 1]


def test_numbers_and_layers_are_taken_as_people_hold_them(graph: Graph) -> None:
    picture = _pictures(0)[0]
    one, other = (convscope.dream(graph, picture, "conv1", n, **SMALL) for n in (np.int64(3), [3]))
    assert np.array_equal(one[0].image, other[0].image)
    one, other = (convscope.accent(graph, picture, "conv2", 3, keep=k, **SMALL) for k in (graph.layers[0], "conv1"))
    assert np.array_equal(one[0].image, other[0].image)


def test_what_no_verb_can_do_is_one_line(graph: Graph) -> None:
    picture = _pictures(0)[0]
    with pytest.raises(UsageError, match="top 0 is less than 1"):
        convscope.attack(graph, picture, top=0)
    with pytest.raises(UsageError, match="top needs layer="):
        convscope.top(graph, picture, None)


def test_a_deformable_convolution_has_its_own_bias() -> None:
    rng = np.random.default_rng(0)
    weights = {"o": rng.normal(size=(18, 3, 3, 3)), "w": rng.normal(size=(4, 3, 3, 3)), "b": rng.normal(size=4)}
    nodes = [
        helper.make_node("Conv", ["x", "o"], ["off"], pads=[1] * 4),
        helper.make_node("DeformConv", ["x", "w", "off", "b"], ["y"], pads=[1] * 4, kernel_shape=[3, 3]),
    ]
    deformable = model(nodes, {k: v.astype(np.float32) for k, v in weights.items()}, opset=19)
    graph = convscope.load(deformable, check=False)
    assert np.array_equal(kernel(graph, graph.layer("y"))[1], weights["b"].astype(np.float32))


def test_an_opposite_filter_has_a_negative_cosine() -> None:
    filters = np.random.default_rng(0).normal(size=(4, 3, 3, 3))
    filters[2] = -2 * filters[0]
    found = numbers(filters, np.zeros(4))
    assert (found[0].nearest, found[0].similarity) == (2, pytest.approx(-1))
    assert near_duplicates(found) == [(0, 2, pytest.approx(-1))]


@pytest.mark.parametrize("first", [True, False])
def test_a_layers_summary_leaves_out_units_that_nothing_is_known_of(first: bool) -> None:
    known = {"mean": 1.0, "max": 2.0, "sparsity": 0.5}
    units = [dict.fromkeys(known, float("nan")), known]
    entry = {"units": units if first else units[::-1], "correlated": [], "images": 1, "dead": [], "always_on": []}
    assert [summary(entry)[name] for name in ("mean", "max", "zeros")] == [1.0, 2.0, 0.5]


@pytest.mark.parametrize("gray", [lambda rng: rng.random((16, 20), dtype=np.float32),
                                  lambda rng: rng.integers(0, 256, (16, 20, 1), dtype=np.uint8)])  # fmt: skip
def test_a_gray_array_is_seen_as_the_same_in_three_channels(graph: Graph, gray: Callable[[Any], np.ndarray]) -> None:
    picture = gray(np.random.default_rng(0))
    coloured = np.repeat(picture.reshape(16, 20, 1), 3, axis=2)
    one, other = (convscope.predict(graph, p).content["images"] for p in (picture, coloured))
    assert one == other
    both = [convscope.attack(graph, p, method="fgsm").attack for p in (picture, coloured)]
    assert both[0] is not None and both[1] is not None and np.array_equal(both[0].attacked, both[1].attacked)


@pytest.mark.parametrize("shard", [(0, 2), (3, 2), (1.5, 2), "1/2", (1, 2, 3), (True, 2)])
def test_a_shard_is_one_of_so_many(graph: Graph, tmp_path: Path, shard: Any) -> None:
    """Taken as they are, (0, 2) saw the last picture alone and (3, 2) left the first two out."""
    with pytest.raises(UsageError, match="shard"):
        convscope.top(graph, _pictures(0), "conv1", shard=shard, folder=tmp_path)
    assert not list(tmp_path.iterdir())


NO_NUMBERS: dict[str, Callable[[Graph, np.ndarray], Any]] = {
    "columns": lambda g, _: convscope.filters(g, "conv1", 0, columns="2", **SMALL),  # type: ignore[arg-type]
    "columns 1.5": lambda g, _: convscope.filters(g, "conv1", 0, columns=1.5, **SMALL),  # type: ignore[arg-type]
    "margin": lambda g, _: convscope.filters(g, "conv1", 0, margin=1.5, **SMALL),  # type: ignore[arg-type]
    "noise": lambda g, _: convscope.filters(g, "conv1", 0, noise=3, **SMALL),  # type: ignore[arg-type]
    "noise_mean": lambda g, _: convscope.filters(g, "conv1", 0, noise="uniform", noise_mean=300, **SMALL),
    "noise_std": lambda g, _: convscope.filters(g, "conv1", 0, noise="normal", noise_std=-3, **SMALL),
    "noise_std text": lambda g, _: convscope.filters(g, "conv1", 0, noise="normal", noise_std="3", **SMALL),  # type: ignore[arg-type]
    "epsilon": lambda g, p: convscope.attack(g, p, method="fgsm", epsilon="0.1"),  # type: ignore[arg-type]
    "epsilon nan": lambda g, p: convscope.attack(g, p, method="fgsm", epsilon=float("nan")),
    "gain": lambda g, p: convscope.invert(g, p, "conv1", gain="2", **SMALL),  # type: ignore[arg-type]
    "weight": lambda g, p: convscope.accent(g, p, "conv2", 0, weight="2", **SMALL),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", NO_NUMBERS)
def test_what_is_no_number_or_out_of_range_is_refused_in_one_line(graph: Graph, case: str) -> None:
    with pytest.raises(UsageError) as caught:
        NO_NUMBERS[case](graph, _pictures(0)[0])
    assert "\n" not in str(caught.value)
