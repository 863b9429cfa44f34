"""What goes to stdout and stderr, and the command line that results are made by.

stdout carries results only, that is the final paths or one JSON object; everything else goes to stderr.
"""

from __future__ import annotations

import re
import shlex
import sys
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from .options import Group

SCHEMA_VERSION = 1
_SHOWN_INSTEAD = "\N{REPLACEMENT CHARACTER}"
_SILENT = {"--live", "--force", "--json", "--quiet", "-q", "--debug"}  # they change no result
_arguments: ContextVar[Sequence[str]] = ContextVar("arguments", default=())
_NO_FLAGS: Mapping[str, tuple[str, str]] = {}
_flags: ContextVar[Mapping[str, tuple[str, str]]] = ContextVar("flags", default=_NO_FLAGS)
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


@contextmanager
def running(arguments: Sequence[str]) -> Iterator[None]:
    """Says which command line runs, for the length of a ``with`` block; see `command_line`."""
    before = _arguments.set(tuple(arguments)), _flags.set(_NO_FLAGS)
    try:
        yield
    finally:
        _arguments.reset(before[0])
        _flags.reset(before[1])


def typed(flags: Collection[str]) -> str | None:
    """The last value that the command line gives to an option; None where it has none."""
    found = None
    for word, behind in zip(_arguments.get(), (*_arguments.get()[1:], None), strict=True):
        flag, sign, value = word.partition("=")
        if flag in flags:
            found = value if sign else behind
    return found


def understand(parameters: Iterable[Any]) -> None:
    """Says which parameters, as typer knows them, the command that runs has; see `in_flags`."""
    found = {"inputs": ("--input", "--input"), "boxes": ("--box", "--box")}
    for parameter in parameters:
        if parameter.param_type_name == "option":
            flag = next((flag for flag in parameter.opts if flag.startswith("--")), parameter.opts[0])
            found[parameter.name] = flag, next(iter(parameter.secondary_opts), flag)
    _flags.set(found)


def in_flags(text: str) -> str:
    """What Python says of its parameters, in the words of the command line that runs.

    ``units='x'`` is ``--units 'x'``, ``force=True`` is ``--force``, ``check=False`` is ``--no-check``,
    ``tuning['decay']`` is ``--set decay``.
    """
    known = _flags.get()

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


def written(arguments: Sequence[str], group: Group, words: Mapping[str, Any], without: Collection[str]) -> str:
    """A command line of these arguments and words, in one order however it was typed; defaults are left out.

    Args:
        arguments: the command and what stands behind it.
        group: the options.
        words: their values.
        without: options that are left out.
    """
    line = ["convscope", *arguments]
    for name, (_, default) in group.items():
        if name in without or words[name] == default:
            continue
        flag = _flags.get()[name][0]
        for value in words[name] if isinstance(words[name], list) else [words[name]]:
            line += [flag] if value is True else [flag, _as_typed(value)]
    return shlex.join(line)


def _as_typed(value: Any) -> str:
    """A value as `parsing` reads it: a name with a value, numbers with commas, or text."""
    if isinstance(value, tuple) and isinstance(value[0], str):
        return f"{value[0]}={_as_typed(value[1])}"
    return ",".join(f"{number:.9g}" for number in value) if isinstance(value, tuple) else str(value)
