"""Where an entry of an output comes from: back through moves of values to the logit that a sigmoid made it of.

A detector's output is one table of coordinates and scores, put together by Concat, Reshape, Transpose and Slice. The
score of a box is best explained before its sigmoid, where the gradient does not fade; index arithmetic finds the place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph.graph import Graph
from ..graph.index import attributes
from ..graph.operators import operator

_SHAPED = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
_MOVES = _SHAPED | {"Concat", "Transpose", "Split", "Slice", "Identity", "Cast"}
_LIMIT = 4096  # tensors: a path through moves alone is short; more would be no head


def movers(graph: Graph, tensor: str) -> list[str]:
    """Every tensor from which values only move to ``tensor`` (itself included), up to the sigmoids' inputs."""
    found: dict[str, None] = {}
    stack = [tensor]
    while stack and len(found) < _LIMIT:
        name = stack.pop()
        if name in found or name in graph.index.weights:
            continue
        found[name] = None
        node = graph.index.producer.get(name)
        if node is None:
            continue
        if node.op_type == "Concat":
            stack.extend(node.input)
        elif node.op_type in _MOVES or operator(node).head == "sigmoid":
            stack.append(node.input[0])
    return list(found)


def logit_place(
    graph: Graph, tensor: str, place: tuple[int, ...], shapes: dict[str, tuple[int, ...]]
) -> tuple[str, tuple[int, ...]] | None:
    """The entry that a sigmoid turns into this one.

    Args:
        graph: the model.
        tensor: an output.
        place: index into it, batch axis included.
        shapes: of every tensor that `movers` names.

    Returns:
        (tensor, place) of the logit, or None where the way back meets anything but moves and a sigmoid.
    """
    for _ in range(_LIMIT):
        node = graph.index.producer.get(tensor)
        if node is None:
            return None
        if operator(node).head == "sigmoid":
            return node.input[0], place
        step = _back(graph, node, tensor, place, shapes) if node.op_type in _MOVES else None
        if step is None:
            return None
        tensor, place = step
    return None


def _back(graph: Graph, node: Any, tensor: str, place: tuple[int, ...], shapes: dict[str, tuple[int, ...]]) -> Any:
    values = attributes(node)
    if node.op_type == "Concat":
        return _through_concat(node.input, place, values["axis"] % len(place), shapes)
    source = node.input[0]
    if source not in shapes:
        return None
    if node.op_type == "Transpose":
        axes = values.get("perm") or tuple(reversed(range(len(place))))
        return source, tuple(place[list(axes).index(axis)] for axis in range(len(axes)))
    if node.op_type in _SHAPED:
        flat = int(np.ravel_multi_index(place, shapes[tensor]))
        return source, tuple(int(i) for i in np.unravel_index(flat, shapes[source]))
    if node.op_type == "Split":
        return _through_split(node, tensor, place, values.get("axis", 0) % len(place), shapes)
    if node.op_type == "Slice":
        return _through_slice(graph, node, place, shapes[source])
    return source, place


def _through_concat(parts: Sequence[str], place: tuple[int, ...], axis: int, shapes: dict[str, tuple[int, ...]]) -> Any:
    start = 0
    for part in parts:
        if part not in shapes:
            return None
        length = shapes[part][axis]
        if place[axis] < start + length:
            return part, (*place[:axis], place[axis] - start, *place[axis + 1 :])
        start += length
    return None


def _through_split(
    node: Any, tensor: str, place: tuple[int, ...], axis: int, shapes: dict[str, tuple[int, ...]]
) -> Any:
    before = list(node.output)[: list(node.output).index(tensor)]
    if any(name not in shapes for name in before):
        return None
    start = sum(shapes[name][axis] for name in before)
    return node.input[0], (*place[:axis], place[axis] + start, *place[axis + 1 :])


def _through_slice(graph: Graph, node: Any, place: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    try:
        starts = graph.index.argument(node, 1, "starts")
        axes = graph.index.argument(node, 3, "axes")
        steps = graph.index.argument(node, 4)
    except KeyError:
        return None
    moved = list(place)
    for i, start in enumerate(np.atleast_1d(starts)):
        axis = int(np.atleast_1d(axes)[i]) % len(place) if axes is not None else i
        step = int(np.atleast_1d(steps)[i]) if steps is not None else 1
        if step < 1:
            return None
        length = shape[axis]
        first = min(max(int(start) + length if start < 0 else int(start), 0), length)
        moved[axis] = first + step * place[axis]
    return node.input[0], tuple(moved)
