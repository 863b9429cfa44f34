"""The best images of each unit as pictures: where it is excited in them, and the rows of the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import RefusedInput
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..pictures.crops import crop, input_box, plane
from ..pictures.given import Source
from ..pictures.read import Picture, stream
from ..render.artifacts import to_uint8
from .fields import Peak, effective_boxes, path_of, spotlight
from .topk import TopImages

TILE = 96  # pixels, the longer side of a crop


def rows(graph: Graph, layer: Layer, found: TopImages, units: Sequence[int]) -> list[dict[str, Any]]:
    """Units with their images, best first, for ``result.json``.

    Each image has its value, the row and column of the maximum in the feature map, and the box (top, left, bottom,
    right) that it sees, in pixels of the model's input.
    """
    width = plane(layer)[1]
    listed, nans = [], found.nans
    for unit in units:
        best = []
        for value, name, place in zip(found.values[unit], found.images[unit], found.places[unit], strict=True):
            if name:
                row, column = divmod(int(place), width)
                box = list(input_box(graph, layer, row, column))
                best.append({"image": str(name), "value": float(value), "row": row, "column": column, "box": box})
        listed.append({"unit": int(unit), "nan_images": int(nans[unit]), "top": best})
    return listed


def add_fields(
    graph: Graph,
    found: Sequence[tuple[Layer, Sequence[dict[str, Any]]]],
    pictures: Mapping[str, Source],
    device: str = "auto",
    field: str = "map",
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Adds ``where`` to every image of `rows`: the effective field, in pixels of the model's input; see `fields`.

    Every picture runs through the model once more, for all layers together; for gradients see `effective_boxes`.
    ``advance`` is called after every picture.

    Raises:
        UsageError, UnsupportedOperator: as `effective_boxes`.
        RefusedInput: a picture that was read before cannot be read any more.
    """
    peaks: dict[str, list[Peak]] = {}
    places: dict[str, list[dict[str, Any]]] = {}
    for layer, units in found:
        width = plane(layer)[1]
        for unit in units:
            for best in unit["top"]:
                peak = Peak(layer, unit["unit"], best["row"] * width + best["column"])
                peaks.setdefault(best["image"], []).append(peak)
                places.setdefault(best["image"], []).append(best)
    for name, boxes in effective_boxes(graph, peaks, pictures, device, field):
        for best, box in zip(places[name], boxes, strict=True):
            best["where"] = list(box)
        advance()


def strips(
    graph: Graph,
    units: Sequence[Mapping[str, Any]],
    pictures: Mapping[str, Source],
    advance: Callable[[], None] = lambda: None,
    *,
    field: bool = False,
) -> dict[int, np.ndarray]:
    """Unit -> its crops side by side, (TILE, n * (TILE + 2) - 2, 3) uint8, white around those that are not square.

    A crop shows where the unit is excited, with its surroundings darkened, or with ``field`` all that it sees.

    Args:
        graph: its preprocessing says which part of a picture the model saw.
        units: as from `rows`, with what `add_fields` adds unless ``field`` is asked for.
        pictures: name -> file; each is decoded once.
        advance: called after every picture.
        field: show the theoretical receptive field.

    Raises:
        RefusedInput: a picture that was read before cannot be read any more.
    """
    wanted: dict[str, list[tuple[int, int, tuple[int, int, int, int]]]] = {}
    sheets: dict[int, np.ndarray] = {}
    for unit in units:
        count = len(unit["top"])
        if count:
            sheets[unit["unit"]] = np.full((TILE, count * (TILE + 2) - 2, 3), 255, np.uint8)
        for rank, best in enumerate(unit["top"]):
            wanted.setdefault(best["image"], []).append((unit["unit"], rank, tuple(best["box" if field else "where"])))
    by_path = {path_of(pictures[name]): places for name, places in wanted.items()}

    def cut(picture: Picture) -> list[tuple[int, int, np.ndarray]]:
        places = by_path[Path(picture.path)]
        shown = crop if field else spotlight
        return [(unit, rank, to_uint8(shown(graph, picture.pixels, box, TILE))) for unit, rank, box in places]

    for _, pieces in stream([pictures[name] for name in wanted], cut):
        if isinstance(pieces, RefusedInput):
            raise pieces
        for number, rank, piece in pieces:
            top, left = (TILE - piece.shape[0]) // 2, rank * (TILE + 2) + (TILE - piece.shape[1]) // 2
            sheets[number][top : top + piece.shape[0], left : left + piece.shape[1]] = piece
        advance()
    return sheets
