"""What importing one file may cost, and how the operating system is told so.

Memory is bounded as private writable memory (RLIMIT_DATA), which is what a process can exhaust: libraries that are
mapped and space that is only reserved, both many gigabytes with CUDA, do not count. The whole address space is
bounded too, far more loosely.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import ceil

if sys.platform != "win32":
    import resource

GIB = 2**30
PER_BYTE = 12  # of the file: parsed, normalized, serialized, and in two executors; 7.5 measured on VGG16
_IMPORTS = 2**29  # bytes that torch and Keras take when they are imported
_LOOSE = 32 * GIB  # of address space beyond that, for mapped libraries
_SECONDS, _SLOW_SECONDS = 60.0, 300.0  # of processor time; Torch's exporters are slow
_CLOCK = 10  # times the processor time by the clock: others may have the processor
GLANCE_SECONDS = 8.0  # of processor time, for what only looks into a file
_OPENING_SECONDS, _OPENING_PER_BYTE = 3.0, 60 / GIB  # the same for an archive, before anything else reads it
_PROCESSORS = 4  # that a worker uses: with 64 threads the stacks alone would be half a gigabyte


@dataclass(frozen=True)
class Limits:
    """Of one import.

    Attributes:
        memory: bytes beyond what the program takes itself.
        seconds: of processor time.
        is_chosen: whether the user named the memory, which nothing then raises.
    """

    memory: int
    seconds: float
    is_chosen: bool = False

    @property
    def clock(self) -> float:
        """Seconds by the clock."""
        return _CLOCK * self.seconds


def limits_for(size: int, is_onnx: bool, max_memory: float | None = None, max_seconds: float | None = None) -> Limits:
    """The limits for a file.

    Args:
        size: of the file, bytes.
        is_onnx: whether it needs no exporter.
        max_memory: GiB, where the user names it.
        max_seconds: of processor time, where the user names them.
    """
    usual = (1 if is_onnx else 2) * GIB + PER_BYTE * size
    seconds = (_SECONDS if is_onnx else _SLOW_SECONDS) + 60 * size / GIB
    return Limits(
        usual if max_memory is None else int(max_memory * GIB),
        seconds if max_seconds is None else max_seconds,
        max_memory is not None,
    )


_current: Limits | None = None  # in a worker


def impose(limits: Limits) -> None:
    """Bounds this process from here on. For workers: it cannot be undone beyond `allow`."""
    global _current
    _current = limits
    _set(resource.RLIMIT_CORE, 0, 0)
    seconds = max(1, ceil(limits.seconds))
    _set(resource.RLIMIT_CPU, seconds, seconds + 1)
    _set(resource.RLIMIT_DATA, _data_bytes() + _IMPORTS + limits.memory)
    _set(resource.RLIMIT_AS, _data_bytes() + _LOOSE + 2 * limits.memory)
    with suppress(OSError, AttributeError):
        allowed = sorted(os.sched_getaffinity(0))
        first = os.getpid() % len(allowed)  # not always the same ones
        os.sched_setaffinity(0, (allowed[first:] + allowed[:first])[:_PROCESSORS])


def allow(memory: int) -> None:
    """Lets this worker take so many bytes more, for work that has been found harmless but large.

    Does nothing where there is no limit, or the user chose it.
    """
    if _current is not None and not _current.is_chosen:
        for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS):
            soft, _ = resource.getrlimit(kind)
            if soft != resource.RLIM_INFINITY:
                _set(kind, soft + memory)


def opening_seconds(size: int) -> float:
    """Processor time that looking into an archive of so many bytes may take."""
    return _OPENING_SECONDS + _OPENING_PER_BYTE * size


def in_worker() -> bool:
    """Whether this process does nothing but import one file."""
    return _current is not None


@contextmanager
def at_a_glance(seconds: float = GLANCE_SECONDS) -> Iterator[None]:
    """While it is open, this worker is killed (SIGPROF) after so many seconds of processor time.

    For what only looks into a file: a library that goes round in circles cannot be interrupted otherwise. Does nothing
    in a process without limits.
    """
    if _current is None:
        yield
        return
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def lift() -> None:
    """Takes the limit on memory away: what is left to do is our own work."""
    for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS):
        _set(kind, resource.RLIM_INFINITY)


def _set(kind: int, soft: int, hard: int | None = None) -> None:
    most = resource.getrlimit(kind)[1]
    if most != resource.RLIM_INFINITY:
        soft = most if soft == resource.RLIM_INFINITY else min(soft, most)
        hard = None if hard is None else min(hard, most)
    with suppress(ValueError, OSError):
        resource.setrlimit(kind, (soft, most if hard is None else hard))


def _data_bytes() -> int:
    """Private writable memory of this process."""
    with suppress(OSError, ValueError, IndexError), open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmData:"):
                return 1024 * int(line.split()[1])
    return _IMPORTS
