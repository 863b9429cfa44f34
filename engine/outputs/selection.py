"""Files that choose their boxes themselves: the last tensor before suppression or TopK, where gradients still flow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..graph.graph import Graph
from ..graph.labels import logistic
from ..graph.operators import operator
from .boxes import Candidates, score_reads
from .facts import Facts
from .reads import Entry, Read, Rows

_SELECTS = frozenset({"NonMaxSuppression", "TopK", "BatchedNMS_TRT", "EfficientNMS_TRT"})
_REDUCES = frozenset({"ReduceMax", "Max"})
CLOSE, CLOSE_TO_ZERO = 1e-5, 1e-9  # relative, absolute: a score is carried on as it is, or a sigmoid written twice

Score = Callable[[Rows, int, int], Read]


@dataclass(frozen=True, eq=False)
class Origin:
    """Where the scores of chosen boxes come from.

    Attributes:
        graph: the model.
        tensors: candidates, those before a sigmoid first; empty where there are none.
        logits: those of them whose sigmoid is the score.
        head: the tensors whose feature maps explain the boxes.
    """

    graph: Graph
    tensors: tuple[str, ...]
    logits: frozenset[str]
    head: tuple[str, ...]

    @property
    def score(self) -> bool | None:
        """True where scores can be traced, else None."""
        return True if self.tensors else None

    def of(self, decode: Callable[[Rows], Candidates]) -> Score | None:
        """The function that finds a chosen box's own score among all the scores before the choice, by its value.

        Equal values elsewhere are told apart by the class. It raises LookupError where the score is not found: the
        file changes it after the choice.
        """
        if not self.tensors:
            return None
        return lambda rows, candidate, index: self.find(rows, float(decode(rows).scores[candidate, 0]), index)

    def find(self, rows: Rows, wanted: float, index: int) -> Entry:
        """The read of the score that has this value, of this class first.

        Raises:
            LookupError: there is none.
        """
        for name in self.tensors:
            places = np.argwhere(np.isclose(self.shown(rows, name), wanted, rtol=CLOSE, atol=CLOSE_TO_ZERO))
            mine = [p for p in places if index in p] or list(places)
            if mine:
                place = tuple(int(i) for i in mine[0])
                if name in self.logits or not 0 <= wanted <= 1:
                    return Entry(((name, place),))
                return score_reads(self.graph, name, True)(place)
        raise LookupError(wanted)

    def shown(self, rows: Rows, name: str) -> np.ndarray:
        """A tensor's scores as the file lists them, float64."""
        values = np.asarray(rows[name], np.float64)
        return logistic(values) if name in self.logits else values


@dataclass(frozen=True, eq=False)
class ScoreList:
    """Scores of boxes that the file chose, and those that it chose from.

    Attributes:
        scores, labels: of the chosen boxes, (N, D) or (D,); labels None where there is one class.
        origin: of the scores.
    """

    scores: str
    labels: str | None
    origin: Origin


def before_selection(facts: Facts, outputs: tuple[str, ...]) -> Origin:
    """The tensors of scores that the first choice of boxes is made from."""
    index = facts.graph.index
    above = index.ancestors(outputs)
    chosen = [n for n in index.nodes if n.op_type in _SELECTS and above.intersection(n.output)]
    later = index.descendants([name for node in chosen for name in node.output if name]) if chosen else set()
    found: dict[str, None] = {}
    logits, heads = set[str](), dict.fromkeys(outputs)
    for node in chosen:
        scores = node.input[1] if node.op_type != "TopK" and len(node.input) > 1 else node.input[0]
        if scores in later:
            continue
        heads.update(dict.fromkeys(node.input[:2] if node.op_type != "TopK" else node.input[:1]))
        for name, is_logit in _back(facts, scores):
            found[name] = None
            if is_logit:
                logits.add(name)
    heads = dict.fromkeys(name for name in heads if name not in outputs or not found)
    return Origin(facts.graph, tuple(reversed(found)), frozenset(logits), tuple(heads))


def _back(facts: Facts, name: str) -> list[tuple[str, bool]]:
    """The scores and what they are made of by moves, maxima over classes and a sigmoid."""
    found = []
    while True:
        found.append((name, False))
        node = facts.graph.index.producer.get(name)
        if node is None:
            return found
        row = operator(node)
        if row.head == "sigmoid":
            return [*found, (node.input[0], True)]
        if not (row.neutral or row.preserves or node.op_type in _REDUCES):
            return found
        name = node.input[0]


def are_shares(found: np.ndarray | None) -> bool:
    """Whether boxes of the probe are shares of the picture; a list filled up with zeros alone says nothing."""
    return found is not None and found.size > 0 and 0 < float(np.abs(found).max()) <= 2
