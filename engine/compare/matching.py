"""Which filter of A corresponds to which filter of B."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

COUNTERPART = 0.5  # correlation from which two units count as the same feature (Li et al. 2016, arXiv:1511.07543)


@dataclass(frozen=True, eq=False)
class Matching:
    """One-to-one pairs of units, the most alike first.

    Attributes:
        a, b: (M,) unit indices.
        score: (M,) likeness in [-1, 1]: correlation of activations or cosine of weights.
        confidence: (M,) how far the score is above the next best choice of either unit; negative where the
            assignment had to give a unit its second choice.
        by: "activations" or "weights".
    """

    a: np.ndarray
    b: np.ndarray
    score: np.ndarray
    confidence: np.ndarray
    by: str

    @property
    def share(self) -> float:
        """Share of A's matched units that have a counterpart, that is a score of at least 0.5."""
        return float((self.score >= COUNTERPART).mean()) if self.score.size else 0.0

    def to_json(self) -> dict[str, Any]:
        """Every pair, the most alike first."""
        return {
            "by": self.by,
            "matched_share": self.share,
            "units": [
                {"a": int(p), "b": int(q), "score": float(s), "confidence": float(c)}
                for p, q, s, c in zip(self.a, self.b, self.score, self.confidence, strict=True)
            ],
        }


def match(likeness: np.ndarray, by: str = "activations") -> Matching:
    """The assignment with the largest total likeness.

    Args:
        likeness: (units of A, units of B); the smaller side is matched completely (Kuhn 1955).
        by: what the likeness is computed from.
    """
    rows, columns = linear_sum_assignment(np.nan_to_num(likeness, nan=-1.0), maximize=True)
    score = likeness[rows, columns]
    rest = likeness.astype(np.float64).copy()
    rest[rows, columns] = -np.inf
    rival = np.maximum(rest.max(axis=1)[rows], rest.max(axis=0)[columns])
    confidence = score - np.where(np.isfinite(rival), rival, -1.0)
    order = np.argsort(-score, kind="stable")
    return Matching(rows[order], columns[order], score[order], confidence[order], by)


def weight_likeness(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(O_a, O_b) cosines of filters (O, ...) of equal trailing shape, each centred on its own mean."""
    x, y = (np.asarray(w, dtype=np.float64).reshape(len(w), -1) for w in (a, b))
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    return np.asarray(_unit(x) @ _unit(y).T)


def _unit(rows: np.ndarray) -> np.ndarray:
    size = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, size, out=np.zeros_like(rows), where=size > 0)
