"""Opening MODEL: the options that say how, shared by every command that takes one."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import Group, option
from .output import in_flags, say
from .parsing import parse_image_size, parse_inputs, parse_numbers, parse_positive

if TYPE_CHECKING:
    from ..engine.graph.graph import Graph


def _option(kind: Any, default: Any, flags: str, help: str, metavar: str | None = None) -> tuple[Any, Any]:
    return option(kind, default, flags, help, metavar=metavar, rich_help_panel="Model", show_default=False)


_Text = str | None

# name of the keyword of `open_model` -> (type, default), in the order of the help.
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
        "An input beside the picture: a number, numbers with commas, FILE.npy or a picture.", "NAME=VALUE",
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


def open_model(model: str, *, layer: str | None = None, quiet: bool = False, **options: Any) -> Graph:
    """The graph of MODEL, with what was assumed about it said on stderr.

    Args:
        model: a path, or a name of the catalog.
        layer: what the command asks of the network; refused before the check where the network lacks it.
        quiet: say nothing.
        **options: the model-loading options, see `LOADING`; any may be left out.

    Raises:
        UsageError: a flag that is not understood or does not fit the model.
        RefusedInput: the file is hostile, corrupt or unsupported.
    """
    words = {name: options.pop(name, default) for name, (_, default) in LOADING.items()}
    if options:
        raise TypeError(f"unknown model-loading options: {', '.join(options)}")
    size = parse_image_size(words.pop("image_size"))
    numbers = {name: words.pop(name) for name in ("mean", "std", "range")}
    stated = {name: parse_numbers(f"--{name}", text) for name, text in numbers.items() if text is not None}
    order = words.pop("order")
    words["inputs"] = parse_inputs(words.pop("input"))
    words["labels"] = _labels(words["labels"])
    for name in ("max_memory", "max_seconds"):
        parse_positive("--" + name.replace("_", "-"), words[name])
    with contextlib.redirect_stdout(sys.stderr):  # exporters print; stdout is for results
        if (order or stated) and any(_is_picture(value) for value in words["inputs"].values()):
            # a second picture is preprocessed as the first one will be
            first = _load(model, {**words, "size": size, "check": False})
            words["preprocessing"] = first.preprocessing.changed(order=order, size=size, **stated)
        graph = _load(model, {**words, "size": size, "layer": layer})
    changed = graph.preprocessing.changed(order=order, size=size, **stated)
    changed.bounds(graph.channels)  # refuses a mean or std of the wrong length
    graph = dataclasses.replace(graph, preprocessing=changed)
    _say_what_was_assumed(graph, quiet)
    return graph


def _is_picture(value: Any) -> bool:
    return isinstance(value, Path) and value.suffix.lower() != ".npy"


def _load(model: str, options: dict[str, Any]) -> Graph:
    from ..adapters.load import load
    from ..models import catalog

    if os.path.isfile(model):  # Path's own raises for names that are too long
        return load(model, **options)
    found = catalog.resolve(model)
    return load(found, **options) if isinstance(found, Path) else catalog.load(found, **options)


def _say_what_was_assumed(graph: Graph, quiet: bool) -> None:
    for note in graph.source.notes:
        say(f"note: {in_flags(note)}", quiet)
    if graph.preprocessing.found == "assumed":
        say(
            f"assumed: {graph.preprocessing.in_words()}; if that is wrong, so is every picture: "
            "give --preprocessing, or --mean --std --range --order",
            quiet,
        )


def _labels(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    from ..engine.graph.labels import load_labels

    return load_labels(text)
