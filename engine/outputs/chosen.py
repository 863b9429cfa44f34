"""Detectors whose files choose the boxes: lists of boxes, scores and labels in outputs of their own.

| kind | boxes | scores, classes |
|---|---|---|
| TensorFlow's object detection | detection_boxes (N, D, 4): top, left, bottom, right, [0, 1] | (N, D) each |
| torchvision | boxes (D, 4) corners in pixels | (D) each, label 0 is the background |
| EfficientDet, RT-DETR and others | boxes (N, D, 4) | (N, D) each |
"""

from __future__ import annotations

import numpy as np

from .boxes import Candidates, DetectionReading, corners
from .facts import Facts
from .reads import Rows
from .selection import ScoreList, are_shares, before_selection


def chosen_boxes(facts: Facts, forced: bool = False) -> DetectionReading | None:
    """Boxes (D, 4) with one score and one label each, as lists in three outputs (two where there is one class)."""
    boxes = next((n for n in facts.names if _width(facts, n) == 4 and facts.is_float(n)), None)
    if boxes is None:
        return None
    rank = len(facts.shape(boxes))
    lists = [n for n in facts.names if n != boxes and len(facts.shape(n)) == rank - 1]
    scores = _first(facts, lists, ("score", "conf", "prob"), is_float=True)
    labels = _first(facts, [n for n in lists if n != scores], ("label", "class", "cls"), is_float=False)
    if scores is None or (labels is None and not forced):
        return None
    tensorflow = facts.named(boxes, "detection_boxes")
    batch: int | None = 0 if rank == 3 else None
    found = facts.probe.get(boxes)
    share = tensorflow or are_shares(found)
    height, width = facts.size
    scale = (float(width), float(height)) if share else (1.0, 1.0)
    form = "tlbr" if tensorflow else "ltrb"
    origin = before_selection(facts, (scores,))

    def decode(rows: Rows) -> Candidates:
        table = np.asarray(rows[boxes], np.float64).reshape(-1, 4)
        sure = np.asarray(rows[scores], np.float64).reshape(-1, 1)
        classes = np.zeros(len(sure), int) if labels is None else np.asarray(rows[labels]).reshape(-1).round()
        return Candidates(corners(table, form, scale), sure, classes.astype(int))

    names = tuple(n for n in (boxes, scores, labels) if n is not None)
    title = "TensorFlow's object detection" if tensorflow else "boxes chosen inside the file"
    reason = f"{title}: {', '.join(repr(n) for n in names)}, boxes in {'[0, 1]' if share else 'pixels'}"
    return DetectionReading(
        facts.graph, "detection", "chosen", reason, (*names, *origin.tensors),
        origin.head if origin.tensors else (scores,), dict.fromkeys(names, batch),
        differentiable=bool(origin.tensors), decode=decode, score=origin.of(decode), thin=False,
        chosen=ScoreList(scores, labels, origin) if origin.tensors else None,
    )  # fmt: skip


def _width(facts: Facts, name: str) -> int:
    shape = facts.source_shape(name)
    return shape[-1] if len(shape) in (2, 3) else 0


def _first(facts: Facts, names: list[str], words: tuple[str, ...], *, is_float: bool) -> str | None:
    """The output that is named so, else the first of the type."""
    named = [n for n in names if facts.named(n, *words)]
    typed = [n for n in names if facts.is_float(n) == is_float]
    return next(iter([*named, *typed]), None)
