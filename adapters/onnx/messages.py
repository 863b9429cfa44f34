"""How many messages an ONNX file holds, counted in its bytes before protobuf makes objects of them.

An empty node is two bytes in a file and hundreds in memory. The fields below are those of onnx.proto that hold
messages; whatever else there is, is skipped by its length.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import RefusedInput, UnsafeFile

MAX_MESSAGES = 1_000_000  # a network of 20,000 nodes has some 400,000; so many take 0.3 GB
MAX_TEXTS = 5_000_000  # names and other texts, 16 bytes each when parsed

_LENGTH = 2  # the wire type of texts, bytes and messages
_SIZES = {1: 8, 5: 4}  # bytes of the fixed wire types

# message -> number of a field that holds messages -> which
_FIELDS: dict[str, Mapping[int, str]] = {
    "model": {7: "graph", 8: "leaf", 14: "leaf", 20: "training", 25: "function", 26: "leaf"},
    "training": {1: "graph", 2: "graph", 3: "leaf", 4: "leaf"},
    "graph": {
        1: "node", 5: "tensor", 11: "value", 12: "value", 13: "value", 14: "annotation", 15: "sparse", 16: "leaf",
    },
    "function": {7: "node", 9: "leaf", 11: "attribute", 12: "value", 14: "leaf"},
    "node": {5: "attribute", 9: "leaf", 10: "leaf"},
    "attribute": {
        5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 14: "type", 15: "type", 22: "sparse", 23: "sparse",
    },
    "tensor": {3: "leaf", 13: "leaf", 16: "leaf"},
    "sparse": {1: "tensor", 2: "tensor"},
    "annotation": {2: "leaf"},
    "value": {2: "type", 4: "leaf"},
    "type": {1: "shaped", 4: "inner", 5: "inner", 8: "shaped", 9: "inner"},
    "shaped": {2: "shape"},
    "inner": {1: "type", 2: "type"},
    "shape": {1: "leaf"},
    "leaf": {},
}  # fmt: skip
_DEEPEST = 200  # protobuf's own limit is 100


def check_messages(data: bytes, where: str) -> None:
    """Refuses a file whose messages or texts would take far more memory than the file.

    Raises:
        UnsafeFile: too many. RefusedInput: its bytes are no protobuf.
    """
    try:
        messages, texts = _count(data)
    except (IndexError, ValueError):
        raise RefusedInput(
            f"{where} is not a model that can be read: neither ONNX, Keras, Torch nor safetensors (or it is truncated)"
        ) from None
    if messages > MAX_MESSAGES or texts > MAX_TEXTS:
        raise UnsafeFile(
            f"{where} holds more than {MAX_MESSAGES:,} nodes, tensors, values and other parts, or {MAX_TEXTS:,} texts"
        )


def _count(data: bytes) -> tuple[int, int]:
    """(messages, texts), at most a little above the limits: then it stops."""
    messages = texts = 0
    stack: list[tuple[int, int, str, int]] = [(0, len(data), "model", 0)]
    while stack:
        position, end, kind, depth = stack.pop()
        fields = _FIELDS[kind]
        while position < end:
            tag = data[position]
            position += 1
            if tag >= 0x80:
                tag, position = _rest_of_varint(data, position, tag)
            wire, field = tag & 7, tag >> 3
            if wire == _LENGTH:
                length = data[position]
                position += 1
                if length >= 0x80:
                    length, position = _rest_of_varint(data, position, length)
                if position + length > end:
                    raise ValueError("a length beyond the end")
                inner = fields.get(field)
                if inner is None:
                    texts += 1
                else:
                    messages += 1
                    if inner != "leaf" and length:
                        if depth > _DEEPEST:
                            raise ValueError("too deep")
                        stack.append((position, position + length, inner, depth + 1))
                if messages > MAX_MESSAGES or texts > MAX_TEXTS:
                    return messages, texts
                position += length
            elif wire == 0:
                while data[position] >= 0x80:
                    position += 1
                position += 1
            elif wire in _SIZES:
                position += _SIZES[wire]
            else:
                raise ValueError("a group")
    return messages, texts


def _rest_of_varint(data: bytes, position: int, value: int) -> tuple[int, int]:
    """A varint of several bytes whose first has been read, and where it ends."""
    value &= 0x7F
    shift = 7
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
