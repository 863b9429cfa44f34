"""Relations against weights that are known, and the statistics behind them against slow ways."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

import convscope
from convscope.engine.atlas import relations
from convscope.engine.atlas.connections import connection
from convscope.engine.atlas.files import Folder
from convscope.engine.atlas.numbers import Numbers, likeness, selectivity
from convscope.engine.atlas.plan import Plan
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
    link = connection(graph, stations, stations.makers(stations.all[0])[0], 8)
    gamma, variance = graph.index.constant("bn1.weight"), graph.index.constant("bn1.running_var")
    plain = graph.index.constant("conv1.weight")
    assert link is not None
    if gamma is not None and variance is not None and plain is not None:  # the exporter kept batch-norm
        folded = (plain * (gamma / np.sqrt(variance + 1e-5))[:, None, None, None]).reshape(8, 3, 9)
        assert np.allclose([[link.kernel(o, i) for i in range(3)] for o in range(8)], folded, rtol=1e-5)


def _random(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def _links(
    nodes: list[tuple[str, list[str], str, dict[str, Any]]], weights: dict[str, np.ndarray], opset: int = 17
) -> dict[str, Any]:
    """Of each station its connections, by the shown tensor."""
    made = [helper.make_node(op, inputs, [out], out, **more) for op, inputs, out, more in nodes]
    proto = model(made, weights, ("N", 3, 8, 8), outputs=(nodes[-1][2],), opset=opset)
    graph = convscope.load(proto, preprocessing="unit", check=False)
    stations = Stations(graph)
    return {
        s.layer.tensor: [connection(graph, stations, maker, s.layer.channels or 0) for maker in stations.makers(s)]
        for s in stations.all
    }


def test_batch_norm_before_a_convolution_and_layer_scale_behind_it_are_in_the_kernels() -> None:
    """As in DenseNet, whose batch-norm follows the concatenation, and in ConvNeXt, whose branches are scaled."""
    weights = {
        "wa": _random(0, 4, 3, 1, 1), "wb": _random(1, 2, 4, 3, 3), "wc": _random(2, 5, 6, 1, 1),
        "wd": _random(3, 5, 5, 1, 1),
        "gamma": _random(4, 6), "beta": _random(5, 6), "mean": _random(6, 6), "var": np.abs(_random(7, 6)) + 0.1,
        "scale": _random(8, 1, 5, 1, 1),
    }  # fmt: skip
    nodes: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Conv", ["x", "wa"], "a", {}), ("Relu", ["a"], "ra", {}), ("Conv", ["ra", "wb"], "b", {"pads": [1, 1, 1, 1]}),
        ("Concat", ["ra", "b"], "k", {"axis": 1}),
        ("BatchNormalization", ["k", "gamma", "beta", "mean", "var"], "n", {}),
        ("Relu", ["n"], "rn", {}), ("Conv", ["rn", "wc"], "c", {}), ("Relu", ["c"], "rc", {}),
        ("Conv", ["rc", "wd"], "d", {}), ("Mul", ["d", "scale"], "m", {}), ("Sub", ["rc", "m"], "y", {}),
    ]  # fmt: skip
    links = _links(nodes, weights)
    (link,) = links["rc"]
    before = weights["gamma"] / np.sqrt(weights["var"] + 1e-5)
    assert np.allclose(link.lengths, np.abs(weights["wc"][:, :, 0, 0] * before), rtol=1e-5)
    assert np.allclose(link.sums, weights["wc"][:, :, 0, 0] * before, rtol=1e-5)
    past, branch = links["y"]
    assert np.array_equal(past.lengths, np.eye(5))
    assert np.allclose(branch.sums, -weights["scale"].reshape(5, 1) * weights["wd"][:, :, 0, 0], rtol=1e-5)


def test_the_learned_scales_of_group_instance_and_layer_norm_are_in_the_kernels() -> None:
    """And where what they divide by, which each picture decides, is not the same for all that is read, it is marked."""
    weights = {
        "wa": _random(0, 4, 3, 1, 1), "wb": _random(1, 4, 4, 3, 3), "wc": _random(2, 6, 4, 1, 1),
        "fc": _random(3, 6, 5), "g": _random(4, 4), "h": _random(5, 4), "i": _random(6, 6), "l": _random(7, 6),
        "zero": np.zeros(4, np.float32), "none": np.zeros(6, np.float32), "space": np.array([2, 3]),
    }  # fmt: skip
    (first,), sum_, (third,), (last,) = _links(
        [
            ("Conv", ["x", "wa"], "a", {}), ("GroupNormalization", ["a", "g", "zero"], "ga", {"num_groups": 2}),
            ("Relu", ["ga"], "ra", {}), ("Conv", ["ra", "wb"], "b", {"pads": [1, 1, 1, 1]}),
            ("GroupNormalization", ["b", "h", "zero"], "gb", {"num_groups": 2}), ("Add", ["ra", "gb"], "s", {}),
            ("Conv", ["s", "wc"], "c", {}), ("InstanceNormalization", ["c", "i", "none"], "ic", {}),
            ("Relu", ["ic"], "rc", {}), ("ReduceMean", ["rc", "space"], "m", {"keepdims": 0}),
            ("LayerNormalization", ["m", "l", "none"], "lm", {}), ("MatMul", ["lm", "fc"], "y", {}),
        ],
        weights,
        opset=21,
    ).values()  # fmt: skip
    assert np.allclose(first.sums, weights["g"][:, None] * weights["wa"][:, :, 0, 0], rtol=1e-5)
    past, branch = sum_
    assert np.array_equal(past.lengths, np.eye(4))
    assert np.allclose(branch.sums, weights["h"][:, None] * weights["wb"].sum(axis=(2, 3)), rtol=1e-4)
    assert np.allclose(third.sums, weights["i"][:, None] * weights["wc"][:, :, 0, 0], rtol=1e-5)
    assert np.allclose(last.sums, (weights["l"][:, None] * weights["fc"]).T, rtol=1e-5)
    assert [link.divided for link in (first, past, branch, third, last)] == [False, False, True, False, False]


def test_group_norm_as_torch_writes_it_keeps_its_units() -> None:
    """As an instance norm of the groups between two Reshapes."""
    weights = {
        "wa": _random(0, 4, 3, 1, 1), "wb": _random(1, 5, 4, 1, 1), "gamma": _random(2, 4, 1, 1),
        "beta": _random(3, 4, 1, 1), "ones": np.ones(2, np.float32), "zeros": np.zeros(2, np.float32),
        "groups": np.array([0, 2, -1]), "back": np.array([0, 4, 8, 8]),
    }  # fmt: skip
    links = _links(
        [
            ("Conv", ["x", "wa"], "a", {}), ("Reshape", ["a", "groups"], "g", {}),
            ("InstanceNormalization", ["g", "ones", "zeros"], "n", {}), ("Reshape", ["n", "back"], "b", {}),
            ("Mul", ["b", "gamma"], "m", {}), ("Add", ["m", "beta"], "o", {}), ("Relu", ["o"], "r", {}),
            ("Conv", ["r", "wb"], "y", {}),
        ],
        weights,
    )  # fmt: skip
    (first,), (second,) = links["r"], links["y"]
    assert np.allclose(first.sums, weights["gamma"][:, 0] * weights["wa"][:, :, 0, 0], rtol=1e-5)
    assert second.units.tolist() == [0, 1, 2, 3]
    assert not second.divided  # the units that are shown lie behind the norm


def test_a_branch_that_a_norm_divides_is_said_on_the_page(tmp_path: Path) -> None:
    weights = {"w": _random(0, 3, 3, 1, 1), "v": _random(1, 3, 3, 1, 1), "one": np.ones(3, np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "c"), helper.make_node("Relu", ["c"], ["r"], "r"),
        helper.make_node("Conv", ["r", "v"], ["d"], "d"),
        helper.make_node("InstanceNormalization", ["d", "one", "one"], ["n"], "n"),
        helper.make_node("Add", ["r", "n"], ["y"], "y"),
    ]  # fmt: skip
    graph = convscope.load(model(nodes, weights, ("N", 3, 8, 8)), preprocessing="unit", check=False)
    made(graph, photographs(tmp_path / "photos", 3), tmp_path / "atlas", stages=("numbers", "relations"))
    files = Folder(tmp_path / "atlas")
    plan = Plan.read(files)
    said = [(relations.read(files, plan, planned.layer) or {})["sources"] for planned in plan.layers]
    assert said[0] == ""
    assert "normalization divides by in each picture" in said[-1]


def test_flattened_maps_and_flattened_tokens_have_one_kernel_a_unit_of_all_its_places() -> None:
    weights = {"w": _random(0, 4, 3, 7, 7), "m": _random(1, 4, 6), "dm": _random(2, 5, 16), "dt": _random(3, 5, 24),
               "shape": np.array([0, 4, -1], np.int64)}  # fmt: skip
    start: list[tuple[str, list[str], str, dict[str, Any]]] = [("Conv", ["x", "w"], "c", {}), ("Relu", ["c"], "r", {})]
    end: list[tuple[str, list[str], str, dict[str, Any]]] = [("Flatten", ["r"], "f", {}),
                                                             ("Gemm", ["f", "dm"], "y", {"transB": 1})]  # fmt: skip
    (link,) = _links([*start, *end], weights)["y"]
    by_unit = weights["dm"].reshape(5, 4, 4)
    assert (link.units.tolist(), link.shape) == ([0, 1, 2, 3], (2, 2))
    assert np.allclose(link.lengths, np.linalg.norm(by_unit, axis=2), rtol=1e-5)
    assert np.array_equal(link.kernel(2, 3), by_unit[2, 3])
    tokens: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Reshape", ["r", "shape"], "s", {}), ("Transpose", ["s"], "t", {"perm": [0, 2, 1]}),
        ("MatMul", ["t", "m"], "mm", {}), ("Relu", ["mm"], "rm", {}), ("Flatten", ["rm"], "f", {}),
        ("Gemm", ["f", "dt"], "y", {"transB": 1}),
    ]  # fmt: skip
    (link,) = _links([*start, *tokens], weights)["y"]
    by_place = weights["dt"].reshape(5, 4, 6)  # the places of tokens come first
    assert link.units.tolist() == [0, 1, 2, 3, 4, 5]
    assert np.allclose(link.lengths, np.linalg.norm(by_place, axis=1), rtol=1e-5)
    assert np.array_equal(link.kernel(2, 5), by_place[2, :, 5])


def test_a_layer_that_reads_a_unit_in_two_ways_lists_it_once_and_is_listed_once_as_its_reader(tmp_path: Path) -> None:
    weights = {"w": np.abs(_random(0, 3, 3, 1, 1)), "d": _random(1, 2, 6, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "c"), helper.make_node("Relu", ["c"], ["r"], "r"),
        helper.make_node("Concat", ["r", "r"], ["k"], "k", axis=1), helper.make_node("Conv", ["k", "d"], ["y"], "y"),
    ]  # fmt: skip
    graph = convscope.load(model(nodes, weights, ("N", 3, 8, 8)), preprocessing="unit", check=False)
    made(graph, photographs(tmp_path / "photos", 3), tmp_path / "atlas", stages=("numbers", "relations"))
    files = Folder(tmp_path / "atlas")
    plan = Plan.read(files)
    first, second = (relations.read(files, plan, planned.layer) for planned in plan.layers)
    assert first is not None
    assert second is not None
    levels = Numbers(files, plan).layer(plan.layers[0].layer).levels
    strength = (np.abs(weights["d"][:, :3, 0, 0]) + np.abs(weights["d"][:, 3:, 0, 0])) * levels
    for unit in range(2):
        shares = {row[1]: row[2] for row in second["inputs"][unit]}
        assert len(second["inputs"][unit]) == 3
        assert np.allclose([shares[u] for u in range(3)], strength[unit] / strength[unit].sum(), atol=1e-4)
    assert [sorted(row[1] for row in rows) for rows in first["readers"]] == [[0, 1]] * 3


def test_what_a_sum_adds_that_cannot_be_followed_is_said() -> None:
    weights = {"w": _random(0, 4, 3, 1, 1)}
    links = _links(
        [
            ("Conv", ["x", "w"], "c", {}), ("Relu", ["c"], "r", {}),
            ("MatMul", ["r", "r"], "square", {}), ("Add", ["r", "square"], "y", {}),
        ],
        weights,
    )  # fmt: skip
    past, other = links["y"]
    assert np.array_equal(past.lengths, np.eye(4))
    assert other is None


def test_a_wide_depthwise_layer_needs_no_table_of_all_kernels() -> None:
    import tracemalloc

    count, weights = 1500, {"w": np.ones((1500, 3, 1, 1), np.float32), "d": _random(0, 1500, 1, 5, 5)}
    tracemalloc.start()
    (link,) = _links(
        [("Conv", ["x", "w"], "c", {}), ("Relu", ["c"], "r", {}), ("Conv", ["r", "d"], "y", {"group": count})], weights
    )["y"]
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.allclose(np.diag(link.lengths), np.linalg.norm(weights["d"].reshape(count, 25), axis=1), rtol=1e-5)
    assert not (link.lengths - np.diag(np.diag(link.lengths))).any()
    assert most < 80e6  # two tables of one number each; all kernels would be 225 MB


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
