"""Runs the command line in a child process of its own and measures it: exit code, output, time, memory, traces."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .hostile_archives import LENET
from .hostile_onnx import Build
from .hostile_pairs import Pair

SECONDS, PEAK_BYTES = 10, 2**30  # processor time and memory that docs/security.md promises
LIMIT_SECONDS = 60  # by the clock; the promise is 10 s of processor time, and this machine may be busy
LIMIT_BYTES = 12 * 2**30  # of address space: a bomb must not take the machine down before the test says so

# Linux counts the memory that a process had before exec into its peak, so a child of a large test run would seem
# large. A small process in between has its own count; it writes the exit code, processor time and peak of its child.
_LAUNCHER = """
import json, os, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))
child = os.posix_spawn(sys.argv[3], sys.argv[3:], os.environ)
_, status, used = os.wait4(child, 0)
unit = 1 if sys.platform == "darwin" else 1024
state = [os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss * unit]
open(sys.argv[2], "w").write(json.dumps(state))
"""


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        code: exit code; negative for a signal.
        out, err: what it wrote.
        seconds: processor time, user and system.
        peak: the largest resident memory, bytes.
        appeared: paths below the watched folder that were not there before, or changed.
    """

    code: int
    out: str
    err: str
    seconds: float
    peak: int
    appeared: tuple[str, ...]


def convscope(arguments: Sequence[str], folder: Path) -> Ended:
    """``convscope ARGUMENTS`` in a child: its home, temporary files, cache and working folder are below ``folder``."""
    logs = folder.parent / f"{folder.name}.logs"
    logs.mkdir()
    for name in ("home", "tmp", "cwd"):
        (folder / name).mkdir()
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp"),
        "CONVSCOPE_CACHE": str(folder / "home" / "cache"), "PYTHONDONTWRITEBYTECODE": "1",
        # Keras, torch and matplotlib make folders of their own in the home when they are imported, whatever the file
        "KERAS_HOME": str(logs / "keras"), "TORCHINDUCTOR_CACHE_DIR": str(logs / "inductor"),
        "XDG_CACHE_HOME": str(logs / "cache"), "MPLCONFIGDIR": str(logs / "matplotlib"),
    }  # fmt: skip
    before = listing(folder)
    command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(LIMIT_BYTES), str(logs / "state")]
    command += [sys.executable, "-P", "-m", "convscope.cli.main", *arguments]
    with (logs / "out").open("wb") as out, (logs / "err").open("wb") as err:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=folder / "cwd", env=environment,
            start_new_session=True,
        )  # fmt: skip
    try:
        child.wait(LIMIT_SECONDS)
        code, seconds, peak = json.loads((logs / "state").read_text())
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        code, seconds, peak = -signal.SIGKILL, float(LIMIT_SECONDS), 0
    return Ended(
        code,
        (logs / "out").read_text(errors="replace"),
        (logs / "err").read_text(errors="replace"),
        seconds,
        peak,
        tuple(sorted(str(path) for path, state in listing(folder).items() if before.get(path) != state)),
    )


def listing(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """Everything below a folder, with type, size and time of change; folders without size and time."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        is_folder = path.is_dir() and not path.is_symlink()
        found[path] = (status.st_mode, 0, 0) if is_folder else (status.st_mode, status.st_size, status.st_mtime_ns)
    return found


def info(build: Build, folder: Path, *arguments: str) -> tuple[Path, Ended]:
    """``convscope info`` of one file, which is made in ``folder/files``."""
    (folder / "files").mkdir(parents=True)
    path = build(folder / "files")
    return path, convscope(["info", str(path), *arguments], folder)


def convscope_pair(pair: Pair, side: str, folder: Path) -> tuple[Path, Ended]:
    """The command that reads a pair's file: ``info`` of a model, ``predict`` by the shipped network of a picture.

    Args:
        pair: of files.
        side: "hostile", or "harmless", which is then read without the check.
        folder: of its own.
    """
    build: Build = getattr(pair, side)
    (folder / "files").mkdir(parents=True)
    path = build(folder / "files")
    if path.name.startswith("picture."):
        return path, convscope(["predict", str(LENET / "lenet.onnx"), str(path), "--no-check"], folder)
    options = (*pair.options, *(["--no-check"] if side == "harmless" else []))
    return path, convscope(["info", str(path), *options], folder)
