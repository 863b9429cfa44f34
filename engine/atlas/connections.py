"""The kernels by which a layer's units read other units: of convolutions, dense layers, and of sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import onnx

from ..graph.graph import Graph
from .stations import Maker, Stations, Way


@dataclass(frozen=True, eq=False)
class Connection:
    """What a node with weights reads, or what a sum takes as it is.

    Attributes:
        layers, units: (in,) where each input channel comes from, as of a `stations.Way`.
        lengths: (out, in) float32, the length of each kernel; zero where a group does not read a channel.
        sums: (out, in) float32, the sum of its weights.
        shape: (rows, columns) of a kernel; (0, 0) of what is taken as it is.
        kernel: (out, in) -> the weights of one, (rows * columns,) float32.
        divided: a normalization divides some of what is read by other numbers than the rest, in each picture.
    """

    layers: np.ndarray
    units: np.ndarray
    lengths: np.ndarray
    sums: np.ndarray
    shape: tuple[int, int]
    kernel: Callable[[int, int], np.ndarray]
    divided: bool = False


def connection(graph: Graph, stations: Stations, maker: Maker, units: int) -> Connection | None:
    """The kernels of one of a layer's makers, the scales of norms and constant factors folded in.

    Args:
        graph: the model.
        stations: its.
        maker: of `Stations.makers`.
        units: of the layer.

    Returns:
        None where weights are computed, or where it cannot be told which units are read.
    """
    found = _connection(graph, stations, maker, units)
    return replace(found, divided=True) if found is not None and maker.divided else found


def _connection(graph: Graph, stations: Stations, maker: Maker, units: int) -> Connection | None:
    if maker.node is None:
        return _as_it_is(stations.way(maker.tensor), maker.scale, units)
    way, kernels = stations.way(stations.reads(maker.node)), _kernels(graph, maker.node)
    if way is None or kernels is None or len(kernels.weight) != units:
        return None
    scale = maker.scale if maker.scale is not None else _following(stations, maker.tensor)
    return kernels.connection(way, np.broadcast_to(1.0 if scale is None else scale, (units,)))


def _as_it_is(way: Way | None, scale: np.ndarray | None, units: int) -> Connection | None:
    """Unit by unit, as a residual sum takes what goes past its branch."""
    if way is None or len(way.layers) != units:
        return None
    factors = (way.scale * (1.0 if scale is None else scale)).astype(np.float32)

    def kernel(out: int, channel: int) -> np.ndarray:
        return factors[[out]] if out == channel else np.zeros(1, np.float32)

    return Connection(way.layers, way.units, np.diag(np.abs(factors)), np.diag(factors), (0, 0), kernel, way.divided)


@dataclass(frozen=True, eq=False)
class _Kernels:
    """A node's weights as they are stored: each unit those of its own group.

    Attributes:
        weight: (out, in / groups, weights per kernel) float32.
        groups: how many.
        shape: (rows, columns) of a kernel.
    """

    weight: np.ndarray
    groups: int
    shape: tuple[int, int]

    def connection(self, way: Way, scale: np.ndarray) -> Connection | None:
        """The connection to the channels of a way; ``scale`` (out,) is what comes behind."""
        out, inner, size = self.weight.shape
        if inner * self.groups != len(way.layers):
            return None
        weight, shape, before, layers, units = self.weight, self.shape, way.scale, way.layers, way.units
        places = way.places
        if places > 1 and self.groups == size == 1:  # a flattened map: one kernel per unit, of the map's places
            order = _by_unit(way)
            weight = (weight[:, order, 0] * before[order].astype(np.float32)).reshape(out, -1, places)
            layers, units, shape = layers[order[::places]], units[order[::places]], _map_shape(places)
            inner, before = inner // places, np.ones(inner // places)
        first = np.arange(out) // max(out // self.groups, 1) * inner
        reads = first[:, None] + np.arange(inner)
        factor = (scale[:, None] * before[reads]).astype(np.float32)
        lengths, sums = np.zeros((2, out, len(layers)), np.float32)
        np.put_along_axis(lengths, reads, np.linalg.norm(weight, axis=2) * np.abs(factor), axis=1)
        np.put_along_axis(sums, reads, weight.sum(axis=2) * factor, axis=1)

        def kernel(unit: int, channel: int) -> np.ndarray:
            at = channel - first[unit]
            inside = 0 <= at < inner
            return weight[unit, at] * factor[unit, at] if inside else np.zeros(weight.shape[2], np.float32)

        return Connection(layers, units, lengths, sums, shape, kernel, way.divided)


def _kernels(graph: Graph, node: onnx.NodeProto) -> _Kernels | None:
    """A node's weights; None where they are computed."""
    from ...errors import UsageError
    from ..activations.weights import as_planes, kernel

    if node.op_type in ("Gemm", "MatMul"):
        weight = _dense(graph, node)
        return None if weight is None else _Kernels(weight[:, :, None], 1, (1, 1))
    try:
        weight, _ = kernel(graph, next(la for la in graph.layers if la.tensor in _outputs(graph, node)))
    except (UsageError, StopIteration):
        return None
    planes = as_planes(weight)
    out, inner, rows, columns = planes.shape
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    return _Kernels(planes.reshape(out, inner, rows * columns), groups, (rows, columns))


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


def _following(stations: Stations, tensor: str) -> np.ndarray | None:
    """(units,) or () what norms and constants right behind a node multiply its units by; None for one."""
    scale: np.ndarray | None = None
    while (step := stations.behind(tensor)) is not None:
        scale = step.scale if scale is None else scale if step.scale is None else scale * step.scale
        tensor = step.after
    return scale


def _by_unit(way: Way) -> np.ndarray:
    """The channels of a flattened map ordered unit by unit; the units stay in the order in which they come first."""
    both = np.stack([way.layers, way.units], axis=1)
    _, first, inverse = np.unique(both, axis=0, return_index=True, return_inverse=True)
    return np.argsort(first[inverse.reshape(-1)], kind="stable")


def _map_shape(places: int) -> tuple[int, int]:
    """The rows and columns of a flattened map: square where its number of places is one."""
    side = round(places**0.5)
    return (side, side) if side * side == places else (1, places)
