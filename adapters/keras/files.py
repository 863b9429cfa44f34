"""Looking into a Keras file that nobody has vouched for, before Keras does.

Keras' own safe mode refuses lambdas and foreign classes. What is checked here beside it: the zip's directory
(1 MB can unpack to 1 GiB of config), HDF5 links that lead out of the file, the classes a config names (a list of
what networks are made of, not of what is known to be bad), and weights that the file cannot hold.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ...errors import RefusedInput, UnsafeFile
from ..archives import MAX_TEXT, Archive, inspect_zip
from ..sniff import glance
from ..wall.limits import at_a_glance, opening_seconds

MAX_OBJECTS = 200_000  # in an HDF5 file or a config
MAX_CALLS = 100_000  # of layers, initializers and the like: some ten for each layer of a network
MAX_NAME = 10_000  # characters of a layer's name
MAX_PIXELS = 2**26  # of one input (8192 x 8192)
_WEIGHTS = "model.weights.h5"
_MAX_WEIGHTS = 2**33
_PACKING = 8  # weights compress at most about 2:1; zeros from an initializer a little better

# Not building blocks of networks, but code, files or downloads (Keras CVEs 2024-3660, 2025-1550, 2025-8747, 2025-9906).
_CODE = frozenset({"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "__lambda__"})
_READERS = frozenset({"StringLookup", "IntegerLookup", "TextVectorization", "IndexLookup", "HashedCrossing"})


@dataclass(frozen=True)
class KerasFile:
    """What a checked Keras file holds.

    Attributes:
        config: the network's description, or None where the file holds weights alone.
        weight_bytes: bytes of all stored weights.
        style: "keras" (the zip), "h5" (Keras 2's HDF5) or "weights" (Keras 3's .weights.h5).
        version: of the Keras that wrote it, "" where the file does not say.
    """

    config: dict[str, Any] | None
    weight_bytes: int
    style: str
    version: str = ""


def inspect(path: Path, *, trust: bool = False) -> KerasFile:
    """Checks either kind of file, within the time that a look may take.

    Raises:
        UnsafeFile, RefusedInput: as `inspect_keras` and `inspect_h5`.
    """
    with at_a_glance(opening_seconds(path.stat().st_size)):
        is_h5 = glance(path).startswith(b"\x89HDF")
        return inspect_h5(path, trust=trust) if is_h5 else inspect_keras(path, trust=trust)


def inspect_keras(path: Path, *, trust: bool = False) -> KerasFile:
    """Checks a ``.keras`` archive.

    Raises:
        UnsafeFile: it would run code, leave its folder or exhaust the machine. RefusedInput: damaged.
    """
    archive = inspect_zip(path)
    for name in archive.members:
        if not (name in ("config.json", "metadata.json") or name.startswith("assets/") or ".weights." in name):
            raise UnsafeFile(f"{path} has the member {name[:80]!r}, which no Keras model has")
    config = _parse(archive.read("config.json"), path)
    check_config(config, path, trust=trust)
    about = _parse(archive.read("metadata.json"), path) if "metadata.json" in archive.members else {}
    return KerasFile(config, _archived_weights(archive), "keras", _version(about.get("keras_version")))


def inspect_h5(path: Path, *, trust: bool = False) -> KerasFile:
    """Checks an HDF5 file, whole model or weights.

    Raises:
        UnsafeFile: links to other files, virtual or external data, sizes that the file does not hold, code.
        RefusedInput: damaged.
    """
    with _opened(path, path) as file:
        stored = _walk(file, path)
        text = file.attrs.get("model_config")
        keras2 = "layer_names" in file.attrs or "model_weights" in file
        version = _version(file.attrs.get("keras_version"))
    if text is None:
        return KerasFile(None, stored, "h5" if keras2 else "weights", version)
    if not isinstance(text, (str, bytes)):
        raise RefusedInput(f"{path}: its model_config is a {type(text).__name__}, not a text")
    if len(text) > MAX_TEXT:
        raise UnsafeFile(f"{path}: its model_config has {len(text):,} characters")
    config = _parse(text, path)
    check_config(config, path, trust=trust)
    return KerasFile(config, stored, "h5", version)


def _version(stated: Any) -> str:
    text = stated.decode("ascii", "replace") if isinstance(stated, bytes) else stated
    return text[:40] if isinstance(text, str) else ""


def check_config(config: Any, path: Path, *, trust: bool = False) -> None:
    """Walks a network's description: only Keras' own classes, no code, no files, no absurd input.

    Raises:
        UnsafeFile: with the name of what is refused.
    """
    count = calls = 0
    stack: list[tuple[Any, int]] = [(config, 1)]  # each value with how often the models around it are called
    while stack:
        value, times = stack.pop()
        count += 1
        if count > 50 * MAX_OBJECTS:
            raise UnsafeFile(f"{path}: its config has more than {50 * MAX_OBJECTS:,} entries")
        if isinstance(value, list):
            stack.extend((inner, times) for inner in value)
        elif isinstance(value, dict):
            _check_class(value, path, trust)
            _check_shape(value, path)
            if isinstance(value.get("inbound_nodes"), list):
                times *= max(1, len(value["inbound_nodes"]))
            calls += times if "class_name" in value else 0
            if calls > MAX_CALLS:
                raise UnsafeFile(f"{path}: its models call layers more than {MAX_CALLS:,} times, one inside the other")
            stack.extend((inner, times) for inner in value.values())


def _check_class(value: dict[str, Any], path: Path, trust: bool) -> None:
    name, module = value.get("class_name"), value.get("module")
    own = value.get("name")
    if isinstance(own, str) and len(own) > MAX_NAME:
        raise UnsafeFile(f"{path}: a name in its config has {len(own):,} characters")
    if not isinstance(name, str) or trust:
        return
    shown = name[:60]
    if name in _CODE:
        raise UnsafeFile(
            f"{path} holds a {shown} layer, whose loading runs code from the file; "
            "pass trust=True if you made the file yourself, or export the model to ONNX"
        )
    if name in _READERS:
        raise UnsafeFile(f"{path} holds a {shown} layer, which reads other files; export the image part alone")
    if name == "function" and not str(value.get("registered_name") or value.get("config")).isidentifier():
        raise UnsafeFile(f"{path} calls the function {str(value.get('config'))[:60]!r}; only Keras' own are allowed")
    if isinstance(module, str) and module.split(".")[0] not in ("keras", "tf_keras") and name != "function":
        if module == "builtins" and name in ("slice", "tuple", "type", "__tuple__", "__numpy__", "__tensor__"):
            return
        raise UnsafeFile(
            f"{path} needs the class {module[:60]}.{shown}, which is not Keras' own; load the model in your code and "
            "pass it to convscope.load, or pass trust=True"
        )


def _check_shape(value: dict[str, Any], path: Path) -> None:
    for key in ("batch_input_shape", "batch_shape", "input_shape"):
        shape = value.get(key)
        if not isinstance(shape, list) or not all(isinstance(d, int) or d is None for d in shape):
            continue
        if min((d for d in shape if d is not None), default=0) < 0 or prod(d or 1 for d in shape) > 4 * MAX_PIXELS:
            raise UnsafeFile(f"{path}: the input shape {shape[:8]} is absurd")


def _parse(text: str | bytes, path: Path) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        raise RefusedInput(f"{path}: its config is not valid JSON") from None
    if not isinstance(config, dict):
        raise RefusedInput(f"{path}: its config describes no model")
    return config


def _archived_weights(archive: Archive) -> int:
    """Opens the weights inside the archive in memory and walks them too."""
    if _WEIGHTS not in archive.members:
        raise RefusedInput(f"{archive.path} holds no {_WEIGHTS}")
    size = archive.members[_WEIGHTS]
    if size > _PACKING * archive.path.stat().st_size + 2**20:
        raise UnsafeFile(f"{archive.path}: its weights unpack to {size:,} bytes (a zip bomb)")
    with _opened(io.BytesIO(archive.read(_WEIGHTS, _MAX_WEIGHTS)), archive.path) as file:
        return _walk(file, archive.path)


@contextlib.contextmanager
def _opened(source: Any, path: Path) -> Iterator[Any]:
    """An HDF5 file; whatever h5py cannot read of it, then or while it is open, is damage."""
    import h5py

    try:
        with h5py.File(source, "r") as file:
            yield file
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise RefusedInput(f"{path} is a damaged HDF5 file: {str(error)[:120]}") from None


def _walk(file: Any, path: Path) -> int:
    """Checks every link and dataset; returns the bytes of all datasets."""
    total = 0
    for name, item in _objects(file, path):
        shape, storage = item.shape or (), item.id.get_storage_size()
        bytes_needed = prod(shape) * item.dtype.itemsize
        if item.is_virtual or item.external:
            raise UnsafeFile(f"{path}: dataset {name[:80]!r} keeps its data in another file")
        if bytes_needed > _PACKING * storage + 2**20:
            raise UnsafeFile(f"{path}: dataset {name[:80]!r} of shape {shape} has only {storage:,} bytes behind it")
        total += bytes_needed
    return total


def _objects(file: Any, path: Path) -> Iterator[tuple[str, Any]]:
    """Every dataset by hard links alone, each once."""
    import h5py

    seen: set[int] = set()
    stack: list[tuple[str, Any]] = [("", file)]
    while stack:
        prefix, group = stack.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise UnsafeFile(f"{path}: {prefix + name!r:.80} is a link, which can lead out of the file")
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if len(seen) > MAX_OBJECTS:
                raise UnsafeFile(f"{path}: more than {MAX_OBJECTS:,} objects in its HDF5")
            if isinstance(item, h5py.Group):
                stack.append((f"{prefix}{name}/", item))
            elif isinstance(item, h5py.Dataset):
                yield prefix + name, item
