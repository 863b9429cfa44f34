"""Matched units of both models seen side by side: gradient ascent with one preset and seed, weights, top pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph.graph import Graph
from .agreement import LayerAgreement
from .difference import Pictures
from .operations import Operation
from .pictures import reference
from .result import Comparison

_TOP = 3  # pictures per unit


@dataclass(frozen=True, eq=False)
class Row:
    """One matched pair of units.

    Attributes:
        layer_a, layer_b: names.
        unit_a, unit_b: channels.
        score: correlation of their activations.
        confidence: its lead over the next best choice.
        images: their ascent pictures, (H, W, C) in [0, 1].
        weights: the strongest slice of each filter as a picture (kH, kW, 1 or 3) in [0, 1], or None.
        top: the pictures that excite each most, (H, W, C) each.
    """

    layer_a: str
    layer_b: str
    unit_a: int
    unit_b: int
    score: float
    confidence: float
    images: tuple[np.ndarray, np.ndarray]
    weights: tuple[np.ndarray | None, np.ndarray | None]
    top: tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]


def rows(
    a: Graph,
    b: Graph,
    result: Comparison,
    *,
    count: int,
    options: Mapping[str, Any],
    progress: Callable[[str], Any],
    pictures: Pictures = reference,
) -> list[Row]:
    """The best agreeing ``count`` units of every measured convolution, sorted by agreement.

    Args:
        a: one model.
        b: the other.
        result: their comparison.
        count: units per layer.
        options: for `ascent.filters`: preset, size, steps, seed, device.
        progress: called with the name of each layer.
        pictures: those that the models were compared on; the top pictures are among them.
    """
    found: list[Row] = []
    for index, measured in result.agreement.items():
        pair = result.pairs[index]
        if pair.a.kind != "convolution" or pair.b.kind != "convolution":
            continue
        progress(f"pictures of {pair.a.name}")
        found += _layer((a, b), (pair.a, pair.b), measured, count, options, pictures)
    return sorted(found, key=lambda row: -row.score)


def _layer(
    graphs: tuple[Graph, Graph],
    operations: tuple[Operation, Operation],
    measured: LayerAgreement,
    count: int,
    options: Mapping[str, Any],
    pictures: Pictures,
) -> list[Row]:
    (a, b), (one, two), matching = graphs, operations, measured.matching
    units = [[int(u) for u in side[:count]] for side in (matching.a, matching.b)]
    sides = list(zip(graphs, operations, units, strict=True))
    made = [_pictures(graph, operation, chosen, options) for graph, operation, chosen in sides]
    tops = [_top(graph, operation, chosen, pictures) for graph, operation, chosen in sides]
    return [
        Row(
            one.name,
            two.name,
            units[0][i],
            units[1][i],
            float(matching.score[i]),
            float(matching.confidence[i]),
            (made[0][i], made[1][i]),
            (_kernel(a, one, units[0][i]), _kernel(b, two, units[1][i])),
            (tops[0][i], tops[1][i]),
        )
        for i in range(len(units[0]))
    ]


def _pictures(graph: Graph, operation: Operation, units: list[int], options: Mapping[str, Any]) -> list[np.ndarray]:
    from ..ascent.filters import filters

    return [u.image for u in filters(graph, operation.tensor, units, **options).units]


def _top(graph: Graph, operation: Operation, units: list[int], pictures: Pictures) -> list[tuple[np.ndarray, ...]]:
    """The pictures that excite each unit most, by its largest activation."""
    shown = pictures(graph, graph.image_size)
    session = graph.session([operation.tensor], device="cpu")
    layer = graph.layer(operation.tensor)
    peaks = []
    for picture in shown:
        row = graph.preprocessing.normalize(picture[None]).astype(np.float32)
        values = layer.channels_first(session.run(row)[operation.tensor])
        peaks.append(values.reshape(values.shape[1], -1).max(axis=1)[units])
    order = np.argsort(-np.stack(peaks), axis=0, kind="stable")[:_TOP]
    return [tuple(shown[k].transpose(1, 2, 0) for k in order[:, i]) for i in range(len(units))]


def _kernel(graph: Graph, operation: Operation, unit: int) -> np.ndarray | None:
    """A filter on three channels in the picture's colours, else its input channel with the largest weights."""
    if operation.weight is None or operation.weight.ndim != 4 or operation.weight[unit, 0].size < 2:
        return None
    kernel = operation.weight[unit]
    if len(kernel) == 3:
        chosen = kernel[::-1] if graph.preprocessing.order == "BGR" else kernel
    else:
        chosen = kernel[[int(np.argmax(np.abs(kernel).sum(axis=(1, 2))))]]
    size = max(float(np.abs(chosen).max()), 1e-12)
    return np.asarray(0.5 + 0.5 * chosen / size, dtype=np.float32).transpose(1, 2, 0)
