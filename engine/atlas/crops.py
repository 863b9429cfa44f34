"""The best photographs of every unit: where in them the reason lies, and the photographs themselves, small."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import RefusedInput
from ..activations.fields import Peak, effective_boxes
from ..graph.graph import Graph
from ..kept import arrays
from ..pictures.crops import seen
from ..pictures.read import Picture, stream
from ..render.artifacts import npz_bytes, to_pillow
from .files import Files
from .leases import Leases, together
from .numbers import Chunk, Numbers, best_shown, chunk_name, damaged
from .plan import Plan, digest

_BOXES, _PHOTOS = "store/fields", "store/photographs"
_SHARPER, _MOST = 2, 448  # a stored photograph is that much larger than the model's input, in pixels at most
_QUALITY = 85
_FORM = 2  # of the copy; another for what an earlier version kept otherwise

Wanted = dict[str, list[tuple[int, int, int, int]]]  # photograph -> (layer, unit, rank, place) of units it is best for


def wanted_boxes(plan: Plan, numbers: Numbers) -> Wanted:
    """For every photograph the units that it is one of the best for."""
    found: Wanted = {}
    for planned in plan.layers:
        figures = numbers.layer(planned.layer)
        for unit in range(planned.units):
            for rank, (name, _, place) in enumerate(best_shown(figures, unit)):
                found.setdefault(name, []).append((planned.layer.index, unit, rank, place))
    return found


def photograph_name(plan: Plan, sha256: str) -> str:
    """Where a photograph's small copy is."""
    look = [plan.model["image_size"], plan.model["preprocessing"]["resize"], plan.model["preprocessing"]["crop"]]
    return f"{_PHOTOS}/{digest([sha256, look, _SHARPER, _MOST, _QUALITY, _FORM])}.webp"


def find_boxes(
    files: Files,
    graph: Graph,
    plan: Plan,
    numbers: Numbers,
    pictures: Mapping[str, Path],
    device: str,
    leases: Leases,
    advance: Callable[[int], None] = lambda count: None,
) -> None:
    """Finds and keeps the effective fields in all photographs that are best for a unit, part by part."""
    layers = {planned.layer.index: planned.layer for planned in plan.layers}
    parts = _parts(plan, numbers)

    def find(name: str) -> None:
        chunk, here = parts[name]
        peaks = {n: [Peak(layers[la], u, p) for la, u, _, p in rows] for n, rows in here.items()}
        boxes = {
            n: np.array(found, np.int32) for n, found in effective_boxes(graph, peaks, pictures, device, plan.field)
        }
        keys = [[la, u, r] for n in here for la, u, r, _ in here[n]]
        kept = {
            "keys": np.array(keys, np.int32).reshape(-1, 3),
            "boxes": np.concatenate([np.zeros((0, 4), np.int32), *(boxes[n] for n in here)]),
        }
        files.write(name, npz_bytes(kept))
        advance(len(chunk))

    together(leases, {name: partial(find, name) for name in parts})
    for chunk, here in parts.values():
        _keep_photographs(files, graph, plan, {n: pictures[n] for n in here}, dict(chunk))


def read_boxes(files: Files, plan: Plan, numbers: Numbers) -> dict[tuple[int, int, int], list[int]]:
    """(layer, unit, rank) -> (top, left, bottom, right) in the model's input, of what is found so far."""
    found: dict[tuple[int, int, int], list[int]] = {}
    for name in _parts(plan, numbers):
        try:
            data = files.read(name)
        except FileNotFoundError:
            continue
        try:
            archive = arrays(data)
            keys, boxes = archive["keys"], archive["boxes"]
            if not _are_boxes(keys, boxes, plan.model["image_size"]):
                raise ValueError(name)
            found.update({tuple(key): box for key, box in zip(keys.tolist(), boxes.tolist(), strict=True)})
        except (ValueError, KeyError):
            raise damaged(f"{files.place}/{name}") from None
    return found


def _are_boxes(keys: np.ndarray, boxes: np.ndarray, size: Sequence[int]) -> bool:
    """Whether they are (n, 3) and (n, 4) whole numbers, and every box has pixels of an input of that size."""
    if keys.dtype.kind != "i" or boxes.dtype.kind != "i" or keys.shape[1:] != (3,) or boxes.shape[1:] != (4,):
        return False
    if len(keys) != len(boxes):
        return False
    first, after = boxes[:, :2], boxes[:, 2:]
    return bool(((first >= 0) & (first < after) & (after <= np.array(size))).all())


def kept_names(plan: Plan, numbers: Numbers) -> list[str]:
    """The files that `find_boxes` keeps."""
    parts, sums = _parts(plan, numbers), dict(plan.photographs)
    return [*parts, *sorted({photograph_name(plan, sums[name]) for _, here in parts.values() for name in here})]


def _parts(plan: Plan, numbers: Numbers) -> dict[str, tuple[Chunk, Wanted]]:
    """Name of the file of a part's boxes -> the part, and what is wanted of it."""
    wanted = wanted_boxes(plan, numbers)
    parts = {}
    for chunk in plan.chunks():
        here = {name: wanted[name] for name, _ in chunk if name in wanted}
        parts[_boxes_name(plan, chunk, here)] = (chunk, here)
    return parts


def _boxes_name(plan: Plan, chunk: Chunk, wanted: Wanted) -> str:
    rows = [[name, [list(row) for row in wanted[name]]] for name in wanted]
    return f"{_BOXES}/{digest([chunk_name(plan, chunk), rows, plan.field])}.npz"


def _keep_photographs(
    files: Files, graph: Graph, plan: Plan, pictures: Mapping[str, Path], sums: Mapping[str, str]
) -> None:
    """Keeps what the model sees of each photograph, at up to twice its input's size."""
    missing = {n: path for n, path in pictures.items() if not files.has(photograph_name(plan, sums[n]))}

    def shrink(picture: Picture) -> bytes:
        height, width = (min(_SHARPER * side, max(_MOST, side)) for side in graph.image_size)
        pixels = seen(graph, picture.pixels, (height, width))
        buffer = io.BytesIO()
        to_pillow(pixels).save(buffer, format="WEBP", quality=_QUALITY, method=4)
        return buffer.getvalue()

    by_path = {path: name for name, path in missing.items()}
    for path, data in stream(list(by_path), shrink):
        if isinstance(data, RefusedInput):
            raise data
        files.write(photograph_name(plan, sums[by_path[path]]), data)
