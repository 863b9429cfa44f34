"""What every result says about itself: one record for ``result.json``, for the text inside PNGs, and for pages.

docs/results.md lists the fields. A reader of any result finds the model, the preprocessing, the command and the
versions under the same names, whichever verb made it.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from .graph.graph import Graph
from .render.artifacts import write_json

SCHEMA_VERSION = 1
FILE = "result.json"
_PACKAGES = ("numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "torch")


@cache
def library_versions() -> Mapping[str, str]:
    """Of convscope, Python and the libraries that compute, those that are installed."""
    found = {
        "convscope": import_module(__name__.split(".")[0]).__version__,  # mypy knows the root by no name
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class Record:
    """Where a result comes from.

    Attributes:
        model: name, sha256 of the canonical graph, source: the file, or None for a live object, and checked: the day on
            which its executors were found to agree, or None.
        preprocessing: as `Preprocessing.to_json`.
        command: the command line that made it, or None where Python did.
        versions: of convscope, Python and the libraries that compute.
    """

    model: dict[str, Any]
    preprocessing: dict[str, Any]
    command: str | None = None
    versions: Mapping[str, str] = field(default_factory=library_versions)

    @classmethod
    def of(cls, graph: Graph, command: str | None = None) -> Record:
        """The record of what is made from a graph."""
        return cls(model(graph), graph.preprocessing.to_json(), command)

    def to_json(self, content: Mapping[str, Any], failed: Sequence[Mapping[str, str]] | None = None) -> dict[str, Any]:
        """The object of ``result.json`` and of ``--json``.

        Args:
            content: the fields of the verb's own.
            failed: inputs that could not be read, each with file and error; None where the verb has no such list.
        """
        head = {
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            "preprocessing": self.preprocessing,
            "command": self.command,
            "versions": dict(self.versions),
        }
        return {**head, **content, **({} if failed is None else {"failed": list(failed)})}

    def png_text(self, **picture: Any) -> dict[str, str]:
        """What a PNG says about itself, keyword -> text.

        ``Software`` (a keyword of the PNG standard) and ``model`` are in every picture; ``picture`` adds what it
        shows, under the names of ``result.json``: layer, unit, method, class, preset, seed, ...
        """
        return {
            "Software": f"convscope {self.versions['convscope']}",
            "model": f"{self.model['name']} sha256:{self.model['sha256']}",
            **{key: str(value) for key, value in picture.items()},
        }


def write(folder: Path, result: Mapping[str, Any]) -> Path:
    """Writes ``result.json`` into a folder; returns its path."""
    return write_json(folder / FILE, result)


def model(graph: Graph) -> dict[str, Any]:
    """A model as every result names it."""
    checked = None if graph.proof is None else graph.proof.date
    return {"name": graph.name, "sha256": graph.sha256, "source": graph.source.path, "checked": checked}
