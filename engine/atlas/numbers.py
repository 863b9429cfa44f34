"""What every unit does on the photographs: measured in parts, kept as it comes, summed up layer by layer.

A part is at most `plan.CHUNK` photographs. Its file holds what `reductions` gives, per photograph and unit, so
that statistics, best photographs and likeness of units are exact, and the same whoever measured which part.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import RefusedInput, UsageError
from ..activations.folder_pass import reduced_batches
from ..activations.reductions import STATISTICS, output_name
from ..activations.statistics import UnitStatistics
from ..activations.topk import TopImages, are_places
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..kept import Text, arrays, fits, from_json
from ..render.artifacts import npz_bytes
from .files import Files
from .plan import Plan, digest

FOLDER = "store/numbers"
_MOST_REASON = 2**20  # characters of why a photograph could not be read
_BATCH = 8  # as the commands' default, whose figures these must equal

Chunk = tuple[tuple[str, str], ...]


def chunk_name(plan: Plan, chunk: Chunk) -> str:
    """Where a part's figures are."""
    tensors = sorted(planned.layer.tensor for planned in plan.layers)
    what = [plan.model["sha256"], plan.model["preprocessing"], plan.model["image_size"], tensors, plan.model["logits"]]
    return f"{FOLDER}/{digest([what, [list(pair) for pair in chunk]])}.npz"


def measure(
    files: Files,
    graph: Graph,
    plan: Plan,
    chunk: Chunk,
    pictures: Mapping[str, Path],
    device: str,
    advance: Callable[[int], None] = lambda count: None,
) -> None:
    """Runs a part's photographs through the model and keeps what every unit did."""
    layers = measured_layers(graph, plan)
    failed: dict[str, str] = {}
    by_path = {pictures[name]: name for name, _ in chunk}

    def refuse(path: Path, error: RefusedInput) -> None:
        failed[by_path[path]] = str(error)

    names: list[str] = []
    parts: dict[str, list[np.ndarray]] = {}
    todo = {name: pictures[name] for name, _ in chunk}
    for seen, outputs in reduced_batches(graph, layers, todo, batch=_BATCH, device=device, failed=refuse):
        names += seen
        for key, value in outputs.items():
            parts.setdefault(key, []).append(value.astype(np.int32) if value.dtype == np.int64 else value)
        advance(len(seen))
    advance(len(failed))
    kept = {"names": np.array(json.dumps(names)), "failed": np.array(json.dumps(failed, sort_keys=True))}
    kept |= {key: np.concatenate(value) for key, value in sorted(parts.items())}
    files.write(chunk_name(plan, chunk), npz_bytes(kept))


def measured_layers(graph: Graph, plan: Plan) -> list[Layer]:
    """The atlas's layers, and the logits, which say what the model takes a photograph for."""
    layers = {planned.layer.index: planned.layer for planned in plan.layers}
    if plan.model["logits"] is not None:
        layers.setdefault(plan.model["logits"], graph.layers[plan.model["logits"]])
    return [layers[index] for index in sorted(layers)]


@dataclass(frozen=True, eq=False)
class LayerNumbers:
    """What a layer's units do on the photographs.

    Attributes:
        facts: as ``convscope stats`` has them, without correlations.
        top: as ``convscope top`` has them.
        peaks: (photographs, units) float32, the largest value in each photograph.
        levels: (units,) how much each carries over the photographs: its mean, or in a layer that has values below zero
            the root of its mean square, since there the mean says nothing of it.
    """

    facts: Mapping[str, Any]
    top: TopImages
    peaks: np.ndarray
    levels: np.ndarray


class Numbers:
    """The figures of an atlas, read layer by layer.

    Args:
        files: the atlas.
        plan: what it is of.

    Raises:
        UsageError: a part is not measured yet, or its file is damaged.
    """

    def __init__(self, files: Files, plan: Plan) -> None:
        self.plan = plan
        self._parts = [_read(files, chunk_name(plan, chunk), chunk) for chunk in plan.chunks()]
        self.names = [name for part in self._parts for name in part.names]
        self.failed = {name: text for part in self._parts for name, text in part.failed.items()}

    def layer(self, layer: Layer) -> LayerNumbers:
        """One layer's figures."""
        # the products of units, for correlations, would be most of the memory and are not exact in any order
        statistics = replace(UnitStatistics.empty(layer), cross=np.zeros((0, 0)))
        top = TopImages.empty(layer, min(self.plan.k, max(len(self.names), 1)), self.plan.model["sha256"])
        peaks, signed = [], False
        for part in self._parts:
            if not part.names:
                continue
            outputs = {output_name(layer, s): part.array(output_name(layer, s), layer) for s in STATISTICS}
            statistics.add(outputs)
            top.add_outputs(layer, part.names, outputs)
            peaks.append(outputs[output_name(layer, "max")])
            signed = signed or bool((outputs[output_name(layer, "min")] < 0).any())
        empty = np.zeros((0, layer.channels or 0), np.float32)
        facts = statistics.to_json(0)
        return LayerNumbers(facts, top, np.concatenate([empty, *peaks]), _levels(facts["units"], signed))

    def classes(self) -> np.ndarray | None:
        """(photographs,) the class that the model takes each for; None where it has no classes."""
        index = self.plan.model["logits"]
        if index is None:
            return None
        values = [part.array(f"convscope/{index}/mean") for part in self._parts if part.names]
        if len({value.shape[1] for value in values}) > 1:
            raise damaged(self._parts[0].place)
        return np.concatenate(values).argmax(axis=1) if values else np.zeros(0, np.int64)


