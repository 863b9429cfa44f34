"""What units read from and who reads them, and which are alike.

The strength of a connection is the length of its kernel times the mean activation of the unit that is read, over the
photographs: ``||W[out, in]|| * mean(in)``. Batch-norm that follows is folded into the kernel first. Layers of signed
values count with the root of their mean square, since their mean says nothing of how much they carry. Shares are of
all that a unit reads.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from ..graph.graph import Graph
from ..graph.layers import Layer
from ..render.artifacts import to_json
from .files import Files
from .numbers import Numbers, chunk_name, likeness
from .plan import Plan, PlannedLayer, digest
from .stations import IMAGE, NOWHERE, Station, Stations, Way

FOLDER = "store/relations"
SHOWN = 8  # inputs, readers and alike units that a unit is shown with
_LARGEST_KERNEL = 121  # weights; a larger kernel is not drawn


@dataclass(frozen=True, eq=False)
class Connection:
    """What a node with weights reads.

    Attributes:
        way: where each of its input channels comes from.
        kernels: (out, in, weights per kernel) float32; zero where a group does not read a channel.
        shape: (rows, columns) of a kernel.
    """

    way: Way
    kernels: np.ndarray
    shape: tuple[int, int]


def name_of(plan: Plan, layer: Layer) -> str:
    """Where a layer's relations are kept."""
    parts = [chunk_name(plan, chunk) for chunk in plan.chunks()]
    return f"{FOLDER}/{digest([plan.model['sha256'], layer.tensor, parts, SHOWN])}.json"


def relate(files: Files, graph: Graph, plan: Plan) -> None:
    """Finds the relations of every layer of the plan and keeps them; those that are kept are not found again."""
    if all(files.has(name_of(plan, planned.layer)) for planned in plan.layers):
        return
    numbers, stations = Numbers(files, plan), Stations(graph)
    found: dict[int, dict[str, Any]] = {}
    levels: dict[int, np.ndarray] = {}
    for planned in plan.layers:
        figures = numbers.layer(planned.layer)
        alike, cosines = likeness(figures.peaks, SHOWN)
        levels[planned.layer.index] = figures.levels
        found[planned.layer.index] = {
            "near": [
                [[int(u), round(float(c), 4)] for u, c in zip(*row, strict=True)]
                for row in zip(alike, cosines, strict=True)
            ],
            "inputs": [[] for _ in range(planned.units)],
            "readers": [[] for _ in range(planned.units)],
            "sources": "",
        }
    readers: dict[tuple[int, int], list[list[float]]] = {}
    for planned in plan.layers:
        station = stations.of(planned.layer)
        rows, why = _inputs(graph, stations, station, planned, levels)
        found[planned.layer.index]["inputs"], found[planned.layer.index]["sources"] = rows.inputs, why
        for key, entries in rows.readers.items():
            readers.setdefault(key, []).extend(entries)
    for (layer, unit), entries in readers.items():
        if layer in found:
            best = sorted(entries, key=lambda e: (-e[2], e[0], e[1]))[:SHOWN]
            found[layer]["readers"][unit] = best
    for planned in plan.layers:
        text = to_json(found[planned.layer.index], indent=None)
        files.write(name_of(plan, planned.layer), text.encode())


def read(files: Files, plan: Plan, layer: Layer) -> dict[str, Any] | None:
    """A layer's relations, or None where they are not found yet."""
    try:
        return dict(json.loads(files.read(name_of(plan, layer))))
    except (FileNotFoundError, ValueError):
        return None


@dataclass
class _Rows:
    inputs: list[list[Any]]
    readers: dict[tuple[int, int], list[list[float]]]


def _inputs(
    graph: Graph, stations: Stations, station: Station | None, planned: PlannedLayer, levels: Mapping[int, np.ndarray]
) -> tuple[_Rows, str]:
    """A layer's inputs, what its units mean to those they read, and why there are none where there are none."""
    empty = _Rows([[] for _ in range(planned.units)], {})
    if station is None:
        return empty, "the layer is not one that makes units"
    links = [link for node in stations.makers(station) if (link := connection(graph, stations, node)) is not None]
    links = [link for link in links if len(link.kernels) == planned.units]
    if not links:
        return empty, "its weights are computed, or its inputs cannot be told apart"
    lengths = np.concatenate([np.linalg.norm(link.kernels, axis=2) for link in links], axis=1)
    layers = np.concatenate([link.way.layers for link in links])
    units = np.concatenate([link.way.units for link in links])
    strength = lengths * np.array([_level(levels, la, u) for la, u in zip(layers, units, strict=True)])
    total = strength.sum(axis=1)
    shares = strength / np.where(total > 0, total, 1)[:, None]
    rows = [_row(links, layers, units, shares[out], out) for out in range(planned.units)]
    return _Rows(rows, _readers(planned.layer.index, links, layers, units, shares)), ""


def _level(levels: Mapping[int, np.ndarray], layer: int, unit: int) -> float:
    """A channel's level: colours of the picture count alike, and so do layers that are not measured."""
    known = levels.get(int(layer))
    return float(known[unit]) if known is not None and layer not in (IMAGE, NOWHERE) else 1.0


def _row(links: list[Connection], layers: np.ndarray, units: np.ndarray, shares: np.ndarray, out: int) -> list[Any]:
    order = np.argsort(-shares, kind="stable")
    best = [int(at) for at in order[: 4 * SHOWN] if shares[at] > 0]
    merged: dict[tuple[int, int], list[Any]] = {}
    for at in best:  # a flattened map's channel comes once per place, and a sum may read a unit twice
        link, column = _at(links, at)
        key = (int(layers[at]), int(units[at]))
        if key not in merged:
            kernel = link.kernels[out, column]
            merged[key] = [*key, 0.0, round(float(kernel.sum()), 6), _drawn(kernel), list(link.shape)]
        merged[key][2] += float(shares[at])
    rows = sorted(merged.values(), key=lambda row: -row[2])[:SHOWN]
    for row in rows:
        row[2] = round(row[2], 5)
    return rows


