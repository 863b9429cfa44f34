"""Where a position of a layer lies in a picture, and the piece of the picture that it sees."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..graph.graph import Graph
from ..graph.layers import Layer
from .framing import framed
from .read import border, luma, resize

Box = tuple[int, int, int, int]
_MOSTLY_BESIDE = 16  # times the picture's pixels: a window so large lies beside the picture nearly everywhere


def seen_box(graph: Graph, size: tuple[int, int]) -> Box:
    """(top, left, bottom, right) of the part of a picture of this size that the model sees, in its pixels."""
    top, left, bottom, right = _shown(graph, size)
    height, width = size
    return max(round(top), 0), max(round(left), 0), min(round(bottom), height), min(round(right), width)


def whole_input(graph: Graph, size: tuple[int, int]) -> Box:
    """(top, left, bottom, right) of the model's whole input in pixels of a picture of this size, whole numbers.

    They lie outside the picture where that is padded, as a letterboxed one is.
    """
    top, left, bottom, right = (round(side) for side in _shown(graph, size))
    return top, left, max(bottom, top + 1), max(right, left + 1)


def onto_picture(
    graph: Graph, plane: np.ndarray, size: tuple[int, int], enlarge: Callable[[np.ndarray, tuple[int, int]], np.ndarray]
) -> np.ndarray:
    """What lies over the model's input, over the picture: (H, W) of the plane's type, 0 where the model saw nothing.

    Args:
        graph: its preprocessing says which part of the picture the input shows, and what is beside it.
        plane: (h, w), of any size.
        size: (H, W) of the picture.
        enlarge: brings the plane to a (height, width).
    """
    place = whole_input(graph, size)
    if (place[2] - place[0]) * (place[3] - place[1]) > _MOSTLY_BESIDE * size[0] * size[1]:
        plane, place = _visible(plane, place, size)
    top, left, bottom, right = place
    large = enlarge(plane, (bottom - top, right - left))
    found = np.zeros(size, dtype=large.dtype)
    rows, columns = slice(max(top, 0), min(bottom, size[0])), slice(max(left, 0), min(right, size[1]))
    found[rows, columns] = large[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    return found


def _visible(plane: np.ndarray, place: Box, size: tuple[int, int]) -> tuple[np.ndarray, Box]:
    """The cells of a plane that a picture shows, and one more on each side, with their place in it.

    A strip of a picture is a line in its letterbox, which at the picture's own scale would fill the memory.
    """
    spans, sides = [], []
    for axis, length in enumerate(size):
        first, cells = place[axis], plane.shape[axis]
        step = (place[axis + 2] - first) / cells
        low = max(int(np.floor(-first / step)) - 1, 0)
        high = min(int(np.ceil((length - first) / step)) + 1, cells)
        spans.append(slice(low, high))
        sides.append((round(first + low * step), round(first + high * step)))
    return plane[tuple(spans)], (sides[0][0], sides[1][0], sides[0][1], sides[1][1])


def _shown(graph: Graph, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The model's whole input in a picture's pixels; beyond the picture where that is padded."""
    frame = framed(*size, graph.image_size, graph.preprocessing)
    rows, columns = size[0] / frame.resized[0], size[1] / frame.resized[1]
    top, left = frame.top * rows, frame.left * columns
    return top, left, top + frame.size[0] * rows, left + frame.size[1] * columns


def plane(layer: Layer) -> tuple[int, int]:
    """(rows, columns) of a layer's feature maps at the graph's image size; (1, 1) where it has none."""
    if layer.tokens is not None:
        return layer.tokens.rows, layer.tokens.columns
    if not layer.is_spatial:
        return 1, 1
    rows, columns = (s or 1 for a, s in enumerate(layer.shape) if a not in (0, layer.channel_axis))
    return rows, columns


def input_box(graph: Graph, layer: Layer, row: int, column: int) -> Box:
    """(top, left, bottom, right) of what a position sees, in pixels of the model's input, cut to the input.

    A layer without a receptive field sees the whole input.
    """
    return input_box_of(layer, graph.image_size, row, column)


def input_box_of(layer: Layer, size: tuple[int, int], row: int, column: int) -> Box:
    """As `input_box`, for an input of that (height, width)."""
    height, width = size
    box = layer.receptive_field.box(row, column) if layer.receptive_field is not None else None
    if box is None:
        return 0, 0, height, width
    top, left = min(max(int(np.floor(box[0])), 0), height - 1), min(max(int(np.floor(box[1])), 0), width - 1)
    bottom, right = min(int(np.ceil(box[2])), height), min(int(np.ceil(box[3])), width)
    return top, left, max(bottom, top + 1), max(right, left + 1)


