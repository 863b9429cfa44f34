"""What importing a file costs: ``python -m benchmarks.import_cost FILE... [--against CHECKOUT] [--rounds 3]``.

Processor seconds and peak memory of `load` with and without its check, each run in a process of its own, in turns with
those of another checkout (a parent folder of a package ``convscope``), so that a busy machine slows all. What a process
takes that only imports the libraries is measured too and taken off.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

_JOB = """
import resource, sys, time
from pathlib import Path
import onnx, onnxruntime, torch
from convscope.adapters.load import load_here
start = time.process_time()
if sys.argv[2] != "imports":
    load_here(Path(sys.argv[1]), check=sys.argv[2] == "checked")
print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def main() -> None:
    """Runs everything and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--against", type=Path, help="the folder that holds another version of the package")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    roots = [Path(__file__).resolve().parents[2], *([arguments.against] if arguments.against else [])]
    print("| file | load | " + " | ".join(f"s, MiB of {root}" for root in roots) + " |")
    print("|---|---|" + "---|" * len(roots))
    for path in arguments.files:
        base = [_run(root, path, "imports")[1] for root in roots]
        for job in ("checked", "unchecked"):
            runs = [[_run(root, path, job) for root in roots] for _ in range(arguments.rounds)]
            cells = []
            for i, taken in enumerate(base):
                seconds = statistics.median(row[i][0] for row in runs)
                cells.append(f"{seconds:.2f}, {statistics.median(row[i][1] for row in runs) - taken:.0f}")
            print(f"| {path.name} | {job} | " + " | ".join(cells) + " |", flush=True)


def _run(root: Path, path: Path, job: str) -> tuple[float, float]:
    """(processor seconds, peak MiB)."""
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-c", _JOB, str(path), job]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seconds, memory = done.stdout.split()
    return float(seconds), float(memory)


if __name__ == "__main__":
    main()
