"""What opens MODEL: the options that say how, shared by every command that takes one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from . import parsing
from .options import Group, option

if TYPE_CHECKING:
    from ..engine.graph.graph import Graph


def _option(kind: Any, default: Any, flags: str, help: str, metavar: str = "", **more: Any) -> tuple[Any, Any]:
    shown: dict[str, Any] = {"metavar": metavar or None, "rich_help_panel": "Model", "show_default": False}
    return option(kind, default, flags, help, **shown, **more)


_Text = str | None
_NUMBERS: dict[str, Any] = {"reads": parsing.numbers, "form": "numbers with commas, like 0.485,0.456,0.406"}

# name of the keyword of `opener` -> (type, default), in the order of the help.
LOADING: Group = {
    "arch": _option(_Text, None, "--arch", "Builds the network, for files of weights alone.", "PACKAGE:CALLABLE"),
    "trust": _option(bool, False, "--trust", "Load files that run code (pickled modules, TorchScript, Lambda layers)."),
    "check": _option(
        bool | None, None, "--check/--no-check",
        "Compare every tensor of the two executors first, or never; by default once for a file, which the cache "
        "folder remembers.",
    ),
    "preprocessing": _option(_Text, None, "--preprocessing", "caffe, tf, torch, unit or raw.", "PRESET"),
    "mean": _option(Any, None, "--mean", "Subtracted, per channel.", "M,M,M", **_NUMBERS),
    "std": _option(Any, None, "--std", "Divided by, per channel.", "S,S,S", **_NUMBERS),
    "range": _option(
        Any, None, "--range", "What 0 and 1 of a picture become before mean and std.", "LOW,HIGH", **_NUMBERS
    ),
    "order": _option(_Text, None, "--order", "RGB, BGR or GRAY.", "ORDER"),
    "layout": _option(_Text, None, "--layout", "NCHW or NHWC, of the file's own input.", "LAYOUT"),
    "image_size": _option(
        Any, None, "--image-size", "Input size where the file leaves it open, like 48x320.", "PX|HxW",
        reads=parsing.sides, form="224 or HEIGHTxWIDTH",
    ),
    "input": _option(
        list[Any] | None, None, "--input",
        "An input beside the picture: a number, numbers with commas, FILE.npy or a picture.", "NAME=VALUE",
        reads=parsing.given, form="NAME=NUMBER, numbers with commas, NAME=FILE.npy for one picture, or NAME=PICTURE",
    ),
    "labels": _option(_Text, None, "--labels", "Class names, one per line or JSON; or imagenet.", "FILE"),
    "max_memory": _option(
        float | None, None, "--max-memory", "Memory that importing the file may take; default by its size.", "GIB"
    ),
    "max_seconds": _option(
        float | None, None, "--max-seconds", "Processor time that importing the file may take; default by its size.",
        "S",
    ),
}  # fmt: skip


def opener(model: str, layer: str | None = None, **words: Any) -> Callable[[], Graph]:
    """What opens MODEL.

    Args:
        model: a path, or a name of the catalog.
        layer: what the command asks of the network; refused before the check where the network lacks it.
        **words: the model-loading options, see `LOADING`.
    """
    from ..models.load import load

    size, inputs = words.pop("image_size"), dict(words.pop("input") or ())
    return partial(load, model, layer=layer, size=size, inputs=inputs, **words)
