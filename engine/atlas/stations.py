"""Which tensors of a model show its units, and how units of one layer come to be read by another.

A unit is made by a convolution, a dense layer or a residual sum, and then travels through element-wise operators:
batch-norm, activation, scaling. All tensors on that way hold the same units, so only one of them is shown: what the
first activation gives, or the end of the way where there is none. What only copies units (pooling, concatenation,
padding, normalization of a place over its units) makes no new ones. A sum's branch that nothing else reads is shown by
the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import onnx

from ...errors import UsageError
from ..activations.each import with_one_each
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..graph.operators import operator

_SUMS = ("Add", "Sub")
_PER_UNIT = (
    "BatchNormalization", "InstanceNormalization", "GroupNormalization", "QuantizeLinear", "DequantizeLinear",
)  # fmt: skip
_COPYING = (
    "Pad", "LRN", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "ReduceMean", "ReduceMax", "Resize", "Upsample",
    "LayerNormalization", "RMSNormalization",
)  # fmt: skip
_BY_GROUP = ("InstanceNormalization", "GroupNormalization")  # that divide the units of a map by different numbers
_BY_PICTURE = (*_BY_GROUP, "LayerNormalization", "RMSNormalization")  # that divide by what they find in each picture
_WEIGHTED, _POOLS = ("convolution", "dense"), ("pool", "global pool")
IMAGE = -2  # a `Way`'s layer for the picture itself


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
    """Where each channel of a tensor comes from.

    Attributes:
        layers, units: (channels,) the layer's index, or `IMAGE`, and the unit in it.
        scale: (channels,) what batch-norm and constants on the way multiply the unit by.
        places: channels of each unit, which are the places of its flattened map.
        divided: a normalization on the way divides some units by other numbers than others, in each picture.
    """

    layers: np.ndarray
    units: np.ndarray
    scale: np.ndarray
    places: int = 1
    divided: bool = False

    def times(self, factor: np.ndarray | None) -> Way:
        """The same way with one more factor for each channel."""
        return self if factor is None else replace(self, scale=self.scale * factor)


def _own(layer: int, count: int) -> Way:
    return Way(np.full(count, layer), np.arange(count), np.ones(count))


@dataclass(frozen=True, eq=False)
class Maker:
    """One of the things that a station's units are made of.

    Attributes:
        node: with weights; None where units are added to a sum as they are.
        tensor: what the node gives, or what is added.
        scale: (units,) or () what its values are multiplied by before they are added; None for one.
        divided: a normalization divides its values before they are added, by what it finds in each picture.
    """

    node: onnx.NodeProto | None
    tensor: str
    scale: np.ndarray | None
    divided: bool = False


@dataclass(frozen=True, eq=False)
class Step:
    """What one operator does to units that stay what they are.

    Attributes:
        before, after: the tensors.
        scale: (units,) or () what it multiplies them by; None for one, or what is not known.
        divided: it divides them by what it finds in each picture, group by group.
    """

    before: str
    after: str
    scale: np.ndarray | None
    divided: bool = False


def _product(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    return other if one is None else one if other is None else one * other


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
        Layers that hold no result for each picture, as attention may whose tokens come first, are stations of no atlas.

        Raises:
            UsageError: a name that the model lacks, or no layer with units for each picture.
        """
        stations = with_one_each(self.graph, [station.layer for station in self.all])
        if patterns is None and stations:
            return stations
        if patterns is None:
            raise UsageError(f"{self.graph.name} has no layer that makes units; name some of its layers")
        listed = [p.strip() for p in patterns.split(",") if p.strip()] if isinstance(patterns, str) else list(patterns)
        ours = {layer.index for layer in stations}
        found: dict[int, Layer] = {}
        for pattern in listed:
            hits = self.graph.match([pattern])
            wanted = [la for la in hits if la.index in ours] if len(hits) > 1 else []
            found.update({la.index: la for la in wanted or hits if la.channels})
        kept = with_one_each(self.graph, [found[index] for index in sorted(found)])
        if not kept:
            said = ", ".join(listed)
            lacking = " that holds one result for each picture" if found else ""
            raise UsageError(
                f"no layer of {self.graph.name} with units{lacking} is among '{said}'; list them: convscope info"
            )
        return kept

    def makers(self, station: Station) -> list[Maker]:
        """What makes a station's units: its start, or all that a residual sum adds up."""
        assert self.all  # fills the branches
        return self._makers(station.start, None)

    def _makers(self, start: onnx.NodeProto, scale: np.ndarray | None, divided: bool = False) -> list[Maker]:
        if start.op_type not in _SUMS:
            return [Maker(start, start.output[0], scale, divided)]
        found = []
        for number, name in enumerate(start.input):
            branch = self._branches.get(name)
            one = _product(scale, np.array(-1.0) if start.op_type == "Sub" and number else None)
            if branch is None:
                found.append(Maker(None, name, one, divided))
                continue
            steps = self._between(branch.output[0], name)
            for step in steps:
                one = _product(one, step.scale)
            found += self._makers(branch, one, divided or any(step.divided for step in steps))
        return found

    def _between(self, start: str, end: str) -> list[Step]:
        """The operators on a branch between two of its tensors."""
        steps = []
        while end != start:
            step = self._grouped_back.get(end)
            if step is None:
                node = self._index.producer[end]
                before = next(name for name in node.input if name in self._dependent)
                step = Step(before, end, self.factor(node), node.op_type in _BY_PICTURE)
            steps.append(step)
            end = step.before
        return steps

    def behind(self, tensor: str) -> Step | None:
        """The one operator that reads a tensor, where it is a batch-norm or another that multiplies its units."""
        readers = self._index.readers.get(tensor, ())
        if len(readers) != 1:
            return None
        if (grouped := self._grouped.get(readers[0].output[0])) is not None:
            return grouped
        factor = self.factor(readers[0])
        return None if factor is None else Step(tensor, readers[0].output[0], factor, readers[0].op_type in _BY_PICTURE)

    @cached_property
    def _grouped(self) -> dict[str, Step]:
        """Group norm as torch's exporter writes it: the groups as channels of an instance norm, and back again.

        By the tensor that the first Reshape gives.
        """
        found = {}
        for node in self._index.nodes:
            first = self._index.producer.get(node.input[0]) if node.op_type == "InstanceNormalization" else None
            behind = self._index.readers.get(node.output[0], ())
            if first is None or first.op_type != "Reshape" or len(behind) != 1 or behind[0].op_type != "Reshape":
                continue
            before, after = (self._by_tensor.get(name) for name in (first.input[0], behind[0].output[0]))
            scale = self._index.constant(node.input[1])
            if before is None or after is None or scale is None or not before.channels:
                continue
            if after.shape == before.shape and before.channel_axis == 1 and before.channels % scale.size == 0:
                factor = np.repeat(scale.astype(np.float64), before.channels // scale.size)
                found[first.output[0]] = Step(before.tensor, after.tensor, factor, True)
        return found

    @cached_property
    def _grouped_back(self) -> dict[str, Step]:
        return {step.after: step for step in self._grouped.values()}

    def factor(self, node: onnx.NodeProto) -> np.ndarray | None:
        """(units,) or () what a norm, or a product with constants, multiplies units by; None for other nodes.

        Of a normalization by what it finds in each picture it is the learned scale alone.
        """
        if node.op_type == "BatchNormalization":
            gamma, _, _, variance = (self._index.constant(name) for name in node.input[1:5])
            if gamma is None or variance is None:
                return None
            epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
            return gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
        if node.op_type in _BY_PICTURE:
            scale = self._index.constant(node.input[1]) if len(node.input) > 1 else None
            return None if scale is None else self._a_channel(self._with_axes(node, scale), node.output[0])
        moving = [name in self._dependent for name in node.input]
        if node.op_type == "Neg" or (node.op_type == "Sub" and moving == [False, True]):
            return np.array(-1.0)
        if sorted(moving) != [False, True] or not (node.op_type == "Mul" or (node.op_type == "Div" and moving[0])):
            return None
        values = self._index.constant(node.input[moving.index(False)])
        flat = None if values is None else self._a_channel(values, node.output[0])
        return flat if flat is None or node.op_type == "Mul" else np.asarray(1 / np.where(flat == 0, 1, flat))

    def _a_channel(self, values: np.ndarray, tensor: str) -> np.ndarray | None:
        """(channels,) or () of constants that are broadcast over a tensor; None where they differ within a channel."""
        layer = self._by_tensor.get(tensor)
        if layer is None or layer.channel_axis is None or values.ndim > len(layer.shape):
            return None
        values = values.astype(np.float64).reshape((1,) * (len(layer.shape) - values.ndim) + values.shape)
        if any(side > 1 for axis, side in enumerate(values.shape) if axis != layer.channel_axis):
            return None
        flat = values.reshape(-1)
        return np.asarray(flat[0] if len(flat) == 1 else flat)

    def _with_axes(self, node: onnx.NodeProto, scale: np.ndarray) -> np.ndarray:
        """A norm's scale as it is broadcast: of layer norm over the last axes, of the others a channel or a group."""
        if node.op_type not in _BY_GROUP:
            return scale
        layer = self._by_tensor.get(node.output[0])
        channels, rank = (layer.channels, len(layer.shape)) if layer is not None else (None, 3)
        if channels and channels % scale.size == 0:  # until opset 21 a group norm has one value a group
            scale = np.repeat(scale, channels // scale.size)
        return scale.reshape(-1, *(1,) * (rank - 2))

    def reads(self, maker: onnx.NodeProto) -> str:
        """The tensor that a node with weights reads."""
        return next(name for name in maker.input if name in self._dependent)

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
                grouped = self._grouped.get(node.output[0])
                if grouped is not None and grouped.after not in way:
                    way.add(grouped.after)
                    waiting.append(grouped.after)
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
        logits = self._by_tensor.get(self.graph.logits)
        if logits is not None and logits.tensor in way and logits.channels:
            return logits
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
            return _own(layer.index, layer.channels or 0)
        if tensor == self.graph.inputs[0].name:
            return _own(IMAGE, self.graph.channels)
        if (grouped := self._grouped_back.get(tensor)) is not None:
            source = self.way(grouped.before)
            return None if source is None else replace(source.times(grouped.scale), divided=True)
        node = self._index.producer.get(tensor)
        moving = [name for name in node.input if name in self._dependent] if node is not None else []
        if node is None or not moving:
            return None
        if node.op_type == "Concat":
            return self._joined(moving, tensor)
        if node.op_type == "Split":
            return self._part(node, tensor)
        if node.op_type == "Slice":
            return self._sliced(node) if len(node.input) > 3 else None
        if self._keeps_units(node) or node.op_type in _COPYING or operator(node).family in _POOLS:
            source = max(moving, key=self._places)
            if node.op_type != "Mul" and sum(self._places(n) == self._places(source) for n in moving) > 1:
                return None  # of two maps, and no gate
            found = self._spread(self.way(source), source, tensor)
            if found is None:
                return None
            return replace(found.times(self.factor(node)), divided=found.divided or node.op_type in _BY_GROUP)
        return None

    def _sliced(self, node: onnx.NodeProto) -> Way | None:
        """What a slice leaves: all channels where it cuts places, else those that it takes."""
        whole, layer = self.way(node.input[0]), self._by_tensor.get(node.input[0])
        if whole is None:
            return None
        if layer is None or layer.channel_axis is None:
            return whole if len(whole.layers) == 1 else None
        settings = [self._index.constant(name) if name else None for name in node.input[1:]]
        starts, ends, axes = (None if value is None else value.reshape(-1).tolist() for value in settings[:3])
        steps = settings[3].reshape(-1).tolist() if len(settings) > 3 and settings[3] is not None else None
        if starts is None or ends is None or axes is None or (len(settings) > 3 and node.input[4] and steps is None):
            return None
        for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(axes), strict=True):
            if axis % len(layer.shape) == layer.channel_axis:
                part = slice(start, end, step)
                whole = Way(whole.layers[part], whole.units[part], whole.scale[part], divided=whole.divided)
        return whole if len(whole.layers) == self._channels(node.output[0]) else None

    def _joined(self, parts: Sequence[str], tensor: str) -> Way | None:
        ways = [self.way(part) for part in parts]
        if any(way is None for way in ways):
            return None
        layers, units, scale = (
            np.concatenate([getattr(w, name) for w in ways]) for name in ("layers", "units", "scale")
        )
        places = ways[0].places if len({way.places for way in ways}) == 1 else 1  # type: ignore[union-attr]
        divided = any(way.divided for way in ways)  # type: ignore[union-attr]
        return Way(layers, units, scale, places, divided) if len(layers) == self._channels(tensor) else None

    def _part(self, node: onnx.NodeProto, tensor: str) -> Way | None:
        whole = self.way(node.input[0])
        sizes = [self._channels(name) or 0 for name in node.output]
        if whole is None or sum(sizes) != len(whole.layers):
            return None
        at = list(node.output).index(tensor)
        part = slice(sum(sizes[:at]), sum(sizes[: at + 1]))
        return Way(whole.layers[part], whole.units[part], whole.scale[part], divided=whole.divided)

    def _spread(self, source: Way | None, before: str, tensor: str) -> Way | None:
        """A flattened map's places belong to their channel; other tensors have the source's channels."""
        count, layer = self._channels(tensor), self._by_tensor.get(before)
        if source is not None and not count and len(source.layers) == 1 and source.layers[0] == IMAGE:
            return source  # a signal, or a volume, before its first layer with units
        if source is None or not count or not len(source.layers) or count % len(source.layers):
            return None
        times = count // len(source.layers)
        by_place = layer is not None and layer.channel_axis == len(layer.shape) - 1  # tokens hold all units of a place
        one, other = (times, 1) if by_place else (1, times)
        layers, units, scale = (np.tile(a, one).repeat(other) for a in (source.layers, source.units, source.scale))
        return Way(layers, units, scale, source.places * times, source.divided)

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
