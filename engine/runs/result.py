"""What every run gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..render.artifacts import plain


@dataclass(frozen=True, eq=False)
class Result:
    """A finished run.

    Attributes:
        content: the object of ``result.json``: the record and the verb's own fields.
        page: ``index.html``, where the run wrote one.
    """

    content: Mapping[str, Any]
    page: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """The object of ``result.json`` and of ``--json``, of plain values: NaN and infinities are None."""
        found: dict[str, Any] = plain(self.content)
        return found

    @property
    def lines(self) -> Sequence[str]:
        """What the run found, for people, a line each; empty where the page or the pictures say it."""
        return ()

    @property
    def paths(self) -> Sequence[Path]:
        """The files and folders that a reader opens first, the page last."""
        return () if self.page is None else (self.page,)

    @property
    def failed(self) -> Sequence[Mapping[str, str]]:
        """The inputs that could not be read, each with ``file`` and ``error``."""
        return list(self.content.get("failed", ()))
