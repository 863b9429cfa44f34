"""``maximize``: what classes look like to the network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..ascent.maximize import find_classes, logits_layer, maximize
from ..ascent.results import AscentResult
from ..graph.graph import Graph
from ..record import Record
from .events import OnEvent, ignore
from .folder import locked
from .result import Result
from .units import Options, Wall, content

__all__ = ["Maximized", "Options", "run"]


@dataclass(frozen=True, eq=False)
class Maximized(Result):
    """The result of `run`.

    Attributes:
        classes: the pictures; where they are in a folder they are read when they are looked at.
    """

    classes: AscentResult | None = None


def run(
    graph: Graph,
    classes: str,
    options: Options | None = None,
    folder: Path | None = None,
    *,
    command: str | None = None,
    on_event: OnEvent = ignore,
) -> Maximized:
    """Pictures that raise the logits of classes most.

    Args:
        graph: from `convscope.load`.
        classes: names or indices with commas, ``all``, or ``top:16`` for the classes that can be raised most.
        options: as for `filters`; ``start``, ``noise`` and ``neuron`` do not apply.
        folder, command, on_event: as for `filters.run`.

    Raises:
        UsageError: an unknown class or setting, or a folder that holds something else. RefusedInput: the model gives
            NaN.
    """
    options = options or Options()
    options.check()
    indices, top = find_classes(graph, classes)
    record = Record.of(graph, command)
    with locked(folder):
        wall = Wall(logits_layer(graph).name, indices, options, folder, record, "classes", on_event)
        result = wall.make(partial(maximize, graph, indices, **options.of_ascent(), top=top))
    return Maximized(content(result), None if folder is None else folder / "index.html", result)