def _levels(rows: Sequence[Mapping[str, Any]], signed: bool) -> np.ndarray:
    mean, spread = (np.array([row[name] for row in rows], dtype=np.float64) for name in ("mean", "std"))
    return np.nan_to_num(np.sqrt(mean**2 + spread**2) if signed else mean)


@dataclass(frozen=True, eq=False)
class _Part:
    names: list[str]
    failed: dict[str, str]
    arrays: Mapping[str, np.ndarray]
    place: str

    def array(self, name: str, layer: Layer | None = None) -> np.ndarray:
        """(photographs, units) of a figure; of ``layer`` as many as it has, and places that are in its map."""
        found = self.arrays.get(name)
        kind = np.int32 if name.endswith("/argmax") else np.float32
        if found is None or found.dtype != kind or found.ndim != 2 or len(found) != len(self.names):
            raise damaged(self.place)
        if layer is None:
            return found
        if found.shape[1] != layer.channels or (kind == np.int32 and not are_places(found, layer)):
            raise damaged(self.place)
        return found


def _read(files: Files, name: str, chunk: Chunk) -> _Part:
    try:
        data = files.read(name)
    except FileNotFoundError:
        raise UsageError(
            f"the photographs are not all measured in {files.place}; the command that made the atlas goes on"
        ) from None
    place, photographs = f"{files.place}/{name}", [one for one, _ in chunk]
    try:
        found = arrays(data)
        names, failed = from_json(str(found["names"])), from_json(str(found["failed"]))
    except (ValueError, KeyError):
        raise damaged(place) from None
    is_ours = fits(names, [str]) and fits(failed, {str: Text(_MOST_REASON)})
    if not is_ours or len({*names}) != len(names) or not {*names, *failed} <= {*photographs}:
        raise damaged(place)
    return _Part(names, failed, found, place)


def damaged(place: str) -> UsageError:
    """What is said of a file of the store that cannot be read."""
    return UsageError(f"{place} is damaged; remove it, and the command that made the atlas makes it again")


def selectivity(peaks: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
    """(units,) how much more a unit is excited by its favourite class than by the others, NaN where unknown.

    (a - b) / (a + b), where a is the mean over the photographs of the class with the highest mean, and b the mean
    of the other classes' means (Morcos et al. 2018, arXiv:1803.06959); 0 for equal, 1 for a unit that only this class
    excites. Values below zero count as zero. Unknown with fewer than two classes.

    Args:
        peaks: (photographs, units).
        classes: (photographs,) the class of each.
    """
    if classes is None or len(np.unique(classes)) < 2:
        return np.full(peaks.shape[1], np.nan)
    positive = np.nan_to_num(np.maximum(peaks, 0).astype(np.float64))
    means = np.stack([positive[classes == c].mean(axis=0) for c in np.unique(classes)])
    best = means.max(axis=0)
    others = (means.sum(axis=0) - best) / (len(means) - 1)
    total = best + others
    return np.where(total > 0, (best - others) / np.where(total > 0, total, 1), np.nan)


def likeness(peaks: np.ndarray, count: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """For each unit the units most like it: (units, n) numbers and cosines of their values over the photographs.

    Args:
        peaks: (photographs, units).
        count: n at most.
    """
    units = peaks.shape[1]
    count = max(min(count, units - 1), 0)
    columns = np.nan_to_num(peaks.astype(np.float32), posinf=0, neginf=0)
    lengths = np.linalg.norm(columns, axis=0)
    columns /= np.where(lengths > 0, lengths, 1)
    numbers, cosines = np.zeros((units, count), np.int64), np.zeros((units, count), np.float32)
    for first in range(0, units, _ROWS):
        part = columns[:, first : first + _ROWS].T @ columns
        rows = np.arange(len(part))
        part[rows, first + rows] = -2
        order = np.argsort(-part, axis=1, kind="stable")[:, :count]
        numbers[first : first + _ROWS], cosines[first : first + _ROWS] = order, np.take_along_axis(part, order, 1)
    return numbers, cosines


_ROWS = 1024  # of the matrix of cosines at once


def best_shown(numbers: LayerNumbers, unit: int) -> Sequence[tuple[str, float, int]]:
    """(name, value, place) of a unit's best photographs."""
    top = numbers.top
    rows = zip(top.images[unit], top.values[unit], top.places[unit], strict=True)
    return [(str(name), float(value), int(place)) for name, value, place in rows if name]
