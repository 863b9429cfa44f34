"""The filters of a convolution as pictures and numbers."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from ...errors import UsageError
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..graph.operators import operator
from ..graph.quantized import Quantized, dequantized, quantized
from ..render.grid import grid

_FOLDED = re.compile(r"onnx::Conv_\d+")  # torch's exporter so names the weights that it made of weights and batch-norm
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
        nearest, similarity: the unit whose kernel is most alike, by absolute cosine, and that cosine, negative
            where it is the opposite; None and 0 for a lone filter, and for kernels of one value, which are all alike.
            Kernels of different groups are compared as well: they may be alike in what they do, but see other channels.
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


@dataclass(frozen=True, eq=False)
class _Stored:
    """A convolution's constants as float32, (out, in / groups, kh, kw) and (out,), and what was done to them."""

    weight: np.ndarray
    bias: np.ndarray
    notes: tuple[str, ...]


def convolutions(graph: Graph) -> tuple[Layer, ...]:
    """The layers whose filters are constants, of one, two or three axes of places."""
    reader = _Reader(graph)
    return tuple(la for la in graph.layers if reader.read(la) is not None)


def convolutions_of(graph: Graph, patterns: str | None) -> tuple[Layer, ...]:
    """The convolutions that names and globs mean; all of them where None.

    A name of the framework's that is no convolution itself stands for those in it: ``block1_conv1``, a Keras layer with
    its activation, for ``block1_conv1/Conv``; ``layer4.1``, a torch module, for the convolutions below it.

    Raises:
        UsageError: an unknown layer, one that neither is a convolution nor holds one, or a model without any.
    """
    every = convolutions(graph)
    if not every:
        raise UsageError(f"{graph.name} has no convolution whose weights are stored")
    if patterns is None:
        return every
    found: dict[int, Layer] = {}
    for layer in graph.match(patterns):
        inner = [la for la in every if la == layer or la.name.startswith((f"{layer.name}/", f"{layer.name}."))]
        found |= {la.index: la for la in inner}
    # a glob like block1* names pools as well; a layer that a user spells out must be a convolution or hold one
    return tuple(found[i] for i in sorted(found)) or graph.match(patterns)


def shown_kernel(graph: Graph, weight: np.ndarray) -> np.ndarray:
    """Filters (out, in, kh, kw) with the input channels in the order of a picture: a model of BGR has them swapped."""
    return weight[:, ::-1] if graph.preprocessing.order == "BGR" and weight.shape[1] == 3 else weight


