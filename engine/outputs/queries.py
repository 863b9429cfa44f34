"""Detectors that answer a fixed number of queries, and anchors with boxes and scores in two outputs.

| kind | boxes | scores |
|---|---|---|
| DETR | (N, Q, 4) centre and size, [0, 1] | (N, Q, K + 1) logits, softmax, the last class is "no object" |
| RT-DETR, RF-DETR, D-FINE | the same | (N, Q, K) logits, a sigmoid each |
| RT-DETR of ultralytics | one table (N, Q, 4 + K), [0, 1] | sigmoids |
| SSD and its kin | (N, A, 4) corners, [0, 1] or pixels | (N, A, K) softmax, class 0 is the background; or sigmoids |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..graph.labels import logistic
from .boxes import BoxTable, Candidates, DetectionReading, ScoreTable, corners, score_reads
from .facts import Facts
from .reads import Entry, Read, Rows

_QUERIES = 1000  # more places than that are anchors of a grid, and overlap


@dataclass(frozen=True)
class _Pair:
    boxes: str
    scores: str
    count: int
    classes: int


def detr(facts: Facts, forced: bool = False) -> DetectionReading | None:
    """Boxes by centre and size in [0, 1], and class logits of every query."""
    pair = _pair(facts)
    if pair is None:
        return None
    found = facts.probe.get(pair.boxes)
    named = facts.named(pair.boxes, "pred_boxes", "dets")
    centred = named or found is None or not _are_corners(found[0])
    if not forced and not (centred and (named or pair.count <= _QUERIES) and _in_unit(found) and _have_sizes(found)):
        return None
    return _of_pair(facts, pair, "detr", "cxcywh", thin=False)


def ssd(facts: Facts, forced: bool = False) -> DetectionReading | None:
    """Boxes by their corners (or centres), and scores of every anchor, still to be thinned out."""
    pair = _pair(facts)
    if pair is None or (not forced and pair.count < 4):
        return None
    found = facts.probe.get(pair.boxes)
    form = "ltrb" if found is not None and _are_corners(found[0]) else "cxcywh"
    if not forced and form == "cxcywh" and not _have_sizes(found):  # offsets from anchors that the file does not hold
        return None
    return _of_pair(facts, pair, "ssd", form, thin=True)


def rtdetr_table(facts: Facts, forced: bool = False) -> DetectionReading | None:
    """(N, Q, 4 + K) of ultralytics: centre and size in [0, 1] and sigmoids, no suppression needed."""
    name = facts.names[0]
    shape, low_high = facts.shape(name), facts.range(name)
    if len(shape) != 3 or not facts.is_float(name) or facts.source_shape(name)[1] > _QUERIES:
        return None
    # boxes and scores are joined behind their sigmoids; one sigmoid of all is that of a map, as of notes over time
    if not forced and (facts.head(name) == "sigmoid" or _are_shares(facts, name)):
        return None
    axis = 2 if facts.source_shape(name)[1] == shape[1] else 1
    columns, count = shape[axis], shape[3 - axis]
    if not forced and not (columns >= 5 and columns < count and low_high[0] >= 0 and low_high[1] <= 1):
        return None
    height, width = facts.size
    reads = score_reads(facts.graph, name, True)

    def spot(candidate: int, column: int) -> tuple[int, int]:
        return (candidate, column) if axis == 2 else (column, candidate)

    def decode(rows: Rows) -> Candidates:
        table = np.asarray(rows[name] if axis == 2 else rows[name].T, np.float64)
        return Candidates(corners(table[:, :4], "cxcywh", (width, height)), table[:, 4:])

    return DetectionReading(
        facts.graph, "detection", "rtdetr",
        f"RT-DETR by its shape (N, {count}, {columns}): {columns - 4} classes, boxes in [0, 1]",
        (name,), (name,), decode=decode, score=lambda rows, i, k: reads(spot(i, 4 + k)), thin=False,
        table=BoxTable(name, lambda i: tuple(spot(i, c) for c in range(4)), "cxcywh", (width, height)),
        classes=columns - 4, scores=ScoreTable(name, axis == 2, 4, columns - 4, log_odds=reads(spot(0, 4)).log_odds),
    )  # fmt: skip


def _of_pair(facts: Facts, pair: _Pair, decoder: str, form: str, *, thin: bool) -> DetectionReading:
    scores_first = facts.shape(pair.scores)[1] == pair.count
    boxes_first = facts.shape(pair.boxes)[1] == pair.count
    kind = _kind(facts, pair, scores_first)
    background = {"softmax, class 0 is the background": 0, "softmax, the last class is no object": -1}.get(kind)
    found = facts.probe.get(pair.boxes)
    height, width = facts.size
    scale = (float(width), float(height)) if _in_unit(found) else (1.0, 1.0)
    logits = facts.before_head(pair.scores)
    finished = facts.head(pair.scores) == "softmax" or _add_up(facts.probe.get(pair.scores), scores_first)
    reads = score_reads(facts.graph, pair.scores, kind == "sigmoids")

    def column(index: int) -> int:
        return index + 1 if background == 0 else index

    def score(_rows: Rows, candidate: int, index: int) -> Read:
        place = (candidate, column(index)) if scores_first else (column(index), candidate)
        if kind == "sigmoids":
            return reads(place)
        return Entry(((logits if kind.startswith("softmax") else pair.scores, place),))

    def decode(rows: Rows) -> Candidates:
        table = np.asarray(rows[pair.boxes] if boxes_first else rows[pair.boxes].T, np.float64)
        raw = np.asarray(rows[pair.scores] if scores_first else rows[pair.scores].T, np.float64)
        return Candidates(corners(table, form, scale), _probabilities(raw, kind, finished=finished))

    classes = pair.classes - (background is not None)
    softmax = kind.startswith("softmax")
    shares = softmax and logits == pair.scores and _add_up(facts.probe.get(pair.scores), scores_first)
    unit = "[0, 1]" if scale != (1.0, 1.0) else "pixels"
    reason = (
        f"{'DETR' if decoder == 'detr' else 'anchors'}: boxes '{pair.boxes}' (N, {pair.count}, 4) in {unit}, "
        f"scores '{pair.scores}' of {classes} class{'es' if classes > 1 else ''} ({kind})"
    )
    return DetectionReading(
        facts.graph, "detection", decoder, reason, tuple(dict.fromkeys((pair.boxes, pair.scores, logits))),
        (pair.scores, pair.boxes), decode=decode, score=score, thin=thin, classes=classes,
        table=BoxTable(
            pair.boxes, lambda i: tuple((i, c) if boxes_first else (c, i) for c in range(4)), form, scale,
        ),
        scores=ScoreTable(
            logits if softmax else pair.scores, scores_first, column(0), classes,
            probability=shares or kind == "sigmoids", softmax=softmax and not shares,
            log_odds=kind == "sigmoids" and reads((0, 0)).log_odds,
        ),
    )  # fmt: skip


def _pair(facts: Facts) -> _Pair | None:
    """Two outputs of one length, one of them four wide."""
    tables = {n: s for n in facts.names if len(s := facts.shape(n)) == 3 and s[0] == 1 and facts.is_float(n)}
    # four classes are as wide as a box: names come first
    for boxes in sorted(tables, key=lambda n: not facts.named(n, "box", "dets", "loc")):
        source = facts.source_shape(boxes)
        if source[-1] != 4:
            continue
        for scores in tables:
            other = facts.source_shape(scores)
            if scores != boxes and other[1] == source[1] and source[1] > 1:
                return _Pair(boxes, scores, source[1], other[2])
    return None


def _kind(facts: Facts, pair: _Pair, rows_first: bool) -> str:
    """How scores become probabilities."""
    found = facts.probe.get(pair.scores)
    table = None if found is None else (found[0] if rows_first else found[0].T)
    head = facts.head(pair.scores)
    between = table is not None and bool(table.min() >= 0 and table.max() <= 1)
    sums = _add_up(found, rows_first)
    if head in ("softmax", "log softmax") or sums:
        first = table is None or table[:, 0].mean() >= table[:, -1].mean()
        return "softmax, class 0 is the background" if first else "softmax, the last class is no object"
    if head == "sigmoid" or between:
        return "sigmoids"
    if table is not None and table.shape[1] > 1 and (table.argmax(axis=1) == table.shape[1] - 1).mean() > 0.5:
        return "softmax, the last class is no object"
    # of a sigmoid's logits nearly all are far below 0 where there is nothing to see
    if table is not None and table.shape[1] > 1 and ((table.argmax(axis=1) == 0) & (table[:, 0] > 0)).mean() > 0.5:
        return "softmax, class 0 is the background"
    return "logits of sigmoids"


def _add_up(found: np.ndarray | None, rows_first: bool) -> bool:
    """Whether each candidate's values are shares already."""
    if found is None or found.min() < 0 or found.max() > 1:
        return False
    return bool(np.allclose((found[0] if rows_first else found[0].T).sum(axis=1), 1, atol=1e-3))


