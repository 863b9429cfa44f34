"""Where the tokens of a vision transformer last reach what comes out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from .index import Index, attributes
from .layers import Layer

_NORMS = ("LayerNormalization", "RMSNormalization")


def last_tokens(index: Index, layers: Sequence[Layer], target: str) -> Layer | None:
    """The last layer of tokens to look at for a target: a normalization, or a block's own output, a sum of tokens.

    Where the head reads class tokens alone, nothing behind the last attention carries the grid on to the target: its
    gradient there is exactly 0. The layer then is the one in front of that attention, ``blocks[-1].norm1`` in
    pytorch-grad-cam's words; where the head takes the mean of the tokens, what it takes the mean of.

    Args:
        index: of the graph.
        layers: of the graph.
        target: a tensor.

    Returns:
        None where there is no attention, or no block's end that leads to the target. Never what is inside attention.
    """
    tokens = {layer.tensor: layer for layer in layers if layer.tokens is not None and layer.tensor != target}
    if not tokens:
        return None
    needed, from_tokens = index.ancestors(target), index.descendants(tokens)
    attention = [n.output[0] for n in index.nodes if n.op_type == "Softmax" and n.output[0] in needed & from_tokens]
    if not attention:
        return None
    if _reads_prefix_alone(index, tokens, needed):
        needed = index.ancestors(attention[-1])
    chosen = [
        layer
        for name, layer in tokens.items()
        if name in needed
        and (layer.op in _NORMS or (layer.op == "Add" and set(index.producer[name].input) <= from_tokens))
    ]
    return max(chosen, key=lambda layer: layer.index, default=None)


def _reads_prefix_alone(index: Index, tokens: dict[str, Layer], needed: set[str]) -> bool:
    """Whether all that is read of the last tokens on the way to a target is tokens of no place."""
    last = max((layer for name, layer in tokens.items() if name in needed), key=lambda layer: layer.index)
    readers = [
        n for n in index.readers.get(last.tensor, ()) if not needed.isdisjoint(n.output) and n.op_type != "Shape"
    ]
    return bool(readers) and all(_is_prefix(index, last, node) for node in readers)


def _is_prefix(index: Index, layer: Layer, node: onnx.NodeProto) -> bool:
    """Whether a node takes class and register tokens alone out of a layer of tokens."""
    assert layer.tokens is not None and layer.channel_axis is not None
    axis, count = 3 - layer.channel_axis, layer.tokens.count
    if node.op_type == "Gather":
        places = index.constant(node.input[1])
        if places is None or int(attributes(node).get("axis", 0)) % 3 != axis:
            return False
        return bool(np.all(places % count < layer.tokens.prefix))
    if node.op_type == "Slice" and len(node.input) > 3:
        starts, ends, axes = (index.constant(name) for name in node.input[1:4])
        if starts is None or ends is None or axes is None:
            return False
        named = {int(a) % 3: (int(s), int(e)) for a, s, e in zip(axes, starts, ends, strict=True)}
        return axis in named and slice(*named[axis]).indices(count)[1] <= layer.tokens.prefix
    return False
