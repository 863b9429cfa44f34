"""What every command shares: option types, opening a model, and what goes to stdout and stderr.

stdout carries results only, that is the final paths or one JSON object; everything else goes to stderr.
"""

from __future__ import annotations

import shlex
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError
from .loading import loading_options, open_model
from .progress import progress

__all__ = [
    "BatchOption",
    "DeviceOption",
    "ForceOption",
    "ImagesArgument",
    "JsonOption",
    "LayerOption",
    "ModelArgument",
    "OutOption",
    "QuietOption",
    "SeedOption",
    "SizeOption",
    "Units",
    "UnitsOption",
    "clean",
    "command_line",
    "emit",
    "emit_json",
    "fail",
    "loading_options",
    "open_model",
    "parse_units",
    "progress",
    "say",
]

SCHEMA_VERSION = 1

ModelArgument = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A model file, or a name of the catalog.", show_default=False),
]
ImagesArgument = Annotated[
    list[Path], typer.Argument(metavar="IMAGE...", help="Pictures, or folders of pictures.", show_default=False)
]
LayerOption = Annotated[
    str | None,
    typer.Option("--layer", "-l", metavar="LAYER", help="Name, tensor, index or glob; see convscope info."),
]
UnitsOption = Annotated[
    str, typer.Option("--units", "-u", metavar="UNITS", help="0-63,70 or all, or top:36 for the strongest 36.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
BatchOption = Annotated[int, typer.Option("--batch", min=1, help="Images per pass.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no messages.")]
OutOption = Annotated[Path | None, typer.Option("--out", "-o", metavar="DIR", help="Where to write.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same result.")]
LARGEST_SIZE = 65536  # pixels; a side that no memory holds, and few enough for the arithmetic of sizes
SizeOption = Annotated[
    int | None, typer.Option("--size", metavar="PX", max=LARGEST_SIZE, help="Side of the pictures, pixels.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Start again instead of resuming.")]

_SHOWN_INSTEAD = "\N{REPLACEMENT CHARACTER}"


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


def command_line() -> str:
    """The command line as it was typed, quoted for a shell: what a page says it was made by."""
    return shlex.join(["convscope", *sys.argv[1:]])


@dataclass(frozen=True)
class Units:
    """Which units of a layer are asked for.

    Attributes:
        indices: the candidates, ascending, each once.
        top: keep only so many, those with the highest activation; None keeps all.
    """

    indices: tuple[int, ...]
    top: int | None = None


def parse_units(text: str, channels: int) -> Units:
    """The units that ``--units`` names.

    Args:
        text: ``all``, ``top:36``, or numbers and ranges with both ends included: ``0-63,70``.
        channels: how many units the layer has.

    Raises:
        UsageError: not of that form, or out of range.
    """
    text = text.strip()
    if text == "all":
        return Units(tuple(range(channels)))
    if text.startswith("top:"):
        top = _count(text[4:], text)
        if top < 1:
            raise UsageError(f"--units '{text}': the number after top: must be at least 1")
        return Units(tuple(range(channels)), min(top, channels))
    found: set[int] = set()
    for part in text.split(","):
        low_text, dash, high_text = part.strip().partition("-")
        low = _count(low_text, text)
        high = _count(high_text, text) if dash else low
        if low > high:
            raise UsageError(f"--units '{text}': the range {low}-{high} runs backwards; write {high}-{low}")
        if high >= channels:
            raise UsageError(
                f"--units '{text}': unit {high} is out of range, the layer has {channels} units (0-{channels - 1})"
            )
        found.update(range(low, high + 1))
    return Units(tuple(sorted(found)))


def _count(text: str, whole: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise UsageError(f"--units '{whole}' is not understood; write all, top:36, or like 0-63,70")
    return int(text)
