"""Opening MODEL: the options that say how, shared by every command that takes one."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .options import Group, option

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
        bool, True, "--check/--no-check", "Compare every tensor of the two executors first (default)."
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


def open_model(model: str, *, quiet: bool = False, **options: Any) -> Graph:
    """The graph of MODEL, with what was assumed about it said on stderr.

    Args:
        model: a path, or a name of the catalog.
        quiet: say nothing.
        **options: the model-loading options, see `LOADING`; any may be left out.

    Raises:
        UsageError: a flag that is not understood or does not fit the model.
        RefusedInput: the file is hostile, corrupt or unsupported.
    """
    chosen = {name: options.pop(name, default) for name, (_, default) in LOADING.items()}
    if options:
        raise TypeError(f"unknown model-loading options: {', '.join(options)}")
    size = _size(chosen["image_size"])
    with contextlib.redirect_stdout(sys.stderr):  # exporters print; stdout is for results
        graph = _load(model, chosen, size)
    graph = _with_flags(graph, chosen, size)
    _say_what_was_assumed(graph, quiet)
    return graph


def _load(model: str, chosen: dict[str, Any], size: tuple[int, int] | None) -> Graph:
    from ..adapters.load import load

    given: dict[str, Any] = {
        "arch": chosen["arch"],
        "trust": chosen["trust"],
        "check": chosen["check"],
        "preprocessing": chosen["preprocessing"],
        "labels": _labels(chosen["labels"]),
        "size": size,
        "layout": chosen["layout"],
        "inputs": parse_inputs(chosen["input"]),
        "max_memory": _positive("--max-memory", chosen["max_memory"]),
        "max_seconds": _positive("--max-seconds", chosen["max_seconds"]),
    }
    if os.path.isfile(model):  # Path's own raises for names that are too long
        return load(model, **given)
    from ..models import catalog

    found = catalog.resolve(model)
    return load(found, **given) if isinstance(found, Path) else catalog.load(found, **given)


def _with_flags(graph: Graph, chosen: dict[str, Any], size: tuple[int, int] | None) -> Graph:
    """The graph with ``--mean --std --range --order --image-size`` over its own preprocessing."""
    import dataclasses

    changes: dict[str, Any] = {}
    for name in ("mean", "std"):
        if chosen[name] is not None:
            changes[name] = _numbers(f"--{name}", chosen[name])
    if chosen["range"] is not None:
        ends = _numbers("--range", chosen["range"])
        if len(ends) != 2:
            raise UsageError(f"--range '{chosen['range']}' has {len(ends)} values; write LOW,HIGH")
        changes["low"], changes["high"] = ends
    if chosen["order"] is not None:
        changes["order"] = chosen["order"].upper()
        if changes["order"] not in ("RGB", "BGR", "GRAY"):
            raise UsageError(f"--order '{chosen['order']}' is unknown; choose RGB, BGR or GRAY")
    if 0.0 in changes.get("std", ()):
        raise UsageError(f"--std '{chosen['std']}' divides by zero")
    if changes:
        changes.update(preset="custom", found="flag")
    if size is not None:
        changes["size"] = size
    if not changes:
        return graph
    preprocessing = dataclasses.replace(graph.preprocessing, **changes)
    preprocessing.bounds(graph.channels)  # refuses a mean or std of the wrong length
    return dataclasses.replace(graph, preprocessing=preprocessing)


def _say_what_was_assumed(graph: Graph, quiet: bool) -> None:
    from .output import in_flags, say

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


def parse_inputs(texts: Sequence[str] | None) -> dict[str, Any]:
    """Name -> number, list of numbers or path of an ``.npy`` file, out of ``--input NAME=VALUE``.

    Raises:
        UsageError: not of that form.
    """
    found: dict[str, Any] = {}
    for text in texts or ():
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise UsageError(f"--input '{text}' is not understood; write NAME=VALUE or NAME=FILE.npy")
        if value.lower().endswith(".npy"):
            found[name] = Path(value)
        else:
            numbers = _numbers(f"--input {name}:", value)
            found[name] = numbers if len(numbers) > 1 else numbers[0]
    return found


def _positive(flag: str, value: float | None) -> float | None:
    if value is not None and not 0 < value <= 10**6:
        raise UsageError(f"{flag} {value:g} is not a positive number up to 1,000,000")
    return value


def _numbers(flag: str, text: str) -> tuple[float, ...]:
    import math

    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(math.isfinite(v) for v in values):
        raise UsageError(f"{flag} '{text}' is not understood; write numbers with commas, like 0.485,0.456,0.406")
    return values


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.lower().replace("x", ",").split(",")
    if len(parts) > 2 or not all(p.isascii() and p.isdigit() and 0 < int(p) <= 16384 for p in parts):
        raise UsageError(f"--image-size '{text}' is not understood; write 224 or HEIGHT,WIDTH (at most 16384)")
    return int(parts[0]), int(parts[-1])
