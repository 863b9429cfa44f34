"""A folder of finished units that outlives the process: what is in it is not computed again.

Every finished unit is a PNG of its picture, one of its start, and a line in ``units.jsonl``, written in that order;
a line that a killed process left half-written is ignored, and so is one that does not have the sha256 that it states,
of itself and its pictures. The first line says what the pictures are a function of: a folder of other settings is
refused, not mixed up or overwritten.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from ...errors import ConvscopeError, DamagedState, UsageError
from ..graph.graph import Graph
from ..kept import MOST_PIXELS, Count, check_png, fits, from_json, opened_png
from ..render.artifacts import append_line, read_regular, save_png, to_json, write_bytes
from .results import FORM, UnitResult, tile
from .settings import Settings

MANIFEST = "units.jsonl"
_FOLDERS = ("starts", "transparent", "strips")
OWN = ("strip", "alpha", "sha256")  # of a line: what the album alone needs
_MOST_VALUES = 10**6  # of a line; of a unit there are about as many as its ascent has steps
_SUMMARIES = ("grid.png", "result.json", "index.html")


class Album:
    """The folder of one run.

    Args:
        folder: made on the first write.
        identity: as from `picture_identity`.
        labels: text kept in every PNG, keyword -> text.
        force: begin anew: with the first unit that is finished, what an album wrote there before is removed.
        pixels: of a picture, at most; a larger one is none that was written here.

    Raises:
        UsageError: the folder holds pictures made with other settings. DamagedState: its list cannot be told from such.
        ConvscopeError: its list cannot be read.
    """

    def __init__(
        self, folder: Path, identity: str, labels: Mapping[str, str], force: bool = False, pixels: int = MOST_PIXELS
    ) -> None:
        self.folder, self.identity, self.labels, self.pixels = folder, identity, dict(labels), pixels
        self.records: dict[int, dict[str, Any]] = {}
        self._manifest = folder / MANIFEST
        self._replaces = force and self._manifest.exists()
        self._fresh = force or not self._manifest.exists()
        self._sound: bytes | None = None  # what of the list is to be kept, where that is not all
        if not self._fresh:
            self._read()

    def add(self, result: UnitResult) -> None:
        """Keeps a finished unit."""
        for inner in _FOLDERS:
            if (self.folder / inner).is_symlink():
                raise UsageError(f"{self.folder / inner} is a link, and what it leads to is not written; remove it")
        if self._replaces:
            self._clear()
            self._replaces = False
        if self._fresh:
            head = to_json({"identity": self.identity}, indent=None) + "\n"
            write_bytes(self._manifest, head.encode(), durable=True)
            self._fresh = False
        elif self._sound is not None:
            write_bytes(self._manifest, self._sound, durable=True)
        self._sound = None
        name = self.file(result.unit)
        text = {**self.labels, "unit": str(result.unit), "status": f"{result.status}: {result.reason}"}
        save_png(self.folder / name, tile(result), text)
        save_png(self.folder / "starts" / name, result.start)
        if result.alpha is not None:
            save_png(self.folder / "transparent" / name, result.image, text, result.alpha)
        for i, one in enumerate(result.strip):
            save_png(self.folder / "strips" / f"{Path(name).stem}-{i}.png", one)
        record = {**result.to_json(name), "strip": len(result.strip), "alpha": result.alpha is not None}
        record["sha256"] = self._sum(record)
        append_line(self._manifest, to_json(record, indent=None))
        self.records[result.unit] = record

    def file(self, unit: int) -> str:
        """The name of a unit's picture."""
        return f"unit-{unit:04d}.png"

    def animation(self, unit: int) -> str:
        """The name of the animation of a unit's ascent, where one is made."""
        return f"unit-{unit:04d}.webp"

    def further(self, unit: int) -> dict[str, str]:
        """What else there is to look at of a kept unit, label -> its path in the folder."""
        paths = {"the ascent, animated": self.animation(unit), "transparent": f"transparent/{self.file(unit)}"}
        return {label: path for label, path in paths.items() if (self.folder / path).is_file()}

    def picture(self, unit: int) -> np.ndarray:
        """A kept unit's picture, uint8."""
        return _read_png(self.folder / self.file(unit), self.pixels)

    def start(self, unit: int) -> np.ndarray:
        """A kept unit's start, uint8."""
        return _read_png(self.folder / "starts" / self.file(unit), self.pixels)

    def alpha(self, unit: int) -> np.ndarray | None:
        """A kept unit's opacity (H, W) uint8, where one was asked for."""
        if not self.records[unit].get("alpha"):
            return None
        return _read_png(self.folder / "transparent" / self.file(unit), self.pixels)[:, :, -1]

    def strip(self, unit: int) -> list[np.ndarray]:
        """A kept unit's pictures on the way, uint8."""
        stem = Path(self.file(unit)).stem
        names = [f"{stem}-{i}.png" for i in range(self.records[unit]["strip"])]
        return [_read_png(self.folder / "strips" / name, self.pixels) for name in names]

    def _read(self) -> None:
        lines = self._lines()
        if not lines:
            self._fresh = True
            return
        head = _parsed(lines[0])
        if head is None:
            raise DamagedState(f"{self._manifest} is damaged in its first line; force=True begins anew")
        if head.get("identity") != self.identity:
            raise UsageError(
                f"{self.folder} holds pictures made with other settings; choose another folder, "
                "or force=True to replace them"
            )
        for record in map(_parsed, lines[1:]):
            if record is not None and self._is_whole(record):
                self.records[record["unit"]] = record
        whole = [to_json(head, indent=None), *(to_json(r, indent=None) for r in self.records.values())]
        if len(whole) != len(lines) or not lines[-1].endswith("\n"):
            self._sound = ("\n".join(whole) + "\n").encode()

    def _lines(self) -> list[str]:
        try:
            text = read_regular(self._manifest).decode("utf-8", errors="replace")
        except OSError as exc:
            raise ConvscopeError(f"cannot read {self._manifest}: {exc.strerror or exc}") from exc
        return re.findall(r"[^\n]*\n|[^\n]+", text)

    def _is_whole(self, record: Mapping[str, Any]) -> bool:
        """Whether a line and its pictures are as `add` wrote them."""
        if not _is_record(record) or record.get("file") != self.file(record["unit"]):
            return False
        try:
            return record.get("sha256") == self._sum(record)
        except (OSError, ValueError):  # a picture is missing, a pipe, or none that we wrote
            return False

    def _sum(self, record: Mapping[str, Any]) -> str:
        """The sha256 of a line, without its own, and of its pictures."""
        words = {key: value for key, value in record.items() if key != "sha256"}
        found = hashlib.sha256(to_json(words, indent=None).encode())
        for path in self._paths(record):
            data = read_regular(path)
            check_png(data, self.pixels)
            found.update(hashlib.sha256(data).digest())
        return found.hexdigest()

    def _paths(self, record: Mapping[str, Any]) -> Iterator[Path]:
        name = self.file(record["unit"])
        yield self.folder / name
        yield self.folder / "starts" / name
        if record.get("alpha"):
            yield self.folder / "transparent" / name
        for i in range(record["strip"]):
            yield self.folder / "strips" / f"{Path(name).stem}-{i}.png"

    def _clear(self) -> None:
        """Removes what the album wrote that is listed here now, and nothing else.

        The list stays until it is replaced: were the process killed in between, the list would lead the next one to
        the rest. Names are made from its numbers, not taken from it, and folders that are links are left alone.
        """
        units = (record.get("unit") for record in map(_parsed, self._lines()) if record is not None)
        counts = [unit for unit in units if _is_count(unit)]
        names = {self.file(unit) for unit in counts}
        animations = {self.animation(unit) for unit in counts}
        folder = self.folder.resolve()
        _remove(folder, lambda name: name in names or name in animations or name in _SUMMARIES)
        _remove(folder / "starts", lambda name: name in names)
        _remove(folder / "transparent", lambda name: name in names)
        _remove(folder / "strips", lambda name: _of_strip(name) in names)


