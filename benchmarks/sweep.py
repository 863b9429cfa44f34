"""One loop over many networks: each in a process of its own with a time limit, results line by line into a file."""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .coverage_networks import Case

Measure = Callable[[Case], dict[str, Any]]


@dataclass(frozen=True)
class Sweep:
    """What is measured of which networks.

    Attributes:
        text: what the command says of itself.
        sources: the names of all kinds of networks.
        results: a JSONL file; a sweep that was stopped goes on where it was.
        prepare: imports once, for the processes that are forked from here, what the named sources need.
        cases: the networks of the named sources, in a fixed order.
        measure: one network's result, which has a status; "equal" is the best.
        report: writes the page from all results.
    """

    text: str
    sources: Sequence[str]
    results: Path
    prepare: Callable[[Iterable[str]], None]
    cases: Callable[[Iterable[str]], Iterable[Case]]
    measure: Measure
    report: Callable[[dict[tuple[str, str], dict[str, Any]]], None]

    def main(self) -> None:
        """Sweeps, or reports, as the arguments say."""
        parser = argparse.ArgumentParser(description=self.text, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("sources", nargs="*", default=self.sources, help="default: all")
        parser.add_argument("--results", type=Path, default=self.results)
        parser.add_argument("--limit", type=float, default=240, metavar="SECONDS", help="per network")
        parser.add_argument("--until", type=float, default=float("inf"), metavar="SECONDS", help="for the whole sweep")
        parser.add_argument("--retry", action="store_true", help="again what was not equal")
        parser.add_argument("--report", action="store_true", help="only write docs/coverage.md")
        arguments = parser.parse_args()
        if arguments.report:
            self.report(read_results(arguments.results))
        else:
            self._run(arguments)

    def _run(self, arguments: argparse.Namespace) -> None:
        """Measures every case that has no result yet."""
        deadline = time.monotonic() + arguments.until
        arguments.results.parent.mkdir(parents=True, exist_ok=True)
        self.prepare(arguments.sources)
        done = read_results(arguments.results)
        for case in self.cases(arguments.sources):
            known = done.get((case.source, case.name))
            if known is not None and not (arguments.retry and known["status"] != "equal"):
                continue
            if time.monotonic() > deadline:
                print("time is up; the same command goes on", file=sys.stderr)
                return
            result = run_apart(self.measure, case, arguments.limit)
            with arguments.results.open("a") as file:
                file.write(json.dumps(result) + "\n")
            print(f"{case.source} {case.name}: {result['status']} {result.get('why', '')}", file=sys.stderr, flush=True)


def run_apart(measure: Measure, case: Case, limit: float) -> dict[str, Any]:
    """One measurement in a process of its own, forked from this one, which has imported everything already."""
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    process = fork.Process(target=_measure_into, args=(measure, case, sender))
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


def _measure_into(measure: Measure, case: Case, sender: Connection) -> None:
    import torch

    torch.set_num_threads(1)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        sender.send(measure(case))


def read_results(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The last result of every network."""
    return {(e["source"], e["name"]): e for e in read_lines(path)}


def read_lines(path: Path) -> list[dict[str, Any]]:
    """What stands in a JSONL file, but for a line that was cut off; nothing where there is none."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def put_between(page: Path, begin: str, end: str, text: str) -> None:
    """Writes a text between the two marks of a page."""
    before, _, rest = page.read_text().partition(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}")
