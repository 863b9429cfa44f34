"""Forks a process for every command line that `benchmarks.crashes` asks for, watches it, and kills it at its moment.

A request is a line of JSON on stdin: the folder to work in, the words, the folder that is written, and the event at
which to be killed, 0 for none. Beside the folder lie then ``said`` (of stderr), ``events`` (how many there were) and
``synced`` (the number, size and time of every file at each fsync).
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from tests.cli.all_commands import command, import_rooms

ROOMS = ("cli", "engine.runs", "engine.pages", "engine.atlas", "engine.ascent", "engine.export", "adapters.twin")


def main() -> None:
    """Forks a process for each command that stdin asks for; says its number, and its exit code when it has ended."""
    from convscope.adapters.wall import parent
    from convscope.engine.executors.session import import_runtime

    import_runtime()
    import_rooms(*ROOMS)
    Image.init()
    parent._THREADED.clear()  # nothing was computed here, so that the wall may fork as well
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _command(json.loads(line))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _command(asked: dict[str, Any]) -> None:
    """Within the fork: the command itself, watched."""
    os.setsid()
    os.chdir(asked["folder"])
    for descriptor, name in enumerate(("/dev/null", "/dev/null", "../said")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND), descriptor)
    os.environ["TMPDIR"] = str(Path("../tmp").resolve())
    tempfile.tempdir = None
    owner, count, journal = os.getpid(), 0, os.open("../synced", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    events = os.open("../events", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    synchronize, ours = os.fsync, (f"{asked['out']}/", f"{Path(asked['out']).resolve()}")

    def fsync(descriptor: Any) -> None:
        synchronize(descriptor)
        one = os.fstat(descriptor if isinstance(descriptor, int) else descriptor.fileno())
        os.write(journal, f"{one.st_ino} {one.st_size} {one.st_mtime_ns}\n".encode())

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir") or os.getpid() != owner:
            return
        if not str(arguments[0]).startswith(ours):
            return
        count += 1
        os.pwrite(events, f"{count}".encode(), 0)
        if count == asked["event"]:
            os.kill(owner, signal.SIGKILL)

    os.fsync = fsync  # type: ignore[assignment]
    sys.addaudithook(watch)
    command(asked["words"])


if __name__ == "__main__":
    main()
