"""``convscope doctor``: what this installation can do, what is missing, and how to get it."""

from __future__ import annotations

import typer

from ..engine.installation import COLUMNS, examine, found_in_words, packages_in_words
from .options import JsonOption
from .output import emit, emit_json
from .tables import show, told


def command(as_json: JsonOption = False) -> None:
    """Show versions, devices and providers, and say what is missing and how to get it.

    Exit code 1 when something that convscope needs is missing or broken.
    """
    report = examine()
    if as_json:
        emit_json(report)
    else:
        from ..engine.runs.result import Table

        for line in found_in_words(report):
            emit(line)
        show(Table(COLUMNS, packages_in_words(report), words=COLUMNS), {"missing": "red"})
        for problem in report["problems"]:
            told(f"problem: {problem}", "red")
        if report["ok"]:
            told("everything that convscope needs is here", "green")
    if not report["ok"]:
        raise typer.Exit(1)
