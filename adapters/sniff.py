"""What a file is, by its content: the extension is only a habit."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

from ..errors import RefusedInput, UsageError

MAX_BYTES = 8 * 2**30  # a CNN of this size does not exist; a sparse file of this size does
_HEAD = 4096


def sniff(path: Path) -> str:
    """The format's name: "onnx", "keras", "h5", "torch-zip", "torchscript", "torch-legacy", "pt2" or "safetensors".

    Raises:
        UsageError: there is no such file.
        RefusedInput: not a regular file, empty, too large, or plainly something else.
    """
    head = glance(path)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "h5"
    if head.startswith(b"PK\x03\x04"):
        return _sniff_zip(path)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "torch-legacy"
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 2 <= length <= path.stat().st_size - 8:
        return "safetensors"
    return "onnx"


def glance(path: Path) -> bytes:
    """The file's first bytes.

    Raises:
        UsageError, RefusedInput: as `sniff`, where the first bytes say so.
    """
    head = _read_head(path)
    if head.startswith(b"version https://git-lfs"):
        raise RefusedInput(f"{path} is a git-lfs pointer, not the model; fetch the real file: git lfs pull")
    if head.lstrip()[:1] == b"<" or b"<html" in head[:512].lower():
        raise RefusedInput(f"{path} is an HTML or XML page, not a model; the download probably failed")
    if head.startswith(b"\x1f\x8b"):
        raise RefusedInput(f"{path} is gzip-compressed; unpack it first: gunzip {path.name}")
    return head


def _read_head(path: Path) -> bytes:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise UsageError(f"model file '{path}' does not exist") from None
    except (OSError, ValueError) as error:
        raise RefusedInput(f"model file '{path}' cannot be read: {getattr(error, 'strerror', error)}") from None
    if stat.S_ISDIR(status.st_mode):
        raise RefusedInput(
            f"{path} is a folder; name one model file (TensorFlow SavedModel: convert it with tf2onnx first)"
        )
    if not stat.S_ISREG(status.st_mode):
        raise RefusedInput(f"{path} is not a regular file")
    if status.st_size == 0:
        raise RefusedInput(f"{path} is empty")
    if status.st_size > MAX_BYTES:
        raise RefusedInput(f"{path} has {status.st_size:,} bytes; more than {MAX_BYTES:,} is refused")
    try:
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise RefusedInput(f"model file '{path}' cannot be read: {error.strerror}") from None


def _sniff_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise RefusedInput(f"{path} is a broken zip archive: {error}") from None
    if "config.json" in names and ("metadata.json" in names or "model.weights.h5" in names):
        return "keras"
    tails = {name.split("/", 1)[-1] for name in names}
    if "archive_format" in tails or "serialized_exported_program.json" in tails:
        return "pt2"
    if "constants.pkl" in tails or any(tail.startswith("code/") for tail in tails):
        return "torchscript"
    if "data.pkl" in tails:
        return "torch-zip"
    raise RefusedInput(f"{path} is a zip archive, but neither a Keras nor a Torch model")
