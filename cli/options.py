"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError
from .output import clean

ModelArgument = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A model file, or a name of the catalog.", show_default=False),
]
ImagesArgument = Annotated[
    list[Path], typer.Argument(metavar="IMAGE...", help="Pictures, or folders of pictures.", show_default=False)
]
PhotoArgument = Annotated[Path, typer.Argument(metavar="IMAGE", help="A photograph.", show_default=False)]
LayerOption = Annotated[
    str | None,
    typer.Option("--layer", "--layers", "-l", metavar="LAYER", help="Name, tensor, index or glob; see convscope info."),
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


def parse_size(text: str | int | tuple[int, int]) -> int | tuple[int, int]:
    """One side for squares, or (height, width), out of ``128``, ``48x320`` or ``48,320``; what is no text is passed on.

    Raises:
        UsageError: not of that form, or more than any memory holds.
    """
    if not isinstance(text, str):
        return text
    parts = text.lower().replace("x", ",").split(",")
    if len(parts) > 2 or not all(p.isascii() and p.removeprefix("-").isdigit() and len(p) < 10 for p in parts):
        raise UsageError(f"--size '{clean(text)[:40]}' is not understood; write 128 or HEIGHTxWIDTH, like 48x320")
    sides = [int(part) for part in parts]
    if max(sides) > LARGEST_SIZE:
        raise UsageError(f"--size {text} is more than any memory holds; at most {LARGEST_SIZE} a side")
    return (sides[0], sides[1]) if len(sides) == 2 else sides[0]


SizeOption = Annotated[
    Any,  # an int, (height, width) or None
    typer.Option(
        "--size", metavar="PX|HxW", parser=parse_size, help="Side of the pictures in pixels, or height x width."
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Start again instead of resuming.")]
TopOption = Annotated[int, typer.Option("--top", min=1, help="How many classes to report of each picture.")]
ColormapOption = Annotated[str, typer.Option("--colormap", metavar="NAME", help="viridis, gray, magma, jet, ...")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of its own, like steps=100.")
]


def parse_settings(texts: Sequence[str] | None) -> dict[str, Any]:
    """What ``--set NAME=VALUE`` names: numbers as numbers, everything else as text.

    Raises:
        UsageError: not of that form.
    """
    found: dict[str, Any] = {}
    for text in texts or ():
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier():
            raise UsageError(f"--set '{clean(text)}' is not understood; write NAME=VALUE")
        found[name] = _number(value)
    return found


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
