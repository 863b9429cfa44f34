"""A `Graph`, arrays, or the error in their place, as bytes and back: JSON and plain numbers, nothing that can run."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import traceback
import types
import typing
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx

from ...engine.graph.graph import Graph
from ...errors import ConvscopeError, RefusedInput

_NO_MEMORY = re.compile(r"bad_?\s?alloc|allocate|out of memory|MemoryError", re.IGNORECASE)
_REBUILT = ("model", "twin_factory")  # fields of a graph that do not travel in the JSON


def encode_graph(graph: Graph) -> tuple[bytes, bytes]:
    """(JSON of everything but the model, the canonical ONNX)."""
    names = [f.name for f in dataclasses.fields(Graph) if f.name not in _REBUILT]
    text = json.dumps({name: _plain(getattr(graph, name)) for name in names})
    return text.encode("ascii"), graph.model.SerializeToString(deterministic=True)


def decode_graph(text: bytes, model: onnx.ModelProto, twin_factory: Any) -> Graph:
    """The graph that `encode_graph` wrote.

    Raises:
        KeyError, TypeError, ValueError: it did not.
    """
    value = json.loads(text)
    hints = typing.get_type_hints(Graph)
    known = {f.name: _typed(hints[f.name], value[f.name]) for f in dataclasses.fields(Graph) if f.name not in _REBUILT}
    return Graph(model=model, twin_factory=twin_factory, **known)


def encode_arrays(values: Sequence[np.ndarray]) -> tuple[bytes, bytes]:
    """(JSON of the types and shapes, all numbers one after the other)."""
    heads = [{"dtype": str(value.dtype), "shape": value.shape} for value in values]
    return json.dumps(heads).encode("ascii"), b"".join(value.tobytes() for value in values)


def decode_arrays(text: bytes, data: bytes | bytearray) -> list[np.ndarray]:
    """The arrays that `encode_arrays` wrote.

    Raises:
        KeyError, TypeError, ValueError: it did not.
    """
    found, start = [], 0
    for head in json.loads(text):
        dtype, shape = np.dtype(str(head["dtype"])), [int(side) for side in head["shape"]]
        if dtype.kind not in "biufc" or min(shape, default=0) < 0:
            raise ValueError("no plain numbers")
        value = np.frombuffer(data, dtype, prod(shape), start).reshape(shape)
        found.append(value)
        start += value.nbytes
    return found


def encode_error(error: BaseException) -> bytes:
    """What the user reads, and for ``--debug`` where it happened."""
    kind = type(error).__name__ if isinstance(error, ConvscopeError) else RefusedInput.__name__
    words = {
        "error": kind,
        "message": str(error) or type(error).__name__,
        "memory": is_out_of_memory(error),
        "traceback": "".join(traceback.format_exception(error))[-20_000:],
    }
    return json.dumps(words).encode("ascii")


def decode_error(text: bytes) -> ConvscopeError:
    """The error that `encode_error` wrote; its traceback is a note on it.

    Raises:
        KeyError, TypeError, ValueError: it did not.
    """
    words = json.loads(text)
    kinds = {kind.__name__: kind for kind in _kinds(ConvscopeError)}
    error = kinds.get(words["error"], RefusedInput)(str(words["message"]))
    error.add_note(f"in the process that imported it:\n{words['traceback']}")
    return error


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it comes from, is a want of memory."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)[:10_000]):
            return True
        error = error.__cause__ or error.__context__
    return False


def _kinds(base: type[ConvscopeError]) -> Iterator[type[ConvscopeError]]:
    yield base
    for kind in base.__subclasses__():
        yield from _kinds(kind)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, np.ndarray):
        return {"dtype": str(value.dtype), "shape": value.shape, "base64": base64.b64encode(value.tobytes()).decode()}
    return value.item() if isinstance(value, np.generic) else value


def _typed(hint: Any, value: Any) -> Any:
    """JSON's value as what a field's annotation says: dataclasses, tuples, dictionaries and their options."""
    if value is None:
        return None
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _typed(next(kind for kind in inner if kind is not type(None)), value)
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return hint(**{f.name: _typed(hints[f.name], value[f.name]) for f in dataclasses.fields(hint)})  # type: ignore[operator]
    if origin is tuple:
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return tuple(_typed(kind, one) for kind, one in zip(kinds, value, strict=True))
    if hint is np.ndarray:
        data = base64.b64decode(value["base64"], validate=True)
        return np.frombuffer(data, np.dtype(str(value["dtype"]))).reshape(value["shape"]).copy()
    if origin is dict:
        return {key: _typed(inner[1], one) for key, one in value.items()}
    return value
