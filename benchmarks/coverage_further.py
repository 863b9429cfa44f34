"""More of timm than the smallest of each convolutional family: ``python -m benchmarks.coverage_further [--report]``.

Two groups, measured as `benchmarks.coverage` measures: the smallest of every family of timm's pure transformers and
MLPs, and sixty of timm's names drawn at random with the seed below, of those with at most 110 million parameters that
the sweep has not. Results go line by line into a JSONL file; the same command goes on, ``--report`` writes
docs/coverage.md.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

from .coverage import PAGE, ROOT, prepare, read_results, row_of, run_apart, summary_of, unequal
from .coverage_networks import CONVOLUTIONAL, HYBRID, MAX_PARAMETERS, Case, family

SEED = 12
DRAWN = 60
TRANSFORMERS, AT_RANDOM = "timm, transformers and MLPs", f"timm, {DRAWN} at random"
RESULTS = ROOT / "build" / "coverage_further.jsonl"
_BEGIN, _END = "<!-- further -->", "<!-- /further -->"


def main() -> None:
    """Sweeps, or reports, as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=float, default=240, metavar="SECONDS", help="per network")
    parser.add_argument("--until", type=float, default=float("inf"), metavar="SECONDS", help="for the whole sweep")
    parser.add_argument("--retry", action="store_true", help="again what is not equal")
    parser.add_argument("--report", action="store_true", help="only write docs/coverage.md")
    arguments = parser.parse_args()
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    prepare(["timm"])
    planned, done = cases(RESULTS.parent), read_results(RESULTS)
    if arguments.report:
        write_report(planned, done)
        return
    deadline = time.monotonic() + arguments.until
    for case in planned:
        known = done.get((case.source, case.name))
        if known is not None and not (arguments.retry and known["status"] != "equal"):
            continue
        if time.monotonic() > deadline:
            print("time is up; the same command goes on", file=sys.stderr)
            return
        result = run_apart(case, arguments.limit)
        with RESULTS.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(f"{case.name}: {result['status']} {result.get('why', '')}", file=sys.stderr, flush=True)


def cases(cache: Path) -> list[Case]:
    """Both groups, in a fixed order: one of each in turn, so that a sweep that is stopped has measured of both.

    Args:
        cache: where the list is kept, since it takes over a minute to count the parameters of a thousand networks.
    """
    import timm

    path = cache / f"timm-further-{timm.__version__}.json"
    if not path.exists():
        path.write_text(json.dumps([astuple(case) for case in _chosen()]))
    return [Case(*entry) for entry in json.loads(path.read_text())]


def _chosen() -> Iterator[Case]:
    from timm.models import _registry

    counted = sorted(_counted())
    modules = _registry._model_to_module
    smallest: dict[tuple[str, str], tuple[int, str]] = {}
    for size, name in counted:
        smallest.setdefault((modules[name], family(name)), (size, name))
    swept = {name for _, name in smallest.values()}
    pure = [name for (module, _), (_, name) in smallest.items() if module not in CONVOLUTIONAL + HYBRID]
    drawn = random.Random(SEED).sample(sorted(name for _, name in counted if name not in swept), DRAWN)
    for place in range(max(len(pure), len(drawn))):
        if place < len(drawn):
            yield Case("timm", AT_RANDOM, drawn[place])
        if place < len(pure):
            yield Case("timm", TRANSFORMERS, pure[place])


def _counted() -> Iterator[tuple[int, str]]:
    """(parameters, name) of every timm network of at most `MAX_PARAMETERS`; of those that can be counted unbuilt."""
    import timm
    import torch

    for name in timm.list_models():
        if name.startswith("test_"):
            continue
        with torch.device("meta"):
            try:
                size = sum(p.numel() for p in timm.create_model(name).parameters())
            except Exception:  # a builder that computes with weights
                continue
        if size <= MAX_PARAMETERS:
            yield size, name


def write_report(planned: list[Case], done: dict[tuple[str, str], dict[str, Any]]) -> None:
    """Puts both groups' tables between the two marks of docs/coverage.md."""
    lines = [
        "| group | networks | measured | equal | different | no twin | failed | worst output | worst tensor "
        "| worst gradient | median import, s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    results = [done[case.source, case.name] for case in planned if (case.source, case.name) in done]
    for group in (TRANSFORMERS, AT_RANDOM):
        number = sum(case.group == group for case in planned)
        lines.append(summary_of(group, number, [r for r in results if r["group"] == group]))
    lines += ["", *unequal(results)]
    for group in (TRANSFORMERS, AT_RANDOM):
        lines += ["", f"### {group}", "", "| network | size | nodes | output | tensors | gradient | import, s |"]
        lines += ["|---|---|---|---|---|---|---|"]
        lines += [row_of(r) for r in results if r["group"] == group and "nodes" in r]
    head, tail = PAGE.read_text().split(_BEGIN)[0], PAGE.read_text().split(_END)[1]
    PAGE.write_text(f"{head}{_BEGIN}\n" + "\n".join(lines) + f"\n{_END}{tail}")


if __name__ == "__main__":
    main()
