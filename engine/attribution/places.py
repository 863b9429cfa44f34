"""Where a class activation map is taken when nobody names a layer, by what the outputs are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ...errors import UsageError
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..graph.tokens import last_tokens
from ..outputs.heads import is_feature_map, maps_into_head
from ..outputs.reading import Reading
from ..whole import is_whole

_PYRAMIDS = frozenset({"detection", "segmentation", "text regions", "image"})


def default_layers(graph: Graph, tensors: Sequence[str], reading: Reading | None = None) -> list[Layer]:
    """The feature maps to look at for a target on ``tensors``.

    Of a detector or a segmentation all maps that enter its head; else the last map of more than one position that the
    target depends on and is not itself; where that is the only one, the target's own.

    Raises:
        UsageError: there is none.
    """
    if tensors == (graph.logits,) and (reading is None or reading.form not in _PYRAMIDS):
        return [graph.last_spatial_layer()]
    if reading is not None and reading.form in _PYRAMIDS:
        found = maps_into_head(graph, reading.head)
        if found:
            return found
    return [_last_map(graph, tensors)]


def chosen_layers(graph: Graph, layer: Any, tensors: Sequence[str], reading: Reading | None = None) -> list[Layer]:
    """Layers by name, glob, number or object; None is the default, see `default_layers`.

    Raises:
        UsageError: no such layer.
    """
    if layer is None:
        return default_layers(graph, tuple(tensors), reading)
    if isinstance(layer, Layer):
        return _by_picture(graph, [layer])
    if isinstance(layer, str):
        return _by_picture(graph, graph.match(layer))
    if is_whole(layer):
        return _by_picture(graph, [graph.layer(int(layer))])
    if not isinstance(layer, Iterable) or not (layer := list(layer)):
        raise UsageError(f"layer {layer} names none; give a name, a tensor, an index or several")
    return [found for item in layer for found in chosen_layers(graph, item, tensors, reading)]


def _by_picture(graph: Graph, layers: Iterable[Layer]) -> list[Layer]:
    """Raises UsageError for a layer whose first axis does not count pictures."""
    found = list(layers)
    for layer in found:
        if layer.tensor in graph.batch_axes:
            raise UsageError(
                f"layer '{layer.name}' counts the pictures on axis {graph.batch_axes[layer.tensor]}, not on its first, "
                "and has no map of each; choose a layer before it"
            )
    return found


def _last_map(graph: Graph, tensors: Sequence[str]) -> Layer:
    needed = graph.index.ancestors(tensors)
    tokens = [last_tokens(graph.index, graph.layers, tensor) for tensor in tensors]
    for layer in reversed(graph.layers):
        found = layer in tokens or is_feature_map(graph, layer)
        if found and layer.tensor in needed and layer.tensor not in tensors:
            return layer
    # a network of one convolution: its output is the only map there is
    for layer in reversed(graph.layers):
        if layer.tensor in tensors and is_feature_map(graph, layer):
            return layer
    raise UsageError(
        f"no layer with spatial extent leads to {', '.join(map(repr, tensors))}; "
        "name one with layer=, or take method=saliency, which needs none"
    )
