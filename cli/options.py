"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError
from . import completion
from .output import clean

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A model file, or a name of the catalog.",
        show_default=False,
        autocompletion=completion.models,
    ),
]
ImagesArgument = Annotated[
    list[Path], typer.Argument(metavar="IMAGE...", help="Pictures, or folders of pictures.", show_default=False)
]
PhotoArgument = Annotated[Path, typer.Argument(metavar="IMAGE", help="A photograph.", show_default=False)]
LayerOption = Annotated[
    str | None,
    typer.Option(
        "--layer",
        "--layers",
        "-l",
        metavar="LAYER",
        help="Name, tensor, index or glob; see convscope info.",
        autocompletion=completion.layers,
    ),
]
LayersOption = Annotated[
    str | None,
    typer.Option(
        "--layer",
        "--layers",
        "-l",
        metavar="LAYER,...",
        help="Names and globs like conv1,block5*.",
        autocompletion=completion.layers,
    ),
]
UnitsOption = Annotated[
    str, typer.Option("--units", "-u", metavar="UNITS", help="0-63,70 or all, or top:36 for the strongest 36.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
BatchOption = Annotated[int, typer.Option("--batch", min=1, help="Images per pass.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no messages.")]
LikeOption = Annotated[
    Path | None,
    typer.Option("--like", metavar="FILE", help="For embeddings: another picture, or a vector (.npy), to be like."),
]
DecoderOption = Annotated[
    str | None,
    typer.Option("--decoder", metavar="NAME", help="How to read the outputs: yolov8, softmax, ...; docs/outputs.md."),
]
OutputOption = Annotated[str | None, typer.Option("--output", metavar="NAME", help="Read this output alone.")]
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
ColormapOption = Annotated[
    str,
    typer.Option(
        "--colormap", metavar="NAME", help="viridis, gray, magma, jet, ...", autocompletion=completion.colormaps
    ),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of its own, like steps=100.")
]
PresetOption = Annotated[
    str,
    typer.Option(
        "--preset",
        "-p",
        metavar="PRESET",
        help="convscope (by the layer: tile, strongest, parts or objects), lucid, maco, chollet, jacobgil, "
        "yosinski-a to -d, vital or dream; see docs/presets.md.",
        autocompletion=completion.presets,
    ),
]
StepsOption = Annotated[
    int | None, typer.Option("--steps", metavar="N", max=1_000_000, help="Default the preset's own number.")
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="auto|bfloat16|float32",
        help="Of gradients; auto is bfloat16 where the processor is faster in it, but float32 for the classic presets.",
    ),
]
PicturesOption = Annotated[str, typer.Option("--batch", metavar="N|auto", help="Pictures computed at once.")]
LiveOption = Annotated[bool, typer.Option("--live", help="Show the pictures while they are made.")]
AlphaOption = Annotated[
    bool,
    typer.Option("--alpha", help="Also write each picture with what did not matter transparent, to transparent/."),
]
AnimateOption = Annotated[
    bool, typer.Option("--animate", help="Also write an animation of each ascent, unit-0000.webp and so on.")
]
NegativeOption = Annotated[
    bool, typer.Option("--negative", help="Show what inhibits the units instead, or speaks against the classes.")
]
PhotosOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--photos",
        metavar="DIR|IMAGE",
        help="Photographs to judge by instead of the shipped ones, and for vital to draw after; may be repeated.",
    ),
]
StripOption = Annotated[int, typer.Option("--strip", min=0, max=64, metavar="N", help="Keep N pictures on the way.")]
ColumnsOption = Annotated[int | None, typer.Option("--columns", min=1, metavar="N", help="Pictures per row.")]
MarginOption = Annotated[int, typer.Option("--margin", min=0, max=256, metavar="PX", help="Between pictures.")]
TuningOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Over the preset: learning_rate, decay, blur, blur_every, clip_norm, clip_contribution, total_variation "
        "or jitter; may be repeated.",
    ),
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
