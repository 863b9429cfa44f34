"""Whether memory grows with the number of pictures: the peak of each command over few and many of them.

    python -m benchmarks.memory [JOB...] [--counts 150,1500]

LeNet and pictures of 28 x 28, each command in a process of its own that writes into a folder: VmHWM of that process,
interpreter and libraries included, without the process that imports the model. ``attack`` takes one picture, so that it
is called from Python as often as there are pictures. ``explain`` is Grad-CAM. The last column is what each picture more
has taken: its line in the record and in the page, if nothing else is kept.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

JOBS = {
    "top": "top lenet PICTURES --layer conv1,conv2 -k 3",
    "stats": "stats lenet PICTURES --layer conv1,conv2",
    "activations": "activations lenet PICTURES --layer conv2 --units 0-2 --save npz",
    "explain": "explain lenet PICTURES --method gradcam --layer conv2",
    "predict": "predict lenet PICTURES",
    "attack": "",
}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=", ".join(JOBS))
    parser.add_argument("--counts", default="150,1500", metavar="N,N")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child is not None:
        _do(asked.jobs[0], asked.child)
        return
    counts = [int(count) for count in asked.counts.split(",")]
    print("| job | " + " | ".join(f"{count:,} pictures, MiB" for count in counts) + " | seconds | KiB a picture |")
    print("|---" * (len(counts) + 3) + "|", flush=True)
    for job in asked.jobs or JOBS:
        started, peaks = time.monotonic(), [_peak(job, count) for count in counts]
        each = (peaks[-1] - peaks[0]) / (counts[-1] - counts[0])
        cells = " | ".join(f"{peak / 1024:.0f}" for peak in peaks)
        print(f"| `{job}` | {cells} | {time.monotonic() - started:.0f} | {each:.1f} |", flush=True)


def _peak(job: str, count: int) -> int:
    """KiB that a process takes which does the job with so many pictures."""
    with tempfile.TemporaryDirectory(prefix="memory-") as root:
        (Path(root) / "pictures").mkdir()
        noise = np.random.default_rng(0).integers(0, 256, (count, 28, 28), np.uint8)
        for number, pixels in enumerate(noise):
            Image.fromarray(pixels).save(Path(root) / "pictures" / f"{number:05d}.png")
        command = [sys.executable, "-m", "benchmarks.memory", job, "--child", root]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(ended.stdout.split()[-1])


def _do(job: str, root: Path) -> None:
    """Within the child: the job, then its peak in KiB."""
    if job == "attack":
        import convscope

        graph = convscope.load("lenet", check=False)
        for path in sorted((root / "pictures").iterdir()):
            convscope.attack(graph, path, population=8, steps=2)
    else:
        from convscope.cli.main import run

        words = JOBS[job].replace("PICTURES", str(root / "pictures")).split()
        code = run([*words, "--no-check", "--device", "cpu", "-q", "-o", str(root / "out")])
        assert code == 0, code
    status = Path("/proc/self/status").read_text().splitlines()
    print(next(line.split()[1] for line in status if line.startswith("VmHWM")))


if __name__ == "__main__":
    main()
