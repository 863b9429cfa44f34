"""Relations against weights that are known, and the statistics behind them against slow ways."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
from onnx import helper

import convscope
from convscope.engine.atlas import relations
from convscope.engine.atlas.files import Folder
from convscope.engine.atlas.numbers import Numbers, likeness, selectivity
from convscope.engine.atlas.plan import Plan
from convscope.engine.atlas.relations import connection
from convscope.engine.atlas.stations import Stations
from convscope.engine.graph.graph import Graph

from ...tiny import model
from .places import made, network, photographs


def planted() -> Graph:
    """Three units of the colours, then four of which unit u reads the unit (u + 1) % 3 alone, with weight u + 1."""
    colours = np.zeros((3, 3, 1, 1), np.float32)
    colours[range(3), range(3)] = 1
    reads = np.zeros((4, 3, 3, 3), np.float32)
    for unit in range(4):
        reads[unit, (unit + 1) % 3] = (unit + 1) * np.linspace(-0.2, 1, 9).reshape(3, 3)
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], "first"), helper.make_node("Relu", ["c1"], ["r1"], "r1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "second"), helper.make_node("Relu", ["c2"], ["y"], "y"),
    ]  # fmt: skip
    weights = {"w1": colours, "w2": reads}
    return convscope.load(model(nodes, weights, ("N", 3, 8, 8)), preprocessing="unit", check=False)


def test_the_one_planted_input_is_found_with_its_kernel_and_its_readers(tmp_path: Path) -> None:
    graph = planted()
    photos = photographs(tmp_path / "photos", 3)
    made(graph, photos, tmp_path / "atlas", stages=("numbers", "relations"))
    files = Folder(tmp_path / "atlas")
    plan = Plan.read(files)
    first, second = (relations.read(files, plan, planned.layer) for planned in plan.layers)
    assert first is not None
    assert second is not None
    index = plan.layers[0].layer.index
    for unit in range(4):
        ((layer, source, share, total, kernel, shape),) = second["inputs"][unit]
        assert (layer, source, share, shape) == (index, (unit + 1) % 3, 1.0, [3, 3])
        assert total == np.float32(3.6 * (unit + 1)).round(6) or abs(total - 3.6 * (unit + 1)) < 1e-4
        drawn = np.frombuffer(base64.b64decode(kernel), np.int8)
        assert np.abs(drawn - np.linspace(-0.2, 1, 9) * 127).max() <= 0.5 + 1e-3
    assert [sorted(r[1] for r in readers) for readers in first["readers"]] == [[2], [0, 3], [1]]


def test_shares_are_kernel_lengths_times_levels_with_batch_norm_folded_in(tmp_path: Path) -> None:
    graph = network()
    photos = photographs(tmp_path / "photos", 4)
    made(graph, photos, tmp_path / "atlas", stages=("numbers", "relations"))
    files = Folder(tmp_path / "atlas")
    plan = Plan.read(files)
    weight = graph.index.constant("conv2.weight")
    assert weight is not None
    levels = np.array([row["mean"] for row in Numbers(files, plan).layer(plan.layers[0].layer).facts["units"]])
    strength = np.sqrt((weight.astype(np.float64) ** 2).sum(axis=(2, 3))) * levels
    found = relations.read(files, plan, plan.layers[1].layer)
    assert found is not None
    for unit, row in enumerate(found["inputs"]):
        order = np.argsort(-strength[unit])
        assert [entry[1] for entry in row] == [int(u) for u in order if strength[unit, u] > 0]
        assert np.allclose(
            [entry[2] for entry in row], strength[unit][[e[1] for e in row]] / strength[unit].sum(), atol=1e-4
        )
    stations = Stations(graph)
    node = stations.makers(stations.all[0])[0]
    link = connection(graph, stations, node)
    gamma, variance = graph.index.constant("bn1.weight"), graph.index.constant("bn1.running_var")
    plain = graph.index.constant("conv1.weight")
    assert link is not None
    if gamma is not None and variance is not None and plain is not None:  # the exporter kept batch-norm
        scale = gamma / np.sqrt(variance + 1e-5)
        assert np.allclose(link.kernels, (plain * scale[:, None, None, None]).reshape(8, 3, 9), rtol=1e-5)


def test_likeness_is_the_cosine_in_descending_order() -> None:
    peaks = np.random.default_rng(0).random((7, 30)).astype(np.float32)
    peaks[:, 4] = 3 * peaks[:, 9]
    numbers, cosines = likeness(peaks, 5)
    lengths = np.linalg.norm(peaks, axis=0)
    slow = peaks.T @ peaks / np.outer(lengths, lengths)
    np.fill_diagonal(slow, -2)
    assert np.allclose(cosines, -np.sort(-slow, axis=1)[:, :5], atol=1e-5)
    assert (numbers[4, 0], numbers[9, 0]) == (9, 4)


def test_selectivity_is_one_for_one_class_zero_for_none_and_unknown_for_a_single_class() -> None:
    classes = np.array([0, 0, 1, 2])
    peaks = np.array([[1, 1, 0.0, 3], [1, 1, 0, 1], [0, 1, 0, -1], [0, 1, 0, 0]], np.float32)
    found = selectivity(peaks, classes)
    assert found[0] == 1
    assert found[1] == 0
    assert np.isnan(found[2])  # never above zero
    assert abs(found[3] - (2 - 0) / (2 + 0)) < 1e-9
    assert np.isnan(selectivity(peaks, np.zeros(4, int))).all()
