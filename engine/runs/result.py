"""What every run gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..render.artifacts import plain

_COUNTED = ("layers", "units", "images")  # fields of a result that say how much there is


@dataclass(frozen=True)
class Table:
    """Part of a result as a table, for people.

    Attributes:
        columns: their headings.
        rows: a text for each column.
        words: the columns that hold words; the others hold numbers.
        legend: how to read it, or nothing.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[str] = ()
    legend: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """A finished run.

    Attributes:
        content: the object of ``result.json``: the record and the verb's own fields.
        page: ``index.html``, where the run wrote one.
        seen: how many pictures the run was asked to see.
    """

    content: Mapping[str, Any]
    page: Path | None = None
    seen: int = field(default=0, kw_only=True)

    def __repr__(self) -> str:
        model = self.content.get("model")
        of = f" of {model['name']!r}" if isinstance(model, Mapping) and "name" in model else ""
        counts = [
            f"{len(self.content[key])} {key if len(self.content[key]) != 1 else key[:-1]}"
            for key in _COUNTED
            if isinstance(self.content.get(key), (list, tuple))
        ]
        counts += [f"{len(self.failed)} failed"] if self.failed else []
        return f"<{type(self).__name__}{of}{': ' if counts else ''}{', '.join(counts)}; see .content>"

    def _repr_html_(self) -> str | None:
        from ..render.notebook import table

        shown = self.table
        return None if shown is None else table(repr(self).strip("<>"), shown.columns, shown.rows)

    def to_json(self) -> dict[str, Any]:
        """The object of ``result.json`` and of ``--json``, of plain values: NaN and infinities are None."""
        found: dict[str, Any] = plain(self.content)
        return found

    @property
    def ok(self) -> bool:
        """False where the run was a question, and the answer is no: the models differ, a bound does not hold."""
        return True

    @property
    def table(self) -> Table | None:
        """What the run measured, where that is a table."""
        return None

    @property
    def lines(self) -> Sequence[str]:
        """What the run found, for people, a line each; empty where the page or the pictures say it."""
        return ()

    @property
    def paths(self) -> Sequence[Path]:
        """The files and folders that a reader opens first, the page last."""
        return () if self.page is None else (self.page,)

    @property
    def unfinished(self) -> str:
        """What could not be done though the rest was, in a sentence; else nothing."""
        return f"{len(self.failed)} of {self.seen} images could not be read; the others are done" if self.failed else ""

    @property
    def failed(self) -> Sequence[Mapping[str, str]]:
        """The inputs that could not be read, each with ``file`` and ``error``."""
        return list(self.content.get("failed", ()))
