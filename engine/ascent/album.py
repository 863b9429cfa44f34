"""A folder of finished units that outlives the process: what is in it is not computed again.

Every finished unit is a PNG of its picture, one of its start, and a line in ``units.jsonl``, written in that order;
a line that a killed process left half-written is ignored. The first line says what the pictures are a function of:
a folder of other settings is refused, not mixed up or overwritten.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UsageError
from ..graph import Graph
from ..render.artifacts import append_line, save_png, to_json, write_text
from .results import UnitResult, tile
from .settings import Settings

MANIFEST = "units.jsonl"


class Album:
    """The folder of one run.

    Args:
        folder: made on the first write.
        identity: as from `identity`.
        labels: text kept in every PNG, keyword -> text.
        force: begin anew where other settings or results are there.

    Raises:
        UsageError: the folder holds pictures made with other settings.
    """

    def __init__(self, folder: Path, identity: str, labels: Mapping[str, str], force: bool = False) -> None:
        self.folder, self.identity, self.labels = folder, identity, dict(labels)
        self.records: dict[int, dict[str, Any]] = {}
        self._manifest = folder / MANIFEST
        self._fresh = force or not self._manifest.exists()
        if not self._fresh:
            self._read()

    def add(self, result: UnitResult) -> None:
        """Keeps a finished unit."""
        if self._fresh:
            write_text(self._manifest, to_json({"identity": self.identity}, indent=None) + "\n")
            self._fresh = False
        name = self.file(result.unit)
        text = {**self.labels, "unit": str(result.unit), "status": f"{result.status}: {result.reason}"}
        save_png(self.folder / name, tile(result), text)
        save_png(self.folder / "starts" / name, result.start)
        for i, one in enumerate(result.strip):
            save_png(self.folder / "strips" / f"{Path(name).stem}-{i}.png", one)
        record = {**result.to_json(name), "strip": len(result.strip)}
        append_line(self._manifest, to_json(record, indent=None))
        self.records[result.unit] = record

    def file(self, unit: int) -> str:
        """The name of a unit's picture."""
        return f"unit-{unit:04d}.png"

    def picture(self, unit: int) -> np.ndarray:
        """A kept unit's picture, uint8."""
        return _read_png(self.folder / self.file(unit))

    def start(self, unit: int) -> np.ndarray:
        """A kept unit's start, uint8."""
        return _read_png(self.folder / "starts" / self.file(unit))

    def strip(self, unit: int) -> list[np.ndarray]:
        """A kept unit's pictures on the way, uint8."""
        stem = Path(self.file(unit)).stem
        names = [f"{stem}-{i}.png" for i in range(self.records[unit]["strip"])]
        return [_read_png(self.folder / "strips" / name) for name in names]

    def _read(self) -> None:
        lines = self._manifest.read_text(encoding="utf-8").splitlines(keepends=True)
        head = _parsed(lines[0]) if lines else None
        if head is None or head.get("identity") != self.identity:
            raise UsageError(
                f"{self.folder} holds pictures made with other settings; choose another folder with -o, "
                "or --force to replace them"
            )
        for line in lines[1:]:
            record = _parsed(line)
            if record is not None and all((self.folder / p).exists() for p in self._paths(record)):
                self.records[record["unit"]] = record
        whole = [to_json(head, indent=None), *(to_json(r, indent=None) for r in self.records.values())]
        if len(whole) != len(lines) or not lines[-1].endswith("\n"):
            write_text(self._manifest, "\n".join(whole) + "\n")

    def _paths(self, record: Mapping[str, Any]) -> Sequence[str]:
        name = self.file(record["unit"])
        return [name, f"starts/{name}", *(f"strips/{Path(name).stem}-{i}.png" for i in range(record["strip"]))]


def identity(graph: Graph, tensor: str, chosen: Settings, extra: Mapping[str, Any] | None = None) -> str:
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
        "strip": chosen.strip,
        **(extra or {}),
    }
    return hashlib.sha256(to_json(parts).encode()).hexdigest()


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and line.endswith("\n") else None


def _read_png(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
