"""The model of a run: a graph, or what opens one after all has been refused that no model can have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ..graph.graph import Graph
from ..pictures.given import check_paths
from ..render.artifacts import check_folder
from .events import Note, OnEvent

Opener = Callable[[], Graph]
Model = Graph | Opener


def opened(model: Model, folder: Path | None, on_event: OnEvent, images: Any = None, which: str = "") -> Graph:
    """The graph of a run. A run checks its options first: to open a model may take minutes.

    Args:
        model: a graph, taken as it is; or what opens one, and then the folder and the pictures are looked at before.
        folder: where the run writes, or None.
        on_event: told what was assumed about a model that is opened here.
        images: the pictures of the run, as for `given.sources`.
        which: how the model is called where the run has several: "A".

    Raises:
        UsageError: the folder is a file, or there is no such picture. RefusedInput: the one picture cannot be read, or
            the model is hostile, corrupt or unsupported.
    """
    if isinstance(model, Graph):
        return model
    if folder is not None:
        check_folder(folder)
    check_paths(images)
    graph = model()
    of = f"{which}: " if which else ""
    for note in graph.source.notes:
        on_event(Note(f"note: {of}{note}"))
    if graph.preprocessing.found == "assumed":
        on_event(
            Note(
                f"assumed: {of}{graph.preprocessing.in_words()}; if that is wrong, so is every picture: "
                "give preprocessing=, or mean= std= range= order="
            )
        )
    return graph


def check_named(graph: Graph, layer: Any, verb: str) -> None:
    """Raises UsageError where no layer is named; the message has one that would do."""
    if layer is None:
        last = graph.last_spatial_layer().name
        raise UsageError(f"{verb} needs layer=, for instance layer='{last}'; list them: convscope info")
