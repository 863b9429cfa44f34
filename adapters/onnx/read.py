"""Reading an ONNX file that nobody has vouched for.

`onnx.load` refuses external data behind symbolic links, which is how a Hugging Face cache stores it, and
ONNX Runtime accepts hard links; so external data is read here, with a rule of our own: the real file lies in
the model's own real folder, or beside the model's real file where a hub cache keeps its blobs.
"""

from __future__ import annotations

import stat
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import onnx
from onnx import TensorProto

from ...errors import RefusedInput, UnsafeFile
from ..foreign import by_name
from ..wall.limits import PER_BYTE, allow
from .messages import check_messages
from .precheck import every_tensor, item_bits, precheck, subgraphs

MAX_MODEL_BYTES = 2**31 - 1  # protobuf's own limit for one message
_SHARED, _FREE = 2, 2**24  # tensors may name the same bytes, as tied weights do, so often and so many of them


def read_onnx(path: Path) -> onnx.ModelProto:
    """The file as a checked ModelProto with all weights inside.

    Raises:
        RefusedInput: corrupt or not ONNX. UnsafeFile: it would exhaust the machine or leave its folder.
    """
    if path.stat().st_size > MAX_MODEL_BYTES:
        raise RefusedInput(f"{path} has more than 2 GiB; store its weights as external data")
    data = path.read_bytes()
    try:
        check_messages(data, str(path))
        model = parse(data, str(path))
    except UnsafeFile:
        raise
    except RefusedInput as error:
        raise RefusedInput(by_name(path) or str(error)) from None
    del data
    precheck(model, str(path))
    _load_external(model, path)
    return model


def parse(data: bytes, where: str) -> onnx.ModelProto:
    """A ModelProto from bytes; raises RefusedInput where they are none."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception:
        raise RefusedInput(
            f"{where} is not a model that can be read: neither ONNX, Keras, Torch nor safetensors (or it is truncated)"
        ) from None
    if not model.ir_version or not model.HasField("graph") or not model.graph.node:
        raise RefusedInput(f"{where} holds no ONNX graph; it is empty, truncated or something else")
    _spell_domains_alike(model)
    return model


def _spell_domains_alike(model: onnx.ModelProto) -> None:
    """ONNX's own domain has two spellings, "" and "ai.onnx"; from here on there is one, inside subgraphs too."""
    graphs: list[onnx.GraphProto | onnx.FunctionProto] = [model.graph, *model.functions]
    imports = [*model.opset_import, *(entry for function in model.functions for entry in function.opset_import)]
    named: list[Any] = [*imports, *model.functions]
    while graphs:
        nodes = graphs.pop().node
        named += nodes
        graphs += [inner for node in nodes for inner in subgraphs(node)]
    for entry in named:
        if entry.domain == "ai.onnx":
            entry.domain = ""


def _load_external(model: onnx.ModelProto, path: Path) -> None:
    """Reads every external tensor; none, nor all together, may be larger than the files that they name."""
    found = [
        (tensor, *_place(tensor, path))
        for tensor in every_tensor(model)
        if tensor.data_location == TensorProto.EXTERNAL
    ]
    if not found:
        return
    wanted = sum(length for _, _, _, length in found)
    stored = sum(file.stat().st_size for file in {file for _, file, _, _ in found})
    if wanted > _SHARED * stored + _FREE:
        raise UnsafeFile(
            f"{path}: its {len(found):,} external tensors take {wanted:,} bytes out of {stored:,} in their files; "
            f"at most {_SHARED} times as many are read"
        )
    if wanted + path.stat().st_size > MAX_MODEL_BYTES:
        raise RefusedInput(f"{path} has {wanted:,} bytes of external weights; a graph of more than 2 GiB is not read")
    allow(PER_BYTE * wanted)
    for tensor, file, offset, length in found:
        with file.open("rb") as stream:
            stream.seek(offset)
            tensor.raw_data = stream.read(length)
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]


def _place(tensor: TensorProto, path: Path) -> tuple[Path, int, int]:
    """(file, offset, length) of an external tensor, checked against the file that is there."""
    entries = {e.key: e.value for e in tensor.external_data}
    name = tensor.name[:80]
    file = _contained(entries.get("location", ""), path, name)
    offset, length = (_number(entries.get(k), k, name, path) for k in ("offset", "length"))
    offset = offset or 0
    expected = (prod(tensor.dims) * item_bits(tensor.data_type) + 7) // 8
    if length is not None and length != expected:
        raise RefusedInput(f"{path}: external tensor '{name}' says {length} bytes, its shape needs {expected}")
    if offset + expected > file.stat().st_size:
        raise RefusedInput(f"{path}: external data of tensor '{name}' ends beyond {file.name} (truncated?)")
    return file, offset, expected


def _contained(location: str, path: Path, name: str) -> Path:
    """The real file behind an external location, proven to lie where the model's own files lie."""
    parts = PurePosixPath(location).parts
    windows = PureWindowsPath(location)
    shown = repr(location[:80])
    if (
        not location
        or "\0" in location
        or ".." in parts
        or location.startswith("/")
        or windows.drive
        or windows.is_absolute()
        or ".." in windows.parts
    ):
        raise UnsafeFile(f"{path}: external data of tensor '{name}' points outside the model's folder: {shown}")
    folder = path.absolute().parent
    try:
        real = (folder / location).resolve()
        is_there = real.exists()
    except OSError as error:
        raise RefusedInput(
            f"{path}: external data file {shown} of tensor '{name}' cannot be read: {error.strerror}"
        ) from None
    allowed = [folder.resolve()]
    if path.is_symlink():  # a hub cache: snapshots/REV/model.onnx -> ../../blobs/HASH
        allowed.append(path.resolve().parent)
    if not any(real.is_relative_to(root) for root in allowed):
        raise UnsafeFile(f"{path}: external data of tensor '{name}' lies outside the model's folder: {shown}")
    if not is_there:
        raise RefusedInput(f"{path}: external data file {shown} is missing; put it beside the model")
    status = real.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeFile(f"{path}: external data {shown} is not a regular file")
    if status.st_nlink > 1:
        raise UnsafeFile(f"{path}: external data {shown} is a hard link, which can show a file from outside; copy it")
    return real


def _number(text: str | None, key: str, name: str, path: Path) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise RefusedInput(f"{path}: external tensor '{name}' has the {key} {text[:40]!r}, not a byte count")
    return int(text)
