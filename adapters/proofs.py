"""What the check at import found, kept in the cache folder, so that the same file need not be proven in every command.

A proof is of a canonical graph with its preprocessing and sizes (`proof_key`), under one state of convscope, of the
libraries that compute, and of the processor. It is kept under the sha256 of the file that the graph came from, so no
file can vouch for another. Both sums are made on this side of the wall: a graph whose bytes are not those that were
proven, as where external data has changed, is checked again.

Whatever is wrong with the folder costs the proof and nothing else: what is damaged, foreign or of another version is
ignored, and what cannot be written is not.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from ..engine.graph.graph import Graph
from ..engine.graph.layers import Proof
from ..engine.record import library_versions
from ..engine.render.artifacts import sha256_of, sweep, to_json, write_text
from ..errors import ConvscopeError, RefusedInput
from .cache import cache_folder

FOLDER = "proofs"
_SCHEMA = 1
_MOST_BYTES = 2**31  # of a model file; what is larger is rarely checked at all, and takes seconds to sum
_MOST_ENTRY_BYTES, _MOST_GRAPHS, _MOST_ENTRIES = 2**16, 16, 2000  # of one file: a graph for each of its sizes
_MOST_NOTES, _LONGEST_NOTE = 4, 1000
_KEY, _DATE, _ENTRY = re.compile(r"[0-9a-f]{64}"), re.compile(r"\d{4}-\d\d-\d\d"), re.compile(r"[0-9a-f]{64}\.json")
_PROCESSOR = ("vendor_id", "model name", "flags", "CPU implementer", "CPU part", "Features")  # of /proc/cpuinfo


def today() -> str:
    """The date of a proof that is made now: UTC, as 2026-11-26."""
    return datetime.now(UTC).date().isoformat()


def proof_key(graph: Graph) -> str:
    """The sha256 of all that the check at import reads of a graph: its ONNX, its input and how that is made."""
    specs = [[spec.name, spec.shape, spec.dtype] for spec in graph.inputs]
    return _sum(graph.sha256, specs, graph.image_size, graph.preprocessing.to_json())


def run_key(graph: Graph, size: tuple[int, int]) -> str:
    """The sha256 of a graph and a size at which it runs."""
    return _sum(graph.sha256, size)


@dataclass(frozen=True)
class Proofs:
    """What is known of the graphs of one file.

    Attributes:
        known: key of a graph -> its proof, of an earlier run.
        entry: the file that keeps them; None where none is kept.
        head: what the entry says of itself.
    """

    known: Mapping[str, Proof] = field(default_factory=dict)
    entry: Path | None = None
    head: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path) -> Proofs:
        """Those of a model file; none where it cannot be read, or the cache folder cannot be used."""
        try:
            status = path.stat()
            folder = cache_folder().expanduser() / FOLDER
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES or not _is_ours(folder):
                return cls()
            digest = sha256_of(path)
        except (OSError, RuntimeError, ValueError):  # RuntimeError: nobody knows the user's home
            return cls()
        head = {"schema": _SCHEMA, "file": digest, "made_by": _made_by()}
        entry = folder / f"{_sum(head)}.json"
        return cls(_read(entry, head), entry, head)

    def settle(self, graph: Graph) -> Graph:
        """The graph of this file with a proof that holds; one that was made now is kept.

        Args:
            graph: by an import that may leave out the check of a graph that is `known`.

        Raises:
            RefusedInput: it claims a proof that is not there.
        """
        key, proof = proof_key(graph), graph.proof
        if proof is None or (proof.is_earlier and self.known.get(key) != proof):
            raise RefusedInput(f"{graph.source.path}: the process that imported it gave no proof")
        if not proof.is_earlier:
            ran = run_key(graph, graph.image_size) if proof.ran else ""
            proof = replace(proof, date=today(), ran=ran)
            self._keep(key, proof)
        return replace(graph, proof=proof)

    def _keep(self, key: str, proof: Proof) -> None:
        if self.entry is None or not _is_modest(proof):
            return
        latest = [*((k, p) for k, p in self.known.items() if k != key), (key, proof)][-_MOST_GRAPHS:]
        proofs = {k: {"date": p.date, "notes": p.notes, "ran": p.ran} for k, p in latest}
        with suppress(OSError, ConvscopeError):  # read only, full, or not ours
            write_text(self.entry, to_json({**self.head, "proofs": proofs}) + "\n")
            _tidy(self.entry.parent)


def _read(entry: Path, head: Mapping[str, Any]) -> dict[str, Proof]:
    """The proofs of an entry; none where it is not as `Proofs` writes it."""
    try:
        content = json.loads(_bytes(entry))
        if {name: content.pop(name) for name in head} != head:
            return {}
        found = {
            key: Proof(one["date"], True, tuple(one["notes"]), one["ran"])
            for key, one in content.pop("proofs").items()
            if _KEY.fullmatch(key) and one.keys() == {"date", "notes", "ran"}
        }
        return found if not content and len(found) <= _MOST_GRAPHS and all(map(_is_modest, found.values())) else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _bytes(entry: Path) -> bytes:
    """The bytes of a small regular file of this user's, without waiting for a pipe or following a link."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(entry, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_ENTRY_BYTES or not _is_mine(status):
            return b""
        return file.read(_MOST_ENTRY_BYTES)


