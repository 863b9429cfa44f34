"""Boxes that the file chose and lists in one table: a row each of corners, a score and a class, in one of few orders.

| columns | order | who writes it |
|---|---|---|
| 6, (N, D, 6) | corners, score, class | YOLOv10, YOLO26, exports of ultralytics with suppression |
| 6, (D, 6) | class, score, corners | PaddleDetection |
| 7, (D, 7) | picture, corners, class, score | YOLOv7 with suppression |
| 7, (1, 1, D, 7) | picture, class, score, corners in [0, 1] | Caffe's and OpenVINO's DetectionOutput |

The probe's rows say which it is, where it finds any.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .boxes import Candidates, DetectionReading, ScoreTable, corners
from .facts import Facts
from .geometry import are_corners
from .reads import Rows
from .selection import are_shares, before_selection


@dataclass(frozen=True)
class Layout:
    """The order of a row's numbers.

    Attributes:
        columns: how many.
        box: first of the four corners.
        score, label: columns.
        words: the order, for people.
    """

    columns: int
    box: int
    score: int
    label: int
    words: str

    def reads(self, table: np.ndarray) -> bool:
        """Whether scores and classes of all rows (D, columns) make sense in this order."""
        score, label = table[:, self.score], table[:, self.label]
        whole = bool((label == label.round()).all() and label.min() >= -1)
        return whole and bool(score.min() >= 0 and score.max() <= 1)

    def draws(self, table: np.ndarray) -> bool:
        """Whether the corners are corners too; those of a network that was not trained are not."""
        return self.reads(table) and are_corners(table[:, self.box : self.box + 4])


_SCORE_LAST = Layout(6, 0, 4, 5, "corners in {unit}, score, class")
_CLASS_FIRST = Layout(6, 2, 1, 0, "class, score, corners in {unit}")
_YOLOV7 = Layout(7, 1, 6, 5, "picture, corners in {unit}, class, score")
_CAFFE = Layout(7, 3, 2, 1, "picture, class, score, corners in {unit}")
_LAYOUTS = (_SCORE_LAST, _CLASS_FIRST, _YOLOV7, _CAFFE)


def end_to_end(facts: Facts, forced: bool = False) -> DetectionReading | None:
    """One table of boxes with their scores and classes, chosen inside the file."""
    name = facts.names[0]
    shape = facts.shape(name)
    if len(shape) not in (2, 3, 4) or not facts.is_float(name) or (not forced and not facts.selects):
        return None
    columns = next((c for c in (6, 7) if (c in shape[-2:] and len(shape) > 2) or shape[-1] == c), None)
    if columns is None:
        return None
    turned = shape[-1] != columns  # (N, 6, D)
    found = facts.probe.get(name)
    table = None if found is None else _filled(_rows(found, columns, turned))
    layout = _layout(facts, name, shape, columns, table)
    if layout is None and not forced:
        return None
    layout = layout or _usual(facts, name, shape, columns)
    share = layout is _CAFFE or are_shares(None if table is None else table[:, layout.box : layout.box + 4])
    scale = (float(facts.size[1]), float(facts.size[0])) if share else (1.0, 1.0)
    origin = before_selection(facts, (name,))

    def decode(rows: Rows) -> Candidates:
        chosen = _rows(np.asarray(rows[name], np.float64), columns, turned)
        boxes = corners(chosen[:, layout.box : layout.box + 4], "ltrb", scale)
        return Candidates(boxes, chosen[:, layout.score, None], chosen[:, layout.label].round().astype(int))

    words = layout.words.format(unit="[0, 1]" if share else "pixels")
    shown = ", ".join(map(str, facts.source_shape(name)[1:]))
    lead = "N, " if len(shape) == 3 else "" if len(shape) == 2 else "1, "
    plain = origin.tensors and layout is _SCORE_LAST and len(shape) == 3
    return DetectionReading(
        facts.graph, "detection", "end-to-end", f"boxes chosen inside the file, ({lead}{shown}): {words}",
        (name, *origin.tensors), origin.head or (name,), {} if len(shape) == 3 and columns == 6 else {name: None},
        differentiable=origin.score is not None, decode=decode, score=origin.of(decode), thin=False,
        scores=ScoreTable(name, not turned, 4, 1, log_odds=True) if plain else None,
    )  # fmt: skip


def _rows(values: np.ndarray, columns: int, turned: bool) -> np.ndarray:
    """(D, columns) of one picture."""
    return values.reshape(columns, -1).T if turned else values.reshape(-1, columns)


def _filled(table: np.ndarray) -> np.ndarray | None:
    """The rows that hold a box: lists of a fixed length are filled up with zeros or -1."""
    rows = table[(table > 0).sum(axis=1) > 1]
    return rows if len(rows) else None


def _layout(facts: Facts, name: str, shape: tuple[int, ...], columns: int, table: np.ndarray | None) -> Layout | None:
    """The order that the probe's rows make sense in, the usual one first; None where they do in none."""
    usual = _usual(facts, name, shape, columns)
    if table is None:
        return usual
    orders = [usual, *(layout for layout in _LAYOUTS if layout.columns == columns and layout is not usual)]
    return next((o for o in orders if o.draws(table)), next((o for o in orders if o.reads(table)), None))


def _usual(facts: Facts, name: str, shape: tuple[int, ...], columns: int) -> Layout:
    """The order that outputs of this shape and name have."""
    if columns == 7:
        return _YOLOV7 if len(shape) == 2 else _CAFFE
    return _CLASS_FIRST if len(shape) == 2 and facts.named(name, "nms", "fetch", "save_infer") else _SCORE_LAST
