"""Detectors that answer a fixed number of queries, and anchors with boxes and scores in two outputs.

| kind | boxes | scores |
|---|---|---|
| DETR | (N, Q, 4) centre and size, [0, 1] | (N, Q, K + 1) logits, softmax, the last class is "no object" |
| RT-DETR, RF-DETR, D-FINE | the same | (N, Q, K) logits, a sigmoid each |
| RT-DETR of ultralytics | one table (N, Q, 4 + K), [0, 1] | sigmoids |
| SSD and its kin | (N, A, 4) corners, [0, 1] or pixels | (N, A, K) softmax, class 0 is the background; or sigmoids |

Candidates may be rows or columns of either output, with axes of one between, and an objectness may be a third output.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph.labels import logistic
from .boxes import BoxTable, Candidates, DetectionReading, ScoreTable, corners, score_reads
from .facts import Facts
from .geometry import Form, are_corners, form_of, have_sizes
from .reads import Entry, Read, Rows
from .yolo import comes_from_grid

_SURE = ("obj", "conf", "center", "iou")  # names of one probability a candidate that its class scores are multiplied by
_QUERIES = 1000  # more places than that are anchors of a grid, and overlap


@dataclass(frozen=True)
class _Pair:
    """Boxes and scores of one length, in outputs of their own.

    Attributes:
        boxes, scores: names.
        count, classes: candidates, and columns of the scores.
        boxes_first, scores_first: whether a candidate is a row of the output, and not a column.
        objectness: a third output with one probability a candidate, or None.
    """

    boxes: str
    scores: str
    count: int
    classes: int
    boxes_first: bool
    scores_first: bool
    objectness: str | None = None

    def rows(self, values: Any, name: str) -> np.ndarray:
        """One picture's values of an output as (A, columns), whatever axes of one it has."""
        first = self.boxes_first if name == self.boxes else self.scores_first
        table = np.asarray(values, np.float64)
        return table.reshape(self.count, -1) if first or name == self.objectness else table.reshape(-1, self.count).T

    def probed(self, facts: Facts, name: str) -> np.ndarray | None:
        """The same of the probe."""
        found = facts.probe.get(name)
        return None if found is None else self.rows(found[0], name)

    def place(self, facts: Facts, name: str, candidate: int, column: int) -> tuple[int, ...]:
        """Where a number lies in the output without its batch axis."""
        first = self.boxes_first if name == self.boxes else self.scores_first
        shape = facts.shape(name)[1:]
        flat = candidate * (int(np.prod(shape)) // self.count) + column if first else column * self.count + candidate
        return tuple(int(i) for i in np.unravel_index(flat, shape))


def detr(facts: Facts, forced: bool = False) -> DetectionReading | None:
    """Boxes by centre and size in [0, 1], and class logits of every query."""
    pair = _pair(facts)
    if pair is None:
        return None
    found = pair.probed(facts, pair.boxes)
    named = facts.named(pair.boxes, "pred_boxes", "dets")
    centred = named or found is None or not are_corners(found)
    few = named or pair.count <= _QUERIES
    if not forced and not (centred and few and _in_unit(found) and (found is None or have_sizes(found))):
        return None
    return _of_pair(facts, pair, "detr", "cxcywh", thin=False)


def ssd(facts: Facts, forced: bool = False) -> DetectionReading | None:
    """Boxes by their corners (or centres), and scores of every anchor, still to be thinned out."""
    pair = _pair(facts)
    if pair is None or (not forced and pair.count < 4):
        return None
    found = pair.probed(facts, pair.boxes)
    form = "ltrb" if found is not None and are_corners(found) else "cxcywh"
    if not forced and form_of(found, facts.size) is None:  # offsets from anchors that the file does not hold
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
    found = facts.probe.get(name)
    if not forced and found is not None and comes_from_grid(facts, (found[0] if axis == 2 else found[0].T)[:, :4]):
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


def _of_pair(facts: Facts, pair: _Pair, decoder: str, order: str, *, thin: bool) -> DetectionReading:
    kind = _kind(facts, pair)
    background = {"softmax, class 0 is the background": 0, "softmax, the last class is no object": -1}.get(kind)
    height, width = facts.size
    form = Form(order, (float(width), float(height)) if _in_unit(pair.probed(facts, pair.boxes)) else (1.0, 1.0))
    logits = facts.before_head(pair.scores)
    finished = facts.head(pair.scores) == "softmax" or _add_up(pair.probed(facts, pair.scores))
    reads = score_reads(facts.graph, pair.scores, kind == "sigmoids")
    sure = score_reads(facts.graph, pair.objectness, True) if pair.objectness else None

    def column(index: int) -> int:
        return index + 1 if background == 0 else index

    def score(_rows: Rows, candidate: int, index: int) -> Read:
        place = pair.place(facts, pair.scores, candidate, column(index))
        if kind != "sigmoids":
            return Entry(((logits if kind.startswith("softmax") else pair.scores, place),))
        own = reads(place)
        if sure is None or pair.objectness is None:
            return own
        other = sure(tuple(int(i) for i in np.unravel_index(candidate, facts.shape(pair.objectness)[1:])))
        if own.log_odds == other.log_odds:
            return Entry((*other.entries, *own.entries), log_odds=own.log_odds)
        return own  # one of them without its logits: the class's own number

    def decode(rows: Rows) -> Candidates:
        raw = pair.rows(rows[pair.scores], pair.scores)
        scores = _probabilities(raw, kind, finished=finished)
        if pair.objectness:
            scores = scores * pair.rows(rows[pair.objectness], pair.objectness)
        return Candidates(corners(pair.rows(rows[pair.boxes], pair.boxes), form.order, form.scale), scores)

    classes = pair.classes - (background is not None)
    softmax = kind.startswith("softmax")
    shares = softmax and logits == pair.scores and _add_up(pair.probed(facts, pair.scores))
    plain = pair.objectness is None and len(facts.shape(pair.scores)) == 3
    reason = (
        f"{'DETR' if decoder == 'detr' else 'anchors'}: {form.words} '{pair.boxes}' ({pair.count}), "
        f"scores '{pair.scores}' of {classes} class{'es' if classes > 1 else ''} ({kind})"
        + (f", times '{pair.objectness}'" if pair.objectness else "")
    )
    tensors = (pair.boxes, pair.scores, logits, *((pair.objectness,) if pair.objectness else ()))
    return DetectionReading(
        facts.graph, "detection", decoder, reason, tuple(dict.fromkeys(tensors)), (pair.scores, pair.boxes),
        decode=decode, score=score, thin=thin, classes=classes,
        table=BoxTable(
            pair.boxes, lambda i: tuple(pair.place(facts, pair.boxes, i, c) for c in range(4)), form.order, form.scale,
        ),
        scores=ScoreTable(
            logits if softmax else pair.scores, pair.scores_first, column(0), classes,
            probability=shares or kind == "sigmoids", softmax=softmax and not shares,
            log_odds=kind == "sigmoids" and reads((0, 0)).log_odds,
        ) if plain else None,
    )  # fmt: skip


def _pair(facts: Facts) -> _Pair | None:
    """Two outputs of one length, one of them four wide, and perhaps a third with one number a candidate."""
    tables = {n: s for n in facts.names if len(s := facts.shape(n)) in (2, 3, 4) and s[0] == 1 and facts.is_float(n)}
    found = [pair for boxes in tables for pair in _pairs(facts, tables, boxes)]
    return max(found, key=lambda pair: _likely(facts, pair), default=None)


def _pairs(facts: Facts, tables: dict[str, tuple[int, ...]], boxes: str) -> Iterator[_Pair]:
    """The pairs that an output may be the boxes of."""
    sides = [size for size in tables[boxes][1:] if size > 1]
    if len(sides) != 2 or 4 not in sides:
        return
    count, boxes_first = (sides[0], True) if sides[1] == 4 else (sides[1], False)
    beside = {n: [size for size in s[1:] if size > 1] for n, s in tables.items() if n != boxes}
    if count < 2:
        return
    for name, others in beside.items():
        if count not in others or len(others) > 2:
            continue
        first = others[0] == count
        classes = 1 if len(others) == 1 else others[1] if first else others[0]
        sure = [n for n, s in beside.items() if n != name and s == [count] and facts.named(n, *_SURE)]
        yield _Pair(
            boxes, name, count, classes, boxes_first, first, sure[0] if sure and facts.saturates(sure[0]) else None
        )


def _likely(facts: Facts, pair: _Pair) -> tuple[bool, ...]:
    """What speaks for a pair: names, boxes that are boxes, and scores that are not the objectness alone."""
    found = pair.probed(facts, pair.boxes)
    plausible = found is not None and form_of(found, facts.size) is not None and not _add_up(found)
    return (
        facts.named(pair.boxes, "box", "dets", "loc"),
        facts.head(pair.boxes) is None and plausible,
        not facts.named(pair.scores, *_SURE),
        pair.classes > 1,
    )


def _kind(facts: Facts, pair: _Pair) -> str:
    """How scores become probabilities."""
    table = pair.probed(facts, pair.scores)
    head = facts.head(pair.scores)
    between = table is not None and bool(table.min() >= 0 and table.max() <= 1)
    sums = _add_up(table)
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


def _add_up(table: np.ndarray | None) -> bool:
    """Whether each candidate's values (A, K) are shares already."""
    if table is None or table.shape[1] < 2 or table.min() < 0 or table.max() > 1:
        return False
    return bool(np.allclose(table.sum(axis=1), 1, atol=1e-3))


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


def _are_shares(facts: Facts, name: str) -> bool:
    """Whether rows or columns add up to 1, as the symbols of a read line do."""
    found = facts.probe.get(name)
    if facts.head(name) in ("softmax", "log softmax") or found is None:
        return found is not None
    return facts.add_up(name) in (1, 2)


def _in_unit(found: np.ndarray | None) -> bool:
    """Whether coordinates are shares of the picture, which may reach a little over its edge."""
    return found is None or (found.size > 0 and bool(np.abs(found).max() <= 2))
