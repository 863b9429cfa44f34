"""What opens MODEL: the options that say how, shared by every command that takes one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from .options import Group, option
from .parsing import parse_image_size, parse_inputs, parse_numbers

if TYPE_CHECKING:
    from ..engine.graph.graph import Graph


def _option(kind: Any, default: Any, flags: str, help: str, metavar: str | None = None) -> tuple[Any, Any]:
    return option(kind, default, flags, help, metavar=metavar, rich_help_panel="Model", show_default=False)


_Text = str | None

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
    "mean": _option(_Text, None, "--mean", "Subtracted, per channel.", "M,M,M"),
    "std": _option(_Text, None, "--std", "Divided by, per channel.", "S,S,S"),
    "range": _option(_Text, None, "--range", "What 0 and 1 of a picture become before mean and std.", "LOW,HIGH"),
    "order": _option(_Text, None, "--order", "RGB, BGR or GRAY.", "ORDER"),
    "layout": _option(_Text, None, "--layout", "NCHW or NHWC, of the file's own input.", "LAYOUT"),
    "image_size": _option(
        _Text, None, "--image-size", "Input size where the file leaves it open, like 48x320.", "PX|HxW"
    ),
    "input": _option(
        list[str] | None, None, "--input",
        "An input beside the picture: a number, numbers with commas, or FILE.npy.", "NAME=VALUE",
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

    Raises:
        UsageError: numbers that are not understood.
    """
    from ..models.load import load

    size, inputs = parse_image_size(words.pop("image_size")), parse_inputs(words.pop("input"))
    texts = {name: words.pop(name) for name in ("mean", "std", "range")}
    stated = {name: parse_numbers(f"--{name}", text) for name, text in texts.items() if text is not None}
    return partial(load, model, layer=layer, size=size, inputs=inputs, **stated, **words)
