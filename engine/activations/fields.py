"""Where in a picture the reason lies for a unit's largest value.

Behind a few layers the theoretical receptive field is the whole picture, and a crop of it explains nothing. The
effective field here is the part of the theoretical one in which the unit's own map, around its maximum and connected
with it, is above half of it (the threshold idea of Bau et al. 2017, arXiv:1704.05796, at one half of the maximum
instead of a quantile; effective fields are small: Luo et al. 2016, arXiv:1701.04128).

Asked for, it is where the gradient of that value with respect to the picture is, which tells pixels where a map's
places are coarse, and finds the place of units that have no map: dense layers, classes. It costs a pass back per unit
and picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import RefusedInput, UsageError, instead
from ..executors.exact import grad
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..pictures.crops import Box, crop, input_box, plane
from ..pictures.given import Source
from ..pictures.read import Picture, model_input
from ..pictures.read import stream as read_pictures
from .stream import run_batches

FIELDS = ("map", "gradient")
_CORNERS = 0.05  # of the gradient's square that the field leaves out on each of its four sides
_AT_ONCE = 8  # units that one pass back is made for
SHARE = 0.5  # of the maximum, from which a place counts as excited
_CONTEXT, _LEAST = 1.6, 0.25  # a window is so much larger than its field, and at least that share of the short side


def check_field(field: str) -> None:
    """Raises UsageError for a way to find the effective field that there is not."""
    if field not in FIELDS:
        raise UsageError(f"field '{field}' is unknown; choose {' or '.join(FIELDS)}")


@dataclass(frozen=True)
class Peak:
    """The place of a unit's largest value in a picture; ``place`` is its flat position in the map."""

    layer: Layer
    unit: int
    place: int


def effective_box(graph: Graph, layer: Layer, values: np.ndarray, row: int, column: int) -> Box:
    """(top, left, bottom, right) of the effective field of a position, in pixels of the model's input.

    Args:
        graph: the model.
        layer: whose map it is; one without maps sees the whole picture.
        values: (rows, columns) the unit's map.
        row: of its maximum.
        column: of its maximum.
    """
    from scipy.ndimage import find_objects, label

    field = input_box(graph, layer, row, column)
    if values.size < 2:
        return field
    most = values[row, column]
    above = values >= SHARE * most if most > 0 else values == most
    above[row, column] = True
    parts, _ = label(above)
    rows, columns = find_objects((parts == parts[row, column]).astype(np.int8))[0]
    box = []
    for axis, part in enumerate((rows, columns)):
        step, first = _grid(graph, layer, axis)
        box.append((first + part.start * step - step / 2, first + (part.stop - 1) * step + step / 2))
    (top, bottom), (left, right) = box
    top, left = max(int(np.floor(top)), field[0]), max(int(np.floor(left)), field[1])
    bottom, right = min(int(np.ceil(bottom)), field[2]), min(int(np.ceil(right)), field[3])
    return (top, left, bottom, right) if bottom > top and right > left else field


def _grid(graph: Graph, layer: Layer, axis: int) -> tuple[float, float]:
    """(step, place of the first position's centre) of a map's positions in input pixels."""
    field = layer.receptive_field
    if field is None or field.size is None or field.table is not None:
        step = graph.image_size[axis] / plane(layer)[axis]
        return step, step / 2
    return max(field.stride[axis], 1.0), field.offset[axis] + field.size[axis] / 2


def window(graph: Graph, box: Box) -> Box:
    """The square around a field, with context, that is shown: as far as it fits inside the model's input."""
    height, width = graph.image_size
    side = max(_CONTEXT * max(box[2] - box[0], box[3] - box[1]), _LEAST * min(height, width))
    spans = []
    for low, high, size in ((box[0], box[2], height), (box[1], box[3], width)):
        length = min(max(round(side), 1), size)
        start = min(max(round((low + high - length) / 2), 0), size - length)
        spans.append((start, start + length))
    return spans[0][0], spans[1][0], spans[0][1], spans[1][1]


def effective_boxes(
    graph: Graph,
    wanted: Mapping[str, Sequence[Peak]],
    pictures: Mapping[str, Source],
    device: str = "auto",
    field: str = "map",
) -> Iterator[tuple[str, list[Box]]]:
    """(name, a box for each of its peaks) of every picture.

    Each picture runs through the model once, or for gradients forward and back once for every layer and eight units.

    Args:
        graph: the model.
        wanted: picture's name -> peaks in it.
        pictures: name -> file or picture.
        device: "auto", "cpu" or "cuda[:n]".
        field: "map" or "gradient", as the module says.

    Raises:
        UsageError: ``field`` is unknown. UnsupportedOperator: no gradient leads from a layer to the picture.
        RefusedInput: a picture that was read before cannot be read any more.
    """
    check_field(field)
    if field == "gradient":
        yield from _by_gradient(graph, wanted, pictures, device)
        return

    def refuse(_path: Path, error: RefusedInput) -> None:
        raise error

    names = [name for name in wanted if wanted[name]]
    layers = {peak.layer.tensor: peak.layer for name in names for peak in wanted[name] if peak.layer.has_maps}
    if not layers:
        yield from ((name, [input_box(graph, p.layer, 0, 0) for p in wanted[name]]) for name in names)
        return
    session = graph.session(list(layers), device=device)
    by_path = {path_of(pictures[name]): name for name in names}
    for _, paths, values in run_batches(session, graph, [pictures[name] for name in names], 1, None, 2, refuse):
        name = by_path[paths[0]]
        maps = {t: np.asarray(la.maps(values[t]), dtype=np.float32)[0] for t, la in layers.items()}
        yield name, [_of_peak(graph, peak, maps) for peak in wanted[name]]


