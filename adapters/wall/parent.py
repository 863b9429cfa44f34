"""The parent's side: starts the process that imports a file or runs it, reads its answer, and says how it ended."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ...engine.graph.graph import Graph
from ...errors import ConvscopeError, RefusedInput, UnsafeFile
from ..scratch import scratch
from ..sniff import glance
from .limits import GIB, GLANCE_SECONDS, Limits, limits_for, opening_seconds
from .server import LENGTH
from .wire import decode_arrays, decode_error, decode_graph
from .worker import ENDING, LENGTHS, Request, supervise

_MAX_JSON, _MAX_MODEL = 2**28, 2**31
_THREADED = {"torch", "onnxruntime", "keras", "tensorflow", "jax"}  # may have threads that a fork loses
_BOOT = "import sys, json; sys.path[:] = json.loads(sys.argv[2]); from convscope.adapters.wall.server import main; main"
_KINDS = {
    signal.SIGFPE: "an impossible division", signal.SIGSEGV: "a memory fault", signal.SIGBUS: "a memory fault",
    signal.SIGABRT: "an abort, as for want of memory", signal.SIGILL: "an illegal instruction",
    signal.SIGKILL: "a kill, as for want of memory",
}  # fmt: skip


def load_behind(
    path: Path,
    options: dict[str, Any],
    make_factory: Callable[[onnx.ModelProto], Any],
    max_memory: float | None = None,
    max_seconds: float | None = None,
) -> Graph:
    """The graph of a file, imported in a process of its own.

    Args:
        path: the file.
        options: of `adapters.load.load`, without the limits.
        make_factory: the twin factory of a canonical model.
        max_memory: GiB; default as `limits_for` says.
        max_seconds: of processor time; default as `limits_for` says.

    Raises:
        UnsafeFile: it takes more than the limits, or kills the process. ConvscopeError: as `load` in this process.
    """
    text, data = _asked(path, options, None, max_memory, max_seconds)
    with _decoded(path):
        model = onnx.ModelProto()
        model.ParseFromString(bytes(data) if isinstance(data, bytearray) else data)
        digest = hashlib.sha256(data).hexdigest()
        del data
        graph = decode_graph(text, model, make_factory(model))
        if graph.sha256 != digest:  # by which results and proofs know it
            raise ValueError("the graph is another than its sha256 says")
        return graph


def run_behind(path: Path, feeds: dict[str, np.ndarray], room: int, arch: str | None = None) -> list[np.ndarray]:
    """What a file's own framework makes of these inputs, in a process of its own.

    Args:
        path: of a file that was imported before.
        feeds: its own inputs by name.
        room: bytes that its tensors may take, beside what importing it may.
        arch: as it was imported with.

    Raises:
        UnsafeFile: it takes more than the limits, or kills the process. RefusedInput: it cannot be run.
    """
    text, data = _asked(path, {"arch": arch}, feeds, room=room)
    with _decoded(path):
        return decode_arrays(text, data)


def _asked(
    path: Path,
    options: dict[str, Any],
    feeds: dict[str, np.ndarray] | None,
    max_memory: float | None = None,
    max_seconds: float | None = None,
    room: int = 0,
) -> tuple[bytes, bytes | bytearray]:
    """A worker's answer: JSON, and bytes."""
    head = glance(path)
    is_onnx = not head.startswith((b"\x89HDF", b"PK\x03\x04", b"\x80")) and head[8:9] != b"{"
    is_keras = head.startswith(b"\x89HDF") or any(name in head[:100] for name in (b"metadata.json", b"config.json"))
    limits = limits_for(path.stat().st_size, is_onnx, max_memory, max_seconds)
    limits = replace(limits, memory=limits.memory + room)
    with scratch() as folder:
        request = Request(str(path), options, limits, str(folder), os.getcwd(), list(sys.path), feeds)
        return _Errand(request, is_keras).answer()


