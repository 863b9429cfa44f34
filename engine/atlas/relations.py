"""What units read from and who reads them, and which are alike.

The strength of a connection is the length of its kernel times the mean activation of the unit that is read, over the
photographs: ``||W[out, in]|| * mean(in)``. Batch-norm, the learned scales of other norms, and constant factors before
and behind are folded into the kernel first; what another norm divides by differs from picture to picture and is not.
What a residual sum takes as it is counts as a kernel of one. Layers of signed values count with the root of their mean
square, since their mean says nothing of how much they carry. Shares are of all that a unit reads.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph.graph import Graph
from ..graph.layers import Layer
from ..kept import Count, Either, OneOf, Rows, fits, from_json
from ..render.artifacts import to_json
from .connections import Connection, connection
from .files import Files
from .numbers import Numbers, chunk_name, damaged, likeness
from .plan import Plan, PlannedLayer, digest
from .stations import IMAGE, Station, Stations

FOLDER = "store/relations"
SHOWN = 8  # inputs, readers and alike units that a unit is shown with
_FORM = 5  # of what is kept; another for what an earlier version told otherwise
_LARGEST_KERNEL = 121  # weights; a larger kernel is not drawn


def name_of(plan: Plan, layer: Layer) -> str:
    """Where a layer's relations are kept."""
    parts = [chunk_name(plan, chunk) for chunk in plan.chunks()]
    return f"{FOLDER}/{digest([plan.model['sha256'], layer.tensor, parts, SHOWN, _FORM])}.json"


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
                [[int(u), round(float(c), 4)] for u, c in zip(*row, strict=True) if c > 0]
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
    """A layer's relations, or None where they are not found yet.

    Raises:
        UsageError: the file is damaged.
    """
    name, units = name_of(plan, layer), layer.channels or 0
    try:
        found: dict[str, Any] = from_json(files.read(name))
    except FileNotFoundError:
        return None
    except ValueError:
        raise damaged(f"{files.place}/{name}") from None
    forms = {"near": [(Count(units - 1), float)], "inputs": [_INPUT], "readers": [_READER]}
    if not fits(found, {"sources": str, **{key: Rows(form, units) for key, form in forms.items()}}):
        raise damaged(f"{files.place}/{name}")
    return found


_INPUT = (Count(least=IMAGE), Count(), float, Either(None, float), str, [Count(2**16)])  # as `_Reading.row`
_READER = (Count(), Count(), float, OneOf(1, -1))  # as `_Reading.readers`


@dataclass
class _Rows:
    inputs: list[list[Any]]
    readers: dict[tuple[int, int], list[list[float]]]


def _inputs(
    graph: Graph, stations: Stations, station: Station | None, planned: PlannedLayer, levels: Mapping[int, np.ndarray]
) -> tuple[_Rows, str]:
    """A layer's inputs, what its units mean to those they read, and what of them cannot be told, or ""."""
    empty = _Rows([[] for _ in range(planned.units)], {})
    if station is None:
        return empty, "the layer is not one that makes units"
    found = [connection(graph, stations, maker, planned.units) for maker in stations.makers(station)]
    links = [link for link in found if link is not None]
    if not links:
        return empty, "its weights are computed, or its inputs cannot be told apart"
    reading = _Reading.of(links, levels)
    rows = [reading.row(out) for out in range(planned.units)]
    untold = len(found) - len(links)
    why = [f"{untold} of {len(found)} branches of its sum cannot be followed and are left out"] if untold else []
    if any(link.divided for link in links):
        why.append("what a normalization divides by in each picture, and not for all alike, is not counted")
    return _Rows(rows, reading.readers(planned.layer.index)), "; ".join(why)


def _level(levels: Mapping[int, np.ndarray], layer: int, unit: int) -> float:
    """A channel's level: colours of the picture count alike, and so do layers that are not measured."""
    known = levels.get(int(layer))
    return float(known[unit]) if known is not None and layer != IMAGE else 1.0


@dataclass(frozen=True, eq=False)
class _Reading:
    """All that a layer's units read, each unit that is read once.

    Attributes:
        links: the connections, whose channels follow one another.
        keys: (layer, unit) of each unit that is read, in the order in which it comes first.
        columns: of each of them the channels that hold it, as (link, channel): a sum may read a unit twice.
        shares: (units, keys) of all that a unit reads.
        sums: (units, keys) of the weights.
    """

    links: Sequence[Connection]
    keys: Sequence[tuple[int, int]]
    columns: Sequence[Sequence[tuple[int, int]]]
    shares: np.ndarray
    sums: np.ndarray

    @classmethod
    def of(cls, links: Sequence[Connection], levels: Mapping[int, np.ndarray]) -> _Reading:
        columns: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for number, link in enumerate(links):
            for channel, key in enumerate(zip(link.layers.tolist(), link.units.tolist(), strict=True)):
                columns.setdefault(key, []).append((number, channel))
        place = {key: at for at, key in enumerate(columns)}
        strength = np.zeros((len(links[0].lengths), len(columns)))
        sums = np.zeros_like(strength)
        for link in links:
            keys = list(zip(link.layers.tolist(), link.units.tolist(), strict=True))
            at = np.array([place[key] for key in keys], np.int64)
            level = np.array([_level(levels, *key) for key in keys])
            if len(set(keys)) == len(keys):  # far faster than where a unit comes twice
                strength[:, at] += link.lengths * level
                sums[:, at] += link.sums
            else:
                np.add.at(strength.T, at, (link.lengths * level).T)
                np.add.at(sums.T, at, link.sums.T)
        total = strength.sum(axis=1)
        return cls(
            links, list(columns), list(columns.values()), strength / np.where(total > 0, total, 1)[:, None], sums
        )

    def row(self, out: int) -> list[list[Any]]:
        """A unit's strongest inputs: [layer, unit, share, sum of weights, drawn kernel, its shape]."""
        shares = self.shares[out]
        found = []
        for at in np.argsort(-shares, kind="stable")[:SHOWN]:
            if shares[at] > 0:
                link, channel = max(self.columns[at], key=lambda c: float(self.links[c[0]].lengths[out, c[1]]))
                kernel = self.links[link].kernel(out, channel)
                share, total = round(float(shares[at]), 5), round(float(self.sums[out, at]), 6)
                found.append([*self.keys[at], share, total, _drawn(kernel), list(self.links[link].shape)])
        return found

    def readers(self, index: int) -> dict[tuple[int, int], list[list[float]]]:
        """For each unit that is read its readers: [layer, unit, share of all that one reads, sign]."""
        found: dict[tuple[int, int], list[list[float]]] = {}
        for at, key in enumerate(self.keys):
            if key[0] < 0:
                continue
            column = self.shares[:, at]
            for out in np.argsort(-column, kind="stable")[:SHOWN]:
                if column[out] > 0:
                    entry = [index, int(out), round(float(column[out]), 5), 1 if self.sums[out, at] >= 0 else -1]
                    found.setdefault(key, []).append(entry)
        return found


def _drawn(kernel: np.ndarray) -> str:
    """A kernel as signed bytes in base64, its largest weight by absolute value at 127; "" where it is too large."""
    if kernel.size > _LARGEST_KERNEL or kernel.size < 2:
        return ""
    most = np.abs(kernel).max()
    values = np.rint(kernel / (most or 1) * 127).astype(np.int8)
    return base64.b64encode(values.tobytes()).decode("ascii")