def _of_peak(graph: Graph, peak: Peak, maps: Mapping[str, np.ndarray]) -> Box:
    if not peak.layer.has_maps:
        return input_box(graph, peak.layer, 0, 0)
    values = maps[peak.layer.tensor][peak.unit]
    row, column = divmod(peak.place, values.shape[1])
    return effective_box(graph, peak.layer, values, row, column)


def gradient_box(gradient: np.ndarray, within: Box) -> Box:
    """(top, left, bottom, right) of where a gradient is.

    Args:
        gradient: (C, H, W) of a unit's value with respect to the model's input.
        within: the theoretical receptive field, outside of which there is none.

    Returns:
        The box that leaves out a twentieth of the gradient's square above, below, left and right of it; ``within``
        where the gradient is zero.
    """
    top, left, bottom, right = within
    energy = np.square(gradient.astype(np.float64)).sum(axis=0)[top:bottom, left:right]
    total = energy.sum()
    if not np.isfinite(total) or total <= 0:
        return within
    spans = []
    for axis, first in ((1, top), (0, left)):
        share = np.cumsum(energy.sum(axis=axis)) / total
        low, high = int(np.searchsorted(share, _CORNERS)), int(np.searchsorted(share, 1 - _CORNERS))
        spans.append((first + low, first + min(high, len(share) - 1) + 1))
    return spans[0][0], spans[1][0], spans[0][1], spans[1][1]


def _by_gradient(
    graph: Graph, wanted: Mapping[str, Sequence[Peak]], pictures: Mapping[str, Source], device: str
) -> Iterator[tuple[str, list[Box]]]:
    """As `effective_boxes`, layer by layer, so that one cut of the model is held at a time."""
    found: dict[str, list[Box | None]] = {name: [None] * len(peaks) for name, peaks in wanted.items() if peaks}
    layers = {peak.layer.tensor: peak.layer for name in found for peak in wanted[name]}
    for layer in layers.values():
        here = {n: [i for i, p in enumerate(wanted[n]) if p.layer.tensor == layer.tensor] for n in found}
        by_path = {path_of(pictures[name]): name for name, places in here.items() if places}
        gradients = _Gradients(graph, layer, device)
        for path, x in read_pictures([pictures[name] for name in by_path.values()], lambda p: model_input(p, graph)):
            if isinstance(x, RefusedInput):
                raise x
            name = by_path[path]
            for places, part in gradients.of(x, [(i, wanted[name][i]) for i in here[name]]):
                for i, gradient in zip(places, part, strict=True):
                    row, column = divmod(wanted[name][i].place, plane(layer)[1])
                    found[name][i] = gradient_box(gradient, input_box(graph, layer, row, column))
    yield from ((name, [box for box in boxes if box is not None]) for name, boxes in found.items())


class _Gradients:
    """Gradients of units of one layer with respect to the model's input.

    Behind a gate (ReLU, Clip) they are those of what the gate reads: where it is saturated it lets nothing back.
    """

    def __init__(self, graph: Graph, layer: Layer, device: str) -> None:
        from ..ascent.network import before_activation
        from ..executors.devices import torch_device

        self._layer, self._tensor = layer, before_activation(graph, layer) or layer.tensor
        self._device = torch_device(device)
        self._batch = graph.batch_axes.get(self._tensor, 0)
        with instead("take field=map, which needs none"):
            graph.require_gradient([self._tensor])
            self._twin = graph.twin([self._tensor], device=str(self._device))

    def of(self, x: np.ndarray, peaks: Sequence[tuple[int, Peak]]) -> Iterator[tuple[list[int], np.ndarray]]:
        """(numbers of the peaks, (n, C, H, W) gradients) in parts, for the input ``x`` (1, C, H, W)."""
        import torch

        for first in range(0, len(peaks), _AT_ONCE):
            part = peaks[first : first + _AT_ONCE]
            batch = torch.from_numpy(np.repeat(x, len(part), axis=0)).to(self._device).requires_grad_()
            values = self._values(batch)
            picked = [values[i, peak.unit, peak.place] for i, (_, peak) in enumerate(part)]
            (found,) = grad(torch.stack(picked).sum(), batch)
            yield [number for number, _ in part], found.cpu().numpy()

    def _values(self, batch: Any) -> Any:
        """(n, units, places); of a layer without maps the one place is 0."""
        values = self._twin.only(batch).movedim(self._batch, 0)
        found = self._layer.maps(values) if self._layer.has_maps else self._layer.channels_first(values)
        return found.reshape(*found.shape[:2], -1)


def path_of(picture: Source) -> Path:
    """What tells a picture from the others."""
    return Path(picture.path) if isinstance(picture, Picture) else picture


def spotlight(graph: Graph, pixels: np.ndarray, box: Box, side: int) -> np.ndarray:
    """A field in its `window`, what is around it darkened: (rows, columns, 3) float32 in [0, 1].

    Args:
        graph: its preprocessing says which part of a picture the model sees.
        pixels: (H, W, 3) in [0, 1].
        box: the field, in pixels of the model's input.
        side: the longer side of the result.
    """
    frame = window(graph, box)
    piece = crop(graph, pixels, frame, side)
    rows, columns = piece.shape[0] / (frame[2] - frame[0]), piece.shape[1] / (frame[3] - frame[1])
    top, bottom = round((box[0] - frame[0]) * rows), round((box[2] - frame[0]) * rows)
    left, right = round((box[1] - frame[1]) * columns), round((box[3] - frame[1]) * columns)
    shown = piece * np.float32(_DIMMED)
    shown[top:bottom, left:right] = piece[top:bottom, left:right]
    return shown


_DIMMED = 0.4  # of the brightness
