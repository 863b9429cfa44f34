"""What goes to stdout and stderr, and the command line that results are made by.

stdout carries results only, that is the final paths or one JSON object; everything else goes to stderr.
"""

from __future__ import annotations

import re
import shlex
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ..errors import PartlyDone

SCHEMA_VERSION = 1
_SHOWN_INSTEAD = "\N{REPLACEMENT CHARACTER}"
_SILENT = {"--live", "--force", "--json", "--quiet", "-q", "--debug"}  # they change no result
_arguments: ContextVar[Sequence[str]] = ContextVar("arguments", default=())
_flags: ContextVar[Mapping[str, tuple[str, str]] | None] = ContextVar("flags", default=None)
_NAMED = re.compile(r"(?<![^\s(])(\w+)(?:\['([^']*)'\]|=(True\b|False\b)?)")
_SIZE_OF_INPUT = ("load(size=(HEIGHT, WIDTH))", "--image-size HEIGHTxWIDTH")


def clean(text: Any) -> str:
    """``text`` in one line that a terminal only prints.

    Names come from model files. Control characters (C0, C1, escape sequences), bidirectional overrides and
    other invisible format characters become a replacement character, line breaks and tabs a space.
    """
    spaced = " ".join(str(text).replace("\t", " ").splitlines())
    return "".join(_SHOWN_INSTEAD if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c for c in spaced)


def emit(text: Any) -> None:
    """Prints one result line, usually a path, on stdout."""
    print(clean(text))


def emit_json(obj: Mapping[str, Any]) -> None:
    """Prints the one JSON object of a ``--json`` command, its ``schema_version`` first."""
    from ..engine.render.artifacts import to_json

    print(to_json({"schema_version": SCHEMA_VERSION, **obj}))


def say(text: Any, quiet: bool = False) -> None:
    """A message on stderr, one line, unless ``quiet``."""
    if not quiet:
        print(clean(text), file=sys.stderr, flush=True)


def fail(text: Any) -> None:
    """The line that ends a failed command; shown also with ``--quiet``."""
    print(clean(text), file=sys.stderr, flush=True)


@contextmanager
def running(arguments: Sequence[str]) -> Iterator[None]:
    """Says which command line runs, for the length of a ``with`` block; see `command_line`."""
    before = _arguments.set(tuple(arguments)), _flags.set(None)
    try:
        yield
    finally:
        _arguments.reset(before[0])
        _flags.reset(before[1])


def understand(flags: Mapping[str, Sequence[str]]) -> None:
    """Says which flags the command that runs has: parameter -> its flags as they were declared; see `in_flags`."""
    found = {}
    for name, declared in flags.items():
        both = next((flag for flag in declared if flag.startswith("--")), declared[0]).split("/")
        found[name] = both[0], both[-1]
    _flags.set({**found, "inputs": ("--input", "--input")})


def in_flags(text: str) -> str:
    """What Python says of its parameters, in the words of the command line that runs.

    ``units='x'`` is ``--units 'x'``, ``force=True`` is ``--force``, ``check=False`` is ``--no-check``,
    ``tuning['decay']`` is ``--set decay``.
    """
    known = _flags.get() or {}

    def flag(match: re.Match[str]) -> str:
        name, key, truth = match.groups()
        if name not in known:
            return match[0]
        if truth is not None:
            return known[name][truth == "False"]
        if key is not None:
            return f"{known[name][0]} {key}"
        behind = text[match.end() : match.end() + 1]
        return known[name][0] + (" " if behind and behind not in " ,;:.)" else "")

    return _NAMED.sub(flag, text.replace(*_SIZE_OF_INPUT))


def command_line() -> str:
    """The command line that is running, quoted for a shell, without what changes no result.

    It is the one that ``main.run`` was given, so that commands run by other programs say theirs too.
    """
    return shlex.join(["convscope", *(word for word in _arguments.get() if word not in _SILENT)])


def partly_done(failed: Sequence[Any], total: int) -> None:
    """Ends a command some of whose inputs could not be read.

    Raises:
        PartlyDone: there are any.
    """
    if failed:
        raise PartlyDone(f"{len(failed)} of {total} images could not be read; the others are done")


def plural(count: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