@contextmanager
def _decoded(path: Path) -> Iterator[None]:
    """While it is open, what cannot be read of an answer is none."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedInput(f"{path}: the process that imported it gave no answer") from error


@dataclass(frozen=True)
class _Errand:
    """One import, or one run of the file itself, under way."""

    request: Request
    is_keras: bool

    def answer(self) -> tuple[bytes, bytes | bytearray]:
        """JSON and bytes."""
        result, far_result = socket.socketpair()
        status, far_status = socket.socketpair()
        with result, status, far_result, far_status:
            child = self._start(far_result, far_status, (result, status))
            far_result.close()
            far_status.close()
            try:
                return self._outcome(result, status)
            finally:
                status.close()  # with it the supervisor kills a worker that nobody waits for
                if child is not None:
                    os.waitpid(child, 0)

    def _start(self, result: socket.socket, status: socket.socket, ours: tuple[socket.socket, ...]) -> int | None:
        """The number of the supervisor where it is a child of this process; it must not hold our ends too."""
        if _THREADED & sys.modules.keys() or threading.active_count() > 1:
            _SERVER.send(self.request, self.is_keras, (result, status))
            return None
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):
                stream.flush()
        with _undisturbed():
            child = os.fork()
            if child == 0:
                try:
                    for one in ours:
                        one.close()
                    supervise(self.request, result, status)
                finally:
                    os._exit(0)
        return child

    def _outcome(self, result: socket.socket, status: socket.socket) -> tuple[bytes, bytes | bytearray]:
        with result.makefile("rb") as stream:
            head = stream.read(LENGTHS.size)
            if len(head) < LENGTHS.size:
                raise self._death(status)
            is_answer, *lengths = LENGTHS.unpack(head)
            if lengths[0] > _MAX_JSON or lengths[1] > _MAX_JSON or lengths[2] > _MAX_MODEL:
                raise self._death(status)
            parts = [_read(stream, length) for length in lengths]
        if any(len(part) < length for part, length in zip(parts, lengths, strict=True)):
            raise self._death(status)
        text, printed, data = parts
        if self.request.options.get("arch") and printed:  # the user's own code said it
            sys.stderr.write(printed.decode("utf-8", errors="replace"))
        if not is_answer:
            with _decoded(Path(self.request.path)):
                refusal = self._refusal(bytes(text))
            raise refusal
        return bytes(text), data

    def _refusal(self, text: bytes) -> ConvscopeError:
        error = decode_error(text)
        if json.loads(text)["memory"]:
            better = self._too_much(f"more than {_gib(self.request.limits)} of memory", "max_memory=GIB")
            better.add_note(str(error))
            return better
        return error

    def _death(self, status: socket.socket) -> ConvscopeError:
        """Why there is no answer, from what the supervisor says."""
        limits = self.request.limits
        try:
            end = json.loads(status.makefile("rb").read(1000))
            code, is_late = int(end["code"]), bool(end["late"])
        except (OSError, ValueError, KeyError, TypeError):
            return ConvscopeError(f"{self.request.path}: the process that imports it ended before it answered")
        if is_late:
            return self._too_much(f"longer than {limits.clock:.0f} s", "max_seconds=S")
        if code == -signal.SIGXCPU:
            return self._too_much(f"more than {limits.seconds:.0f} s of processor time", "max_seconds=S")
        if code == -signal.SIGPROF:
            size = Path(self.request.path).stat().st_size
            seconds = opening_seconds(size) if self.is_keras else GLANCE_SECONDS
            return UnsafeFile(
                f"{self.request.path}: looking into it takes more than {seconds:.0f} s of processor time; "
                "the file is damaged or hostile"
            )
        kind = signal.Signals(-code) if code < 0 else None
        what = f"{kind.name}, {_KINDS.get(kind, 'a signal')}" if kind else f"the exit code {code}"
        return UnsafeFile(
            f"{self.request.path}: importing it ended the process ({what}), within {_gib(limits)} of memory and "
            f"{limits.seconds:.0f} s; the file is damaged or hostile"
        )

    def _too_much(self, what: str, flag: str) -> ConvscopeError:
        return UnsafeFile(
            f"{self.request.path}: importing it takes {what}; raise it with {flag} if you know where the file is from"
        )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """While it is open, Ctrl-C and SIGTERM wait: what they raise in a fork's hooks is lost, and locks stay shut."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _gib(limits: Limits) -> str:
    return f"{limits.memory / GIB:.3g} GiB"


def _read(stream: Any, length: int) -> bytes | bytearray:
    buffer = bytearray(length)
    view, done = memoryview(buffer), 0
    while done < length:
        count = stream.readinto(view[done:])
        if not count:
            return bytes(buffer[:done])
        done += count
    return buffer


class _Server:
    """The clean process beside this one, started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def send(self, request: Request, is_keras: bool, sockets: tuple[socket.socket, socket.socket]) -> None:
        """Hands a request over; a server that has ended is started again."""
        data = pickle.dumps(request)
        with self._lock:
            for attempt in range(2):
                channel = self._started()
                try:
                    socket.send_fds(channel, [LENGTH.pack(len(data), is_keras)], [s.fileno() for s in sockets])
                    channel.sendall(data)
                    return
                except OSError:
                    self.stop()
                    if attempt:
                        raise

    def _started(self) -> socket.socket:
        if self._owner != os.getpid():  # a fork of the process that started it has none
            self._channel = self._process = None
        if self._channel is None or self._process is None or self._process.poll() is not None:
            near, far = socket.socketpair()
            with far:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-c", f"{_BOOT}(int(sys.argv[1]))", str(far.fileno()), json.dumps(sys.path)],
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    pass_fds=(far.fileno(),), start_new_session=True,
                )  # fmt: skip
            if not self._owner:
                atexit.register(self.stop)
            self._channel, self._owner = near, os.getpid()
        return self._channel

    def stop(self) -> None:
        """Ends it; the next request starts another."""
        if self._owner == os.getpid() and self._channel is not None and self._process is not None:
            self._channel.close()
            self._process.wait()
        self._channel = self._process = None


_SERVER = _Server()
