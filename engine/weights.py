"""The filters of a convolution as pictures and numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from onnx import numpy_helper

from ..errors import UsageError
from .graph import Graph
from .layers import Layer
from .render.grid import grid

_OPS = ("Conv", "ConvTranspose")
_TILE, _SHEET = 48, 1800  # pixels: a filter's longer side, and a sheet's, at most where that is possible
NEAR = 0.98  # cosine from which two filters count as near duplicates


@dataclass(frozen=True)
class FilterNumbers:
    """Numbers of one filter.

    Attributes:
        unit: its channel.
        norm: Euclidean length of the kernel.
        mean, largest: of the kernel's values; largest by absolute value.
        bias: 0 where there is none.
        nearest, similarity: the unit whose kernel is most alike, by absolute cosine, and that cosine.
    """

    unit: int
    norm: float
    mean: float
    largest: float
    bias: float
    nearest: int | None
    similarity: float

    def to_json(self) -> dict[str, Any]:
        """A plain dict for ``--json``."""
        return asdict(self)


def convolutions(graph: Graph) -> tuple[Layer, ...]:
    """The layers whose filters are constants of two spatial axes."""
    return tuple(la for la in graph.layers if la.op in _OPS and _stored(graph, la) is not None)


def kernel(graph: Graph, layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """(filters (out, in / groups, kh, kw), bias (out,)) of a convolution, float32.

    Raises:
        UsageError: the layer is not a convolution, or its weights are computed.
    """
    stored = _stored(graph, layer)
    if stored is None:
        names = [la.name for la in convolutions(graph)][:3]
        raise UsageError(f"layer '{layer.name}' ({layer.op}) has no filters; convolutions are: {', '.join(names)}, ...")
    weight, bias = stored
    if layer.op == "ConvTranspose":
        weight = weight.swapaxes(0, 1)
    return weight, np.zeros(len(weight), np.float32) if bias is None else bias


def filter_pictures(weight: np.ndarray, scale: str = "filter") -> np.ndarray:
    """Filters as pictures in [0, 1].

    Args:
        weight: (out, in, kh, kw).
        scale: "filter" (each from its least to its largest value) or "layer" (all by the same bounds).

    Returns:
        (out, tiles, kh, kw, 3): one RGB tile where there are three input channels, else one gray tile per
        input channel.

    Raises:
        UsageError: an unknown scale.
    """
    if scale not in ("filter", "layer"):
        raise UsageError(f"scale '{scale}' is unknown; choose filter or layer")
    axes = (1, 2, 3) if scale == "filter" else (0, 1, 2, 3)
    low, high = weight.min(axis=axes, keepdims=True), weight.max(axis=axes, keepdims=True)
    shown = (weight - low) / np.where(high > low, high - low, 1)
    if weight.shape[1] == 3:
        return shown.transpose(0, 2, 3, 1)[:, None]
    return np.repeat(shown[..., None], 3, axis=-1)


def numbers(weight: np.ndarray, bias: np.ndarray) -> list[FilterNumbers]:
    """Norm, mean, bias and nearest neighbour of every filter."""
    flat = weight.reshape(len(weight), -1).astype(np.float64)
    lengths = np.linalg.norm(flat, axis=1)
    unit = flat / np.where(lengths > 0, lengths, 1)[:, None]
    alike = np.abs(unit @ unit.T)
    np.fill_diagonal(alike, -1)
    found = []
    for i, row in enumerate(flat):
        other = int(alike[i].argmax()) if len(flat) > 1 else None
        similarity = float(alike[i, other]) if other is not None else 0.0
        largest = float(row[np.abs(row).argmax()])
        found.append(FilterNumbers(i, float(lengths[i]), float(row.mean()), largest, float(bias[i]), other, similarity))
    return found


def near_duplicates(found: list[FilterNumbers]) -> list[tuple[int, int, float]]:
    """Pairs of filters (first, second, cosine) that are alike from `NEAR` on, each once."""
    pairs = {(min(f.unit, f.nearest), max(f.unit, f.nearest)): f.similarity for f in found if f.nearest is not None}
    return [(a, b, s) for (a, b), s in sorted(pairs.items()) if s >= NEAR]


def _stored(graph: Graph, layer: Layer) -> tuple[np.ndarray, np.ndarray | None] | None:
    node = next((n for n in graph.model.graph.node if layer.tensor in n.output), None)
    if node is None or node.op_type not in _OPS:
        return None
    tensors = {t.name: t for t in graph.model.graph.initializer}
    if node.input[1] not in tensors or len(tensors[node.input[1]].dims) != 4:
        return None
    weight = numpy_helper.to_array(tensors[node.input[1]])
    has_bias = len(node.input) > 2 and node.input[2] in tensors
    return weight, numpy_helper.to_array(tensors[node.input[2]]) if has_bias else None


def filter_grid(pictures: np.ndarray, per_row: int = 16) -> np.ndarray:
    """Filters on one sheet, each weight a square of whole pixels.

    Args:
        pictures: as from `filter_pictures`.
        per_row: filters per row where each is one tile; else a row is one filter and a column one input channel.

    Returns:
        (height, width, 3) float32 in [0, 1].
    """
    count, tiles, height, width, _ = pictures.shape
    columns = min(per_row, count) if tiles == 1 else tiles
    rows = -(-count // columns) if tiles == 1 else count
    fits = _SHEET // max(columns * (width + 1), rows * (height + 1))
    enlarge = max(1, min(_TILE // max(height, width), fits))
    large = pictures.repeat(enlarge, axis=2).repeat(enlarge, axis=3)
    # the kernels of a 1 x 1 convolution are one matrix, and need no lines between its entries
    margin = 0 if height == width == 1 else max(1, enlarge // 4)
    return grid(list(large.reshape(-1, *large.shape[2:])), columns=columns, margin=margin)