def crop(graph: Graph, pixels: np.ndarray, box: Box, side: int) -> np.ndarray:
    """What ``box`` of the model's input shows, cut from the picture at its own resolution.

    Args:
        graph: its preprocessing says which part of the picture is the input.
        pixels: (H, W, 3) in [0, 1].
        box: as from `input_box`.
        side: the longer side of the result.

    Returns:
        (rows, columns, 3) float32 in [0, 1] with the picture's own aspect, grey for a model of one channel; enlarged
        pixels stay square. Where the input
        is larger than the picture, as of a letterbox, the border around it is in the piece as the model sees it.
    """
    top, left, bottom, right = _shown(graph, (pixels.shape[0], pixels.shape[1]))
    rows, columns = (bottom - top) / graph.image_size[0], (right - left) / graph.image_size[1]
    inside = (top + box[0] * rows, left + box[1] * columns, top + box[2] * rows, left + box[3] * columns)
    if is_padded(graph, (pixels.shape[0], pixels.shape[1])):
        height, width = inside[2] - inside[0], inside[3] - inside[1]
        scale = side / max(height, width)
        size = max(round(height * scale), 1), max(round(width * scale), 1)
        return _coloured(graph, _with_border(graph, pixels, inside, size))
    first_row = min(max(int(inside[0]), 0), pixels.shape[0] - 1)
    first_column = min(max(int(inside[1]), 0), pixels.shape[1] - 1)
    last_row = max(round(inside[2]), first_row + 1)
    last_column = max(round(inside[3]), first_column + 1)
    piece = pixels[first_row:last_row, first_column:last_column]
    scale = side / max(piece.shape[:2])
    size = max(round(piece.shape[0] * scale), 1), max(round(piece.shape[1] * scale), 1)
    return _coloured(graph, resize(piece, size, "nearest" if scale > 2 else "bilinear").clip(0, 1))


def is_padded(graph: Graph, size: tuple[int, int]) -> bool:
    """Whether the model's input is larger than a picture of this size anywhere, and shows a border beside it."""
    return framed(*size, graph.image_size, graph.preprocessing).pads


def seen(graph: Graph, pixels: np.ndarray, largest: tuple[int, int]) -> np.ndarray:
    """All that the model sees of a picture, its border too, at the picture's resolution where that fits.

    Args:
        graph: its preprocessing says what that is.
        pixels: (H, W, C) in [0, 1].
        largest: (rows, columns) of the result at most.

    Returns:
        (rows, columns, C) float32 in [0, 1], grey for a model of one channel.
    """
    size = pixels.shape[0], pixels.shape[1]
    padded = is_padded(graph, size)
    whole = _shown(graph, size) if padded else seen_box(graph, size)
    height, width = whole[2] - whole[0], whole[3] - whole[1]
    scale = min(largest[0] / height, largest[1] / width, 1.0)
    target = max(round(height * scale), 1), max(round(width * scale), 1)
    if padded:
        return _coloured(graph, _with_border(graph, pixels, whole, target))
    top, left, bottom, right = seen_box(graph, size)
    return _coloured(graph, resize(pixels[top:bottom, left:right], target).clip(0, 1))


def _coloured(graph: Graph, piece: np.ndarray) -> np.ndarray:
    """A piece (H, W, C) in the colours that the model sees: a model of one channel sees none."""
    if graph.channels != 1 or piece.shape[2] != 3:
        return piece
    return np.repeat(luma(piece)[:, :, None], 3, axis=2)


def _with_border(
    graph: Graph, pixels: np.ndarray, inside: tuple[float, float, float, float], size: tuple[int, int]
) -> np.ndarray:
    """A piece of a picture, which may reach beyond it, as (rows, columns, C) of ``size``."""
    found = np.empty((*size, pixels.shape[2]), np.float32)
    found[:] = border(graph.preprocessing, pixels.shape[2])
    spans = []
    for axis in (0, 1):
        low, high, length = inside[axis], inside[axis + 2], pixels.shape[axis]
        scale = size[axis] / (high - low)
        first, last = min(max(int(low), 0), length), min(max(round(high), 0), length)
        start, end = round((first - low) * scale), round((last - low) * scale)
        if last <= first or min(end, size[axis]) <= max(start, 0):
            return found
        spans.append((first, last, start, max(end, start + 1), scale))
    (top, bottom, up, down, scale), (left, right, west, east, _) = spans
    kind = "nearest" if scale > 2 else "bilinear"
    piece = resize(pixels[top:bottom, left:right], (down - up, east - west), kind).clip(0, 1)
    rows, columns = slice(max(up, 0), min(down, size[0])), slice(max(west, 0), min(east, size[1]))
    found[rows, columns] = piece[rows.start - up : rows.stop - up, columns.start - west : columns.stop - west]
    return found
