"""What importing a file costs: ``python -m benchmarks.import_cost FILE... [--against CHECKOUT] [--rounds 3]``.

Processor seconds and peak memory of `load` without its check, with it, and again where the cache folder remembers it,
each run in a process of its own, in turns with those of another checkout (a parent folder of a package ``convscope``),
so that a busy machine slows all. What a process takes that only imports the libraries is measured too and taken off.
`info` is the whole command as a user gives it, all its processes together, once with a new cache folder and again.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

_LOAD = """
import resource, sys, time
from pathlib import Path
import onnx, onnxruntime, torch
from convscope.adapters.load import load
start = time.process_time()
if sys.argv[2] != "imports":
    how = {"unchecked": {"check": False}, "checked": {"check": True}}.get(sys.argv[2], {})
    load(Path(sys.argv[1]), trust=True, **how)
print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
_INFO = """
import resource, subprocess, sys
command = [sys.executable, "-P", "-m", "convscope.cli.main", "info", sys.argv[1]]
subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""


def main() -> None:
    """Runs everything and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--against", type=Path, help="the folder that holds another version of the package")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    roots = [Path(__file__).resolve().parents[2], *([arguments.against] if arguments.against else [])]
    print("| file | job | " + " | ".join(f"s, MiB of {root}" for root in roots) + " |")
    print("|---|---|" + "---|" * len(roots))
    for path in arguments.files:
        base = [_run(root, path, _LOAD, "imports")[1] for root in roots]
        _line(path, "unchecked", roots, base, arguments.rounds, _LOAD)
        _line(path, "checked", roots, base, arguments.rounds, _LOAD)
        _line(path, "again", roots, base, arguments.rounds, _LOAD)
        nothing = [0.0] * len(roots)
        _line(path, "info", roots, nothing, arguments.rounds, _INFO)
        _line(path, "info again", roots, nothing, arguments.rounds, _INFO)


def _line(path: Path, job: str, roots: list[Path], base: list[float], rounds: int, program: str) -> None:
    runs = [[_run(root, path, program, job) for root in roots] for _ in range(rounds)]
    cells = []
    for i, taken in enumerate(base):
        seconds = statistics.median(row[i][0] for row in runs)
        cells.append(f"{seconds:.2f}, {statistics.median(row[i][1] for row in runs) - taken:.0f}")
    print(f"| {path.name} | {job} | " + " | ".join(cells) + " |", flush=True)


def _run(root: Path, path: Path, program: str, job: str) -> tuple[float, float]:
    """(processor seconds, peak MiB), with a cache folder of its own, which an ``again`` finds filled."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "CONVSCOPE_CACHE": cache}
        command = [sys.executable, "-P", "-c", program, str(path), job]
        for _ in range(2 if job.endswith("again") else 1):
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seconds, memory = done.stdout.split()
    return float(seconds), float(memory)


if __name__ == "__main__":
    main()
