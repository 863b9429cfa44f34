"""Which layers hold one result for each picture: attention that moves tokens in front may hold one for each token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph.company import out_of_sight
from ..graph.graph import Graph
from ..graph.layers import Layer

_PICTURES = 2


def with_one_each(graph: Graph, layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Those of the layers that hold one result for each picture, in their order.

    Where the batch's axis cannot be followed through the graph, two black pictures tell.
    """
    shapes = {layer.tensor: layer.shape for layer in graph.layers}
    unknown = out_of_sight(graph.index, graph.inputs[0].name, shapes) - set(graph.batch_axes)
    asked = [layer.tensor for layer in layers if layer.tensor in unknown]
    if not asked:
        return tuple(layers)
    pictures = np.zeros((_PICTURES, graph.channels, *graph.image_size), graph.inputs[0].dtype)
    found = graph.session(asked, device="cpu").run({graph.inputs[0].name: pictures})
    others = {name for name, value in found.items() if not value.ndim or len(value) != _PICTURES}
    return tuple(layer for layer in layers if layer.tensor not in others)
