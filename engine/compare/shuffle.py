"""Do two networks bring the channels into the same order between two layers?

A channel shuffle (Zhang et al. 2018, ShuffleNet, arXiv:1707.01083) is a Reshape to (groups, channels / groups), a
Transpose and a Reshape back; exporters write such nodes for layouts too, so that only what they do to the channels
tells. Both networks' nodes are run on channels that hold their own numbers.
"""

from __future__ import annotations

import numpy as np

from ...errors import ConvscopeError
from ..graph.operators import operator
from .align import Pair
from .cause import Cause
from .difference import Bench
from .operations import CommonForm, Operation

_ORDERS = {"Transpose", "Gather", "Slice"}  # what can change the order of channels, among what only moves values


def shuffled(bench: Bench, pair: Pair) -> list[Cause]:
    """What is said where the channels that a pair reads are in another order in one network than in the other."""
    if len(pair.a.inputs) != len(pair.b.inputs):
        return []
    for one, two in zip(pair.a.inputs, pair.b.inputs, strict=True):
        sources = _source(bench.a, one), _source(bench.b, two)
        if not any(moves for _, moves in sources):
            continue
        in_a, in_b = _order(bench, bench.a, sources[0][0], one), _order(bench, bench.b, sources[1][0], two)
        if in_a is None or in_b is None or np.array_equal(in_a, in_b):
            continue
        if len(in_a) == len(in_b) and set(in_a) == set(in_b):
            said = f"{_in_words(in_a)} in A and {_in_words(in_b)} in B"
            return [Cause("channel shuffle", f"the channels in front of '{pair.a.name}' are {said}")]
    return []


def flattened_channels(network: CommonForm, operation: Operation) -> int | None:
    """How many channels the feature map has that an operation reads as a vector; None where it reads no such vector."""
    source, _ = _source(network, operation.inputs[0]) if operation.inputs else ("", False)
    before, read = network.layer(source), network.layer(operation.inputs[0]) if operation.inputs else None
    if before is None or len(before.shape) < 3 or (read is not None and len(read.shape) == len(before.shape)):
        return None
    return before.shape[1]


def _source(network: CommonForm, tensor: str) -> tuple[str, bool]:
    """(the tensor whose values are only moved to make this one, whether their order may change on the way)."""
    moves = False
    while (node := network.producer.get(tensor)) is not None and operator(node).neutral and node.input:
        if node.input[0] in network.weights:
            break
        moves |= node.op_type in _ORDERS
        tensor = node.input[0]
    return tensor, moves


def _order(bench: Bench, network: CommonForm, source: str, tensor: str) -> np.ndarray | None:
    """(C,) which channel of ``source`` each channel of ``tensor`` is; None where channels are not moved whole."""
    layer = network.layer(source)
    shape = layer.shape if layer is not None else ()
    sides = [int(side) for side in shape[1:] if side]
    if len(shape) < 3 or len(sides) < len(shape) - 1:
        return None
    channels = sides[0]
    numbered = np.broadcast_to(np.arange(channels, dtype=np.float32).reshape(-1, *[1] * (len(sides) - 1)), sides)
    if source == tensor:
        return np.arange(channels)
    try:
        found = next(bench.run(network, np.ascontiguousarray(numbered)[None], [tensor], source))[tensor]
    except ConvscopeError:  # the nodes fit no single picture
        return None
    if found.ndim != len(shape) or len(found) != 1:
        return None
    rows = found[0].reshape(found.shape[1], -1)
    return rows[:, 0].astype(np.int64) if rows.size and (rows == rows[:, :1]).all() else None


def _in_words(order: np.ndarray) -> str:
    count = len(order)
    if np.array_equal(order, np.arange(count)):
        return "in their own order"
    for groups in (g for g in range(2, count) if count % g == 0):
        if np.array_equal(order, np.arange(count).reshape(groups, -1).T.reshape(-1)):
            return f"shuffled in {groups} groups"
    listed = ",".join(map(str, order[:6])) + (",..." if count > 6 else "")
    return f"in the order {listed}"
