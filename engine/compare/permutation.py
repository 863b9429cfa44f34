"""Are two networks the same up to the order of their channels? If so, the exact order.

The order of one layer's filters is free as long as the next layer reads its inputs in the same order. Each
channel of B is given the name of A's channel that it equals: at every convolution B's inputs are brought into
A's order, then equal filters are found; everything else hands the names on. Flattening extends a channel's name
by the position, so that exports that flatten (C, H, W) and (H, W, C) meet in the same names.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from ..graph.index import attributes
from .align import Pair
from .operations import CommonForm, Operation

Names = tuple[np.ndarray, int]  # names along one axis, and that axis
_TOLERANCE = 1e-5  # of a filter's largest weight

Shapes = dict[str, tuple[int, ...]]  # by tensor


def recover(
    a: CommonForm, b: CommonForm, pairs: Sequence[Pair], shapes: tuple[Shapes, Shapes]
) -> dict[str, np.ndarray] | None:
    """B's tensor -> order: channel ``order[i]`` of B equals channel i of A; None where the networks are not equal.

    Args:
        a: one model.
        b: the other.
        pairs: all convolutions and dense layers must be paired.
        shapes: of every tensor of A and of B for one image, as far as known.
    """
    anchors = [p for p in pairs if p.a.is_anchor]
    if len(anchors) != sum(s.is_anchor for s in a.operations) or len(anchors) != sum(s.is_anchor for s in b.operations):
        return None
    named_a = _Walk(a, shapes[0])
    identity = named_a.run({p.a.tensor: np.arange(len(p.a.weight)) for p in anchors if p.a.weight is not None})
    walk = _Walk(b, shapes[1])
    found: dict[str, np.ndarray] = {}
    for pair in _in_order(anchors, b):
        names = walk.run(found)
        own = _filters(pair, identity.get(pair.a.inputs[0]), names.get(pair.b.inputs[0]))
        if own is None:
            return None
        found[pair.b.tensor] = own
    names = walk.run(found)
    orders: dict[str, np.ndarray] = {}
    for pair in pairs:
        one, two = identity.get(pair.a.tensor), names.get(pair.b.tensor)
        if one is not None and two is not None and (order := _order(one[0], two[0])) is not None:
            orders[pair.b.tensor] = order
    return orders


def _in_order(anchors: Sequence[Pair], b: CommonForm) -> list[Pair]:
    place = {operation.tensor: i for i, operation in enumerate(b.operations)}
    return sorted(anchors, key=lambda p: place[p.b.tensor])


def _order(one: np.ndarray, two: np.ndarray) -> np.ndarray | None:
    """Positions in ``two`` of the names in ``one``."""
    if len(one) != len(two) or not np.array_equal(np.sort(one), np.sort(two)):
        return None
    order = np.empty(len(one), dtype=np.int64)
    order[np.argsort(one, kind="stable")] = np.argsort(two, kind="stable")
    return order


def _filters(pair: Pair, one: Names | None, two: Names | None) -> np.ndarray | None:
    """Names of B's filters, (O,): the index of A's filter that each equals; None where one has no equal."""
    x, y = pair.a.weight, pair.b.weight
    if x is None or y is None or x.shape != y.shape or pair.a.bias is None or pair.b.bias is None:
        return None
    group = int(str(pair.a.attributes.get("group", 1)))
    incoming = _order(one[0], two[0]) if one is not None and two is not None else None
    if group > 1:
        return _grouped(pair, x, y, incoming, group)
    if incoming is not None and len(incoming) == x.shape[1]:
        y = y[:, incoming]
    ours = _rows(x, pair.a.bias)
    return _equal_rows(ours, _rows(y, pair.b.bias), _scale(ours))


def _grouped(pair: Pair, x: np.ndarray, y: np.ndarray, incoming: np.ndarray | None, group: int) -> np.ndarray | None:
    """Groups go where their channels go, and within each the filters are free; depthwise is one channel a group.

    None also where the channels that A takes together are spread over several groups of B.
    """
    assert pair.a.bias is not None and pair.b.bias is not None
    taken, made = x.shape[1], len(x) // group
    if incoming is None or len(incoming) != group * taken:
        incoming = np.arange(group * taken)
    scale = _scale(_rows(x, pair.a.bias))
    names = np.empty(len(x), dtype=np.int64)
    for g, places in enumerate(incoming.reshape(group, taken)):
        other = int(places[0]) // taken
        if np.any(places // taken != other):
            return None
        ours, theirs = slice(g * made, (g + 1) * made), slice(other * made, (other + 1) * made)
        one = _rows(x[ours], pair.a.bias[ours])
        two = _rows(y[theirs][:, places - other * taken], pair.b.bias[theirs])
        found = _equal_rows(one, two, scale)
        if found is None:
            return None
        names[theirs] = g * made + found
    return names


def _scale(rows: np.ndarray) -> float:
    return max(float(np.abs(rows).max()), 1e-30)


def _rows(weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return np.concatenate([weight.reshape(len(weight), -1), bias[:, None]], axis=1)


def _equal_rows(x: np.ndarray, y: np.ndarray, scale: float) -> np.ndarray | None:
    """(n,) ``names`` with ``y[j] == x[names[j]]`` to 1e-5 of ``scale``.

    Rows that are equal among themselves are taken in order.
    """
    if np.abs(x - y).max() <= _TOLERANCE * scale:
        return np.arange(len(x))
    line = np.random.default_rng(0).normal(size=x.shape[1])
    first, second = np.argsort(x @ line, kind="stable"), np.argsort(y @ line, kind="stable")
    if np.abs(x[first] - y[second]).max() > _TOLERANCE * scale:
        return None
    names = np.empty(len(x), dtype=np.int64)
    names[second] = first
    return names


class _Walk:
    """Hands channel names through a graph."""

    def __init__(self, network: CommonForm, shapes: Shapes) -> None:
        self.network, self.shapes = network, shapes
        self.inner = {operation.tensor for operation in network.operations if operation.is_anchor}

    def run(self, known: dict[str, np.ndarray]) -> dict[str, Names]:
        """Tensor -> names and their axis, as far as they follow from the known anchors."""
        graph = self.network.graph
        start = graph.inputs[0].name
        names: dict[str, Names] = {start: (np.arange(graph.channels), 1)}
        for node in graph.model.graph.node:
            for tensor in node.output:
                if tensor in known:
                    names[tensor] = (known[tensor], 1)
                elif tensor not in self.inner and (found := self._through(node, tensor, names)) is not None:
                    names[tensor] = found
        return names

    def _through(self, node: onnx.NodeProto, tensor: str, names: dict[str, Names]) -> Names | None:
        incoming = [names[n] for n in node.input if n in names]
        if not incoming:
            return None
        if node.op_type == "Concat":
            return self._concat(node, names)
        given, axis = incoming[0]
        if node.op_type == "Transpose":
            order = attributes(node).get("perm")
            return (given, order.index(axis)) if isinstance(order, list) else None
        if node.op_type in ("Reshape", "Flatten", "Squeeze"):
            return self._reshaped(node.input[0], tensor, given, axis)
        return given, axis

    def _concat(self, node: onnx.NodeProto, names: dict[str, Names]) -> Names | None:
        parts, offset = [], 0
        for name in node.input:
            if name not in names:
                return None
            parts.append(names[name][0] + offset)
            offset += len(names[name][0])
        return np.concatenate(parts), names[node.input[0]][1]

    def _reshaped(self, source: str, tensor: str, given: np.ndarray, axis: int) -> Names | None:
        before, after = self.shapes.get(source), self.shapes.get(tensor)
        if before is None or after is None:
            return None
        if len(after) > axis and after[axis] == len(given) and np.prod(before[1:]) == len(given):
            return given, axis
        if len(after) != 2 or len(before) < 3:
            return (given, 1) if len(after) > 1 and after[1] == len(given) else None
        rest = int(np.prod(before[1:])) // before[axis]
        table = given[:, None] * rest + np.arange(rest)
        spatial = [s for i, s in enumerate(before) if i not in (0, axis)]
        return np.moveaxis(table.reshape(len(given), *spatial), 0, axis - 1).reshape(-1), 1


def moved(orders: dict[str, np.ndarray], operation: Operation) -> list[int] | None:
    """The order of one of B's layers where it is not the identity."""
    order = orders.get(operation.tensor)
    return None if order is None or np.array_equal(order, np.arange(len(order))) else [int(i) for i in order]
