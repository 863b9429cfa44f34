"""How far an answer depends on a preprocessing that nobody states: the same picture under each of the usual ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..attribution.batch import Batch, Executors
from ..graph.graph import Graph
from ..graph.preprocessing import PREPROCESSINGS, Preprocessing
from ..outputs.classes import Classes
from ..pictures.read import Picture, fit

UNSTATED = ("assumed", "weights")  # how it is known where neither the file, nor its family, nor the user says it
_GRAY = ("unit", "tf", "raw")  # the presets that have one mean for all channels


def usual(graph: Graph) -> list[Preprocessing]:
    """The graph's own preprocessing and the presets that differ from it in values, in its size and layout."""
    own = graph.preprocessing
    found = [own]
    for name in PREPROCESSINGS if graph.channels == 3 else _GRAY:
        other = PREPROCESSINGS[name]
        made = replace(own, low=other.low, high=other.high, mean=other.mean, std=other.std, preset=name)
        made = replace(made, order=other.order if graph.channels == 3 else own.order)
        if all(_values(made) != _values(known) for known in found):
            found.append(made)
    return found


def answers(executors: Executors, picture: Picture) -> list[dict[str, Any]]:
    """What the model says of one picture under each of the usual preprocessings, its own first.

    Returns:
        A row each: ``preprocessing``, and ``index``, ``name`` and ``probability`` of the best class. Empty where the
        preprocessing is known, or the model gives no classes.
    """
    graph = executors.graph
    if graph.preprocessing.found not in UNSTATED or graph.channels not in (1, 3) or graph.own_input is not None:
        return []
    reading = executors.reading
    fitted = fit(picture.pixels, graph)[None]
    rows = []
    for preprocessing in usual(graph):
        x = np.ascontiguousarray(preprocessing.normalize(fitted), dtype=np.float32)
        answer = reading.answer(Batch(executors, x).rows(reading)[0], top=1)
        if not isinstance(answer, Classes):
            return []
        best = answer.predictions[0]
        name = f"{preprocessing.preset} {preprocessing.order}" if preprocessing.preset in ("raw", "custom") else None
        rows.append(
            {
                "preprocessing": name or preprocessing.preset,
                "index": best.index,
                "name": best.name,
                "probability": best.probability,
            }
        )
    return rows


def in_words(rows: Sequence[dict[str, Any]], file: str) -> str:
    """``the answer depends on the preprocessing, which nobody states: unit cat 77.8%, caffe dog 99.4% (cat.jpg)``."""
    listed = ", ".join(f"{row['preprocessing']} {row['name']} {row['probability']:.1%}" for row in rows)
    if len({row["index"] for row in rows}) == 1:
        return (
            f"the file states no preprocessing, but the answer is the same under each of the usual: {listed} ({file})"
        )
    return (
        f"the file states no preprocessing, and the answer depends on it: {listed} ({file}); "
        "say which it is: preprocessing="
    )


def _values(p: Preprocessing) -> tuple[Any, ...]:
    return p.low, p.high, p.mean, p.std, p.order
