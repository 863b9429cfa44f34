"""Which recipe suits a layer, and how large its pictures are: by what one position of it sees of a picture.

Early layers see a few pixels, and a large picture of one is the same patch a hundred times; late ones see more than
the picture, and are best drawn from coarse to fine, as one thing; in between lie textures.
"""

from __future__ import annotations

from ..graph.graph import Graph
from ..graph.layers import Layer
from .recipe.presets import PRESETS, Preset

FIELDS = 4  # receptive fields in the side of a tile
_SMALLEST = 24  # pixels, of a tile
_SMALL = 64  # pixels: a network made for pictures up to here is shown at its own size
_STRIDES = 10  # the receptive field where a gate sees everything: about so many strides in the networks measured


def suited(graph: Graph, layer: Layer, size: tuple[int, int] | None = None) -> Preset:
    """The recipe for the layer's units.

    * ``objects`` for classes and whatever else has no map;
    * ``parts`` where a position sees at least twice the picture's side, and half of it is not too small to begin with;
    * ``tile`` where the user names no size and ``FIELDS`` receptive fields are at most half the side;
    * ``strongest`` in between.

    Args:
        graph: the model.
        layer: where the units are.
        size: (height, width) of the pictures, if the user names it.
    """
    field = _field(layer)
    if field is None:
        return PRESETS["objects"]
    side = min(size or _usual(graph))
    if field >= 2 * side and side >= PRESETS["parts"].size:
        return PRESETS["parts"]
    if size is None and FIELDS * field <= side / 2 and not _is_small(graph):
        return PRESETS["tile"]
    return PRESETS["strongest"]


def default_size(graph: Graph, layer: Layer | None, recipe: Preset) -> tuple[int, int]:
    """(height, width) of the pictures where the user names none.

    The model's own where it is made for small pictures, behind a head, which may take no other, and where its input is
    a signal, a spectrum or a volume; a tile's follows the receptive field; otherwise the recipe's.
    """
    if graph.own_input is not None or _is_small(graph) or (layer is not None and not layer.is_spatial):
        return graph.image_size
    field = None if layer is None else _field(layer)
    if recipe.name == "tile" and field is not None:
        side = max(_SMALLEST, min(FIELDS * field, recipe.size))
        return side, side
    return recipe.size, recipe.size


def _field(layer: Layer) -> int | None:
    """The side of what one position sees, pixels; None for layers without a map."""
    seen = layer.receptive_field
    if seen is None or not layer.is_spatial:
        return None
    return max(seen.size) if seen.size is not None else round(_STRIDES * max(seen.stride))


def _usual(graph: Graph) -> tuple[int, int]:
    return graph.image_size if _is_small(graph) else (PRESETS["strongest"].size,) * 2


def _is_small(graph: Graph) -> bool:
    return min(graph.image_size) <= _SMALL
