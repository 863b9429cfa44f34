"""The size of the picture where the file leaves it open: stated somewhere, or found by trying.

Stated by the user, by preprocessing in or beside the file, by metadata, or by constants of the network (`derived`).
Otherwise usual sizes are tried in the order below until the network runs. What was taken, and why, is said.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..engine.graph.graph import DEFAULT_SIZE, Graph
from ..engine.graph.layers import Shape
from ..errors import RefusedInput, UnsafeFile, UnsupportedOperator
from .check import random_inputs
from .derived import Derived
from .guard import MAX_CHECKED, MAX_WORK, check_values, check_work
from .preprocessing import MAX_SIZE
from .wall.limits import allow

Size = tuple[int, int]

_SQUARES = (DEFAULT_SIZE, 256, 320, 299, 416, 512, 640, 384, 128, 64, 32, 28, 48, 96, 112, 160, 192, 240, 300, 600)
_LINES = (320, 160, 100, 128, 256, 512, 200)  # widths of a line of text of fixed height
_LINE = (48, 320)  # PaddleOCR's recognizers, which leave both open
_SAMPLES = (512, 1024, 2048, 4096, 8000, 16000, 32000, 48000, 160000)  # of a signal
_FRAMES = (96, 100, 128, 64, 200, 256, 300, 400, 32)  # of a spectrum with a fixed number of bands
_BYTES = 8  # per value of one image in ONNX Runtime
_KEYS = ("imgsz", "input_size", "image_size", "input_shape", "img_size")


def stated_size(metadata: Mapping[str, str]) -> Size | None:
    """(height, width) out of a file's metadata, None where none says one that makes sense."""
    for key in _KEYS:
        value = _parsed(metadata.get(key, ""))
        sides = [value, value] if isinstance(value, int) else value
        if isinstance(sides, list):
            sides = [s for s in sides if isinstance(s, int) and s > 4] if len(sides) > 2 else sides
            if len(sides) == 2 and all(type(s) is int and 1 <= s <= MAX_SIZE for s in sides):
                return sides[0], sides[1]
    return None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text.replace("(", "[").replace(")", "]")) if len(text) < 200 else None
    except (ValueError, RecursionError):
        return None


def candidates(shape: tuple[int | None, ...], reads_text: bool) -> Iterator[Size]:
    """Sizes to try for an input (N, C, H, W) with open sides, the most usual first."""
    height, width = shape[2:4] if len(shape) == 4 else (None, None)
    if height == 1:
        yield from ((1, samples) for samples in _SAMPLES)
    elif height is not None:
        yield from ((height, side) for side in _LINES)
    elif width is not None:
        yield from ((side, width) for side in (_FRAMES if shape[1] == 1 else _SQUARES))
    if reads_text and height is None:
        yield _LINE
    for side in _SQUARES:
        yield height or side, width or side
    if height is None and width is None:
        yield _LINE


def find_size(
    build: Callable[[Size | None], Graph],
    reads_text: bool,
    tries: int,
    derived: Derived | None = None,
    runs: Callable[[Graph, Size], bool] = lambda graph, size: False,
) -> Graph:
    """The graph at the first size that it runs at.

    Args:
        build: makes the graph for a picture of a size, of no size in particular at first; called anew for each try.
        reads_text: whether the file says that it reads lines of text.
        tries: how many sizes may be tried; each is an import.
        derived: what the network's constants ask for; tried first.
        runs: whether a graph is known to run at a size, from an earlier search on the same file.

    Raises:
        RefusedInput: it runs at none of the usual sizes; the message is that of the first try, and alone where no
            try even imports it, all for the same reason, since it is no size then that is missing.
    """
    graph, first = _attempt(build, derived.size if derived is not None else None)
    shape: Shape = (None, 3, None, None)
    if graph is not None:
        shape = tuple(None if axis in graph.decided else s for axis, s in enumerate(graph.inputs[0].shape))
    if graph is not None and (len(shape) != 4 or (shape[2] is not None and shape[3] is not None)):
        return graph
    tried: list[Size] = []
    reasons = {str(first)}
    large: tuple[Graph, Size] | None = None  # the first usual size of a picture that makes more than may be checked
    before = [derived.size] if derived is not None else []
    for size in list(dict.fromkeys([*before, *candidates(shape, reads_text)]))[:tries]:
        if large is not None and size[0] * size[1] >= large[1][0] * large[1][1]:
            continue
        tried.append(size)
        is_made = graph is not None and size == graph.image_size
        found, error = (graph, None) if is_made else _attempt(build, size)
        if found is not None:
            if not (derived is not None and size == derived.size) and _is_large(found, size):
                large = large or (found, size)
                continue
            try:
                if not runs(found, size):
                    _run(found, size)
                return _said(found, size, tried, derived)
            except RefusedInput as refusal:
                error = refusal
        first = first or error
        reasons.add("" if found is not None else str(error))
    if first is not None and reasons == {str(first)}:
        raise first
    if large is not None:
        return _said(*large, [large[1]], derived)
    listed = ", ".join(f"{h}x{w}" for h, w in tried[:6])
    raise RefusedInput(
        f"the file leaves the picture's size open, and the network runs at none of those tried ({listed}): {first}; "
        "give load(size=(HEIGHT, WIDTH))"
    ) from first


def _attempt(build: Callable[[Size | None], Graph], size: Size | None) -> tuple[Graph | None, RefusedInput | None]:
    """(the graph, None), or (None, why the file is refused at this size); what no size mends is raised."""
    try:
        return build(size), None
    except (UnsafeFile, UnsupportedOperator):
        raise
    except RefusedInput as error:
        return None, error


def _run(graph: Graph, size: Size) -> None:
    """One random picture through ONNX Runtime, where that costs no more than the check at import may.

    Raises:
        RefusedInput: it fails, or nothing of an output is left.
    """
    if _is_large(graph, size):
        return
    allow(_BYTES * check_values(graph, size))
    names = [o.name for o in graph.outputs]
    results = graph.session(names, device="cpu").run(random_inputs(graph, size, 1, 0))
    if not all(np.size(value) for value in results.values()):
        raise RefusedInput(f"a picture of {size[0]}x{size[1]} leaves nothing of an output")


def _is_large(graph: Graph, size: Size) -> bool:
    """Whether a picture of this size makes more values or takes more work than may be spent on a check."""
    return check_values(graph, size) > MAX_CHECKED or check_work(graph, size) > MAX_WORK


def _said(graph: Graph, size: Size, tried: list[Size], derived: Derived | None) -> Graph:
    """The graph with the size in its preprocessing and a note."""
    failed = ", ".join(f"{h}x{w}" for h, w in tried[:-1][:6])
    why = f"the first usual size that it runs at, after {failed}" if failed else "it runs there"
    if derived is not None and size == derived.size:
        why = derived.reason
    taken = f"the file leaves the picture's size open; {size[0]}x{size[1]} is taken: {why}"
    note = f"{taken}. Another: load(size=(HEIGHT, WIDTH))"
    source = replace(graph.source, notes=(*graph.source.notes, note))
    return replace(graph, preprocessing=replace(graph.preprocessing, size=size), source=source)
