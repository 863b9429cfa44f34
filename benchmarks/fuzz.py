"""Coverage-guided fuzzing of everything that reads bytes from strangers, by atheris (libFuzzer).

    python -m benchmarks.fuzz [TARGET...] [--seconds 300] [--folder FOLDER]

Each target starts from the seeds in tests/seeds and from small files made here. A finding is an error that is not one
of the tool's own, a process that dies, more than 5 s of processor time, more than 1 GiB of memory. Findings are told
apart by kind and place, written to FOLDER/findings, and do not end the run. Needs ``pip install atheris``.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path

from benchmarks.fuzz_targets import INSTRUMENTED, TARGETS

ROOT = Path(__file__).resolve().parents[1]
SEEDS = ROOT / "tests" / "seeds"
_SCRATCH = Path("/dev/shm") if os.path.isdir("/dev/shm") else Path(tempfile.gettempdir())
_STUCK_SECONDS = 90  # beyond its time
_SLOW_SECONDS, _LARGE_BYTES = 5.0, 2**30
_MOST_BYTES = 4 * 2**30  # of private memory: a bomb must not take the machine down
_LONGEST = 64 * 1024  # bytes of an input


def main() -> None:
    """Runs the targets one after the other and prints what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; default all")
    parser.add_argument("--seconds", type=int, default=300, help="of each target, by the clock")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "convscope-fuzz")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if unknown := set(asked.targets) - TARGETS.keys():
        parser.error(f"no target {sorted(unknown)}; there are {', '.join(TARGETS)}")
    if asked.child:
        _fuzz(asked.targets[0], asked.seconds, asked.folder)
        return
    for name in asked.targets or TARGETS:
        _run(name, asked.seconds, asked.folder)


def _run(name: str, seconds: int, folder: Path) -> None:
    """One target until its time is over; a child that dies is started again."""
    corpus, findings = folder / name, folder / "findings"
    corpus.mkdir(parents=True, exist_ok=True)
    findings.mkdir(exist_ok=True)
    for number, data in enumerate(TARGETS[name].seeds()):
        (corpus / f"made-{number}").write_bytes(data)
    if (SEEDS / name).is_dir():
        for path in (SEEDS / name).iterdir():
            shutil.copyfile(path, corpus / path.name)
    before = {path.name for path in findings.iterdir()}
    started, runs, edges, deaths = time.monotonic(), 0, 0, 0
    while (left := seconds - (time.monotonic() - started)) > 5:
        command = [sys.executable, "-m", "benchmarks.fuzz", name, "--seconds", str(int(left)), "--folder", str(folder)]
        ended, told = _child([*command, "--child"], left + _STUCK_SECONDS)
        done = re.findall(r"^#(\d+)\s.*?cov: (\d+)", told, re.MULTILINE)
        if done:
            runs += int(done[-1][0])
            edges = max(edges, int(done[-1][1]))
        if ended == 0:
            break
        deaths += 1
        (findings / f"{name}-death-{deaths}.log").write_text(told[-20_000:])
        for scratch in _SCRATCH.glob(f"convscope-fuzz-{name}-*"):
            for last in scratch.iterdir():
                shutil.copyfile(last, findings / f"{name}-death-{deaths}{last.suffix}")
            shutil.rmtree(scratch, ignore_errors=True)
        if deaths > 50 or not done:
            break
    new = sorted({path.name for path in findings.iterdir()} - before)
    minutes = (time.monotonic() - started) / 60
    print(f"{name:<12}{minutes:>6.1f} min{runs:>10,} inputs{edges:>7,} edges{len(new):>4} findings", flush=True)
    for one in new:
        print(f"    {one}", flush=True)


def _child(command: list[str], seconds: float) -> tuple[int, str]:
    """Exit status and output of a child; one that is stuck (its alarm may wait for a lock) is killed."""
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace")
    try:
        told = child.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        child.kill()
        told = child.communicate()[0]
    return child.returncode, told


def _fuzz(name: str, seconds: int, folder: Path) -> None:
    """Within a child: the loop of libFuzzer."""
    import atheris

    os.environ["CONVSCOPE_CACHE"] = str(folder / "cache")
    target = TARGETS[name]
    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        target.prepare()
    scratch = Path(tempfile.mkdtemp(prefix=f"convscope-fuzz-{name}-", dir=_SCRATCH))
    judge = _Judge(name, scratch, folder / "findings")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (_MOST_BYTES, _MOST_BYTES))
    flags = [
        sys.argv[0], f"-max_total_time={seconds}", f"-max_len={_LONGEST}", "-timeout=60", "-rss_limit_mb=0",
        f"-artifact_prefix={folder / 'findings' / (name + '-')}", "-reload=0",
        str(folder / name),
    ]  # fmt: skip
    options = {"custom_mutator": target.mutate} if target.mutate else {}
    atheris.Setup(flags, judge, **options)
    try:
        atheris.Fuzz()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class _Judge:
    """Runs one input and keeps what is a finding."""

    def __init__(self, name: str, scratch: Path, findings: Path) -> None:
        self._name, self._target = name, TARGETS[name]
        self._path, self._findings = scratch / f"input{self._target.suffix}", findings
        self._known: set[str] = set()

    def __call__(self, data: bytes) -> None:
        from convscope.errors import ConvscopeError

        _reset_peak()
        before, started = _peak(), time.process_time()
        try:
            self._target.run(data, self._path)
        except ConvscopeError as error:
            if error.__cause__ is not None and not isinstance(error.__cause__, ConvscopeError):
                self._keep("unforeseen", error.__cause__, data)
            elif len(str(error)) > 1000:
                self._keep("long", error, data)
        except Exception as error:
            self._keep("raises", error, data)
        if (used := time.process_time() - started) > _SLOW_SECONDS:
            self._keep(f"slow-{used:.0f}s", None, data)
        if (peak := _peak() - before) > _LARGE_BYTES:
            self._keep(f"large-{peak // 2**20}MiB", None, data)

    def _keep(self, kind: str, error: BaseException | None, data: bytes) -> None:
        place = ""
        if error is not None:
            frames = traceback.extract_tb(error.__traceback__)
            own = [f for f in frames if "/convscope/" in f.filename and "/benchmarks/" not in f.filename]
            last = (own or frames)[-1] if frames else None
            place = f"-{type(error).__name__}-{Path(last.filename).stem}-{last.lineno}" if last else ""
        key = f"{self._name}-{kind}{place}" if error is not None else f"{self._name}-{re.sub('-.*', '', kind)}"
        if key in self._known:
            return
        self._known.add(key)
        title = f"{self._name}-{kind}{place}"
        (self._findings / title).write_bytes(data)
        text = "".join(traceback.format_exception(error)) if error is not None else kind
        (self._findings / f"{title}.txt").write_text(text[-5000:])


def _peak() -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        found = [1024 * int(line.split()[1]) for line in file if line.startswith("VmHWM:")]
    return found[0] if found else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # gVisor tells no VmHWM


def _reset_peak() -> None:
    with suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


if __name__ == "__main__":
    main()
