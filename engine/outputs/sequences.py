"""Read lines: a symbol for each time step, joined by CTC's rule or taken one by one.

CTC (Graves et al. 2006): the best symbol of each step, repeats joined, blanks left out. Time may come first: (T, N, K).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import UsageError
from ..graph.index import attributes
from ..graph.operators import operator
from .facts import Facts
from .reading import Answer, Question, Reading
from .reads import Rows, Symbol
from .specs import is_all, least_probability, top_count
from .target import Target


@dataclass(frozen=True, eq=False)
class Character:
    """One symbol that was read.

    Attributes:
        number: from 1, in reading order.
        text: the symbol, or ``<N>`` where the model has no names.
        index: its column.
        steps: the time steps at which it was read.
        probability: the largest over its steps.
    """

    number: int
    text: str
    index: int
    steps: tuple[int, ...]
    probability: float

    def to_json(self) -> dict[str, Any]:
        """A plain dict."""
        return {
            "number": self.number, "text": self.text, "index": self.index, "steps": list(self.steps),
            "probability": self.probability,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Line(Answer):
    """The text of one picture.

    Attributes:
        characters: in reading order.
        length: time steps from the left to the right of the picture; 0 where steps have no place in it.
    """

    characters: tuple[Character, ...]
    length: int = 0

    @property
    def string(self) -> str:
        """All symbols joined."""
        return "".join(c.text for c in self.characters)

    def to_json(self) -> dict[str, Any]:
        mean = float(np.mean([c.probability for c in self.characters])) if self.characters else 0.0
        return {"text": self.string, "probability": mean, "characters": [c.to_json() for c in self.characters]}

    def text(self) -> str:
        if not self.characters:
            return "nothing read"
        return f"'{self.string}' {np.mean([c.probability for c in self.characters]):.1%}"

    def rows(self) -> list[tuple[str, float | None, str]]:
        each: list[tuple[str, float | None, str]] = [
            (f"{c.number}: {c.text}", c.probability, f"{c.probability:.1%}") for c in self.characters
        ]
        return [(f"'{self.string}'", None, ""), *each] if each else super().rows()


@dataclass(frozen=True, eq=False)
class SequenceReading(Reading):
    """Symbols (T, K) of one picture.

    Attributes:
        tensor: of the logits (or probabilities).
        axis: the symbols' axis without the batch axis.
        log: the tensor holds probabilities.
        symbols: name of each column, or None.
        blank: CTC's blank, or None where every step is a symbol.
    """

    tensor: str = field(kw_only=True)
    axis: int = field(kw_only=True, default=1)
    log: bool = field(kw_only=True, default=False)
    symbols: tuple[str, ...] | None = field(kw_only=True, default=None)
    blank: int | None = field(kw_only=True, default=0)

    accepts = frozenset({"box"})
    alternatives = (frozenset({"box", "target"}),)

    def answer(self, rows: Rows, *, top: int = 3) -> Line:
        table = np.asarray(rows[self.tensor], np.float64)
        table = table if self.axis == 1 else table.T
        if not self.log:
            powers = np.exp(table - table.max(axis=1, keepdims=True))
            table = powers / powers.sum(axis=1, keepdims=True)
        return Line(tuple(self._characters(table)), 0 if self.blank is None else len(table))

    def _characters(self, table: np.ndarray) -> list[Character]:
        path = table.argmax(axis=1)
        groups: list[list[int]] = []
        for step, index in enumerate(path):
            joined = self.blank is not None and groups and path[step - 1] == index
            if joined:
                groups[-1].append(step)
            else:
                groups.append([step])
        kept = [steps for steps in groups if path[steps[0]] != self.blank]
        return [
            Character(number, self._name(int(path[s[0]])), int(path[s[0]]), tuple(s), float(table[s, path[s[0]]].max()))
            for number, s in enumerate(kept, 1)
        ]

    def _likeliest(self, rows: Rows) -> Character:
        """The strongest symbol beside the blank, where nothing was read."""
        table = np.array(rows[self.tensor], np.float64)
        table = table if self.axis == 1 else table.T
        if self.blank is not None:
            table[:, self.blank] = -np.inf
        step, index = (int(i) for i in np.unravel_index(int(table.argmax()), table.shape))
        return Character(1, self._name(index), index, (step,), 0.0)

    def _name(self, index: int) -> str:
        return self.symbols[index] if self.symbols is not None else f"<{index}>"

    def targets(self, rows: Rows, question: Question) -> list[Target]:
        self.check(question)
        characters = list(self.answer(rows).characters) or [self._likeliest(rows)]
        spec = question.target
        if question.box is not None:
            if not 1 <= question.box <= len(characters):
                raise UsageError(f"box={question.box} is not there: {len(characters)} characters were read")
            characters = [characters[question.box - 1]]
        elif (top := top_count(spec)) is not None:
            characters = sorted(characters, key=lambda c: -c.probability)[:top]
        elif (least := least_probability(spec)) is not None and not is_all(spec):
            characters = [c for c in characters if c.probability >= least]
            if not characters:
                raise UsageError(f"no character that {self.graph.name} read reaches a probability of {least:g} here")
        elif spec is not None and not is_all(spec):
            characters = self._named(characters, str(spec))
        return [
            Target(
                Symbol(self.tensor, c.steps, c.index, self.axis, self.log, batch_axis=self.axes.get(self.tensor, 0)),
                f"{c.number}: {c.text}",
            )
            for c in characters
        ]

    def _named(self, characters: list[Character], spec: str) -> list[Character]:
        found = [c for c in characters if c.text == spec] or [c for c in characters if str(c.index) == spec]
        if not found:
            read = "".join(c.text for c in characters)
            raise UsageError(f"'{spec}' was not read; '{read}' was (box=N takes one of its characters by number)")
        return found


def ctc(facts: Facts, forced: bool = False) -> SequenceReading | None:
    """(N, T, K) or (T, N, K) with a blank, first or last."""
    found = _sequence(facts, forced)
    if found is None:
        return None
    name, count, axis, batch = found
    symbols, blank = _symbols(facts, name, count, axis + (axis >= batch), batch)
    return _reading(facts, "ctc", name, count, axis, batch, symbols, blank)


def steps(facts: Facts, forced: bool = False) -> SequenceReading | None:
    """(N, L, K): every position is a symbol of its own, as attention decoders give it; only by ``--decoder steps``."""
    found = _sequence(facts, forced) if forced else None
    if found is None:
        return None
    name, count, axis, batch = found
    labels = facts.labels if facts.labels is not None and len(facts.labels) == count else None
    return _reading(facts, "steps", name, count, axis, batch, labels, None)


def _reading(
    facts: Facts, decoder: str, name: str, count: int, axis: int, batch: int, symbols: tuple[str, ...] | None,
    blank: int | None,
) -> SequenceReading:  # fmt: skip
    tensor = facts.before_head(name)
    log = tensor == name and (facts.is_headed(tensor, name) or (facts.head(name) is None and facts.saturates(name)))
    order = (
        "(T, N, K)" if batch == 1 else "(N, K, T)" if axis == 0 and not facts.graph.permuted.get(name) else "(N, T, K)"
    )
    names = "named" if symbols is not None else "no names: labels=FILE"
    where = "" if blank is None else f", blank {'first' if blank == 0 else 'last'}"
    reason = f"a line of text by its shape {order}: {count} symbols ({names}){where}"
    return SequenceReading(
        facts.graph, "text", decoder, reason, (tensor,), (tensor,), {tensor: batch},
        tensor=tensor, axis=axis, log=log, symbols=symbols, blank=blank,
    )  # fmt: skip


def _sequence(facts: Facts, forced: bool) -> tuple[str, int, int, int] | None:
    """(output, symbols, their axis without the batch axis, batch axis)."""
    name = facts.names[0]
    shape = facts.shape(name)
    if len(shape) != 3 or not facts.is_float(name):
        return None
    batch = 0 if shape[0] == 1 else 1 if shape[1] == 1 else None
    if batch is None:
        return None
    texts = {len(facts.labels)} if facts.labels is not None else set()
    texts |= {len(facts.metadata["character"].splitlines())} if "character" in facts.metadata else set()
    axis = _symbol_axis(facts, name, batch, texts)
    count, length = shape[axis], shape[3 - axis - batch]
    named = any(count - known in (0, 1, 2) for known in texts)
    sure = facts.head(name) in ("softmax", "log softmax") or named or batch == 1 or facts.add_up(name) == axis
    if not forced and facts.head(name) == "sigmoid":  # of symbols one is read at a time
        return None
    blank = count >= 11 and length <= 1024 and max(_blanks(facts, name, axis, batch)) > 0.5
    if not forced and not (length > 1 and count > 2 and (sure or blank)):
        return None
    return name, count, axis - (axis > batch), batch


def _symbol_axis(facts: Facts, name: str, batch: int, texts: set[int]) -> int:
    """The axis of the symbols: the softmax's, or the one as long as the names tell; else the last of the file."""
    last = facts.graph.permuted.get(name, (0, 1, 2)).index(2)
    other = 3 - last - batch
    node = facts.graph.index.producer.get(name)
    while node is not None and node.op_type in ("Identity", "Cast"):
        node = facts.graph.index.producer.get(node.input[0])
    if node is not None and operator(node).head in ("softmax", "log softmax"):
        return other if int(attributes(node).get("axis", -1)) % 3 == other else last
    if facts.add_up(name) in (last, other):
        return int(facts.add_up(name) or 0)
    shape = facts.shape(name)
    fits = [axis for axis in (last, other) if any(shape[axis] - known in (0, 1, 2) for known in texts)]
    return fits[0] if fits else last


