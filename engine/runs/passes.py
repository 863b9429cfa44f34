"""A pass over pictures that can stop anywhere: what `top` and `stats` share.

What was seen is kept in a state; the next run sees only the rest. A picture of the state that is gone is refused, since
its figures cannot be taken out again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UsageError
from ..activations.folder_pass import picture_names, reduced_batches
from ..activations.reductions import STATISTICS
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..pictures.given import Source, sources
from ..pictures.read import Picture
from .events import Note, OnEvent, Progress
from .folder import kept
from .images import Failures

Add = Callable[[list[str], dict[str, np.ndarray]], None]


def named_pictures(graph: Graph, images: Any, *, keeps: bool) -> dict[str, Source]:
    """Name -> picture: below the folder where one folder was given, so that it can move; else as given.

    Args:
        graph: the model.
        images: as for `given.sources`.
        keeps: whether the names go into a state. A picture without a file is then named by what it shows as well: its
            place in a list tells it from no other picture of another call.

    Raises:
        UsageError: no picture, or two of one name.
    """
    found, _ = sources(images, graph.channels)
    names = picture_names(found, _paths(images))
    return {_by_content(name, one): one for name, one in names.items()} if keeps else names


def _by_content(name: str, picture: Source) -> str:
    if not isinstance(picture, Picture):
        return name
    return f"{name} ({hashlib.sha256(np.ascontiguousarray(picture.pixels).tobytes()).hexdigest()[:12]})"


def remaining(
    pictures: Mapping[str, Source], done: Collection[str], mine: Collection[str], on_event: OnEvent
) -> dict[str, Source]:
    """The pictures of ``mine`` that no earlier run has seen.

    Args:
        pictures: all that there are.
        done: names that earlier runs have seen.
        mine: those of this run, a shard's or all.
        on_event: told how many are done.

    Raises:
        UsageError: one that was seen is gone.
    """
    gone = sorted(set(done) - set(pictures))
    if gone:
        raise UsageError(f"'{gone[0]}' was seen by an earlier run and is gone; force=True starts again")
    todo = {name: pictures[name] for name in mine if name not in done}
    if len(todo) < len(mine):
        on_event(Note(f"{len(mine) - len(todo)} of {len(mine)} images are done already"))
    return todo


def see(
    graph: Graph,
    layers: Sequence[Layer],
    todo: dict[str, Source],
    add: Add,
    save: Callable[[], None],
    *,
    stage: str,
    batch: int,
    device: str,
    failures: Failures,
    on_event: OnEvent,
    statistics: Sequence[str] = STATISTICS,
) -> None:
    """One pass; however it ends, what was seen is saved.

    Args:
        graph: the model.
        layers: what is reduced.
        todo: the pictures.
        add: takes the names and the reduced outputs of each batch.
        save: keeps what ``add`` has taken so far.
        stage: what progress is called.
        batch: pictures per pass.
        device: "auto", "cpu" or "cuda[:n]".
        failures: takes the pictures that cannot be read.
        on_event: told of every batch.
        statistics: of `reductions.STATISTICS`, those that are needed.
    """
    with kept(save) as tick:
        done = 0
        on_event(Progress(stage, 0, len(todo), "images"))
        for names, outputs in reduced_batches(
            graph, layers, todo, batch=batch, device=device, failed=failures, statistics=statistics
        ):
            add(names, outputs)
            done += len(names)
            on_event(Progress(stage, done + len(failures.rows), len(todo), "images"))
            tick()


def _paths(images: Any) -> list[Path]:
    """The files and folders that were given; none where there is something else among them."""
    given = images if isinstance(images, list | tuple) else [images]
    return [Path(one) for one in given] if all(isinstance(one, str | Path) for one in given) else []
