"""The standard streams as a command finds them: closed ones, full ones, and libraries that print into them.

Libraries beneath Python (libtiff, HDF5, protobuf) print what they think of a damaged file on descriptor 2, between
our own lines, and a file that is opened while a standard stream is closed gets that stream's number.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any

_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))  # by descriptor


class _Results(io.FileIO):
    """Where results go: what the system refuses to take is said to be of standard output, once."""

    def write(self, data: Any) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError as error:
            _open_on_nothing(self.fileno())  # or Python would complain of the rest when it ends
            raise OSError(error.errno, error.strerror, "standard output") from None


class _Messages(io.FileIO):
    """Where messages go: a run does not end because nobody can read them."""

    def write(self, data: Any) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError:
            return len(data)


def settle(everything: bool = False) -> None:
    """Makes the standard streams fit to be used.

    Closed ones are opened on nothing, so that no file of ours takes their place. What Python writes to stderr goes
    there still, what libraries write to descriptor 2 goes nowhere, but with ``everything``. A full stdout is an
    OSError that says so; messages that cannot be written are left out. Names that the encoding lacks are escaped, which
    on Windows is all.
    """
    if os.name == "nt":  # consoles have streams of their own there
        if sys.stdout is not None:
            sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        return
    for number, (name, mode) in enumerate(_STREAMS):
        if getattr(sys, name) is None:
            _open_on_nothing(number)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115
    sys.stdout = _text(_Results(1, "wb", closefd=False), sys.stdout)
    if everything:
        return
    sys.stderr = _text(_Messages(os.dup(2), "wb"), sys.stderr)
    _open_on_nothing(2)


def _open_on_nothing(number: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    if nothing != number:
        os.dup2(nothing, number)
        os.close(nothing)


def _text(raw: io.FileIO, before: Any) -> io.TextIOWrapper:
    """A stream over ``raw`` that writes as the one before it did, and escapes names that its encoding lacks."""
    before.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=before.encoding,
        errors="backslashreplace",
        line_buffering=before.line_buffering,
    )
