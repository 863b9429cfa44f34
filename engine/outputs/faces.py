"""Cascades of face detectors: box offsets and a face's probability, for every cell or for one crop.

MTCNN (Zhang et al. 2016, "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks",
arXiv:1604.02878): the proposal net gives (N, 4, h, w) offsets and (N, 2, h, w) probabilities, cells 2 pixels apart that
see 12; the later nets give (N, 4) and (N, 2) of one crop, the last also (N, 10) landmarks. Offsets are shares of the
window's side.
"""

from __future__ import annotations

import numpy as np

from .boxes import Candidates, DetectionReading, ScoreTable
from .facts import Facts
from .reads import Entry, Rows

_STEP, _WINDOW = 2, 12  # of the proposal net, section III-A and its published weights


def mtcnn(facts: Facts, _forced: bool = False) -> DetectionReading | None:
    """Offsets of four sides and two probabilities (other, face), as maps or as vectors."""
    pair = _pair(facts)
    if pair is None:
        return None
    offsets, said, scores = pair
    logits = facts.before_head(scores) if scores == said else scores
    is_map = len(facts.shape(offsets)) == 4
    height, width = facts.size

    def decode(rows: Rows) -> Candidates:
        moves = np.asarray(rows[offsets], np.float64)
        sure = np.asarray(rows[scores], np.float64)
        if facts.head(scores) is None and not np.allclose(sure.sum(axis=0), 1, atol=1e-3):
            powers = np.exp(sure - sure.max(axis=0, keepdims=True))
            sure = powers / powers.sum(axis=0, keepdims=True)
        if not is_map:
            corner, side = np.zeros((1, 2)), np.array([[width, height]], np.float64)
            moves, sure = moves.reshape(1, 4), sure.reshape(2, 1)
        else:
            rows_, columns = np.indices(sure.shape[1:]).reshape(2, -1)
            corner = np.stack([columns, rows_], axis=1).astype(np.float64) * _STEP
            side = np.full((len(corner), 2), float(_WINDOW))
            moves, sure = moves.reshape(4, -1).T, sure.reshape(2, -1)
        boxes = np.concatenate([corner + moves[:, :2] * side, corner + side + moves[:, 2:] * side], axis=1)
        return Candidates(boxes, sure[1][:, None])

    def score(rows: Rows, candidate: int, _index: int) -> Entry:
        if not is_map:
            return Entry(((logits, (1,)),))
        columns = np.asarray(rows[scores]).shape[2]
        return Entry(((logits, (1, candidate // columns, candidate % columns)),))

    kind = "maps" if is_map else "one crop"
    return DetectionReading(
        facts.graph, "detection", "mtcnn",
        f"MTCNN ({kind}): offsets '{offsets}' of four sides, probabilities '{said}' of (other, face)",
        tuple(dict.fromkeys((offsets, scores, logits))), (logits,), decode=decode, score=score, classes=1,
        scores=ScoreTable(logits, candidates_first=False, first=1, classes=1, probability=False, softmax=True),
    )  # fmt: skip


def _pair(facts: Facts) -> tuple[str, str, str] | None:
    """(offsets, probabilities, what they are read from) of one rank: four wide and two wide.

    A softmax or probabilities make it sure. Where they are written with the two last (N, h, w, 2), as Keras has them,
    they are read from the maps (N, 2, h, w) that were turned for the softmax.
    """
    shapes = {n: facts.shape(n) for n in facts.names if facts.is_float(n)}
    for offsets, shape in shapes.items():
        if len(shape) not in (2, 4) or shape[1] != 4:
            continue
        for scores, other in shapes.items():
            probable = facts.head(scores) == "softmax" or facts.saturates(scores)
            if not probable or len(other) != len(shape):
                continue
            if other[1] == 2 and other[2:] == shape[2:]:
                return offsets, scores, scores
            maps = _before_turning(facts, scores)
            if maps is not None and other[1:] == (*shape[2:], 2):
                return offsets, scores, maps
    return None


def _before_turning(facts: Facts, scores: str) -> str | None:
    """The maps that a Transpose to channels last makes ready for a softmax, or None."""
    node = facts.graph.index.producer.get(facts.before_head(scores))
    turns = node is not None and any(a.name == "perm" and list(a.ints) == [0, 2, 3, 1] for a in node.attribute)
    return node.input[0] if node is not None and turns and node.op_type == "Transpose" else None
