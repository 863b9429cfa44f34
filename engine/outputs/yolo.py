"""The YOLO family's outputs: one table with a row of coordinates and scores for each place of a grid.

| kind | table | coordinates | score |
|---|---|---|---|
| YOLOv8, 9, 11, 12 | (N, 4 + K, A) or turned | centre and size, pixels | K sigmoids; with masks, 32 coefficients more |
| YOLOv5, YOLOv7 | (N, A, 5 + K) | centre and size, pixels | objectness times K sigmoids, three anchors a cell |
| YOLOv5-face, YOLOv7-pose | the same | the same | points before or behind the K scores, which are not read |
| YOLOX | (N, A, 5 + K) | offsets in cells, log sizes | the same, one anchor a cell |

Corners and shares of the sides, as other exporters write them, are told from the probe (`geometry`).

Sources: the exporters' own code (ultralytics ``head.py``, yolov5 ``models/yolo.py``, YOLOX ``yolo_head.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, pairwise

import numpy as np

from ..graph.labels import logistic
from .boxes import BoxTable, Candidates, DetectionReading, ScoreTable, corners, score_reads
from .entries import movers
from .facts import Facts
from .geometry import Form, follows_grid, form_of
from .reads import Entry, Logsumexp, Rows

_STRIDES = (4, 8, 16, 32, 64, 128)
_SIGMOID_SLACK = 1e-4
_PIXELS = Form()
_SPREAD = 0.1  # of the sides: the standard deviation of where a picture's boxes lie
_USUAL = (80, 20)  # classes of COCO and of Pascal VOC


def yolov8(facts: Facts, forced: bool = False) -> DetectionReading | None:
    """(N, 4 + K, A), classes without objectness; (N, 4 + K + 32, A) with (N, 32, h, w) prototypes of masks."""
    table = _table(facts, forced, anchors=1, extra=4)
    if table is None:
        return None
    name, features, count, axis = table
    rows_first = facts.source_shape(name).index(count, 1) == 1  # the older families' order, with objectness
    if not forced and rows_first and not _without_objectness(facts, features):
        return None
    form = _form(facts, name, axis, forced)
    if form is None:
        return None
    prototypes = _prototypes(facts)
    kept = facts.shape(prototypes)[1] if prototypes else 0
    kept += _other_columns(facts)
    classes = features - 4 - kept
    if classes < 1:
        return None
    unread = 0 if kept else _columns_behind(facts, name, axis, classes)
    classes -= unread
    masks = _masks(facts, prototypes, 4 + classes, form) if prototypes else None
    title = "YOLOv8 with masks" if prototypes else "YOLOv8"
    return _reading(facts, "yolov8-seg" if prototypes else "yolov8", title, name, axis, 4, classes, None, masks,
                    (prototypes,) if prototypes else (), unread=unread, form=form)  # fmt: skip


def yolov5(facts: Facts, forced: bool = False) -> DetectionReading | None:
    """(N, A, 5 + K) with objectness in column 4; where that is 1 everywhere (YOLOv6) it says nothing."""
    table = _table(facts, forced, anchors=3, extra=5) or _table(facts, forced, anchors=1, extra=5)
    if table is None or (not forced and _raw_offsets(facts, table)):
        return None
    name, features, _, axis = table
    form = _form(facts, name, axis, forced)
    if form is None:
        return None
    sure = _columns(facts, name, axis)
    idle = sure is not None and features > 5 and bool((sure[:, 4] >= 1 - _SIGMOID_SLACK).all())
    first, classes = _scores_among(facts, name, axis)
    return _reading(facts, "yolov5", "YOLOv5", name, axis, first, classes, None if idle else 4,
                    unread=features - 5 - classes, form=form)  # fmt: skip


def yolox(facts: Facts, forced: bool = False) -> DetectionReading | None:
    """(N, A, 5 + K) with offsets in cells and logarithms of sizes, as YOLOX exports it."""
    table = _table(facts, forced, anchors=1, extra=5)
    if table is None or (not forced and not _raw_offsets(facts, table)):
        return None
    name, features, count, axis = table
    grid = _grid(facts.size, count)
    if grid is None:
        return None
    return _reading(facts, "yolox", "YOLOX", name, axis, 5, features - 5, 4, grid=grid)


def _reading(
    facts: Facts, decoder: str, title: str, name: str, axis: int, first: int, classes: int, objectness: int | None,
    masks: Callable[[Rows, np.ndarray], Callable[[int], np.ndarray]] | None = None, more: tuple[str, ...] = (),
    grid: tuple[np.ndarray, np.ndarray] | None = None, unread: int = 0, form: Form = _PIXELS,
) -> DetectionReading:  # fmt: skip
    scored = [(first, classes)] if classes else []
    scored += [(objectness, 1)] if objectness is not None else []
    probability = all(_are_probabilities(facts, name, axis, *part) for part in scored)
    reads = score_reads(facts.graph, name, probability)

    def spot(candidate: int, column: int) -> tuple[int, int]:
        return (candidate, column) if axis == 2 else (column, candidate)

    def score(_rows: Rows, candidate: int, index: int) -> Entry:
        columns = [first + index] if objectness is None else [objectness, first + index]
        if objectness is not None and classes == 0:
            columns = [objectness]
        return reads(*(spot(candidate, column) for column in columns))

    def decode(rows: Rows) -> Candidates:
        table = np.asarray(rows[name] if axis == 2 else rows[name].T, np.float64)
        scores = table[:, first : first + classes] if classes else np.ones((len(table), 1))
        scores = scores if probability else logistic(scores)
        if objectness is not None:
            sure = table[:, objectness : objectness + 1]
            scores = scores * (sure if probability else logistic(sure))
        boxes = _ungridded(table[:, :4], grid) if grid else table[:, :4]
        return Candidates(corners(boxes, form.order, form.scale), scores, None, masks(rows, table) if masks else None)

    # a grid's sizes are exponentials: the stored numbers are no linear function of the box's sides
    sides = None if grid else BoxTable(name, lambda i: tuple(spot(i, c) for c in range(4)), form.order, form.scale)
    many = f"{max(classes, 1)} class{'es' if classes > 1 else ''}"
    how = "boxes in cells of a grid" if grid else form.words
    if objectness is not None and classes:
        unsure = not grid and _could_be_a_class(facts, name, axis)
        how += ", objectness in column 4" + (" (assumed; decoder=yolov8 where it is a class)" if unsure else "")
    if unread:
        which = f"{unread} columns in front of the scores" if classes and first > 5 else f"its last {unread} columns"
        how += f"; {which} are no scores and are not read"
    return DetectionReading(
        facts.graph, "detection", decoder, f"{title} by its shape {_shown(facts, name)}: {many}, {how}",
        (name, *more, *(n for n in movers(facts.graph, name) if probability and n in _logits(facts, name))), (name,),
        decode=decode, score=score, table=sides, grid=grid, classes=max(classes, 1),
        scores=ScoreTable(
            name, axis == 2, first if classes else objectness or 0, max(classes, 1), objectness if classes else None,
            probability, log_odds=reads(spot(0, first if classes else objectness or 0)).log_odds,
        ),
        anywhere=(lambda index: Logsumexp(name, first + index, axis, probability, objectness)) if classes else None,
    )  # fmt: skip


def _table(facts: Facts, forced: bool, anchors: int, extra: int) -> tuple[str, int, int, int] | None:
    """(output, columns, candidates, axis of the columns) of a table whose length is that of a grid."""
    for name in facts.names:
        shape = facts.shape(name)
        if len(shape) != 3 or shape[0] != 1 or not facts.is_float(name):
            continue
        if not forced and (facts.head(name) in ("softmax", "log softmax") or facts.add_up(name) is not None):
            continue  # a line of text, whatever its length
        for axis in (1, 2):
            columns, count = shape[axis], shape[3 - axis]
            if columns < extra or (columns == 4 and extra == 4):
                continue
            fits = count % anchors == 0 and _grid(facts.size, count // anchors) is not None
            if (fits and columns < count) or (forced and columns < count):
                return name, columns, count, axis
    return None


def _grid(size: tuple[int, int], count: int) -> tuple[np.ndarray, np.ndarray] | None:
    """((A, 2) cells, column and row; (A, 1) strides) of the levels whose cells add up to ``count``, or None."""
    for strides in _levels():
        shapes = [(-(-size[0] // s), -(-size[1] // s)) for s in strides]
        if sum(rows * columns for rows, columns in shapes) == count:
            cells = [
                np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
                for rows, columns in shapes
            ]
            steps = [np.full((len(c), 1), s) for c, s in zip(cells, strides, strict=True)]
            return np.concatenate(cells).astype(np.float64), np.concatenate(steps).astype(np.float64)
    return None


def _levels() -> Iterator[tuple[int, ...]]:
    """Sets of strides, those of the published families first, then any run of them."""
    yield from [(8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32)]
    for length in range(1, 6):
        for strides in combinations((2, *_STRIDES), length):
            if all(b == 2 * a for a, b in pairwise(strides)):
                yield strides


def _ungridded(numbers: np.ndarray, grid: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    cells, strides = grid
    return np.concatenate(
        [(numbers[:, :2] + cells) * strides, np.exp(np.clip(numbers[:, 2:4], -20, 20)) * strides], axis=1
    )


def _raw_offsets(facts: Facts, table: tuple[str, int, int, int]) -> bool:
    """Whether the coordinates are offsets in cells and logarithms: far smaller than pixels, on YOLOX's own levels."""
    name, _, count, axis = table
    numbers = _columns(facts, name, axis)
    if numbers is None or count != sum(-(-facts.size[0] // s) * -(-facts.size[1] // s) for s in (8, 16, 32)):
        return False
    small = bool(np.abs(numbers[:, :4]).max() < max(facts.size) / 8)
    return small and not comes_from_grid(facts, numbers[:, :4])


def comes_from_grid(facts: Facts, boxes: np.ndarray) -> bool:
    """Whether the probe's boxes (A, 4), decoded, lie at the cells of one or three anchors each."""
    for anchors in (1, 3):
        grid = _grid(facts.size, len(boxes) // anchors) if len(boxes) % anchors == 0 else None
        if grid is None:
            continue
        centres = (grid[0] + 0.5) * grid[1]
        levels = [centres[grid[1][:, 0] == step] for step in np.unique(grid[1])]
        levels.sort(key=len, reverse=True)
        if follows_grid(boxes, np.concatenate([np.tile(level, (anchors, 1)) for level in levels])):
            return True
    return False


def _without_objectness(facts: Facts, columns: int) -> bool:
    """Whether all columns behind the box are classes, by their names or as many as the usual sets have."""
    return len(facts.labels) == columns - 4 if facts.labels is not None else columns - 4 in _USUAL


def _could_be_a_class(facts: Facts, name: str, axis: int) -> bool:
    """Whether nothing tells a table of one anchor a cell with objectness (YOLOX, YOLOv6) from YOLOv8's, turned."""
    count, columns = facts.shape(name)[3 - axis], facts.shape(name)[axis]
    named = facts.labels is not None and len(facts.labels) == columns - 5
    return not named and columns - 5 not in _USUAL and _grid(facts.size, count) is not None


def _columns(facts: Facts, name: str, axis: int) -> np.ndarray | None:
    """The table of the probe, (A, columns)."""
    found = facts.probe.get(name)
    return None if found is None else found[0] if axis == 2 else found[0].T


def _form(facts: Facts, name: str, axis: int, forced: bool) -> Form | None:
    """How the first four columns make a box; None where they do not.

    Where the others are probabilities and these are not, or by force, anything is taken for centres and sizes in
    pixels: a network that was not trained puts its boxes anywhere, and shares lie all over the picture.
    """
    table = _columns(facts, name, axis)
    found = form_of(None if table is None else table[:, :4], facts.size)
    if found is not None and (table is None or found.scale == (1.0, 1.0) or table[:, :4].std(axis=0).max() > _SPREAD):
        return found
    columns = facts.shape(name)[axis]
    likely = not _are_probabilities(facts, name, axis, 0, 4) and _are_probabilities(facts, name, axis, 4, columns)
    return Form() if forced or likely else None


def _are_probabilities(facts: Facts, name: str, axis: int, first: int, columns: int) -> bool:
    found = _columns(facts, name, axis)
    if found is None:
        return True
    part = found[:, first : first + columns]
    return bool(part.size and part.min() >= -_SIGMOID_SLACK and part.max() <= 1 + _SIGMOID_SLACK)


def _prototypes(facts: Facts) -> str | None:
    """The output with the prototypes of masks, (N, P, h, w), beside the table."""
    for name in facts.names[1:]:
        shape = facts.shape(name)
        if len(shape) == 4 and shape[1] in (16, 32, 64) and shape[2] > 4 and shape[3] > 4:
            return name
    return None


def _other_columns(facts: Facts) -> int:
    """Columns after the classes that the file's metadata tells of: keypoints or an angle."""
    task = facts.metadata.get("task")
    if task == "obb":
        return 1
    if task == "pose":
        numbers = [int(part) for part in facts.metadata.get("kpt_shape", "").strip("[]() ").split(",") if part.strip()]
        return int(np.prod(numbers)) if len(numbers) == 2 else 0
    return 0


def _scores_among(facts: Facts, name: str, axis: int) -> tuple[int, int]:
    """(first, how many) of the columns behind the objectness that are scores: all but points, that reach beyond 0..1.

    YOLOv7-pose has its points behind the scores, YOLOv5-face in front of them. Where the objectness is no probability
    the scores are logits, and nothing tells them from other numbers.
    """
    found, classes = _columns(facts, name, axis), facts.shape(name)[axis] - 5
    if found is None or not classes:
        return 5, classes
    least, most = found[:, 4:].min(axis=0), found[:, 4:].max(axis=0)
    likely = (least >= -_SIGMOID_SLACK) & (most <= 1 + _SIGMOID_SLACK)
    if likely.all() or not likely[0]:
        return 5, classes
    if likely[1]:
        return 5, int(likely[1:].argmin())
    behind = int(likely[::-1].argmin())
    return 5 + classes - behind, behind


def _columns_behind(facts: Facts, name: str, axis: int, classes: int) -> int:
    """How many of the columns that could be classes are something else: keypoints, coefficients of masks, an angle.

    Scores come first and are probabilities on the probe; from the first column that is none on, nothing is a score.
    Where the first is none already, the scores are logits, and nothing tells them from other numbers.
    """
    found = _columns(facts, name, axis)
    if found is None:
        return 0
    columns = found[:, 4 : 4 + classes].T
    likely = (columns.min(axis=1) >= -_SIGMOID_SLACK) & (columns.max(axis=1) <= 1 + _SIGMOID_SLACK)
    return 0 if likely.all() or not likely[0] else classes - int(likely.argmin())


def _masks(
    facts: Facts, prototypes: str, first: int, form: Form
) -> Callable[[Rows, np.ndarray], Callable[[int], np.ndarray]]:
    """For a picture's outputs, the function from a candidate to its mask over the input, cut to its box."""
    from ..attribution.maps import resized

    size = facts.size

    def of_picture(rows: Rows, table: np.ndarray) -> Callable[[int], np.ndarray]:
        planes = np.asarray(rows[prototypes], np.float64)

        def mask(candidate: int) -> np.ndarray:
            coefficients = table[candidate, first : first + len(planes)]
            logits = np.tensordot(coefficients, planes, axes=1)
            whole = resized(logits[None], size)[0] > 0
            left, top, right, bottom = corners(table[candidate : candidate + 1, :4], form.order, form.scale)[0]
            inside = np.zeros(size, dtype=bool)
            inside[max(int(top), 0) : max(int(np.ceil(bottom)), 0), max(int(left), 0) : max(int(np.ceil(right)), 0)] = 1
            return whole & inside

        return mask

    return of_picture


def _logits(facts: Facts, name: str) -> set[str]:
    """The inputs of the sigmoids from which values only move to the output."""
    from ..graph.operators import operator

    names = set(movers(facts.graph, name))
    heads = {n: node for n in names if (node := facts.graph.index.producer.get(n)) is not None}
    return {node.input[0] for node in heads.values() if operator(node).head == "sigmoid"}


def _shown(facts: Facts, name: str) -> str:
    return "(" + ", ".join(["N", *map(str, facts.source_shape(name)[1:])]) + ")"
