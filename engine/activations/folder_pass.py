"""One pass over pictures with per-unit reductions, that can stop anywhere and go on later."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from ...errors import UsageError
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..pictures.given import Source
from ..pictures.read import Picture
from .reductions import STATISTICS, reduced_session
from .stream import Failure, run_batches

S = TypeVar("S", bound=Source)


def measurement_identity(graph: Graph, layer: Layer) -> str:
    """What figures of a layer belong to: the model, its preprocessing, its input size and the layer, as a digest."""
    words = [graph.sha256, graph.preprocessing.to_json(), list(graph.image_size), layer.tensor]
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()


def picture_names(pictures: Sequence[S], given: Sequence[Path]) -> dict[str, S]:
    """Name -> picture: its path below the folder where ``given`` is one folder, so that it can move; else as it is.

    Raises:
        UsageError: two pictures have one name.
    """
    folder = given[0] if len(given) == 1 and given[0].is_dir() else None
    names: dict[str, S] = {}
    for picture in pictures:
        path = Path(picture.path) if isinstance(picture, Picture) else picture
        name = (Path(os.path.relpath(path, folder)) if folder else path).as_posix()
        if name in names:
            raise UsageError(f"image '{path}' is named twice")
        names[name] = picture
    return names


def reduced_batches(
    graph: Graph,
    layers: Sequence[Layer],
    pictures: Mapping[str, Source],
    *,
    batch: int,
    device: str,
    failed: Failure,
    statistics: Sequence[str] = STATISTICS,
) -> Iterator[tuple[list[str], dict[str, np.ndarray]]]:
    """(names, these of `reductions.STATISTICS` as `reduced_session` names them) of every batch of pictures."""
    if not pictures:
        return
    session = reduced_session(graph, layers, statistics=statistics, device=device)
    named = {Path(p.path) if isinstance(p, Picture) else p: name for name, p in pictures.items()}
    # the batch keeps its shape whatever is left to do: a kernel may round differently for another shape
    for _, paths, outputs in run_batches(session, graph, list(pictures.values()), batch, None, 2, failed):
        yield [named[path] for path in paths], outputs