def _readers(
    index: int, links: list[Connection], layers: np.ndarray, units: np.ndarray, shares: np.ndarray
) -> dict[tuple[int, int], list[list[float]]]:
    """For each unit that is read its readers: [layer, unit, share of all that one reads, sign]."""
    found: dict[tuple[int, int], list[list[float]]] = {}
    sums = np.concatenate([link.kernels.sum(axis=2) for link in links], axis=1)
    for at in range(len(layers)):
        if layers[at] < 0:
            continue
        column = shares[:, at]
        for out in np.argsort(-column, kind="stable")[:SHOWN]:
            if column[out] > 0:
                entry = [index, int(out), round(float(column[out]), 5), 1 if sums[out, at] >= 0 else -1]
                found.setdefault((int(layers[at]), int(units[at])), []).append(entry)
    return found


def _at(links: list[Connection], at: int) -> tuple[Connection, int]:
    for link in links:
        if at < len(link.way.layers):
            return link, at
        at -= len(link.way.layers)
    raise IndexError(at)


def _drawn(kernel: np.ndarray) -> str:
    """A kernel as signed bytes in base64, its largest weight by absolute value at 127; "" where it is too large."""
    if kernel.size > _LARGEST_KERNEL or kernel.size < 2:
        return ""
    most = np.abs(kernel).max()
    values = np.rint(kernel / (most or 1) * 127).astype(np.int8)
    return base64.b64encode(values.tobytes()).decode("ascii")


def connection(graph: Graph, stations: Stations, node: onnx.NodeProto) -> Connection | None:
    """The kernels of a node with weights, batch-norm folded in, and what they read; None where they are computed."""
    way = stations.way(stations.reads(node))
    kernels = _kernels(graph, node)
    if way is None or kernels is None:
        return None
    weight, shape = kernels
    scale = _following_scale(graph, node.output[0])
    if scale is not None:
        weight = weight * scale[:, None, None]
    if weight.shape[1] != len(way.layers):
        return None
    places = _places(way)
    if places > 1:  # a flattened map: one kernel per channel, of the map's places
        weight = weight.reshape(len(weight), -1, places)
        way = Way(way.layers[::places], way.units[::places])
        shape = _map_shape(places)
    return Connection(way, weight, shape)


def _kernels(graph: Graph, node: onnx.NodeProto) -> tuple[np.ndarray, tuple[int, int]] | None:
    """(out, in, weights) float32 with every input channel, and the kernel's shape."""
    from ...errors import UsageError
    from ..activations.weights import as_planes, kernel

    if node.op_type in ("Gemm", "MatMul"):
        weight = _dense(graph, node)
        return None if weight is None else (weight[:, :, None], (1, 1))
    try:
        weight, _ = kernel(graph, next(la for la in graph.layers if la.tensor in _outputs(graph, node)))
    except (UsageError, StopIteration):
        return None
    weight = as_planes(weight)
    out, inner, rows, columns = weight.shape
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    flat = weight.reshape(out, inner, rows * columns)
    if groups > 1:
        full = np.zeros((out, inner * groups, rows * columns), np.float32)
        for unit in range(out):
            first = unit // (out // groups) * inner
            full[unit, first : first + inner] = flat[unit]
        flat = full
    return flat, (rows, columns)


def _outputs(graph: Graph, node: onnx.NodeProto) -> list[str]:
    """A convolution's tensor, or of a quantized one that behind its DequantizeLinear."""
    if node.op_type != "QLinearConv":
        return list(node.output)
    return [
        o
        for n in graph.model.graph.node
        if n.op_type == "DequantizeLinear" and n.input[0] in node.output
        for o in n.output
    ]


def _dense(graph: Graph, node: onnx.NodeProto) -> np.ndarray | None:
    """(out, in) of a dense layer whose weights are constants."""
    name = next((n for n in node.input[:2] if n in graph.index.weights), None)
    values = None if name is None else graph.index.constant(name)
    if values is None:
        return None
    weight = values.astype(np.float32)
    if weight.ndim != 2:
        return None
    if node.op_type == "Gemm" and next((a.i for a in node.attribute if a.name == "transB"), 0):
        return weight
    return weight.T if name == node.input[1] else weight


def _following_scale(graph: Graph, tensor: str) -> np.ndarray | None:
    """(units,) what batch-norm behind a node multiplies its units by; None where there is none."""
    readers = graph.index.readers.get(tensor, ())
    if len(readers) != 1 or readers[0].op_type != "BatchNormalization":
        return None
    gamma, _, _, variance = (graph.index.constant(name) for name in readers[0].input[1:5])
    if gamma is None or variance is None:
        return None
    epsilon = next((a.f for a in readers[0].attribute if a.name == "epsilon"), 1e-5)
    return (gamma / np.sqrt(variance + epsilon)).astype(np.float32)


def _places(way: Way) -> int:
    """How many channels in a row are places of one unit: more than one in a flattened map."""
    changes = np.flatnonzero((np.diff(way.layers) != 0) | (np.diff(way.units) != 0))
    if not len(changes):
        return len(way.layers) if len(way.layers) else 1
    places = int(changes[0]) + 1
    regular = len(way.layers) % places == 0 and bool((changes == np.arange(1, len(changes) + 1) * places - 1).all())
    return places if regular else 1


def _map_shape(places: int) -> tuple[int, int]:
    """The rows and columns of a flattened map: square where its number of places is one."""
    side = round(places**0.5)
    return (side, side) if side * side == places else (1, places)