def picture_identity(graph: Graph, tensor: str, chosen: Settings, extra: Mapping[str, Any] | None = None) -> str:
    """What a unit's picture is a function of, as a hash."""
    start = None if chosen.start is None else hashlib.sha256(chosen.start.tobytes()).hexdigest()
    parts = {
        "graph": graph.sha256,
        "preprocessing": graph.preprocessing.to_json(),
        "tensor": tensor,
        "preset": repr(chosen.preset),
        "size": chosen.size,
        "steps": chosen.steps,
        "seed": chosen.seed,
        "start": start,
        "noise": repr(chosen.noise),
        "strip": chosen.strip,
        "negative": chosen.negative,
        "alpha": chosen.alpha,
        **(extra or {}),
    }
    return hashlib.sha256(to_json(parts).encode()).hexdigest()


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        value = from_json(line, _MOST_VALUES)
    except ValueError:
        return None
    return value if isinstance(value, dict) and line.endswith("\n") else None


def _is_record(record: Mapping[str, Any]) -> bool:
    """Whether the fields that pages and order are made from are of their kind."""
    return fits(record, {**FORM, "strip": Count(10**6)}) and fits(record.get("name", ""), str)


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and value >= 0


def _of_strip(name: str) -> str:
    """The picture's name of the unit that a picture on the way is of."""
    found = re.fullmatch(r"(.+)-[0-9]+\.png", name)
    return f"{found[1]}.png" if found else ""


def _remove(folder: Path, wanted: Callable[[str], bool]) -> None:
    """Removes the files of a folder whose names are wanted, and the folder where nothing else is in it."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in [p for p in folder.iterdir() if wanted(p.name)]:
        with suppress(OSError):  # a folder of that name is not ours
            path.unlink()
    with suppress(OSError):
        folder.rmdir()


def _read_png(path: Path, most: int) -> np.ndarray:
    try:
        return opened_png(read_regular(path), most)[0]
    except ValueError:  # its sum was right: it was written over since
        raise DamagedState(f"{path} is damaged; the same command makes it again") from None
