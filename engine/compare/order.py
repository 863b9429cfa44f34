"""Do two networks hold the same layers in another order?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .align import Pair
from .cause import Cause
from .operations import CommonForm, Operation

Skipped = tuple[list[Operation], list[Operation]]


def swapped_layers(
    pairs: Sequence[Pair], i: int, networks: tuple[CommonForm, CommonForm], skipped: Mapping[int, Skipped]
) -> list[Cause]:
    """What is said where a pair's layer and another one stand in exchanged places.

    Three ways are known: two trained layers that lead into each other in A and the other way round in B, a
    batch-norm that is on the other side of its convolution's activation, and an operation without weights that one
    network has in front of the pair and the other behind it.

    Args:
        pairs: all aligned operations.
        i: which pair.
        networks: A and B.
        skipped: for this pair and the next, the operations of A and of B without a partner that lead into it.
    """
    return _crossing(pairs, i, networks) or _norm(pairs[i], networks) or _around(pairs, i, skipped)


def _crossing(pairs: Sequence[Pair], i: int, networks: tuple[CommonForm, CommonForm]) -> list[Cause]:
    pair = pairs[i]
    if not pair.a.is_anchor:
        return []
    place = {operation.tensor: k for k, operation in enumerate(networks[1].operations)}
    for other in pairs[i + 1 :]:
        if not other.a.is_anchor or place[other.b.tensor] > place[pair.b.tensor]:
            continue
        before = [network.graph.index.ancestors for network in networks]
        if pair.a.tensor in before[0](other.a.inputs) and other.b.tensor in before[1](pair.b.inputs):
            text = f"'{pair.a.name}' is in front of '{other.a.name}' in A and behind it in B, by their weights"
            return [Cause("swapped layers", f"the layers are swapped: {text}")]
    return []


def _norm(pair: Pair, networks: tuple[CommonForm, CommonForm]) -> list[Cause]:
    """Convolution, batch-norm, activation on one side; convolution, activation, batch-norm on the other."""
    sides = (pair.a, pair.b)
    for k, where in ((0, "A"), (1, "B")):
        own, other, network = sides[k], sides[1 - k], networks[1 - k]
        if own.norm is None or other.norm is not None or other.raw is None:
            continue
        between = _reader(network, other.tensor)
        late = _reader(network, between.tensor) if between is not None else None
        if between is None or late is None or late.kind != "BatchNormalization":
            continue
        scale = network.constant(late.node.input[1])
        if scale is not None and np.array_equal(scale.reshape(-1), own.norm.scale):
            text = f"the batch-norm is in front of {between.kind} in {where} and behind it in {'BA'[k]}"
            return [Cause("swapped layers", f"the layers are swapped: {text}")]
    return []


def _reader(network: CommonForm, tensor: str) -> Operation | None:
    return next((operation for operation in network.operations if tensor in operation.inputs), None)


def _around(pairs: Sequence[Pair], i: int, skipped: Mapping[int, Skipped]) -> list[Cause]:
    if i + 1 not in skipped:
        return []
    for k, where in ((0, "A"), (1, "B")):
        for operation in skipped[i][k]:
            if any(s.kind == operation.kind and s.attributes == operation.attributes for s in skipped[i + 1][1 - k]):
                text = f"{operation.kind} is in front of '{pairs[i].a.name}' in {where} and behind it in {'BA'[k]}"
                return [Cause("swapped layers", f"the layers are swapped: {text}")]
    return []
