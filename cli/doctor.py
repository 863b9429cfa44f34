"""``convscope doctor``: what this installation can do, what is missing, and how to get it."""

from __future__ import annotations

from typing import Any

import typer

from ..engine.installation import examine
from .options import JsonOption
from .output import emit_json
from .tables import console, table


def command(as_json: JsonOption = False) -> None:
    """Show versions, devices and providers, and say what is missing and how to get it.

    Exit code 1 when something that convscope needs is missing or broken.
    """
    report = examine()
    if as_json:
        emit_json(report)
    else:
        _show(report)
    if not report["ok"]:
        raise typer.Exit(1)


def _show(report: dict[str, Any]) -> None:
    from rich.text import Text

    shown = console(160)
    machine = f"{report['platform']}, {report['cpus']} CPUs, {report['memory_gib']} GiB"
    gpus = ", ".join(f"{g['name']} ({g['memory_gib']} GiB)" for g in report["torch"].get("cuda", [])) or "none"
    providers = ", ".join(report["onnxruntime"].get("providers", [])) or "none"
    shown.print(f"convscope {report['convscope']}, Python {report['python']}, {machine}", soft_wrap=True)
    shown.print(f"GPU for torch: {gpus}", soft_wrap=True)
    shown.print(f"ONNX Runtime providers: {providers}", soft_wrap=True)
    columns = ("package", "version", "serves", "get it")
    packages = table(columns, folded=columns)
    for p in report["packages"]:
        missing = p["version"] is None
        version = Text("missing", "red") if missing and p["required"] else p["version"] or "-"
        packages.add_row(p["name"], version, p["serves"], Text(p["get"] if missing else ""))
    shown.print(packages)
    for problem in report["problems"]:
        shown.print(f"problem: {problem}", style="red", soft_wrap=True, markup=False)
    if report["ok"]:
        shown.print("everything that convscope needs is here", style="green")
