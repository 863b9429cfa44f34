"""Detectors whose files choose the boxes: lists of boxes, scores and labels in outputs of their own.

| kind | boxes | scores, classes |
|---|---|---|
| TensorFlow's object detection | detection_boxes (N, D, 4): top, left, bottom, right, [0, 1] | (N, D) each |
| torchvision | boxes (D, 4) corners in pixels | (D) each, label 0 is the background |
| EfficientDet, RT-DETR and others | boxes (N, D, 4) | (N, D) each |
| mmdetection | dets (N, D, 5): corners in pixels, score | labels (N, D) |
| TFLite | TFLite_Detection_PostProcess (1, D, 4): as TensorFlow's | :1 classes, :2 scores, (1, D) each |
"""

from __future__ import annotations

import numpy as np

from .boxes import Candidates, DetectionReading, corners
from .facts import Facts
from .reads import Rows
from .selection import ScoreList, are_shares, before_selection


def chosen_boxes(facts: Facts, forced: bool = False) -> DetectionReading | None:
    """Boxes (D, 4) with one score and one label each, as lists in three outputs (two where there is one class).

    The scores may also be a fifth column of the boxes, as mmdetection's exports have them.
    """
    boxes = next((n for n in facts.names if _width(facts, n) in (4, 5) and facts.is_float(n)), None)
    if boxes is None:
        return None
    rank, columns = len(facts.shape(boxes)), _width(facts, boxes)
    length = facts.shape(boxes)[rank - 2]
    lists = [
        n for n in facts.names if n != boxes and facts.shape(n)[-1:] == (length,) and len(facts.shape(n)) == rank - 1
    ]
    scores = boxes if columns == 5 else _scores(facts, lists)
    labels = _labels(facts, [n for n in lists if n != scores])
    if scores is None or (labels is None and (not forced or columns == 5)):
        return None
    tensorflow = facts.named(boxes, "detection_boxes", "postprocess")
    batch: int | None = 0 if rank == 3 else None
    found = facts.probe.get(boxes)
    share = tensorflow or are_shares(None if found is None else found[..., :4])
    height, width = facts.size
    scale = (float(width), float(height)) if share else (1.0, 1.0)
    form = "tlbr" if tensorflow else "ltrb"
    origin = before_selection(facts, (scores,))

    def decode(rows: Rows) -> Candidates:
        table = np.asarray(rows[boxes], np.float64).reshape(-1, columns)
        sure = table[:, 4:] if columns == 5 else np.asarray(rows[scores], np.float64).reshape(-1, 1)
        classes = np.zeros(len(sure), int) if labels is None else np.asarray(rows[labels]).reshape(-1).round()
        return Candidates(corners(table[:, :4], form, scale), sure, classes.astype(int))

    names = tuple(dict.fromkeys(n for n in (boxes, scores, labels) if n is not None))
    order = "top, left, bottom, right" if tensorflow else "left, top, right, bottom"
    title = "TensorFlow's object detection" if tensorflow else "boxes chosen inside the file"
    reason = f"{title}: {', '.join(repr(n) for n in names)}, boxes in {'[0, 1]' if share else 'pixels'} ({order})"
    return DetectionReading(
        facts.graph, "detection", "chosen", reason, (*names, *origin.tensors),
        origin.head if origin.tensors else (scores,), dict.fromkeys(names, batch),
        differentiable=bool(origin.tensors), decode=decode, score=origin.of(decode), thin=False,
        chosen=ScoreList(scores, labels, origin) if origin.tensors and columns == 4 else None,
    )  # fmt: skip


def _width(facts: Facts, name: str) -> int:
    shape = facts.source_shape(name)
    return shape[-1] if len(shape) in (2, 3) else 0


def _scores(facts: Facts, lists: list[str]) -> str | None:
    """The list of scores: by its name, else the first floating point one that is no list of whole numbers."""
    named = [n for n in lists if facts.named(n, "score", "conf", "prob")]
    typed = [n for n in lists if facts.is_float(n) and not facts.named(n, "label", "class", "cls")]
    shares = [n for n in typed if not _whole(facts, n)]
    return next(iter([*named, *shares, *typed]), None)


def _labels(facts: Facts, lists: list[str]) -> str | None:
    """The list of classes: by its name or type, else one of whole numbers that the file writes as floating point."""
    named = [n for n in lists if facts.named(n, "label", "class", "cls")]
    typed = [n for n in lists if not facts.is_float(n)]
    whole = [n for n in lists if facts.selects and _whole(facts, n)]
    return next(iter([*named, *typed, *whole]), None)


def _whole(facts: Facts, name: str) -> bool:
    """Whether the probe's values are whole numbers, and not all zero."""
    found = facts.probe.get(name)
    return found is not None and found.size > 0 and bool(found.any() and (found == np.round(found)).all())