def _path(facts: Facts, name: str, axis: int, batch: int) -> np.ndarray | None:
    """The strongest symbol of each step of the probe; None where there is no probe, or nothing in it differs."""
    found = facts.probe.get(name)
    if found is None or not np.ptp(found):
        return None
    table = np.moveaxis(found, (batch, axis), (0, 2))[0]
    return np.asarray(table.argmax(axis=1))


def _blanks(facts: Facts, name: str, axis: int, batch: int) -> tuple[float, float]:
    """The shares of the probe's steps at which the first and the last symbol is the strongest."""
    path = _path(facts, name, axis, batch)
    last = facts.shape(name)[axis] - 1
    return (0.0, 0.0) if path is None else (float((path == 0).mean()), float((path == last).mean()))


def _symbols(facts: Facts, name: str, count: int, axis: int, batch: int) -> tuple[tuple[str, ...] | None, int]:
    """Names of the columns and the blank's column, from labels or the file's own list of characters."""
    known = facts.labels
    if known is None and "character" in facts.metadata:
        known = tuple(facts.metadata["character"].splitlines())
    blank = _blank(facts, name, axis, batch)
    if known is None or count - len(known) not in (0, 1, 2):
        return None, blank
    if len(known) == count:  # the list holds the blank itself
        return tuple(known), blank
    more = (" ",) if count - len(known) == 2 else ()  # Paddle's readers add the space at the end
    return (("", *known, *more) if blank == 0 else (*known, *more, "")), blank


def _blank(facts: Facts, name: str, axis: int, batch: int) -> int:
    """The last where it wins most steps of the probe, which holds little to read, or twice as many as the first."""
    first, last = _blanks(facts, name, axis, batch)
    return facts.shape(name)[axis] - 1 if last > 0.5 or (last > 0.2 and last > 2 * first) else 0