def _probabilities(raw: np.ndarray, kind: str, *, finished: bool) -> np.ndarray:
    """(A, K) class probabilities without a background class; ``finished`` where the file's own softmax made them."""
    if kind == "sigmoids":
        return raw
    if kind == "logits of sigmoids":
        return logistic(raw)
    if not finished:
        powers = np.exp(raw - raw.max(axis=1, keepdims=True))
        raw = powers / powers.sum(axis=1, keepdims=True)
    return raw[:, 1:] if kind.endswith("background") else raw[:, :-1]


def _are_corners(boxes: np.ndarray) -> bool:
    """Whether nearly all rows read as left, top, right, bottom with right and bottom the larger."""
    table = boxes if boxes.shape[1] == 4 else boxes.T
    return bool(((table[:, 2] > table[:, 0]) & (table[:, 3] > table[:, 1])).mean() > 0.95)


def _have_sizes(found: np.ndarray | None) -> bool:
    """Whether centres and sizes of the probe have nearly all sizes above 0."""
    if found is None:
        return True
    table = found[0] if found.shape[2] == 4 else found[0].T
    return bool(((table[:, 2] > 0) & (table[:, 3] > 0)).mean() > 0.95)


def _are_shares(facts: Facts, name: str) -> bool:
    """Whether rows or columns add up to 1, as the symbols of a read line do."""
    found = facts.probe.get(name)
    if facts.head(name) in ("softmax", "log softmax") or found is None:
        return found is not None
    return any(bool(np.allclose(found.sum(axis=axis), 1, atol=1e-3)) for axis in (1, 2))


def _in_unit(found: np.ndarray | None) -> bool:
    """Whether coordinates are shares of the picture, which may reach a little over its edge."""
    return found is None or (found.size > 0 and bool(np.abs(found).max() <= 2))
