"""Statistics of units: equal to NumPy on the whole activations, exact in any order, NaN left out and counted."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import helper

import convscope
from convscope.engine.activations.reductions import reduced_session
from convscope.engine.activations.statistics import (
    EDGES,
    MOST_PAIRED,
    UnitStatistics,
    restore_states,
    save_states,
)
from convscope.errors import UsageError
from tests import tiny

UNITS = 4


def passing_through(units: int = UNITS, opset: int = 17) -> convscope.Graph:
    """A model whose layer ``y`` is its input: what is fed is what is measured."""
    node = helper.make_node("Identity", ["x"], ["t"])
    return convscope.load(
        tiny.model([node, helper.make_node("Neg", ["t"], ["n"]), helper.make_node("Neg", ["n"], ["y"])], {},
                   ("N", units, None, None), opset=opset), check=False,
    )  # fmt: skip


GRAPH = passing_through()
LAYER = GRAPH.layer("y")
SESSION = reduced_session(GRAPH, [LAYER], device="cpu")


def measured(maps: np.ndarray, batch: int = 3) -> UnitStatistics:
    """Statistics of (N, C, H, W) maps, through the reductions in the graph."""
    found = UnitStatistics.empty(LAYER)
    for i in range(0, len(maps), batch):
        found.add(SESSION.run(maps[i : i + batch]))
    return found


def brute_force(maps: np.ndarray) -> list[dict[str, Any]]:
    """The same in float64 over all values; images with NaN in a unit are left out there."""
    figures, bins = [], list(itertools.pairwise(EDGES))
    for unit in range(maps.shape[1]):
        every = maps[:, unit].reshape(len(maps), -1).astype(np.float64)
        v = every[np.isfinite(every).all(axis=1)]
        if not len(v):
            continue
        figures.append(
            {"unit": unit, "mean": v.mean(), "std": v.std(), "mean_max": v.max(1).mean(), "max": v.max(),
             "sparsity": (v == 0).mean(), "active_share": (v > 0).any(1).mean(), "nan_images": len(every) - len(v),
             "histogram": [int(((v.max(1) >= a) & (v.max(1) < b)).sum()) for a, b in bins]}
        )  # fmt: skip
    return figures


def random_maps(images: int = 11, seed: int = 0) -> np.ndarray:
    """Unit 0: any sign; 1: rectified; 2: dead; 3: above zero everywhere."""
    maps = np.random.default_rng(seed).normal(0, 3, (images, UNITS, 6, 5)).astype(np.float32)
    maps[:, 1] = np.maximum(maps[:, 1], 0)
    maps[:, 2] = 0
    maps[:, 3] = np.abs(maps[:, 3]) + 0.01
    return maps


def assert_equal_figures(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.keys() == theirs.keys()
        for key, value in theirs.items():
            assert mine[key] == pytest.approx(value, rel=1e-5, abs=1e-12), (mine["unit"], key)


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_every_figure_equals_brute_force_at_any_scale(scale: float) -> None:
    maps = random_maps() * np.float32(scale)
    result = measured(maps).to_json()
    assert_equal_figures(result["units"], brute_force(maps))
    assert (result["images"], result["histogram_edges"]) == (11, EDGES.tolist())
    assert (result["dead"], result["always_on"]) == ([2], [3])


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 13, 18, 21])
def test_models_of_every_opset_are_measured_alike(opset: int) -> None:
    maps = random_maps()
    maps[2, 1, 0, 0], maps[3, 0, 1, 1], maps[4, 2, 0, 1] = np.nan, np.inf, -np.inf
    graph = passing_through(opset=opset)
    session = reduced_session(graph, [graph.layer("y")], device="cpu")
    assert next(e.version for e in graph.model.opset_import if not e.domain) == opset
    for (name, found), expected in zip(session.run(maps).items(), SESSION.run(maps).values(), strict=True):
        np.testing.assert_array_equal(found, expected, err_msg=name)
        if name.endswith("/max"):
            np.testing.assert_array_equal(found, maps.reshape(*maps.shape[:2], -1).max(2))  # NumPy's max keeps NaN


def test_a_unit_that_varies_little_about_a_large_mean_keeps_its_deviation() -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(1000, 0.05, (9, UNITS, 8, 8)).astype(np.float32)
    maps[:, 1] = 1000  # and one that does not vary has none
    units = measured(maps).to_json()["units"]
    assert units[0]["std"] == pytest.approx(maps[:, 0].astype(np.float64).std(), rel=1e-2)
    assert units[1]["std"] == 0


def test_large_maps_keep_the_digits_of_their_mean_and_deviation() -> None:
    """Added up in float32, a plane of 262,144 values about 1,000 is 5e-6 off, twice what these vary by."""
    weights = {"w": np.array([0.01, 0, 0], np.float32).reshape(1, 3, 1, 1), "b": np.array([1000], np.float32)}
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"])]
    network = tiny.model(nodes, weights, shape=("N", 3, 512, 512))
    graph = convscope.load(network, check=False)
    pictures = list(np.random.default_rng(0).random((2, 512, 512, 3), dtype=np.float32))
    values = convscope.activations(graph, pictures, "y")["y"].astype(np.float64)
    (unit,) = convscope.stats(graph, pictures, "y").content["layers"][0]["units"]
    assert unit["mean"] == pytest.approx(values.mean(), rel=1e-7)
    assert unit["std"] == pytest.approx(values.std(), rel=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    arrays.arrays(np.float32, (7, UNITS, 2, 3), elements=st.floats(-1e6, 1e6, width=32)),
    st.permutations(range(7)), st.integers(1, 7), st.integers(0, 7),
)  # fmt: skip
def test_order_batches_and_shards_do_not_matter_to_the_last_bit(
    maps: np.ndarray, order: list[int], batch: int, cut: int
) -> None:
    whole = measured(maps, 7)
    merged, second = measured(maps[order[:cut]], batch), measured(maps[order[cut:]], batch)
    merged.merge(second)
    assert np.array_equal(merged.sums, whole.sums) and merged.images == 7
    for name in ("largest", "active", "always", "histogram", "nans"):
        assert np.array_equal(getattr(merged, name), getattr(whole, name))
    np.testing.assert_allclose(merged.products(), whole.products(), rtol=1e-9, atol=1e-3)
    assert_equal_figures(merged.to_json()["units"], whole.to_json()["units"])


@pytest.mark.parametrize("place", [0, 1, 29])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_images_with_nan_or_infinity_anywhere_are_left_out_and_counted(place: int, value: float) -> None:
    maps = random_maps()
    maps[4].reshape(UNITS, -1)[1, place] = value
    maps[:, 0, 0, 0] = value  # never a number: nothing is known, and it is not dead
    result = measured(maps).to_json()
    unknown = result["units"][0]
    assert unknown["nan_images"] == 11 and np.isnan([unknown["mean"], unknown["std"], unknown["max"]]).all()
    assert result["dead"] == [2]
    assert_equal_figures(result["units"][1:], brute_force(maps))


def test_correlation_equals_numpy_and_knows_constant_units() -> None:
    maps = random_maps(30)
    maps[:, 0] = 3 * maps[:, 1] + 1
    result = measured(maps)
    means = maps.astype(np.float64).mean((2, 3))
    expected = np.zeros((UNITS, UNITS))
    alive = [0, 1, 3]
    expected[np.ix_(alive, alive)] = np.corrcoef(means[:, alive].T)
    np.testing.assert_allclose(result.correlation(), expected, atol=1e-5)
    best = result.to_json()["correlated"][0]
    assert (best["a"], best["b"]) == (0, 1) and best["correlation"] == pytest.approx(1, abs=1e-5)
    maps[3, 1, 0, 0] = np.nan
    assert not measured(maps).correlation()[1].any()
    assert measured(random_maps(30) * np.float32(1e-7)).correlation()[0, 1] == pytest.approx(
        measured(random_maps(30)).correlation()[0, 1], abs=1e-4
    )


def test_a_layer_of_too_many_units_has_all_figures_but_correlations(tmp_path: Path) -> None:
    graph = passing_through(MOST_PAIRED + 1)
    (layer,), maps = (graph.layer("y"),), random_maps(4)[:, [0] * (MOST_PAIRED + 1)]
    found = UnitStatistics.empty(layer)
    found.add(reduced_session(graph, [layer], device="cpu").run(maps))
    save_states(tmp_path / "s.npz", "id", ["a"], [found])
    _, (restored,) = restore_states(tmp_path / "s.npz", "id", [layer])
    restored.merge(found)
    result = restored.to_json()
    assert result["correlated"] == [] and restored.cross.size == 0
    assert_equal_figures(result["units"][:1], brute_force(np.concatenate([maps, maps])[:, :1]))


def test_the_state_of_few_images_is_small_and_that_of_many_goes_on(tmp_path: Path) -> None:
    graph = passing_through(UNITS)
    layer = graph.layer("y")
    sizes = []
    for count in (4, 200):
        maps = random_maps(count)
        half = measured(maps[: count // 2])
        save_states(tmp_path / "s.npz", "id", ["a"], [half])
        sizes.append("0/cross.npy" in np.load(tmp_path / "s.npz").zip.namelist())
        _, (restored,) = restore_states(tmp_path / "s.npz", "id", [layer])
        restored.merge(measured(maps[count // 2 :]))
        np.testing.assert_allclose(restored.correlation(), measured(maps).correlation(), atol=1e-9)
    assert sizes == [False, True]


def test_saved_figures_come_back_and_go_on(tmp_path: Path) -> None:
    maps = random_maps()
    half = measured(maps[:5])
    save_states(tmp_path / "s.npz", "id", ["b", "a"], [half])
    first = (tmp_path / "s.npz").read_bytes()
    done, (restored,) = restore_states(tmp_path / "s.npz", "id", [LAYER])
    assert done == {"a", "b"}
    save_states(tmp_path / "s.npz", "id", sorted(done), [restored])
    assert (tmp_path / "s.npz").read_bytes() == first
    restored.merge(measured(maps[5:]))
    assert np.array_equal(restored.sums, measured(maps).sums)
    assert_equal_figures(restored.to_json()["units"], brute_force(maps))
    with pytest.raises(UsageError, match="another model"):
        restore_states(tmp_path / "s.npz", "other", [LAYER])
    (tmp_path / "s.npz").write_bytes(first[:100])
    with pytest.raises(UsageError, match="holds no state"):
        restore_states(tmp_path / "s.npz", "id", [LAYER])


def test_no_images_know_nothing() -> None:
    result = UnitStatistics.empty(LAYER).to_json()
    assert (result["images"], result["dead"], result["always_on"], result["correlated"]) == (0, [], [], [])
    assert np.isnan(result["units"][0]["mean"])
