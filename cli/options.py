"""Arguments and options: each is declared once, as (type, default) in a group under the name of Python's parameter."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from . import completion, parsing

Group = dict[str, tuple[Any, Any]]  # name -> (annotated type, default), in the order of the help


REQUIRED = inspect.Parameter.empty


def option(
    kind: Any,
    default: Any,
    flags: str,
    help: str,
    *,
    reads: Callable[[str], Any] | None = None,
    form: str = "",
    **more: Any,
) -> tuple[Any, Any]:
    """A group's entry.

    Args:
        kind: the type.
        default: the value without the flag, or `REQUIRED`.
        flags: with spaces between them.
        help: what it is, in the help.
        reads: makes a value of the text, see `parsing`.
        form: how to write that text.
        **more: what `typer.Option` takes.
    """
    if reads is not None:
        more["parser"] = parsing.reader(flags.split()[0], reads, form)
    return Annotated[kind, typer.Option(*flags.split(), help=help, **more)], default


_MODEL = {"metavar": "MODEL", "show_default": False, "autocompletion": completion.models}
_LAYER: dict[str, Any] = {"autocompletion": completion.layers}
ModelArgument = Annotated[str, typer.Argument(help="A model file, or a name of the catalog.", **_MODEL)]
ImagesArgument = Annotated[
    list[str], typer.Argument(metavar="IMAGE...", help="Pictures, or folders of pictures.", show_default=False)
]
PhotoArgument = Annotated[str, typer.Argument(metavar="IMAGE", help="A photograph.", show_default=False)]

LAYERS = option(
    str | None, None, "--layer --layers -l", "Names and globs like conv1,block5*.", metavar="LAYER,...", **_LAYER
)
LAYER = option(
    str | None, None, "--layer --layers -l", "Name, tensor, index or glob; see convscope info.", metavar="LAYER",
    **_LAYER,
)  # fmt: skip
UNITS = option(str, "all", "--units -u", "0-63,70 or all, or top:36 for the strongest 36.", metavar="UNITS")
DEVICE = option(str, "auto", "--device", "auto, cpu, cuda or cuda:N.")
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no messages.")]
JSON = (JsonOption, False)
QUIET = (QuietOption, False)
OutOption = Annotated[str | None, typer.Option("--out", "-o", metavar="DIR", help="Where to write.")]
OUT = (OutOption, None)
SEED = option(int, 0, "--seed", "The same seed gives the same result.", min=0)
SIDES: dict[str, Any] = {
    "metavar": "PX|HxW", "reads": parsing.sides, "form": "128 or HEIGHTxWIDTH, like 48x320",
}  # fmt: skip
SIZE = option(Any, None, "--size", "Side of the pictures in pixels, or height x width.", **SIDES)
FORCE = option(bool, False, "--force", "Start again instead of resuming.")
TOP = option(int, 3, "--top", "How many classes to report of each picture.", min=1)
STEPS = option(int | None, None, "--steps", "Default the preset's own number.", metavar="N", max=1_000_000)
FIELD = option(
    str, "map", "--field",
    "Where crops show the reason: by the unit's map, or by the gradient (a pass back per unit and picture).",
    metavar="map|gradient",
)  # fmt: skip
SHARD = option(
    Any, None, "--shard", "Only every N-th picture, from the I-th on; a run without merges.", metavar="I/N",
    reads=parsing.part, form="I/N with I from 1 to N, like 1/4",
)  # fmt: skip
SETTING: dict[str, Any] = {"metavar": "NAME=VALUE", "reads": parsing.setting, "form": "NAME=VALUE"}
BOX_FORM = "top,left,bottom,right in pixels, not empty"


def batch(default: int) -> tuple[Any, Any]:
    """``--batch`` of a command that sees pictures."""
    return option(int, default, "--batch", "Images per pass.", min=1)


def colormap(default: str) -> tuple[Any, Any]:
    """``--colormap``."""
    names = "viridis, gray, magma, jet, ..."
    return option(str, default, "--colormap", names, metavar="NAME", autocompletion=completion.colormaps)


def preset(default: str) -> tuple[Any, Any]:
    """``--preset`` of gradient ascent."""
    names = (
        "convscope (by the layer: tile, strongest, parts or objects), lucid, maco, chollet, jacobgil, yosinski-a to "
        "-d, vital or dream; see docs/presets.md."
    )
    return option(str, default, "--preset -p", names, metavar="PRESET", autocompletion=completion.presets)


# How the outputs are read, of predict and explain.
READING: Group = {
    "like": option(
        str | None, None, "--like", "For embeddings: another picture, or a vector (.npy), to be like.", metavar="FILE"
    ),
    "decoder": option(
        str | None, None, "--decoder", "How to read the outputs: yolov8, softmax, ...; docs/outputs.md.", metavar="NAME"
    ),
    "output": option(str | None, None, "--output", "Read this output alone.", metavar="NAME"),
}

# What is asked of an answer, of explain and export.
QUESTION: Group = {
    "of": option(str, "score", "--of", "Of a box: score, left, top, right, bottom or iou.", metavar="NUMBER"),
    "region": option(
        Any, None, "--region", "Ask about this part of a map; pixels of the model's input.", metavar="T,L,B,R",
        reads=parsing.box, form=BOX_FORM,
    ),
    "mask": option(str | None, None, "--mask", "Ask about the bright part of this picture (or .npy).", metavar="FILE"),
    "to": option(float | None, None, "--to", "What speaks for this value.", metavar="VALUE"),
    "against": option(
        str | None, None, "--against", "Why the target and not this: a class, or top:3.", metavar="CLASS"
    ),
    **READING,
}  # fmt: skip

# What every ascent may be asked for beside its preset.
ASCENT: Group = {
    "size": SIZE,
    "steps": STEPS,
    "seed": SEED,
    "tuning": option(
        list[Any] | None, None, "--set",
        "Over the preset: learning_rate, decay, blur, blur_every, clip_norm, clip_contribution, total_variation or "
        "jitter; may be repeated.", **SETTING,
    ),
    "strip": option(int, 0, "--strip", "Keep N pictures on the way.", min=0, max=64, metavar="N"),
}  # fmt: skip

# What filters and maximize share: pictures of many units, on one wall.
UNIT_PICTURES: Group = {
    "preset": preset("convscope"),
    **ASCENT,
    "batch": option(str, "auto", "--batch", "Pictures computed at once.", metavar="N|auto"),
    "negative": option(
        bool, False, "--negative", "Show what inhibits the units instead, or speaks against the classes."
    ),
    "alpha": option(
        bool, False, "--alpha", "Also write each picture with what did not matter transparent, to transparent/."
    ),
    "animate": option(
        bool, False, "--animate", "Also write an animation of each ascent, unit-0000.webp and so on."
    ),
    "photos": option(
        list[str] | None, None, "--photos",
        "Photographs to judge by instead of the shipped ones, and for vital to draw after; may be repeated.",
        metavar="DIR|IMAGE",
    ),
    "precision": option(
        str, "auto", "--precision",
        "Of gradients; auto is bfloat16 where the processor is faster in it, but float32 for the classic presets.",
        metavar="auto|bfloat16|float32",
    ),
    "columns": option(int | None, None, "--columns", "Pictures per row.", min=1, metavar="N"),
    "margin": option(int, 2, "--margin", "Between pictures.", min=0, max=256, metavar="PX"),
    "live": option(bool, False, "--live", "Show the pictures while they are made."),
    "force": FORCE,
}  # fmt: skip
