"""A model as a drawing needs it: layers as nodes, what reads what as edges, and blocks of layers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..graph.graph import Graph
from ..graph.index import reads

_LEVELS = re.compile(r"[./]")


def drawn_graph(graph: Graph) -> dict[str, Any]:
    """The whole graph: ``nodes`` [name, op, shape, block] by layer index, and ``edges`` [from, to].

    An edge leads from a layer to the next ones that depend on it, over tensors that are no layers; from -1, the
    picture, to those that read it. A block is a run of layers whose names begin alike, or "".
    """
    index = {layer.tensor: layer.index for layer in graph.layers}
    carried: dict[str, set[int]] = {graph.inputs[0].name: {-1}}
    edges: set[tuple[int, int]] = set()
    for node in graph.index.nodes:
        origins = set[int]().union(*(carried.get(name, set()) for name in reads(node)))
        for name in node.output:
            if name in index:
                edges.update((origin, index[name]) for origin in origins)
                carried[name] = {index[name]}
            elif origins:
                carried[name] = origins
    blocks = block_names([layer.name for layer in graph.layers])
    return {
        "nodes": [
            [layer.name, layer.op, [s or 0 for s in layer.shape[1:]], block]
            for layer, block in zip(graph.layers, blocks, strict=True)
        ],
        "edges": sorted([a, b] for a, b in edges),
    }


def block_names(names: Sequence[str]) -> list[str]:
    """For each layer, in order of execution, the block that it is drawn in.

    A block is a run of at least two neighbours that share the first levels of their names (``layer1.0.conv1`` and
    ``layer1.0.bn1``; ``block1_conv1`` and ``block1_pool``). A run, so that what is folded stays free of cycles.
    """
    prefixes = [_prefix(name) for name in names]
    blocks, first = [""] * len(names), 0
    used: set[str] = set()
    while first < len(names):
        last = first
        while last + 1 < len(names) and prefixes[last + 1] == prefixes[first] != "":
            last += 1
        if last > first:
            block, number = prefixes[first], 2
            while block in used:  # a second run of that name is a block of its own
                block, number = f"{prefixes[first]} ({number})", number + 1
            used.add(block)
            blocks[first : last + 1] = [block] * (last + 1 - first)
        first = last + 1
    return blocks


def _prefix(name: str) -> str:
    """``layer1.0.conv1`` -> ``layer1.0``; ``block1_conv1`` -> ``block1``; a name of one level has none."""
    levels = _LEVELS.split(name)
    while len(levels) > 1 and not levels[0]:
        levels = levels[1:]
    if len(levels) > 1:
        cut = next((i + 1 for i, level in enumerate(levels) if i and level.isdecimal()), 1)
        return name[: name.index(levels[cut - 1]) + len(levels[cut - 1])] if cut == 1 else ".".join(levels[:cut])
    head = re.match(r"^([A-Za-z]+\d+[a-z]?)_", name)
    return head[1] if head else ""