def _is_ours(folder: Path) -> bool:
    """Whether proofs may be read from and written into a folder: one that is not there yet, or this user's own."""
    if not folder.is_absolute():  # of a user without a home: it would be made wherever the command runs
        return False
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return True
    return stat.S_ISDIR(status.st_mode) and _is_mine(status)


def _is_mine(status: os.stat_result) -> bool:
    """Whether a file is this user's; what another user wrote into a shared folder proves nothing."""
    return not hasattr(os, "geteuid") or status.st_uid == os.geteuid()


def _is_modest(proof: Proof) -> bool:
    """Whether a proof is one that may be kept: a date, a few notes, and a sum or nothing."""
    return (
        isinstance(proof.date, str)
        and _DATE.fullmatch(proof.date) is not None
        and isinstance(proof.ran, str)
        and (not proof.ran or _KEY.fullmatch(proof.ran) is not None)
        and len(proof.notes) <= _MOST_NOTES
        and all(isinstance(note, str) and len(note) <= _LONGEST_NOTE for note in proof.notes)
    )


def _tidy(folder: Path) -> None:
    """Removes the oldest entries of too many, and what a kill left."""
    sweep(folder, everywhere=False)
    with os.scandir(folder) as listing:
        entries = [one for one in listing if _ENTRY.fullmatch(one.name)]
        found = [(one.stat(follow_symlinks=False).st_mtime_ns, one.path) for one in entries]
    for _, path in sorted(found)[: max(0, len(found) - _MOST_ENTRIES)]:
        os.unlink(path)


@cache
def _made_by() -> dict[str, Any]:
    """What a proof holds for: the libraries, convscope's own code as it is on the disk, and the processor."""
    code = sorted((name, size, time) for name, size, time in _code(Path(__file__).parents[1]))
    return {**library_versions(), "code": _sum(code), "processor": _sum(platform.machine(), _processor())}


def _code(root: Path) -> Iterator[tuple[str, int, int]]:
    """(name, bytes, time) of every module that an import runs: in a checkout the version says nothing."""
    for room in ("adapters", "engine"):
        for folder, _, names in os.walk(root / room):
            for name in names:
                if name.endswith(".py"):
                    path = os.path.join(folder, name)
                    status = os.stat(path)
                    yield os.path.relpath(path, root), status.st_size, status.st_mtime_ns


def _processor() -> list[str]:
    """What the system says of the first processor's kind: executors choose their kernels by it."""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        first = file.read(2**16).split("\n\n")[0].splitlines()
        return [line for line in first if line.split("\t")[0].strip() in _PROCESSOR]
    return [platform.processor()]


def _sum(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
