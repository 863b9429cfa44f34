"""Which networks import, and are they right? ``python -m benchmarks.coverage [keras|timm|torchvision|light ...]``.

Every network runs in a process of its own with a time limit; results go line by line into a JSONL file, so that a
sweep that was stopped goes on where it was. ``--retry`` measures again what was not equal; ``--report`` writes
docs/coverage.md from what is there.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from .coverage_cases import GRADIENT_BOUND, OUTPUT_BOUND, TENSOR_BOUND, measure
from .coverage_networks import CONVOLUTIONAL, HYBRID, KERAS, MAX_PARAMETERS, Case, timm_cases, torchvision_cases
from .sweep import Sweep, put_between

SOURCES = ("light", "keras", "torchvision", "timm")
SWEPT = CONVOLUTIONAL + HYBRID  # timm's modules
ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "build" / "coverage.jsonl"
PAGE = ROOT / "docs" / "coverage.md"
_BEGIN, _END = "<!-- sweep -->", "<!-- /sweep -->"


def main() -> None:
    """Sweeps, or reports, as the arguments say."""
    Sweep(__doc__ or "", SOURCES, RESULTS, prepare, cases, measure, write_report).main()


def prepare(sources: Iterable[str]) -> None:
    """Imports once what every measurement needs; they are forked from here."""
    os.environ["KERAS_BACKEND"] = "torch"
    warnings.simplefilter("ignore")
    if not {"timm", "torchvision"}.isdisjoint(sources):
        from tests.torchvision_schemas import declare

        declare()
        import timm  # noqa: F401
    if "keras" in sources:
        import keras  # noqa: F401
    import onnxruntime  # noqa: F401

    from convscope.adapters.twin.build import TwinFactory  # noqa: F401


def cases(sources: Iterable[str]) -> Iterator[Case]:
    """The networks of the named sources, in a fixed order."""
    for source in sources:
        if source == "keras":
            yield from (Case("keras", "keras.applications", name) for name in KERAS)
        elif source == "light":
            from tests.zoo import NAMES

            yield from (Case("light", "onnx light graphs", name) for name in NAMES)
        else:
            yield from timm_cases(RESULTS.parent) if source == "timm" else torchvision_cases()


def write_report(results: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Puts the sweep's tables between the two marks of docs/coverage.md."""
    prepare(SOURCES)
    left_out = f"timm and torchvision networks of more than {MAX_PARAMETERS:,} parameters are left out. "
    put_between(PAGE, _BEGIN, _END, tables(list(results.values()), cases(SOURCES), left_out))


def tables(results: list[dict[str, Any]], planned_cases: Iterable[Case], left_out: str = "") -> str:
    """The page's tables, in Markdown: a summary by group, what is not equal, what is so by rounding, every network."""
    lines = [
        f"Bounds, relative to the largest absolute value: output {OUTPUT_BOUND:g}, every tensor {TENSOR_BOUND:g}, "
        f"gradient {GRADIENT_BOUND:g}. {left_out}Seconds are the processor's, of one thread, on a machine that others "
        "used as well.",
        "",
        "| group | networks | measured | equal | different | no twin | failed | worst output | worst tensor "
        "| worst gradient | median import, s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    planned = Counter(case.group for case in planned_cases)
    for group, number in planned.items():
        lines.append(_summary(group, number, [r for r in results if r["group"] == group]))
    exporters = Counter(r["exporter"] for r in results if r.get("exporter") and r["source"] != "light")
    lines += ["", "Exporter used: " + ", ".join(f"{k} {n}" for k, n in exporters.most_common()) + "."]
    lines += ["", "### What is not equal, and why", "", "| network | status | why |", "|---|---|---|"]
    bad = [r for r in results if r["status"] != "equal"]
    lines += [f"| {r['source']} {r['name']} | {r['status']} | {_cell(r.get('why', ''))} |" for r in bad] or [
        "| none | | |"
    ]
    lines += _rounded(results)
    for group in planned:
        rows = [_row(r) for r in results if r["group"] == group and "nodes" in r]
        if rows:
            lines += ["", f"### {group}", "", "| network | size | nodes | output | tensors | gradient | import, s |"]
            lines += ["|---|---|---|---|---|---|---|", *rows]
    return "\n".join(lines)


def _summary(group: str, planned: int, results: list[dict[str, Any]]) -> str:
    count = Counter(r["status"] for r in results)
    cells: list[Any] = [planned, len(results), *(count[k] for k in ("equal", "different", "no twin", "failed"))]
    for key in ("output", "tensors", "gradient"):
        values = [r[key] for r in results if r.get(key) is not None]
        cells.append(f"{max(values):.1e}" if values else "")
    seconds = [r["import_seconds"] for r in results if "import_seconds" in r]
    cells.append(f"{median(seconds):.1f}" if seconds else "")
    return f"| {group} | " + " | ".join(map(str, cells)) + " |"


def _rounded(results: list[dict[str, Any]]) -> list[str]:
    """The networks that amplify float32's rounding beyond the bounds, and what float64 says about them."""
    bounds = (("output", OUTPUT_BOUND), ("tensors", TENSOR_BOUND))
    rows = [r for r in results if r["status"] == "equal" and any(r[k] > bound for k, bound in bounds)]
    if not rows:
        return []
    head = "| network | output, float32 | tensors, float32 | the framework's own rounding | twin, float64 |"
    lines = ["", "### Beyond the bounds by rounding alone", "", head, "|---|---|---|---|---|"]
    for r in rows:
        numbers = " | ".join(f"{r[k]:.1e}" for k in ("output", "tensors", "rounding", "exact"))
        lines.append(f"| {r['source']} {r['name']} | {numbers} |")
    return lines


def _row(result: dict[str, Any]) -> str:
    numbers = [f"{result[k]:.1e}" if result.get(k) is not None else "" for k in ("output", "tensors", "gradient")]
    cells = [result["name"], result.get("size", ""), result["nodes"], *numbers, result.get("import_seconds", "")]
    return "| " + " | ".join(map(str, cells)) + " |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    main()
