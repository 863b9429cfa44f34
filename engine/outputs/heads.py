"""The feature maps that enter a head: where class activation maps of boxes, masks and maps are taken.

A detector predicts from several maps (P3 to P5 of a pyramid); each is followed by branches for classes and for box
sides. The map before the branches is what all of the box's numbers depend on. A prediction itself (class logits of each
position, the distribution of a box side) is no feature map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..graph.graph import Graph
from ..graph.layers import Layer
from ..graph.operators import operator

_MIXES = frozenset({"Gemm", "MatMul", "Einsum", "LSTM", "GRU", "RNN"})  # beyond these a map is no prediction
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})


def maps_into_head(graph: Graph, tensors: Sequence[str]) -> list[Layer]:
    """The last feature maps before the predictions that ``tensors`` are made of, one a pyramid level, in order.

    Args:
        graph: the model.
        tensors: outputs of one head (boxes and scores), or one map.

    Returns:
        Layers of more than one position; empty where no feature map leads to the tensors.
    """
    maps = {layer.tensor: layer for layer in graph.layers if is_feature_map(graph, layer)}
    features, predictions = _frontier(graph, tensors, maps)
    levels: dict[tuple[int | None, ...], list[set[str]]] = {}
    for tensor in predictions:
        for node in _convolutions(graph, tensor):
            place = maps.get(node.output[0])
            if place is None:
                continue
            before = graph.index.ancestors(node.input[0]) & maps.keys()
            levels.setdefault(tuple(place.shape[2:]), []).append(before)
    for branches in levels.values():
        shared = set.intersection(*branches)
        if shared:
            features.add(max(shared, key=lambda name: maps[name].index))
    return sorted((maps[name] for name in features), key=lambda layer: layer.index)


def is_feature_map(graph: Graph, layer: Layer) -> bool:
    """Whether a layer's rows and columns are those of the picture, more than one of each.

    A box side's distribution (N, 16, 4, A) has four axes too, but neither the picture's proportions nor a stride that
    carries its rows and columns over the picture.
    """
    if layer.tensor in graph.batch_axes:  # time first, then the pictures
        return False
    if layer.is_unfolded:
        return layer.tokens is not None and layer.tokens.count > 1
    if not layer.is_spatial:
        return False
    field, (height, width) = layer.receptive_field, graph.image_size
    rows, columns = (s for a, s in enumerate(layer.shape) if a not in (0, layer.channel_axis))
    if rows is None or columns is None:
        return field is not None
    if min(rows, columns) < 2:
        return False
    shares = rows / height, columns / width
    if max(shares) <= 1.5 and max(shares) < 1.3 * min(shares):  # the picture's own proportions
        return True
    return field is not None and all(0.5 < s * f < 1.6 for s, f in zip(shares, field.stride, strict=True))


def _frontier(graph: Graph, tensors: Sequence[str], maps: dict[str, Layer]) -> tuple[set[str], set[str]]:
    """The first maps met on the way back: those behind dense layers or attention, and predictions."""
    features, predictions = set[str](), set[str]()
    seen = set[tuple[str, bool]]()
    stack = [(name, False) for name in tensors]
    while stack:
        name, mixed = stack.pop()
        if (name, mixed) in seen:
            continue
        seen.add((name, mixed))
        if name in maps:
            (features if mixed else predictions).add(name)
            continue
        node = graph.index.producer.get(name)
        if node is not None:
            beyond = mixed or node.op_type in _MIXES
            stack.extend((source, beyond) for source in node.input if source)
    return features - predictions, predictions


def _convolutions(graph: Graph, tensor: str) -> list[Any]:
    """The convolutions that made a prediction, looking back through joins, activations and resizing."""
    found, seen, stack = [], set[str](), [tensor]
    while stack:
        name = stack.pop()
        node = graph.index.producer.get(name)
        if name in seen or node is None:
            continue
        seen.add(name)
        if node.op_type in _CONVOLUTIONS:
            found.append(node)
        elif operator(node).family != "dense":
            stack.extend(source for source in node.input if source in graph.index.producer)
    return found
