"""Where the branches of a head end: what lies behind only gathers their results, and a number reads few of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx

from ..graph.graph import Graph
from ..graph.index import Index, reads
from ..graph.operators import operator

_FEW = 64  # weights of a convolution that only decodes, as the sum over a box's 16 distances


def branch_ends(graph: Graph, tensors: Sequence[str], targets: Sequence[str]) -> tuple[str, ...]:
    """The last tensors with weights on the ways from ``tensors`` to ``targets``, or those of ``tensors`` met before.

    Behind them results are joined, moved and decoded, which costs next to nothing, and tells which of the branches a
    number depends on: of a detector's class score one level's classes, neither the boxes nor the other levels.

    Returns:
        The ends in the order of their names; none where there are fewer than two, and so nothing to choose.
    """
    index = graph.index
    above = index.descendants(tensors)
    ends, seen, stack = set[str](), set[str](), list(targets)
    while stack:
        name = stack.pop()
        if name in seen or name not in above:
            continue
        seen.add(name)
        if name in tensors or _has_weights(index, index.producer[name]):
            ends.add(name)
        else:
            stack.extend(reads(index.producer[name]))
    return tuple(sorted(ends)) if len(ends) > 1 else ()


def _has_weights(index: Index, node: onnx.NodeProto) -> bool:
    if node.op_type.endswith("Integer") or node.op_type.startswith("QLinear"):
        return False  # it gives whole numbers, at which no gradient can be taken
    family = operator(node).family
    if family == "convolution":
        weights = index.weights.get(node.input[1]) if len(node.input) > 1 else None
        return weights is None or math.prod(weights.dims) > _FEW
    return family in ("dense", "recurrent", "attention")