def kernel(graph: Graph, layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """(filters (out, in / groups, kh, kw), bias (out,)) of a convolution, float32.

    Of a signal's convolution the filters are (out, in / groups, k), of a volume's (out, in / groups, kd, kh, kw).

    Raises:
        UsageError: the layer is not a convolution, or its weights are computed.
    """
    stored = _read(graph, layer)
    return stored.weight, stored.bias


def notes(graph: Graph, layer: Layer) -> tuple[str, ...]:
    """What to know of a convolution's weights: that they are quantized, or hold a batch-norm.

    Raises:
        UsageError: as `kernel`.
    """
    return _read(graph, layer).notes


def _read(graph: Graph, layer: Layer) -> _Stored:
    stored = _Reader(graph).read(layer)
    if stored is None:
        names = ", ".join(la.name for la in convolutions(graph)[:3])
        hint = f"convolutions are: {names}, ..." if names else f"{graph.name} stores none"
        raise UsageError(f"layer '{layer.name}' ({layer.op}) has no filters; {hint}")
    return stored


def as_planes(weight: np.ndarray) -> np.ndarray:
    """Filters (out, in, rows, columns): of a signal's (out, in, k) one row, a volume's slices one below the other."""
    rows = 1 if weight.ndim == 3 else int(np.prod(weight.shape[2:-1]))
    return weight.reshape(*weight.shape[:2], rows, weight.shape[-1])


def filter_pictures(weight: np.ndarray, scale: str = "filter") -> np.ndarray:
    """Filters as pictures in [0, 1].

    Args:
        weight: (out, in, kh, kw); (out, in, k) as rows, (out, in, kd, kh, kw) as slices one below the other.
        scale: "filter" (each from its least to its largest value) or "layer" (all by the same bounds).

    Returns:
        (out, tiles, kh, kw, 3): one RGB tile where there are three input channels, else one gray tile per
        input channel.

    Raises:
        UsageError: an unknown scale.
    """
    if scale not in ("filter", "layer"):
        raise UsageError(f"scale '{scale}' is unknown; choose filter or layer")
    is_signal = weight.ndim == 3
    weight = as_planes(weight)
    axes = (1, 2, 3) if scale == "filter" else (0, 1, 2, 3)
    values = np.nan_to_num(weight.astype(np.float64))  # the span of float32 values may be no float32
    low, high = values.min(axis=axes, keepdims=True), values.max(axis=axes, keepdims=True)
    shown = ((values - low) / np.where(high > low, high - low, 1)).astype(np.float32)
    if weight.shape[1] == 3 and not is_signal:
        return shown.transpose(0, 2, 3, 1)[:, None]
    return np.repeat(shown[..., None], 3, axis=-1)


def numbers(weight: np.ndarray, bias: np.ndarray) -> list[FilterNumbers]:
    """Norm, mean, bias and nearest neighbour of every filter."""
    flat = weight.reshape(len(weight), -1).astype(np.float64)
    lengths = np.linalg.norm(flat, axis=1)
    unit = flat / np.where(lengths > 0, lengths, 1)[:, None]
    cosines = unit @ unit.T
    alike = np.abs(cosines)
    np.fill_diagonal(alike, -1)
    found = []
    for i, row in enumerate(flat):
        other = int(alike[i].argmax()) if min(flat.shape) > 1 else None
        similarity = float(cosines[i, other].clip(-1, 1)) if other is not None else 0.0
        largest = float(row[np.abs(row).argmax()])
        found.append(FilterNumbers(i, float(lengths[i]), float(row.mean()), largest, float(bias[i]), other, similarity))
    return found


def near_duplicates(found: list[FilterNumbers]) -> list[tuple[int, int, float]]:
    """Pairs of a filter and its nearest (first, second, cosine), alike or opposite from `NEAR` on, each pair once."""
    pairs = {(min(f.unit, f.nearest), max(f.unit, f.nearest)): f.similarity for f in found if f.nearest is not None}
    return [(a, b, s) for (a, b), s in sorted(pairs.items()) if abs(s) >= NEAR]


class _Reader:
    """Finds the constants of convolutions, also behind DequantizeLinear and in QLinearConv.

    Args:
        graph: whose.
    """

    def __init__(self, graph: Graph) -> None:
        self.index, self.producers, self.tensors = graph.index, graph.index.producer, graph.index.weights

    def read(self, layer: Layer) -> _Stored | None:
        """A layer's constants, or None where it is no convolution or they are computed."""
        node = self.producers.get(layer.tensor)
        if node is not None and node.op_type == "DequantizeLinear":  # the layer is what comes out of a QLinearConv
            inner = self.producers.get(node.input[0])
            node = inner if inner is not None and inner.op_type == "QLinearConv" else None
        if node is None or operator(node).family != "convolution":
            return None
        at = 3 if node.op_type == "QLinearConv" else 1
        if len(self._shape(node.input[at])) not in (3, 4, 5):
            return None
        values = _values(quantized(self.index, node.input[3:6])) if at == 3 else self._constant(node.input[1])
        if values is None:
            return None
        weight = outputs_first(values, node) if node.op_type == "ConvTranspose" else values
        return _Stored(weight.astype(np.float32), self._bias(node, len(weight)), self._notes(node, at))

    def _shape(self, name: str) -> tuple[int, ...]:
        node = self.producers.get(name)
        source = node.input[0] if node is not None and node.op_type == "DequantizeLinear" else name
        return tuple(self.tensors[source].dims) if source in self.tensors else ()

    def _constant(self, name: str) -> np.ndarray | None:
        if name in self.tensors:
            return numpy_helper.to_array(self.tensors[name])
        return _values(dequantized(self.index, name))

    def _bias(self, node: onnx.NodeProto, count: int) -> np.ndarray:
        at = {"QLinearConv": 8, "DeformConv": 3}.get(node.op_type, 2)
        name = node.input[at] if len(node.input) > at else ""
        values = None
        if at == 8 and name in self.tensors and node.input[1] in self.tensors:  # int32 in steps of input times weight
            step, scale = (numpy_helper.to_array(self.tensors[node.input[i]]).astype(np.float64) for i in (1, 4))
            values = numpy_helper.to_array(self.tensors[name]) * step * scale
        elif at != 8 and name:
            values = self._constant(name)
        return np.zeros(count, np.float32) if values is None else values.astype(np.float32)

    def _notes(self, node: onnx.NodeProto, at: int) -> tuple[str, ...]:
        name = node.input[at]
        if name not in self.tensors:
            name = self.producers[name].input[0]
        kind = numpy_helper.to_array(self.tensors[name]).dtype
        found = []
        if kind.kind != "f":
            found.append(f"quantized to {kind}; shown as the numbers that they stand for")
        if _FOLDED.fullmatch(name):
            found.append("the exporter folded a batch-norm into them")
        return tuple(found)


def _values(found: Quantized | None) -> np.ndarray | None:
    return None if found is None else found.values


def outputs_first(weight: np.ndarray, node: onnx.NodeProto) -> np.ndarray:
    """A transposed convolution's (in, out / groups, ...) as (out, in / groups, ...)."""
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    parts = weight.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)
    return parts.reshape(-1, *parts.shape[2:])


def filter_grid(pictures: np.ndarray, per_row: int = 16) -> np.ndarray:
    """Filters on one sheet, each weight a square of whole pixels.

    Args:
        pictures: as from `filter_pictures`.
        per_row: filters per row where each is one tile; else a row is one filter and a column one input channel.

    Returns:
        (height, width, 3) float32 in [0, 1].
    """
    columns, enlarge, margin = sheet_shape(pictures, per_row)
    large = pictures.repeat(enlarge, axis=2).repeat(enlarge, axis=3)
    return grid(list(large.reshape(-1, *large.shape[2:])), columns=columns, margin=margin)


def sheet_shape(pictures: np.ndarray, per_row: int = 16) -> tuple[int, int, int]:
    """(tiles per row, pixels per weight, pixels between tiles) of a sheet of filters, as `filter_grid` draws it."""
    count, tiles, height, width, _ = pictures.shape
    columns = min(per_row, count) if tiles == 1 else tiles
    rows = -(-count // columns) if tiles == 1 else count
    fits = _SHEET // max(columns * (width + 1), rows * (height + 1))
    enlarge = max(1, min(_TILE // max(height, width), fits))
    # the kernels of a 1 x 1 convolution are one matrix, and need no lines between its entries
    return columns, enlarge, 0 if height == width == 1 else max(1, enlarge // 4)
