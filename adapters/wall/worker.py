"""The two processes behind the wall: a worker that imports one file under limits, and a supervisor of the worker.

The supervisor knows the clock, kills what outlives it or its parent, and says how the worker ended. Both are forked
from a process that has only imported modules, never from one that has computed: thread pools do not survive a fork.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .limits import Limits, impose, lift

LENGTHS = struct.Struct("<?QQQ")  # is it an answer; bytes of the JSON, of what was printed, and of model or arrays
MAX_PRINTED = 2**16
ENDING = (signal.SIGINT, signal.SIGTERM)
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38


@dataclass(frozen=True)
class Request:
    """One import.

    Attributes:
        path: of the file.
        options: of `adapters.load.load`, without the limits.
        limits: what it may cost.
        scratch: a folder for temporary files; the parent removes it, and where that was killed the supervisor.
        cwd, search: working folder and ``sys.path`` of whoever asks.
        feeds: where not the import is asked for but what the file itself makes of these inputs, by name.
    """

    path: str
    options: dict[str, Any]
    limits: Limits
    scratch: str
    cwd: str
    search: list[str] = field(default_factory=list)
    feeds: dict[str, Any] | None = None


def supervise(request: Request, result: socket.socket, status: socket.socket) -> None:
    """Runs a worker and writes one JSON object about its end to ``status``; never raises.

    Args:
        request: what to import.
        result: what the worker writes the graph or error to.
        status: also tells, by its end, that nobody waits any more.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    worker = os.fork()
    if worker == 0:
        try:
            status.close()
            _work(request, result)
        finally:
            os._exit(0)  # nothing that the parent has buffered or registered is ours to flush or run
    result.close()
    poll = select.poll()
    poll.register(os.pidfd_open(worker), select.POLLIN)  # ends with the worker
    poll.register(status.fileno(), select.POLLIN)  # ends with the parent
    is_late = not poll.poll(1000 * request.limits.clock)
    for kill in (os.kill, os.killpg):  # the worker, and whatever it started
        with suppress(OSError):
            kill(worker, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    shutil.rmtree(request.scratch, ignore_errors=True)  # here too: the parent may have been killed
    with suppress(OSError):
        status.sendall(json.dumps({"code": code, "late": is_late}).encode())


def _work(request: Request, result: socket.socket) -> None:
    from .wire import encode_error

    printed = _settle(request)
    impose(request.limits)
    try:
        is_answer, (text, data) = True, _answer(request)
    except BaseException as error:
        is_answer, text, data = False, encode_error(error), b""
    lift()
    sys.stdout.flush()
    said = os.pread(printed, MAX_PRINTED, 0)
    result.sendall(LENGTHS.pack(is_answer, len(text), len(said), len(data)))
    for part in (text, said, data):
        result.sendall(part)


def _answer(request: Request) -> tuple[bytes, bytes]:
    """The graph, or the file's own outputs, as JSON and bytes."""
    from ..load import load_here
    from ..source import run_here
    from .wire import encode_arrays, encode_graph

    path = Path(request.path)
    if request.feeds is not None:
        return encode_arrays(run_here(path, request.feeds, **request.options))
    return encode_graph(load_here(path, **request.options))


def _settle(request: Request) -> int:
    """A session, folders and standard streams of its own; returns the descriptor of what is printed."""
    os.setsid()
    with suppress(OSError, AttributeError):
        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    printed = os.memfd_create("printed")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    sys.stdout = sys.stderr = open(1, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    os.chdir(request.cwd)
    sys.path[:] = request.search or sys.path
    os.environ["TMPDIR"] = request.scratch
    tempfile.tempdir = None
    if not os.path.exists(os.path.expanduser("~/.keras")):  # Keras makes it when it is imported
        os.environ.setdefault("KERAS_HOME", os.path.join(request.scratch, "keras"))
    return printed
