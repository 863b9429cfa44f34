"""``predict``: what the model sees in pictures, class by class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..graph.graph import Graph
from ..graph.labels import predictions
from ..pictures.given import sources
from ..record import Record, write
from .events import ImageDone, OnEvent, Progress, ignore
from .folder import locked
from .images import Failures, batches
from .result import Result


@dataclass(frozen=True)
class Options:
    """How to predict.

    Attributes:
        top: how many classes of each picture, best first.
        batch: pictures per pass.
        device: "auto", "cpu" or "cuda[:n]".
    """

    top: int = 3
    batch: int = 16
    device: str = "auto"


def run(
    graph: Graph,
    images: Any,
    options: Options | None = None,
    folder: Path | None = None,
    *,
    command: str | None = None,
    on_event: OnEvent = ignore,
) -> Result:
    """The classes of pictures with probability and logit, ``content["images"]`` in the order of the pictures.

    Where the model gives a map of classes, as for segmentation, a class's logit is its mean over the positions.

    Args:
        graph: from `convscope.load`.
        images: pictures, as for `given.sources`: files, folders, arrays, tensors, or a list of these.
        options: default the three best classes.
        folder: writes ``result.json`` there; None writes nothing.
        command: what the record says made it.
        on_event: told of every picture as it is known, and of pictures left out.

    Raises:
        UsageError: there is no such picture. RefusedInput: none of the pictures could be read.
    """
    options = options or Options()
    pictures, _ = sources(images, graph.channels)
    failures = Failures(on_event)
    rows: list[dict[str, Any]] = []
    with locked(folder):
        session = graph.session([graph.logits], device=options.device)
        on_event(Progress("predicting", 0, len(pictures), "images"))
        for part in batches(graph, pictures, options.batch, failures, on_event):
            logits = session.run(np.concatenate([x for _, x in part]))[graph.logits]
            for (picture, _), values in zip(part, logits, strict=True):
                per_class = values.reshape(values.shape[0], -1).mean(axis=1)
                found = [p.to_json() for p in predictions(graph, per_class, options.top)]
                rows.append({"file": picture.path, "predictions": found})
                on_event(ImageDone(rows[-1]))
            on_event(Progress("predicting", len(rows) + len(failures.rows), len(pictures), "images"))
        failures.refuse_all(len(pictures))
        content = Record.of(graph, command).to_json({"images": rows}, failures.rows)
        if folder is not None:
            write(folder, content)
    return Result(content)
