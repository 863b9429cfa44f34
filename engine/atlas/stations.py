"""Which tensors of a model show its units, and how units of one layer come to be read by another.

A unit is made by a convolution, a dense layer or a residual sum, and then travels through element-wise operators:
batch-norm, activation, scaling. All tensors on that way hold the same units, so only one of them is shown: what the
first activation gives, or the end of the way where there is none. What only copies units (pooling, concatenation,
padding, normalization of a place over its units) makes no new ones. A sum's branch that nothing else reads is shown by
the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx

from ..graph.graph import Graph
from ..graph.layers import Layer
from ..graph.operators import operator

_SUMS = ("Add", "Sub")
_PER_UNIT = ("BatchNormalization", "InstanceNormalization", "QuantizeLinear", "DequantizeLinear")
_COPYING = (
    "Pad", "LRN", "Flatten", "Reshape", "Squeeze", "ReduceMean", "ReduceMax", "Resize", "Upsample",
    "LayerNormalization", "GroupNormalization",
)  # fmt: skip
_WEIGHTED, _POOLS = ("convolution", "dense"), ("pool", "global pool")
IMAGE = -2  # a `Way`'s layer for the picture itself
NOWHERE = -1


@dataclass(frozen=True)
class Station:
    """One layer of an atlas.

    Attributes:
        layer: what is shown.
        start: the node that makes its units.
        tensors: all that hold the same units.
    """

    layer: Layer
    start: onnx.NodeProto
    tensors: frozenset[str]


@dataclass(frozen=True, eq=False)
class Way:
    """Where each channel of a tensor comes from: arrays of layer indices (`IMAGE`, `NOWHERE`) and units."""

    layers: np.ndarray
    units: np.ndarray


class Stations:
    """The layers of a model that show units, and the ways between them.

    Args:
        graph: the model.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._index = graph.index
        self._by_tensor = {layer.tensor: layer for layer in graph.layers}
        self._dependent = graph.index.descendants(graph.inputs[0].name)
        self._ways: dict[str, Way | None] = {}
        self._branches: dict[str, onnx.NodeProto] = {}  # tensor of a sum's branch -> the node that makes its units

    @cached_property
    def all(self) -> tuple[Station, ...]:
        """Every station, in the order of the layer table."""
        found: dict[int, Station] = {}
        covered: set[str] = set()
        for node in self._index.nodes:
            if not self._is_start(node) or node.output[0] in covered:
                continue
            way, activated = self._same_units(node.output[0])
            covered |= way
            layer = self._shown(way, activated)
            if layer is not None and self._is_branch(layer, activated):
                self._branches.update(dict.fromkeys(way, node))
            elif layer is not None:
                found.setdefault(layer.index, Station(layer, node, frozenset(way)))
        return tuple(found[index] for index in sorted(found))

    def of(self, layer: Layer) -> Station | None:
        """The station whose units a layer holds."""
        return self._home.get(layer.tensor)

    def chosen(self, patterns: str | Sequence[str] | None) -> tuple[Layer, ...]:
        """The stations' layers; where names and globs are given, those they name.

        A glob means the stations that it names, or where there is none, layers with units; a name means its layer.

        Raises:
            UsageError: a name that the model lacks, or no layer with units.
        """
        stations = tuple(station.layer for station in self.all)
        if patterns is None:
            return stations
        listed = [p.strip() for p in patterns.split(",") if p.strip()] if isinstance(patterns, str) else list(patterns)
        ours = {layer.index for layer in stations}
        found: dict[int, Layer] = {}
        for pattern in listed:
            hits = self.graph.match([pattern])
            wanted = [la for la in hits if la.index in ours] if len(hits) > 1 else []
            found.update({la.index: la for la in wanted or hits if la.channels})
        return tuple(found[index] for index in sorted(found))

    def makers(self, station: Station) -> list[onnx.NodeProto]:
        """The nodes with weights that make a station's units: its start, or those of a sum's branches."""
        if station.start.op_type not in _SUMS:
            return [station.start]
        assert self.all  # fills the branches
        return [self._branches[n] for n in station.start.input if n in self._branches and self._is_weighted(n)]

    def reads(self, maker: onnx.NodeProto) -> str:
        """The tensor that a node with weights reads."""
        return next(name for name in maker.input if name in self._dependent)

    def _is_weighted(self, tensor: str) -> bool:
        return operator(self._branches[tensor]).family in _WEIGHTED

    def way(self, tensor: str) -> Way | None:
        """Where a tensor's channels come from; None where that cannot be told."""
        if tensor not in self._ways:
            self._ways[tensor] = self._traced(tensor)
        return self._ways[tensor]

    def _is_start(self, node: onnx.NodeProto) -> bool:
        moving = [name for name in node.input if name in self._dependent]
        if operator(node).family in _WEIGHTED:
            return len(moving) == 1 and (node.op_type == "MatMul" or node.input[0] in moving)
        return node.op_type in _SUMS and len(moving) == 2

    def _same_units(self, start: str) -> tuple[set[str], set[str]]:
        """The tensors that element-wise operators make of one alone, and those of them behind an activation."""
        way, activated, waiting = {start}, set[str](), [start]
        while waiting:
            for node in self._index.readers.get(waiting.pop(), ()):
                moving = [name for name in node.input if name in self._dependent]
                if not self._keeps_units(node) or not node.output[0] or not way.issuperset(moving):
                    continue
                if operator(node).family == "activation" or activated.intersection(moving):
                    activated.add(node.output[0])
                if node.output[0] not in way:
                    way.add(node.output[0])
                    waiting.append(node.output[0])
        return way, activated

    def _shown(self, way: set[str], activated: set[str]) -> Layer | None:
        if self.graph.logits in way:
            return self._by_tensor.get(self.graph.logits)
        outputs = {o.name for o in self.graph.outputs}
        ends = [
            self._by_tensor[name]
            for name in way
            if name in self._by_tensor
            and (
                name in outputs
                or any(not way.issuperset(n for n in node.output if n) for node in self._index.readers.get(name, ()))
            )
        ]
        with_units = sorted((la for la in ends if la.channels), key=lambda la: la.index)
        lively = [la for la in with_units if la.tensor in activated]
        return lively[0] if lively else with_units[-1] if with_units else None

    def _is_branch(self, layer: Layer, activated: set[str]) -> bool:
        """Whether residual sums are all that reads a layer of plain values."""
        readers = self._index.readers.get(layer.tensor, ())
        sums = all(node.op_type in _SUMS and self._is_start(node) for node in readers)
        return bool(readers) and sums and layer.tensor not in activated

    @cached_property
    def _home(self) -> dict[str, Station]:
        return {tensor: station for station in self.all for tensor in station.tensors}

    def _traced(self, tensor: str) -> Way | None:
        if tensor in self._home:
            layer = self._home[tensor].layer
            return Way(np.full(layer.channels or 0, layer.index), np.arange(layer.channels or 0))
        if tensor == self.graph.inputs[0].name:
            return Way(np.full(self.graph.channels, IMAGE), np.arange(self.graph.channels))
        node = self._index.producer.get(tensor)
        moving = [name for name in node.input if name in self._dependent] if node is not None else []
        if node is None or not moving:
            return None
        if node.op_type == "Concat":
            return self._joined(moving, tensor)
        if node.op_type == "Split":
            return self._part(node, tensor)
        if self._keeps_units(node) or node.op_type in _COPYING or operator(node).family in _POOLS:
            return self._spread(self.way(max(moving, key=self._places)), tensor)
        return None

    def _joined(self, parts: Sequence[str], tensor: str) -> Way | None:
        ways = [self.way(part) for part in parts]
        if any(way is None for way in ways):
            return None
        layers, units = (np.concatenate([getattr(w, name) for w in ways]) for name in ("layers", "units"))
        return Way(layers, units) if len(layers) == self._channels(tensor) else None

    def _part(self, node: onnx.NodeProto, tensor: str) -> Way | None:
        whole = self.way(node.input[0])
        sizes = [self._channels(name) or 0 for name in node.output]
        if whole is None or sum(sizes) != len(whole.layers):
            return None
        at = list(node.output).index(tensor)
        first = sum(sizes[:at])
        return Way(whole.layers[first : first + sizes[at]], whole.units[first : first + sizes[at]])

    def _spread(self, source: Way | None, tensor: str) -> Way | None:
        """A flattened map's places belong to their channel; other tensors have the source's channels."""
        count = self._channels(tensor)
        if source is None or not count or count % len(source.layers):
            return None
        times = count // len(source.layers)
        return Way(source.layers.repeat(times), source.units.repeat(times))

    def _channels(self, tensor: str) -> int | None:
        layer = self._by_tensor.get(tensor)
        return layer.channels if layer is not None else None

    def _places(self, tensor: str) -> int:
        """Places of a feature map: of a map and its gate, the map has more."""
        layer = self._by_tensor.get(tensor)
        return int(np.prod([s or 1 for s in layer.shape])) if layer is not None else 0

    def _keeps_units(self, node: onnx.NodeProto) -> bool:
        """Whether each value comes from the values of its own unit, at the same place."""
        if node.op_type == "Transpose":  # tokens (N, places, units) and maps hold them along different axes
            before, after = (self._by_tensor.get(name) for name in (node.input[0], node.output[0]))
            order = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
            known = before is not None and after is not None and bool(before.channels) and order is not None
            return known and order[after.channel_axis] == before.channel_axis  # type: ignore[index,union-attr]
        return operator(node).elementwise is True or node.op_type in _PER_UNIT
