"""Who makes what now: leases in the atlas itself, so that any number of runs work on one folder and share its work.

A lease is a file that only one run can create, and that says which. The run renews it while it works, and removes it
when the work is kept. One that is not renewed is over, and so is one of a process of this machine that is gone: another
run may take it. Two that take it over at the same moment do the work twice, with the same bytes, which does no harm.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from ...errors import ConvscopeError
from ..kept import from_json
from ..render.artifacts import is_alive, to_json
from .files import Files

FOLDER = "store/leases"
SPAN = 120.0  # seconds without a renewal after which a lease is over
RENEWED = 30.0  # seconds between renewals
_MOST_VALUES = 100  # in such a file


class Leases:
    """The leases of one run, shared by its processes.

    Args:
        files: the atlas.
        owner: of the run; default a new one.
    """

    def __init__(self, files: Files, owner: str | None = None) -> None:
        self.files, self.owner = files, owner or secrets.token_hex(8)
        self._held: set[str] = set()
        self._lock = threading.Lock()

    def take(self, names: Sequence[str]) -> list[str]:
        """Those of the names that are ours from now on, each until `release`."""
        taken = [name for name in names if self._take(name)]
        with self._lock:
            self._held.update(taken)
        return taken

    def is_free(self, name: str) -> bool:
        """Whether nobody else is at work on it."""
        return self._ended(_file(name), {})

    def release(self, name: str) -> None:
        """Gives one back; the work is kept, or another may try it."""
        with self._lock:  # against a renewal that would bring it back
            self._held.discard(name)
            self.files.remove(_file(name))

    @contextmanager
    def held(self, names: Sequence[str]) -> Iterator[list[str]]:
        """Takes what is free of the names, renews it while the block runs, and gives back what is left at its end."""
        taken, ended = self.take(names), threading.Event()
        keeper = threading.Thread(target=self._keep, args=(ended,), daemon=True)
        if taken:
            keeper.start()
        try:
            yield taken
        finally:
            ended.set()
            for name in taken:
                if name in self._held:
                    self.release(name)

    def renew(self) -> None:
        """Renews what we hold and nobody has taken over."""
        for name in list(self._held):
            with self._lock, suppress(ConvscopeError, FileNotFoundError):  # the work itself says what is wrong
                if name in self._held:
                    data = self.files.read(_file(name))
                    if row_of(data).get("owner") == self.owner:
                        self.files.write(_file(name), data)

    def tidy(self) -> None:
        """Removes what killed runs left."""
        memory: dict[str, float] = {}
        for file in self.files.names(FOLDER):
            if self._ended(file, memory):
                self.files.remove(file)

    def _keep(self, ended: threading.Event) -> None:
        while not ended.wait(RENEWED):
            self.renew()

    def _take(self, name: str) -> bool:
        file, content = _file(name), to_json({"owner": self.owner, **this_process()}, indent=None).encode()
        if self.files.create(file, content):
            return True
        if not self._ended(file, {}):
            return False
        self.files.remove(file)
        return self.files.create(file, content)

    def _ended(self, file: str, memory: dict[str, float]) -> bool:
        """Whether a lease is ours, over, of a process that is gone, or not there; ``memory`` keeps the store's time."""
        try:
            row = row_of(self.files.read(file))
            if row.get("owner") == self.owner or is_gone(row):
                return True
            written = self.files.written(file)
        except FileNotFoundError:
            return True
        if written is None:
            return False
        if "now" not in memory:
            memory["now"] = self.files.now()
        return is_over(written, memory["now"])


def together(leases: Leases, work: Mapping[str, Callable[[], None]]) -> None:
    """Does each piece of work whose file is not there, and waits for those that other runs are at.

    Args:
        leases: of this run.
        work: name of the file in the atlas that tells that it is done -> what does it.
    """
    left, looks = dict(work), 0
    while left:
        for name in list(left):
            with leases.held([_digest(name)]) as taken:
                if not leases.files.has(name):
                    if not taken:
                        continue
                    left[name]()
            del left[name]
        if left:
            rest(looks)
            looks += 1


def rest(looks: int) -> None:
    """Waits for other runs: a second, then longer the more often one has looked, at most a quarter of a minute."""
    time.sleep(min(2.0**looks, 15.0))


def leased(files: Files) -> int:
    """How many pieces of work are in somebody's hands."""
    watcher, memory = Leases(files, ""), dict[str, float]()
    return sum(not watcher._ended(file, memory) for file in files.names(FOLDER))


def _file(name: str) -> str:
    return f"{FOLDER}/{name[:2]}/{name}.json"


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def row_of(data: bytes) -> dict[str, Any]:
    """What such a file says; nothing where its owner died while it was written."""
    with suppress(ValueError):
        found = from_json(data, _MOST_VALUES)
        if isinstance(found, dict):
            return found
    return {}


def this_process() -> dict[str, Any]:
    """What tells a process from all others."""
    return {"machine": _machine(), "process": os.getpid()}


def is_over(written: float, now: float) -> bool:
    """Whether a file was last written too long ago, or at a time that cannot be: nobody would ever renew it."""
    return abs(now - written) > SPAN


def is_gone(row: Mapping[str, Any]) -> bool:
    """Whether a file is of a process of this machine that has ended."""
    process = row.get("process")
    here = row.get("machine") == _machine() and isinstance(process, int) and process > 0
    return here and not is_alive(int(process))  # type: ignore[arg-type]


@cache
def _machine() -> str:
    """This machine since it was started, and its space of process numbers: containers of one machine have their own."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
