"""Every command that writes, ended in every way a command can end, and then run again.

    python -m benchmarks.crashes [COMMAND...] [--moments 10] [--seed 0] [--faults clock,event,...]

LeNet and small pictures, so that a run takes a second; a server that has imported everything forks for each. Faults:

    clock   kill -9 at a random moment of the run
    event   kill -9 at a random one of the moments in which it opens, renames or removes something in its folder
    term    SIGTERM at a random moment
    full    the folder is a small tmpfs with room for a random part of what is written (needs the right to mount)
    power   kill -9 as by ``event``, then the power fails: files that were not synchronized since they were last written
            are cut, zeroed, emptied or lost, each at random; what is lost is known from the calls of fsync

After each fault nothing under a final name is half a file, the command that was not killed has said one line, and
the same command again gives the bytes of an undisturbed run, and nothing beside them. Exits with 1 where one does not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

OUT = "out"
LATE = 240.0  # seconds by the clock after which a command is taken to hang
LENET = Path(__file__).parents[1] / "models" / "lenet" / "lenet.onnx"
ASCENT = "--steps 3 --size 20 --precision float32"
COMMANDS = {
    "filters": f"filters lenet --layer conv2 --units 0-5 --batch 2 --strip 2 {ASCENT}",
    "maximize": f"maximize lenet --class 0,1,2,3,4,5 --batch 2 --alpha --animate {ASCENT} --size 28",
    "dream": "dream lenet pictures/a.png --layer conv2 --steps 3 --size 40 --strip 1",
    "invert": "invert lenet pictures/a.png --layer conv1 --steps 3",
    "accent": "accent lenet pictures/a.png --layer conv2 --units 0 --steps 3",
    "top": "top lenet pictures --layer conv1,dense2 -k 2 --batch 1",
    "stats": "stats lenet pictures --layer conv1,conv2 --batch 1",
    "activations": "activations lenet pictures/a.png pictures/b.png --layer conv1,dense2 --units 0-2 --save npz",
    "weights": "weights lenet --save",
    "explain": "explain lenet pictures/a.png pictures/b.png --method gradcam,saliency --layer conv2",
    "attack": "attack lenet pictures/a.png --pixels 2 --population 8 --steps 3",
    "compare": "compare lenet b.onnx --match --pictures 1 --steps 2 --size 20",
    "predict": "predict lenet pictures/a.png pictures/b.png",
    "verify": "verify lenet",
    "export": f"export lenet -o {OUT}/explained.onnx",
    "atlas": "atlas lenet pictures/a.png pictures/b.png --layer conv1 --steps 3 --size 20 --workers 1 -k 2",
}
FAULTS = ("clock", "event", "term", "full", "power")


@dataclass
class Run:
    """One command under way.

    Attributes:
        code: exit code; negative for a signal.
        err: what it said, where it failed.
        seconds: by the clock.
    """

    code: int
    err: str
    seconds: float = 0.0


@dataclass
class Row:
    """What one fault did to one command: how often it struck, ended with the same bytes, said one line."""

    struck: int = 0
    same: int = 0
    findings: list[str] = field(default_factory=list)


class Bench:
    """Runs one command in a folder of its own, strikes it, and looks at what is left.

    Args:
        root: an empty folder.
        seed: of all that is random.
    """

    def __init__(self, root: Path, seed: int) -> None:
        self.random, self.case, self.tmp = random.Random(seed), root / "work", root / "tmp"
        self.tmp.mkdir()
        command = [sys.executable, "-m", "benchmarks.crash_server"]
        self.server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def fresh(self) -> None:
        """A folder with pictures, a second model, and an empty one for what is written."""
        shutil.rmtree(self.case, ignore_errors=True)
        (self.case / "pictures").mkdir(parents=True)
        (self.case / OUT).mkdir()
        for number, name in enumerate("abcd"):
            noise = random.Random(number).randbytes(28 * 28)
            Image.frombytes("L", (28, 28), noise).save(self.case / "pictures" / f"{name}.png")
        shutil.copyfile(LENET, self.case / "b.onnx")

    def run(self, name: str, event: int = 0, kill: int = 0, after: float = 0.0) -> Run:
        """The command; the signal ``kill`` comes ``after`` seconds, or SIGKILL at its ``event``."""
        words = [*COMMANDS[name].split(), "--quiet", *([] if name == "export" else ["-o", OUT])]
        said = self.case.parent / "said"
        said.unlink(missing_ok=True)
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        asked = {"folder": str(self.case), "words": words, "out": OUT, "event": event}
        self.server.stdin.write(json.dumps(asked) + "\n")
        self.server.stdin.flush()
        child, started = int(self.server.stdout.readline()), time.monotonic()
        late = threading.Timer(LATE, os.kill, (child, signal.SIGKILL))
        late.start()
        if kill:
            time.sleep(after)
            with suppress(ProcessLookupError):
                os.kill(child, kill)
        code = int(self.server.stdout.readline())
        late.cancel()
        return Run(code, said.read_text(errors="replace") if code and said.exists() else "", time.monotonic() - started)

    def strike(self, fault: str, name: str, whole: Run, events: int) -> Run:
        """The command with a fault, at a moment of a run that lasts and does as much as ``whole``."""
        moment, event = self.random.uniform(0, whole.seconds), self.random.randint(1, max(events, 1))
        if fault == "full":
            pages = sum(-(-size // 4096) for size in self.sizes)
            _mount(self.case / OUT, 4096 * self.random.randint(1, max(1, pages - 1)))
        if fault in ("clock", "term"):
            ended = self.run(name, kill=signal.SIGKILL if fault == "clock" else signal.SIGTERM, after=moment)
        else:
            ended = self.run(name, event=event if fault in ("event", "power") else 0)
        if fault == "full":
            subprocess.run(["mount", "-o", "remount,size=1g", str(self.case / OUT)], check=True)
        if fault == "power":
            self._cut_power()
        return ended

    def _cut_power(self) -> None:
        synced = [tuple(map(int, line.split())) for line in (self.case.parent / "synced").read_text().splitlines()]
        for path in [p for p in sorted((self.case / OUT).rglob("*")) if p.is_file()]:
            status = path.stat()
            if (status.st_ino, status.st_size, status.st_mtime_ns) in synced:
                continue
            lists = path.suffix == ".jsonl"  # only ever added to: what was synchronized of it stays
            safe = max((size for inode, size, _ in synced if inode == status.st_ino), default=0) if lists else 0
            how, size = self.random.choice(("kept", "cut", "zeros", "empty", "lost")), status.st_size
            if how == "lost" and not safe:
                path.unlink()
            elif how != "kept":
                os.truncate(path, self.random.randint(safe, size) if how == "cut" else safe)
                os.truncate(path, size if how == "zeros" else path.stat().st_size)

    def measure(self, name: str) -> tuple[Run, int, dict[str, str]]:
        """An undisturbed run, the number of its events, and its files."""
        self.fresh()
        whole = self.run(name)
        events = int((self.case.parent / "events").read_text() or 0)
        self.sizes = [p.stat().st_size for p in (self.case / OUT).rglob("*") if p.is_file()]
        return whole, events, _files(self.case / OUT)


def _strike_all(bench: Bench, name: str, faults: list[str], moments: int) -> list[Row]:
    """A row for each fault; the findings say what was not as promised."""
    bench.measure(name)  # what is slow at first
    whole, events, expected = bench.measure(name)
    rows = [Row() for _ in faults]
    if whole.code or bench.measure(name)[2] != expected:
        rows[0].findings.append(f"two undisturbed runs end with {whole.code} and differ: {whole.err!r}")
    for fault, row in zip(faults, rows, strict=True):
        for _ in range(moments):
            bench.fresh()
            try:
                ended = bench.strike(fault, name, whole, events)
                row.struck += ended.code != 0
                found = [*_faults_of(ended, fault), *_halves(bench, fault)]
                again = bench.run(name)
                if _files(bench.case / OUT) == expected and again.code == 0:
                    row.same += ended.code != 0
                else:
                    found.append(f"again: {again.code}, {again.err!r}, {_unlike(_files(bench.case / OUT), expected)}")
                row.findings += [f"{fault}: {one}" for one in found]
            finally:
                if fault == "full":
                    subprocess.run(["umount", "-l", str(bench.case / OUT)], check=False)
                shutil.rmtree(bench.tmp)
                bench.tmp.mkdir()
    return rows


def _faults_of(ended: Run, fault: str) -> list[str]:
    """What a command that was not killed by force has said amiss."""
    if fault not in ("term", "full") or ended.code == 0:
        return []
    said = {"term": (130, "interrupted"), "full": (4, "the disk is full")}[fault]
    is_line = ended.err.count("\n") == 1 and said[1] in ended.err
    return [] if is_line and ended.code == said[0] else [f"ends with {ended.code}: {ended.err[-300:]!r}"]


def _halves(bench: Bench, fault: str) -> list[str]:
    """Half files under final names; what is left behind, in temporary folders too; who still runs."""
    out, found = bench.case / OUT, []
    for path in [p for p in out.rglob("*") if p.is_file() and ".part" not in str(p)]:
        if fault != "power" and not _is_whole(path):
            found.append(f"{path.relative_to(out)} is half a file")
    if fault in ("term", "full"):
        found += [f"leaves {path.name[-5:]}" for path in [*out.rglob("*.part"), *bench.tmp.iterdir()]]
    for _ in range(50):
        if not (running := [p for p in Path("/proc").glob("[0-9]*/cwd") if _leads_into(p, bench.case)]):
            return found
        time.sleep(0.1)
    return [*found, f"{len(running)} processes still run"]


def _leads_into(link: Path, folder: Path) -> bool:
    with suppress(OSError):
        return os.readlink(link) == str(folder)
    return False


def _is_whole(path: Path) -> bool:
    """Whether the file can be read to its end; a list may end within a line."""
    data = path.read_bytes()
    try:
        if path.suffix in (".png", ".webp"):
            Image.open(path).load()
        elif path.suffix == ".json":
            json.loads(data)
        elif path.suffix in (".npz", ".npy"):
            found = np.load(path)
            [found[key] for key in getattr(found, "files", ())]
        elif path.suffix == ".onnx":
            onnx.checker.check_model(data)
    except Exception:
        return False
    return path.suffix != ".html" or data.rstrip().endswith(b"</html>")


def _files(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _unlike(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))[:5]


def _mount(folder: Path, size: int) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=True)


def main() -> None:
    """Prints the table, and every finding in a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument("--moments", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", default=",".join(FAULTS))
    asked = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory(prefix="crashes-") as root:
        bench = Bench(Path(root), asked.seed)
        for name in asked.commands or COMMANDS:
            rows = _strike_all(bench, name, asked.faults.split(","), asked.moments)
            print(f"| {name} | " + " | ".join(f"{r.same} of {r.struck}" for r in rows) + " |", flush=True)
            for sentence in dict.fromkeys(s for row in rows for s in row.findings):
                print(f"    {name}: {sentence}", flush=True)
                bad += 1
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
