"""The formats that files come in: one row each, told apart by content, since the extension is only a habit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RefusedInput
from .exported import Exported
from .foreign import by_name
from .sniff import Look, look


@dataclass(frozen=True)
class Asked:
    """What the user says about a file; each format takes what concerns it.

    Attributes:
        arch: ``package.module:callable`` that builds the network of a file of weights.
        trust: whether code in the file may run.
        example_input: for formats that are exported by running the network.
        size: (height, width) of the picture, where it is known.
    """

    arch: str | None = None
    trust: bool = False
    example_input: Any = None
    size: tuple[int, int] | None = None


_ALL = ("arch", "trust", "example_input")  # of `Asked`


@dataclass(frozen=True)
class Format:
    """One row.

    Attributes:
        name: as ``graph.source.format`` says it.
        recognizes: whether a file is of this format, by a look at it.
        read: the file and what was asked -> the model as ONNX.
        run: the file, inputs by name, and what was asked when it was read -> its outputs, by the framework that it
            comes from; None where ONNX Runtime is that, or nothing can.
        takes: of `Asked` what can concern such a file; all of them say their size.
        runtime: what ``run`` runs it by, for people.
    """

    name: str
    recognizes: Callable[[Look], bool]
    read: Callable[[Path, Asked], Exported]
    run: Callable[[Path, Mapping[str, np.ndarray], Asked], list[np.ndarray]] | None = None
    takes: tuple[str, ...] = _ALL
    runtime: str = "its own framework"


def _read_onnx(path: Path, _: Asked) -> Exported:
    from .onnx.read import read_onnx

    return Exported(read_onnx(path))


def _read_keras(path: Path, asked: Asked) -> Exported:
    from .keras.files import inspect

    found = inspect(path, trust=asked.trust)  # before torch and Keras are imported, which takes seconds
    from .keras.load import load_keras_file

    return load_keras_file(path, found, arch=asked.arch, trust=asked.trust, size=asked.size)


def _read_torch(path: Path, asked: Asked) -> Exported:
    from .torch.load import load_torch_file

    return load_torch_file(path, arch=asked.arch, trust=asked.trust, example_input=asked.example_input, size=asked.size)


def _run_keras(path: Path, feeds: Mapping[str, np.ndarray], asked: Asked) -> list[np.ndarray]:
    from .keras.load import run_keras_file

    return run_keras_file(path, feeds, arch=asked.arch, trust=asked.trust)


def _run_pt2(path: Path, feeds: Mapping[str, np.ndarray], _: Asked) -> list[np.ndarray]:
    from .torch.pt2 import run_archive

    return run_archive(path, feeds)


def _run_torch(path: Path, feeds: Mapping[str, np.ndarray], asked: Asked) -> list[np.ndarray]:
    from .torch.load import run_torch_file

    return run_torch_file(path, feeds, arch=asked.arch, trust=asked.trust)


def _is_keras(seen: Look) -> bool:
    return "config.json" in seen.members and bool({"metadata.json", "model.weights.h5"} & seen.members)


def _is_pt2(seen: Look) -> bool:
    return bool({"archive_format", "serialized_exported_program.json"} & seen.tails)


def _is_torchscript(seen: Look) -> bool:
    return "constants.pkl" in seen.tails or any(tail.startswith("code/") for tail in seen.tails)


def _is_pickle(seen: Look) -> bool:
    return seen.head[:1] == b"\x80" and seen.head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")


def _is_safetensors(seen: Look) -> bool:
    length = int.from_bytes(seen.head[:8], "little")
    return seen.head[8:9] == b"{" and 2 <= length <= seen.path.stat().st_size - 8


_CODE, _MODULE = ("arch", "trust"), "the module itself"
# In the order in which a file is tried; ONNX, which has no mark of its own, is what is left.
FORMATS: list[Format] = [
    Format("h5", lambda seen: seen.head.startswith(b"\x89HDF\r\n\x1a\n"), _read_keras, _run_keras, _CODE, "Keras"),
    Format("keras", _is_keras, _read_keras, _run_keras, _CODE, "Keras"),
    Format("pt2", _is_pt2, _read_torch, _run_pt2, (), "torch.export's program"),
    Format("torchscript", _is_torchscript, _read_torch, _run_torch, ("trust", "example_input"), "TorchScript"),
    Format("torch-zip", lambda seen: "data.pkl" in seen.tails, _read_torch, _run_torch, _ALL, _MODULE),
    Format("torch-legacy", _is_pickle, _read_torch, _run_torch, _ALL, _MODULE),
    Format("safetensors", _is_safetensors, _read_torch, _run_torch, ("arch", "example_input"), _MODULE),
    Format("onnx", lambda seen: not seen.head.startswith(b"PK\x03\x04"), _read_onnx, takes=()),
]


def named(name: str) -> Format:
    """The format of that name."""
    return next(row for row in FORMATS if row.name == name)


def format_of(path: Path) -> Format:
    """What a file is, by its content.

    Raises:
        UsageError: there is no such file.
        RefusedInput: not a regular file, empty, too large, or of no known format.
    """
    seen = look(path)
    for row in FORMATS:
        if row.recognizes(seen):
            return row
    raise RefusedInput(by_name(path) or f"{path} is a zip archive, but neither a Keras nor a Torch model")
