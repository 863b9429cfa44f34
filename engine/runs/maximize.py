"""``maximize``: what classes look like to the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..ascent.maximize import check_classes, find, find_classes, logits_layer, maximize
from ..ascent.results import AscentResult
from ..graph.graph import Graph
from ..pages.siblings import connect
from ..pages.wall import content
from ..record import Record
from ..whole import each
from .events import Note, OnEvent, ignore
from .folder import locked
from .opening import Model, opened
from .result import Result
from .units import Options, Wall, check_place

__all__ = ["Maximized", "Options", "run"]


@dataclass(frozen=True, eq=False, repr=False)
class Maximized(Result):
    """The result of `run`.

    Attributes:
        classes: the pictures; where they are in a folder they are read when they are looked at.
    """

    classes: AscentResult | None = None


def run(
    model: Model,
    classes: str | int | Sequence[str | int],
    options: Options | None = None,
    folder: Path | None = None,
    *,
    command: str | None = None,
    on_event: OnEvent = ignore,
) -> Maximized:
    """Pictures that raise the logits of classes most.

    Args:
        model: from `convscope.load`, or what opens it.
        classes: names or indices with commas, ``all``, or ``top:16`` for the classes that can be raised most; or a
            number, or a list of names and numbers.
        options: as for `filters`; ``start``, ``noise`` and ``neuron`` do not apply.
        folder: one PNG per class, ``grid.png``, ``result.json`` and ``index.html``; the same call goes on where an
            earlier one stopped.
        command: what the record says made them.
        on_event: told of steps, classes and verdicts.

    Raises:
        UsageError: an unknown class or setting, or a folder that holds something else. RefusedInput: the model gives
            NaN.
    """
    options = options or Options()
    options.check()
    check_place(options, folder)
    check(classes)
    graph = opened(model, folder, on_event)
    indices, top = _asked(graph, classes)
    record = Record.of(graph, command)
    layer = logits_layer(graph)
    if layer.places != 1:
        on_event(Note(f"'{layer.name}' is a map ({layer.shape_text}): a class here is a channel's mean over it"))
    with locked(folder):
        wall = Wall(layer.name, indices, options, folder, record, "classes", on_event)
        result = wall.make(partial(maximize, graph, indices, **options.of_ascent(graph), top=top))
        if folder is not None:
            connect(graph, folder)
    return Maximized(content(result), None if folder is None else folder / "index.html", result)


def check(classes: str | int | Sequence[str | int]) -> None:
    """Raises UsageError where a text names no class of any model."""
    if isinstance(classes, str):
        check_classes(classes)


def _asked(graph: Graph, classes: str | int | Sequence[str | int]) -> tuple[Sequence[int], int | None]:
    if isinstance(classes, str):
        return find_classes(graph, classes)
    return [find(graph, one) for one in each(classes)], None
