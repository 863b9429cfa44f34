"""Pickles that torch's safe loader admits, and that would still exhaust the machine.

Torch unpickles tensors and plain containers alone. But a tuple that holds one tuple twice, sixty levels deep, is a
few hundred bytes, and takes 2^60 steps to hash as a key; ``bytearray(3 * 10**9)`` is one call; an empty list is one
byte in the file and 56 in memory. So the opcodes are read first, and nothing of them is done.
"""

from __future__ import annotations

import io
import pickletools
from pathlib import Path
from typing import Any

from ...errors import RefusedInput, UnsafeFile

MAX_OPCODES = 2_000_000  # some 40 for a tensor
MAX_EXPANDED = 10_000_000  # objects, counting those that are shared as often as they are met
MAX_BYTES = 2**26  # of a pickle without its tensors
_CALLS = {"bytearray"}  # of what torch admits: makes as many bytes as it is told
_LEGACY_PICKLES = 5  # magic number, protocol, system, content, storage keys

_MARK = object()


def check_pickle(data: bytes, path: Path) -> None:
    """Reads one pickle's opcodes.

    Raises:
        UnsafeFile: what it makes is absurdly large. RefusedInput: it is damaged.
    """
    if len(data) > MAX_BYTES:
        raise UnsafeFile(f"{path}: its pickle has {len(data):,} bytes; at most {MAX_BYTES:,} are read")
    _walk(io.BytesIO(data), path, 0)


def check_legacy(path: Path) -> None:
    """Reads the opcodes of the pickles at the start of a Torch file of before version 1.6; errors as `check_pickle`."""
    with path.open("rb") as file:
        count = 0
        for _ in range(_LEGACY_PICKLES):
            count = _walk(file, path, count)
            if not file.read(1):
                break
            file.seek(-1, io.SEEK_CUR)


def _walk(file: Any, path: Path, count: int) -> int:
    """Follows how large objects are, without making them; returns the opcodes met so far."""
    machine = _Machine(path)
    try:
        for opcode, argument, _ in pickletools.genops(file):
            count += 1
            if count > MAX_OPCODES:
                raise UnsafeFile(f"{path}: its pickle has more than {MAX_OPCODES:,} opcodes")
            machine.step(opcode.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise RefusedInput(f"{path} is a damaged Torch file: {str(error)[:100] or 'broken pickle'}") from None
    return count


class _Machine:
    """The unpickler's stack and memo, of sizes in place of objects.

    A size is a list of one number, so that what is appended to a list later counts wherever the list is met.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """One opcode."""
        stack = self.stack
        if name in ("GLOBAL", "STACK_GLOBAL", "INST"):
            self._refuse_call(str(argument))
        if name == "MARK":
            stack.append(_MARK)
        elif name in ("TUPLE", "LIST", "DICT", "FROZENSET", "OBJ", "INST"):
            self._push(self._to_mark())
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self._push([stack.pop() for _ in range(int(name[-1]))])
        elif name in ("APPENDS", "SETITEMS", "ADDITEMS"):
            self._grow(self._to_mark())
        elif name == "APPEND":
            self._grow([stack.pop()])
        elif name == "SETITEM":
            self._grow([stack.pop(), stack.pop()])
        elif name == "BUILD":
            self._grow([stack.pop()])
        elif name in ("REDUCE", "NEWOBJ", "STACK_GLOBAL"):
            self._push([stack.pop(), stack.pop()])
        elif name == "NEWOBJ_EX":
            self._push([stack.pop(), stack.pop(), stack.pop()])
        elif name == "BINPERSID":
            self._push([stack.pop()])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            self._to_mark()
        elif name not in ("PROTO", "FRAME", "STOP"):
            self._push([])
            if isinstance(argument, str) and argument in _CALLS:
                self._refuse_call(argument)

    def _push(self, parts: list[Any]) -> None:
        self.stack.append([self._checked(1 + sum(part[0] for part in parts))])

    def _grow(self, parts: list[Any]) -> None:
        held = self.stack[-1]
        held[0] = self._checked(held[0] + sum(part[0] for part in parts))

    def _checked(self, size: int) -> int:
        if size > MAX_EXPANDED:
            raise UnsafeFile(f"{self.path}: its pickle unfolds to more than {MAX_EXPANDED:,} objects")
        return size

    def _to_mark(self) -> list[Any]:
        parts = []
        while (part := self.stack.pop()) is not _MARK:
            parts.append(part)
        return parts

    def _refuse_call(self, name: str) -> None:
        if name.rpartition(" ")[2] in _CALLS:
            raise UnsafeFile(f"{self.path}: its pickle calls {name[:60]!r}, which no weights need")
