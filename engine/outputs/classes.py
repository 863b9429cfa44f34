"""Classes: a softmax over all, a sigmoid for each, one sigmoid for yes and no, and files that give the label alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import UsageError
from ..graph.graph import Graph
from ..graph.heads import chosen_from
from ..graph.labels import Prediction, class_name, logistic
from .facts import Facts
from .lengths import before_unit_length
from .reading import Answer, Question, Reading
from .reads import Channel, Entry, Rows, log_odds
from .specs import class_index, least_probability, top_count
from .target import Target

_TELLING = ("logit", "class", "cls", "prob", "softmax", "score", "pred", "label", "categor")
_SHARES = "values that add up to 1"
_COMMON = frozenset({1000, 1001, 21841, 21843})  # ImageNet's classes, with and without background, and its large set


@dataclass(frozen=True, eq=False)
class Classes(Answer):
    """The classes of one picture, the surest first.

    Attributes:
        predictions: as many as were asked for, of independent labels too, however sure.
        others: output -> its classes, where a file has several outputs of classes.
        output: the name of the first of them.
    """

    predictions: tuple[Prediction, ...]
    others: Mapping[str, tuple[Prediction, ...]] = field(default_factory=dict)
    output: str = ""

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"predictions": [p.to_json() for p in self.predictions]}
        if self.others:
            found["others"] = [
                {"output": name, "predictions": [p.to_json() for p in each]} for name, each in self.others.items()
            ]
        return found

    def text(self) -> str:
        parts = [", ".join(f"{p.name} {p.probability:.1%}" for p in each) for each in self._each().values()]
        return parts[0] if not self.others else "; ".join(f"{n}: {t}" for n, t in zip(self._each(), parts, strict=True))

    def rows(self) -> list[tuple[str, float | None, str]]:
        return [
            (f"{name}: {p.name}" if self.others else p.name, p.probability, f"{p.probability:.1%}")
            for name, each in self._each().items()
            for p in each
        ]

    def _each(self) -> dict[str, tuple[Prediction, ...]]:
        return {self.output: self.predictions, **self.others}


@dataclass(frozen=True, eq=False)
class ClassReading(Reading):
    """A vector of class logits.

    Attributes:
        tensor: of the logits.
        kind: "softmax", "sigmoids", "sigmoid" (one number for yes and no), or "shares" and "share" (of yes): the
            tensor's values are probabilities already, and no logits are known.
        output: the file's own output that they are.
        others: readings of the file's other outputs of classes: they are answered too; a target is of the first.
        is_named: whether the graph's class names are theirs.
    """

    tensor: str = field(kw_only=True)
    kind: str = field(kw_only=True, default="softmax")
    output: str = field(kw_only=True, default="")
    others: tuple[ClassReading, ...] = field(kw_only=True, default=())
    is_named: bool = field(kw_only=True, default=True)

    accepts = frozenset({"against"})

    def answer(self, rows: Rows, *, top: int = 3) -> Classes:
        logits = _vector(rows[self.tensor])
        if self.kind in ("sigmoid", "share"):
            return Classes(tuple(_both_sides(self.graph, self._logit(logits))[:top]))
        others = {r.output: tuple(r._ordered(_vector(rows[r.tensor]))[:top]) for r in self.others}
        return Classes(tuple(self._ordered(logits)[:top]), others, self.output)

    def targets(self, rows: Rows, question: Question) -> list[Target]:
        self.check(question)
        logits = _vector(rows[self.tensor])
        spec = question.target
        if self.kind in ("sigmoid", "share"):
            return self._sides(rows, spec)
        least = least_probability(spec)
        if least is not None:
            chosen = [p.index for p in self._ordered(logits) if p.probability >= least]
            if not chosen:
                raise UsageError(f"no class of {self.graph.name} reaches a probability of {least:g} here")
        elif spec is None:
            chosen = [int(np.argmax(logits))]
        elif (top := top_count(spec)) is not None:
            chosen = [int(i) for i in np.argsort(-logits, kind="stable")[:top]]
        else:
            chosen = [class_index(self.graph, spec, len(logits))]
        return [self._target(logits, index, question.against) for index in chosen]

    def check(self, question: Question) -> None:
        super().check(question)
        if self.kind in ("sigmoid", "share") and question.against is not None:
            raise UsageError(f"against=: {self.graph.name} says yes or no, there is no other class to contrast with")

    def _logit(self, values: np.ndarray) -> float:
        """Of yes."""
        value = np.asarray(values.reshape(-1)[0], np.float64)
        return float(log_odds(value) if self.kind == "share" else value)

    def _sides(self, rows: Rows, spec: Any) -> list[Target]:
        """The predicted side, or the ones that are asked for: 1 or its name for yes, 0 or its name for no."""
        names, row = _side_names(self.graph), np.asarray(rows[self.tensor])
        both = _both_sides(self.graph, self._logit(row))
        if spec is None:
            chosen = [both[0].index]
        elif (top := top_count(spec)) is not None:
            chosen = [side.index for side in both[:top]]
        elif (least := least_probability(spec)) is not None:
            chosen = [side.index for side in both if side.probability >= least]
            if not chosen:
                raise UsageError(f"neither side of {self.graph.name} reaches a probability of {least:g} here")
        elif isinstance(spec, str) and spec.strip().lower() in [n.lower() for n in names]:
            chosen = [[n.lower() for n in names].index(spec.strip().lower())]
        else:
            chosen = [class_index(self.graph, spec, 2)]
        return [self._side(row, names[index], yes=index == 1) for index in chosen]

    def _side(self, row: np.ndarray, name: str, *, yes: bool) -> Target:
        share = Entry(((self.tensor, (0,) * row.ndim),), log_odds=True)
        read = share if self.kind == "share" else Channel(self.tensor, 0)
        return Target(read, name, sign=1.0 if yes else -1.0, quantity=f"{'' if yes else 'minus the '}{self._logits}")

    @property
    def _logits(self) -> str:
        """What the values are."""
        if self.kind == "shares":
            return "probability; the file holds no logits"
        if self.kind == "share":
            return "log-odds of the probability"
        return f"logit, before the {'softmax' if self.kind == 'softmax' else 'sigmoid'}"

    def _target(self, logits: np.ndarray, index: int, against: Any) -> Target:
        contrast = () if against is None else others(self.graph, logits, index, against)
        return Target(
            Channel(self.tensor, index),
            class_name(self.graph, index),
            against=tuple(Target(Channel(self.tensor, i), class_name(self.graph, i)) for i in contrast),
            quantity=self._logits,
        )

    def _ordered(self, logits: np.ndarray) -> list[Prediction]:
        values = logits.astype(np.float64)
        if self.kind == "sigmoids":
            shares = logistic(values)
        elif self.kind == "shares":
            shares = values
        else:
            powers = np.exp(values - values.max())
            shares = powers / powers.sum()
        order = np.argsort(-values, kind="stable")
        names = [class_name(self.graph, int(i)) if self.is_named else f"class {i}" for i in order]
        return [Prediction(int(i), n, float(shares[i]), float(values[i])) for i, n in zip(order, names, strict=True)]


def softmax(facts: Facts, forced: bool = False) -> ClassReading | None:
    """(N, K) or (N, K, 1, 1) class logits, of which a softmax makes probabilities, in the file or here."""
    found = _logits(facts)
    if found is None:
        return None
    tensor, count, name = found
    why = _why_classes(facts, name, count)
    if why is None and not forced and facts.head(name) is None:  # features or a value first, and classes beside them
        tensor, count, name = next(_later_classes(facts, name), found)
        why = _why_classes(facts, name, count)
    if not forced and (why is None or count < 2 or facts.head(name) == "sigmoid"):
        return None
    reason = f"{count} classes ({why or 'as asked'})"
    kind = "shares" if tensor == name and (why == _SHARES or facts.head(name) == "softmax") else "softmax"
    others = () if forced else tuple(_other_classes(facts, name, tensor, count))
    if others:
        listed = ", ".join(f"'{other.output[:80]}'" for other in others[:5]) + (", ..." if others[5:] else "")
        reason += f" in '{name[:80]}', and classes in {listed}; '{name[:80]}' is explained (output= explains another)"
    return ClassReading(
        facts.graph, "classification", "softmax", reason, (tensor, *(o.tensor for o in others)), (tensor,),
        tensor=tensor, kind=kind, output=name, others=others,
    )  # fmt: skip


def _other_classes(facts: Facts, first: str, logits: str, count: int) -> Iterator[ClassReading]:
    """The other outputs that end in a softmax of their own, as the first does: characters of a captcha, say."""
    if facts.head(first) != "softmax":
        return
    seen = {logits, first}
    for name in facts.names:
        shape = facts.shape(name)
        tensor = facts.before_head(name)
        is_vector = facts.is_float(name) and len(shape) == 2 and shape[1] > 1
        if not is_vector or facts.head(name) != "softmax" or {name, tensor} & seen:
            continue
        seen |= {name, tensor}
        yield ClassReading(
            facts.graph, "classification", "softmax", f"{shape[1]} classes (a softmax)", (tensor,), (tensor,),
            tensor=tensor, kind="shares" if tensor == name else "softmax", output=name, is_named=shape[1] == count,
        )  # fmt: skip


def sigmoids(facts: Facts, forced: bool = False) -> ClassReading | None:
    """(N, K) logits with a sigmoid each: labels that do not exclude one another."""
    found = _logits(facts)
    if found is None or (not forced and facts.head(found[2]) != "sigmoid") or found[1] < 2:
        return None
    tensor, count, _ = found
    kind = "shares" if facts.is_headed(tensor, found[2]) else "sigmoids"
    reason = f"{count} independent labels (a sigmoid each)"
    return ClassReading(facts.graph, "labels", "sigmoids", reason, (tensor,), (tensor,), tensor=tensor, kind=kind)


def sigmoid(facts: Facts, forced: bool = False) -> ClassReading | None:
    """(N, 1): one sigmoid for yes and no."""
    found = _logits(facts)
    if found is None or found[1] != 1 or (not forced and facts.head(found[2]) != "sigmoid"):
        return None
    kind = "share" if facts.is_headed(found[0], found[2]) else "sigmoid"
    reason = "yes or no (one sigmoid)"
    return ClassReading(
        facts.graph, "classification", "sigmoid", reason, found[:1], found[:1], tensor=found[0], kind=kind
    )


def _logits(facts: Facts) -> tuple[str, int, str] | None:
    """(tensor of the logits, classes, output) of the first output that is a vector, or the label of one."""
    for name in facts.names:
        if not facts.is_float(name):
            behind = _before_choice(facts, name)
            if behind is not None:
                return behind, _length(facts, behind), name
            continue
        shape = facts.shape(name)
        if len(shape) >= 2 and all(size == 1 for size in shape[2:]) and not (facts.selects and _chosen(facts, name)):
            first = name == facts.graph.outputs[0].name
            head = facts.graph.head(name)
            behind = facts.graph.logits if first else head.logits if head.kind else facts.before_head(name)
            return behind, shape[1], name
    return _chosen_logits(facts)


def _later_classes(facts: Facts, first: str) -> Iterator[tuple[str, int, str]]:
    """As `_logits`: vectors after the first that a softmax or their name says to be classes."""
    for name in facts.names:
        shape = facts.shape(name)
        vector = facts.is_float(name) and len(shape) == 2 and shape[1] > 1
        if name != first and vector and (facts.head(name) == "softmax" or facts.named(name, "logit", "prob")):
            yield facts.before_head(name), shape[1], name


def _before_choice(facts: Facts, name: str) -> str | None:
    """The vector of logits that an ArgMax turns into this label."""
    scores = chosen_from(facts.graph.index, name)
    source = None if scores is None else facts.before_head(scores)
    return source if source is not None and _length(facts, source) else None


def _chosen(facts: Facts, name: str) -> bool:
    """Whether a TopK made this output: ranks, not classes."""
    node = facts.graph.index.producer.get(name)
    return node is not None and node.op_type == "TopK"


def _chosen_logits(facts: Facts) -> tuple[str, int, str] | None:
    for name in facts.names:
        node = facts.graph.index.producer.get(name)
        if node is not None and node.op_type == "TopK":
            source = facts.before_head(node.input[0])
            if _length(facts, source):
                return source, _length(facts, source), name
    return None


def _length(facts: Facts, tensor: str) -> int:
    """Entries of a vector (N, K), 0 where the tensor is none."""
    shape = next((layer.shape for layer in facts.graph.layers if layer.tensor == tensor), ())
    return int(shape[1] or 0) if len(shape) == 2 else 0


def _why_classes(facts: Facts, name: str, count: int) -> str | None:
    """What says that the numbers are classes, or None."""
    if facts.head(name) in ("softmax", "log softmax"):
        return "a softmax"
    if not facts.is_float(name):
        return "the scores that the label is chosen from"
    if facts.graph.logits != name and name == facts.graph.outputs[0].name:
        return "a softmax"
    if facts.labels is not None and len(facts.labels) == count:
        return "class names"
    if _chosen(facts, name):
        return "the scores that the best are chosen from"
    if facts.named(name, "embed", "descriptor") or before_unit_length(facts.graph.index, name):
        return None  # a vector to compare, whatever its length and the rest of its name
    if count in _COMMON:
        return "ImageNet's number"
    if facts.named(name, *_TELLING) and not facts.named(name, "feature"):
        return f"an output named '{name}'"
    return _SHARES if _adds_up(facts, name) else None


def _adds_up(facts: Facts, name: str) -> bool:
    """Whether the values on the probe are shares: a softmax written in other operators."""
    found = facts.probe.get(name)
    return found is not None and found.size > 1 and bool(found.min() >= 0 and abs(float(found.sum()) - 1) < 1e-3)


def _vector(row: Any) -> np.ndarray:
    return np.asarray(row).reshape(-1)


def _both_sides(graph: Graph, logit: float) -> list[Prediction]:
    """Yes and no, the surer first."""
    yes = float(logistic(logit))
    names = _side_names(graph)
    sides = [Prediction(1, names[1], yes, logit), Prediction(0, names[0], 1 - yes, -logit)]
    return sides if logit >= 0 else sides[::-1]


def _side_names(graph: Graph) -> tuple[str, str]:
    """Names of no and yes."""
    if graph.labels is not None and len(graph.labels) == 2:
        return class_name(graph, 0), class_name(graph, 1)
    positive = class_name(graph, 0) if graph.labels is not None and len(graph.labels) == 1 else "positive"
    return f"not {positive}", positive


def others(graph: Graph, logits: np.ndarray, index: int, against: Any) -> list[int]:
    """The classes that one is contrasted with: named, or the nearest ones by their logits (Finer-CAM)."""
    top = top_count(against)
    if top is None:
        other = class_index(graph, against, len(logits))
        if other == index:
            raise UsageError(f"against= names class {index} itself; name another, or top:3")
        return [other]
    near = np.argsort(np.abs(logits - logits[index]), kind="stable")
    found = [int(i) for i in near if i != index][:top]
    if not found:
        raise UsageError(f"against=: {graph.name} has one class, there is none to contrast with")
    return found
