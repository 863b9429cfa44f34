"""Opening MODEL: the options that say how, shared by every command that takes one."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError

if TYPE_CHECKING:
    from ..engine.graph.graph import Graph
    from ..engine.graph.preprocessing import Preprocessing

_PANEL = "Model"


def _option(*names: str, metavar: str | None = None, help: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=help, rich_help_panel=_PANEL, show_default=False)


ArchOption = Annotated[
    str | None,
    _option("--arch", metavar="PACKAGE:CALLABLE", help="Builds the network, for files of weights alone."),
]
TrustOption = Annotated[
    bool, _option("--trust", help="Load files that run code (pickled modules, TorchScript, Lambda layers).")
]
CheckOption = Annotated[
    bool, _option("--check/--no-check", help="Compare every tensor of the two executors first (default).")
]
PreprocessingOption = Annotated[
    str | None, _option("--preprocessing", metavar="PRESET", help="caffe, tf, torch, unit or raw.")
]
MeanOption = Annotated[str | None, _option("--mean", metavar="M,M,M", help="Subtracted, per channel.")]
StdOption = Annotated[str | None, _option("--std", metavar="S,S,S", help="Divided by, per channel.")]
RangeOption = Annotated[
    str | None, _option("--range", metavar="LOW,HIGH", help="What 0 and 1 of a picture become before mean and std.")
]
OrderOption = Annotated[str | None, _option("--order", metavar="ORDER", help="RGB, BGR or GRAY.")]
LayoutOption = Annotated[
    str | None, _option("--layout", metavar="LAYOUT", help="NCHW or NHWC, of the file's own input.")
]
ImageSizeOption = Annotated[
    str | None, _option("--image-size", metavar="PX|HxW", help="Input size where the file leaves it open, like 48x320.")
]
InputOption = Annotated[
    list[str] | None,
    _option(
        "--input", metavar="NAME=VALUE", help="An input beside the picture: a number, numbers with commas, or FILE.npy."
    ),
]
LabelsOption = Annotated[
    str | None, _option("--labels", metavar="FILE", help="Class names, one per line or JSON; or imagenet.")
]
MaxMemoryOption = Annotated[
    float | None,
    _option("--max-memory", metavar="GIB", help="Memory that importing the file may take; default by its size."),
]
MaxSecondsOption = Annotated[
    float | None,
    _option("--max-seconds", metavar="S", help="Processor time that importing the file may take; default by its size."),
]

# name of the keyword of `open_model` -> (type, default), in the order of the help.
_LOADING: dict[str, tuple[Any, Any]] = {
    "arch": (ArchOption, None),
    "trust": (TrustOption, False),
    "check": (CheckOption, True),
    "preprocessing": (PreprocessingOption, None),
    "mean": (MeanOption, None),
    "std": (StdOption, None),
    "range": (RangeOption, None),
    "order": (OrderOption, None),
    "layout": (LayoutOption, None),
    "image_size": (ImageSizeOption, None),
    "input": (InputOption, None),
    "labels": (LabelsOption, None),
    "max_memory": (MaxMemoryOption, None),
    "max_seconds": (MaxSecondsOption, None),
}


def loading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command every model-loading option in place of its ``**options``.

    Example:
        >>> @loading_options
        ... def command(model: ModelArgument, quiet: QuietOption = False, **options: Any) -> None:
        ...     graph = open_model(model, quiet=quiet, **options)
    """
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in _LOADING.items()
    ]

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return command(*args, **kwargs)

    parameters = [*own, *added]
    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapped


def open_model(model: str, *, quiet: bool = False, **options: Any) -> Graph:
    """The graph of MODEL, with what was assumed about it said on stderr.

    Args:
        model: a path, or a name of the catalog.
        quiet: say nothing.
        **options: the model-loading options, see `loading_options`; any may be left out.

    Raises:
        UsageError: a flag that is not understood or does not fit the model.
        RefusedInput: the file is hostile, corrupt or unsupported.
    """
    chosen = {name: options.pop(name, default) for name, (_, default) in _LOADING.items()}
    if options:
        raise TypeError(f"unknown model-loading options: {', '.join(options)}")
    size = _size(chosen["image_size"])
    with contextlib.redirect_stdout(sys.stderr):  # exporters print; stdout is for results
        graph = _load(model, chosen, size)
    graph = _with_flags(graph, chosen, size)
    _say_what_was_assumed(graph, quiet)
    return graph


def check_out(out: Path | None) -> None:
    """Raises where nothing can be written to ``-o``, or without one to the folder we are in: before any work."""
    from ..engine.render.artifacts import check_folder

    check_folder(out or Path())


def needed_layer(graph: Graph, layer: str | None, command: str) -> str:
    """The layer's key.

    Raises:
        UsageError: none is given; the message has one that would do.
    """
    if layer is None:
        last = graph.last_spatial_layer().name
        raise UsageError(f"{command} needs --layer, for instance --layer {last}; list them: convscope info")
    return layer


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
    from .output import say

    for note in graph.source.notes:
        say(f"note: {note}", quiet)
    if graph.preprocessing.found == "assumed":
        say(
            f"assumed: {describe(graph.preprocessing)}; if that is wrong, so is every picture: "
            "give --preprocessing, or --mean --std --range --order",
            quiet,
        )


def describe(preprocessing: Preprocessing) -> str:
    """The preprocessing in words."""
    return preprocessing.in_words()


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
