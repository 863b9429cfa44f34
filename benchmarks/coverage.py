"""Which networks import, and are they right? ``python -m benchmarks.coverage [keras|timm|torchvision|light ...]``.

Every network runs in a process of its own with a time limit; results go line by line into a JSONL file, so that a
sweep that was stopped goes on where it was. ``--retry`` measures again what was not equal; ``--report`` writes
docs/coverage.md from what is there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from .coverage_cases import GRADIENT_BOUND, OUTPUT_BOUND, TENSOR_BOUND, measure
from .coverage_networks import KERAS, MAX_PARAMETERS, Case, timm_cases, torchvision_cases

SOURCES = ("light", "keras", "torchvision", "timm")
ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "build" / "coverage.jsonl"
PAGE = ROOT / "docs" / "coverage.md"
_BEGIN, _END = "<!-- sweep -->", "<!-- /sweep -->"


def main() -> None:
    """Sweeps, or reports, as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", default=SOURCES, help="default: all")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--limit", type=float, default=240, metavar="SECONDS", help="per network")
    parser.add_argument("--until", type=float, default=float("inf"), metavar="SECONDS", help="for the whole sweep")
    parser.add_argument("--retry", action="store_true", help="again what is not equal")
    parser.add_argument("--report", action="store_true", help="only write docs/coverage.md")
    arguments = parser.parse_args()
    if arguments.report:
        prepare(SOURCES)
        write_report(read_results(arguments.results))
    else:
        sweep(arguments)


def sweep(arguments: argparse.Namespace) -> None:
    """Measures every case that has no result yet."""
    deadline = time.monotonic() + arguments.until
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    prepare(arguments.sources)
    done = read_results(arguments.results)
    for case in cases(arguments.sources):
        known = done.get((case.source, case.name))
        if known is not None and not (arguments.retry and known["status"] != "equal"):
            continue
        if time.monotonic() > deadline:
            print("time is up; the same command goes on", file=sys.stderr)
            return
        result = run_apart(case, arguments.limit)
        with arguments.results.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(f"{case.source} {case.name}: {result['status']} {result.get('why', '')}", file=sys.stderr, flush=True)


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


def run_apart(case: Case, limit: float) -> dict[str, Any]:
    """One measurement in a process of its own, forked from this one, which has imported everything already."""
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    process = fork.Process(target=_measure_into, args=(case, sender))
    process.start()
    sender.close()
    base = {"source": case.source, "group": case.group, "name": case.name}
    try:
        if not receiver.poll(limit):
            return {**base, "status": "failed", "why": f"not done after {limit:.0f} s"}
        return {**base, **receiver.recv()}
    except EOFError:
        process.join()
        return {**base, "status": "failed", "why": f"the process ended with {process.exitcode}"}
    finally:
        process.kill()
        process.join()


def _measure_into(case: Case, sender: Connection) -> None:
    import torch

    torch.set_num_threads(1)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        sender.send(measure(case))


def read_results(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The last result of every network."""
    if not path.exists():
        return {}
    entries = (json.loads(line) for line in path.read_text().splitlines() if line.endswith("}"))
    return {(e["source"], e["name"]): e for e in entries}


def write_report(results: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Puts the sweep's tables between the two marks of docs/coverage.md."""
    page = PAGE.read_text()
    head, tail = page.split(_BEGIN)[0], page.split(_END)[1]
    PAGE.write_text(f"{head}{_BEGIN}\n{_tables(list(results.values()))}\n{_END}{tail}")


def _tables(results: list[dict[str, Any]]) -> str:
    lines = [
        f"Bounds, relative to the largest absolute value: output {OUTPUT_BOUND:g}, every tensor {TENSOR_BOUND:g}, "
        f"gradient {GRADIENT_BOUND:g}. timm and torchvision networks of more than {MAX_PARAMETERS:,} parameters are "
        "left out. Seconds are the processor's, of one thread, on a machine that others used as well.",
        "",
        "| group | networks | measured | equal | different | no twin | failed | worst output | worst tensor "
        "| worst gradient | median import, s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    planned = Counter(case.group for case in cases(SOURCES))
    for group, number in planned.items():
        lines.append(summary_of(group, number, [r for r in results if r["group"] == group]))
    exporters = Counter(r["exporter"] for r in results if r.get("exporter") and r["source"] != "light")
    lines += ["", "Exporter used: " + ", ".join(f"{k} {n}" for k, n in exporters.most_common()) + "."]
    lines += ["", "### What is not equal, and why", "", *unequal(results)]
    lines += _rounded(results)
    for group in planned:
        rows = [row_of(r) for r in results if r["group"] == group and "nodes" in r]
        if rows:
            lines += ["", f"### {group}", "", "| network | size | nodes | output | tensors | gradient | import, s |"]
            lines += ["|---|---|---|---|---|---|---|", *rows]
    return "\n".join(lines)


def unequal(results: list[dict[str, Any]]) -> list[str]:
    """The table of what is not equal, and why."""
    bad = [r for r in results if r["status"] != "equal"]
    rows = [f"| {r['source']} {r['name']} | {r['status']} | {_cell(r.get('why', ''))} |" for r in bad]
    return ["| network | status | why |", "|---|---|---|", *(rows or ["| none | | |"])]


def summary_of(group: str, planned: int, results: list[dict[str, Any]]) -> str:
    """One group's line of the summary."""
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


def row_of(result: dict[str, Any]) -> str:
    """One network's line."""
    numbers = [f"{result[k]:.1e}" if result.get(k) is not None else "" for k in ("output", "tensors", "gradient")]
    cells = [result["name"], result.get("size", ""), result["nodes"], *numbers, result.get("import_seconds", "")]
    return "| " + " | ".join(map(str, cells)) + " |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    main()
