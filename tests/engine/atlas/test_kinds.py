"""Every kind of layer: best photographs, numbers and relations against slow ways and weights that are known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

import convscope
from convscope.engine.activations.folder_pass import reduced_batches
from convscope.engine.activations.statistics import UnitStatistics
from convscope.engine.atlas import relations
from convscope.engine.atlas.files import Folder
from convscope.engine.atlas.numbers import Numbers, best_shown
from convscope.engine.atlas.plan import Plan
from convscope.engine.atlas.report import compiled
from convscope.engine.graph.graph import Graph
from convscope.engine.pictures.read import model_input, read_image

from ...tiny import model
from .places import fingerprint, made, photographs

KINDS = {"plain": 4, "grouped": 6, "depthwise": 6, "residual": 6, "tokens": 5, "more tokens": 6, "dense": 3}


def _normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def every_kind() -> Graph:
    """A convolution, one in two groups, one a unit, a residual sum, tokens through two matrices and a sum, classes."""
    weights = {
        "w": _normal(0, 4, 3, 3, 3), "wg": _normal(1, 6, 2, 3, 3), "wd": _normal(2, 6, 1, 3, 3),
        "wr": _normal(3, 6, 6, 1, 1), "wp": _normal(4, 6, 6, 2, 2), "w1": _normal(5, 6, 5), "b1": _normal(6, 5),
        "w2": _normal(7, 5, 6), "b2": _normal(8, 6), "wy": _normal(9, 3, 6),
        "shape": np.array([0, 6, -1], np.int64),
    }  # fmt: skip
    same: dict[str, Any] = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "c", **same), helper.make_node("Relu", ["c"], ["plain"], "plain"),
        helper.make_node("Conv", ["plain", "wg"], ["g"], "g", group=2, **same),
        helper.make_node("Relu", ["g"], ["grouped"], "grouped"),
        helper.make_node("Conv", ["grouped", "wd"], ["d"], "d", group=6, **same),
        helper.make_node("Relu", ["d"], ["depthwise"], "depthwise"),
        helper.make_node("Conv", ["depthwise", "wr"], ["r"], "r"),
        helper.make_node("Add", ["r", "grouped"], ["residual"], "residual"),
        helper.make_node("Conv", ["residual", "wp"], ["patch"], "patch", strides=[2, 2]),
        helper.make_node("Reshape", ["patch", "shape"], ["f"], "f"),
        helper.make_node("Transpose", ["f"], ["t"], "t", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["t", "w1"], ["m1"], "m1"), helper.make_node("Add", ["m1", "b1"], ["a1"], "a1"),
        helper.make_node("Relu", ["a1"], ["tokens"], "tokens"),
        helper.make_node("MatMul", ["tokens", "w2"], ["m2"], "m2"), helper.make_node("Add", ["m2", "b2"], ["a2"], "a2"),
        helper.make_node("Add", ["a2", "t"], ["more tokens"], "more tokens"),
        helper.make_node("ReduceMean", ["more tokens"], ["mean"], "mean", axes=[1], keepdims=0),
        helper.make_node("Gemm", ["mean", "wy"], ["dense"], "dense", transB=1),
    ]  # fmt: skip
    made = model(nodes, weights, ("N", 3, 8, 8), outputs=("dense",))
    return convscope.load(made, preprocessing="unit", check=False)


def test_where_a_field_is_no_straight_line_the_page_is_the_same_when_it_is_made_from_the_folder_alone(
    tmp_path: Path,
) -> None:
    ends = {"at": np.array([3]), "end": np.array([100]), "axis": np.array([3]), "zero": np.array([0])}
    nodes = [
        helper.make_node("Slice", ["x", "at", "end", "axis"], ["right"], "right"),
        helper.make_node("Slice", ["x", "zero", "at", "axis"], ["left"], "left"),
        helper.make_node("Concat", ["right", "left"], ["rolled"], "rolled", axis=3),
        helper.make_node("Conv", ["rolled", "w"], ["c"], "c"), helper.make_node("Relu", ["c"], ["y"], "y"),
    ]  # fmt: skip
    proto = model(nodes, {"w": _normal(0, 2, 3, 3, 3), **ends}, ("N", 3, 8, 8))
    graph = convscope.load(proto, preprocessing="unit", check=False)
    field = graph.layer("y").receptive_field
    assert field is not None
    assert field.table is not None
    photos, folder = photographs(tmp_path / "photos", 3), tmp_path / "atlas"
    made(graph, photos, folder)
    first = fingerprint(folder)
    compiled(Folder(folder))
    assert fingerprint(folder) == first
    made(graph, photos, folder)
    assert fingerprint(folder) == first


def test_numbers_of_an_embedding_are_no_classes_and_one_output_has_no_name_of_two(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "c"), helper.make_node("Relu", ["c"], ["r"], "r"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "p"), helper.make_node("Flatten", ["p"], ["f"], "f"),
    ]  # fmt: skip
    ends = {
        "vector": (6, helper.make_node("LpNormalization", ["g"], ["vector"], "vector", axis=1)),
        "yes": (1, helper.make_node("Sigmoid", ["g"], ["yes"], "yes")),
    }
    for name, (count, last) in ends.items():
        gemm = helper.make_node("Gemm", ["f", "d"], ["g"], "g", transB=1)
        weights = {"w": _normal(0, 4, 3, 3, 3), "d": _normal(1, count, 4)}
        proto = model([*nodes, gemm, last], weights, ("N", 3, 8, 8), outputs=(name,))
        labels = ["no", "yes"] if name == "yes" else None
        graph = convscope.load(proto, preprocessing="unit", labels=labels, check=False)
        made(graph, photographs(tmp_path / "photos", 3), tmp_path / name, stages=("numbers",))
        plan = Plan.read(Folder(tmp_path / name))
        numbers = Numbers(Folder(tmp_path / name), plan)
        assert plan.model["labels"] is None
        assert (numbers.classes() is None) == (name == "vector")


@pytest.fixture(scope="module")
def graph() -> Graph:
    return every_kind()


@pytest.fixture(scope="module")
def atlas(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kinds")
    made(graph, photographs(folder / "photos", 5), folder / "atlas", stages=("numbers", "relations"))
    return folder


@pytest.fixture(scope="module")
def plan(atlas: Path) -> Plan:
    return Plan.read(Folder(atlas / "atlas"))


def test_every_kind_is_a_layer_of_the_atlas_once(plan: Plan) -> None:
    shown = {p.layer.tensor: p.units for p in plan.layers}
    assert shown == {**KINDS, "patch": 6}


def test_best_photographs_are_those_of_a_search_through_all(graph: Graph, atlas: Path, plan: Plan) -> None:
    numbers = Numbers(Folder(atlas / "atlas"), plan)
    paths = sorted((atlas / "photos").iterdir())
    session = graph.session([p.layer.tensor for p in plan.layers])
    x = np.concatenate([model_input(read_image(path), graph) for path in paths])
    values = session.run(np.concatenate([x, x[-3:]]))  # eight at once, as the atlas does
    for planned in plan.layers:
        maps = np.asarray(planned.layer.channels_first(values[planned.layer.tensor]))[: len(paths)]
        maps = maps.reshape(len(paths), planned.units, -1)
        figures = numbers.layer(planned.layer)
        for unit in range(planned.units):
            peaks = maps[:, unit].max(axis=1)
            order = sorted(range(len(paths)), key=lambda i: (-peaks[i], paths[i].name))[: plan.k]
            expected = [(paths[i].name, float(peaks[i]), int(maps[i, unit].argmax())) for i in order]
            assert best_shown(figures, unit) == expected, planned.layer.name


def test_numbers_are_those_of_stats_to_the_last_digit(graph: Graph, atlas: Path, plan: Plan) -> None:
    numbers = Numbers(Folder(atlas / "atlas"), plan)
    layers = [planned.layer for planned in plan.layers]
    states = [UnitStatistics.empty(layer) for layer in layers]
    paths = {path.name: path for path in (atlas / "photos").iterdir()}
    for _, outputs in reduced_batches(graph, layers, paths, batch=8, device="cpu", failed=lambda p, e: None):
        for state in states:
            state.add(outputs)
    for layer, state in zip(layers, states, strict=True):
        assert json.dumps(numbers.layer(layer).facts["units"]) == json.dumps(state.to_json()["units"]), layer.name


def test_what_every_kind_reads_is_its_weights_times_the_levels(graph: Graph, atlas: Path, plan: Plan) -> None:
    files = Folder(atlas / "atlas")
    numbers = Numbers(files, plan)
    by_tensor = {p.layer.tensor: p.layer for p in plan.layers}
    levels = {p.layer.index: numbers.layer(p.layer).levels for p in plan.layers}

    def kernels(name: str) -> np.ndarray:
        found = graph.index.constant(name)
        assert found is not None
        return found.astype(np.float64)

    def expected(of: str, **reads: Mapping[tuple[int, int], float]) -> None:
        """Against what is read: layer -> (unit, unit that it reads) -> length of its kernel."""
        found = relations.read(files, plan, by_tensor[of])
        assert found is not None
        assert found["sources"] == ""
        for unit, rows in enumerate(found["inputs"]):
            strength = {
                (by_tensor[source].index, i): length * levels[by_tensor[source].index][i]
                for source, lengths in reads.items() for (o, i), length in lengths.items() if o == unit
            }  # fmt: skip
            wanted = {key: s / sum(strength.values()) for key, s in strength.items() if s > 0}
            best = sorted(wanted, key=lambda key: -wanted[key])[: relations.SHOWN]
            assert [(row[0], row[1]) for row in rows] == best, (of, unit)
            assert np.allclose([row[2] for row in rows], [wanted[key] for key in best], atol=2e-4), (of, unit)

    def lengths(weight: np.ndarray, first: int = 0) -> dict[tuple[int, int], float]:
        found = np.sqrt((weight.reshape(*weight.shape[:2], -1) ** 2).sum(axis=2))
        return {(o, first + i): float(found[o, i]) for o in range(found.shape[0]) for i in range(found.shape[1])}

    grouped = kernels("wg")
    halves = lengths(grouped[:3]) | {(o + 3, i): v for (o, i), v in lengths(grouped[3:], 2).items()}
    identity = {(u, u): 1.0 for u in range(6)}
    expected("grouped", plain=halves)
    depthwise = kernels("wd")
    expected("depthwise", grouped={(u, u): float(np.linalg.norm(depthwise[u])) for u in range(6)})
    expected("residual", depthwise=lengths(kernels("wr")), grouped=identity)  # its branch, and what goes past it
    expected("patch", residual=lengths(kernels("wp")))
    expected("tokens", patch=lengths(kernels("w1").T[:, :, None]))
    expected("more tokens", tokens=lengths(kernels("w2").T[:, :, None]), patch=identity)
    expected("dense", **{"more tokens": lengths(kernels("wy")[:, :, None])})
