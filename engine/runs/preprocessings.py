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
from ..outputs.reads import Rows
from ..pictures.read import Picture, fit

# How it is known where neither the file, nor its family, nor the user says it. A network's own first operators tell the
# range beyond doubt, and the order of its channels only where they treat these differently.
UNSTATED = ("assumed", "weights", "operators")
_GRAY = ("unit", "tf", "raw")  # the presets that have one mean for all channels
_OTHERS = (  # OpenCV's pixels as they are, and the scale of MTCNN (Zhang et al. 2016) and its kin
    replace(PREPROCESSINGS["raw"], order="BGR"),
    Preprocessing(0, 255, (127.5,), (128.0,), preset="custom"),
)
_HARDLY = 0.05  # of the length of what the model puts out
_AS_SURE = 0.1  # of a class's probability, among the usual preprocessings
_LONGEST = 60  # characters of one answer


def usual(graph: Graph) -> list[Preprocessing]:
    """The graph's own preprocessing and the presets that differ from it in values, in its size and layout."""
    own = graph.preprocessing
    if own.found == "operators":
        return [
            own,
            *(replace(own, order=order) for order in ("RGB", "BGR") if graph.channels == 3 and order != own.order),
        ]
    found = [own]
    for other in (*(PREPROCESSINGS[name] for name in (PREPROCESSINGS if graph.channels == 3 else _GRAY)), *_OTHERS):
        made = replace(own, low=other.low, high=other.high, mean=other.mean, std=other.std, preset=other.preset)
        made = replace(made, order=other.order if graph.channels == 3 else own.order)
        if all(_values(made) != _values(known) for known in found):
            found.append(made)
    return found


def answers(executors: Executors, picture: Picture) -> list[dict[str, Any]]:
    """What the model says of one picture under each of the usual preprocessings, its own first.

    Returns:
        A row each: ``preprocessing``; of classes ``index``, ``name`` and ``probability`` of the best; of every other
        answer its ``text`` and ``moved``, the length of the outputs' difference from the first row's over their own
        length (1 where there are not as many numbers). Empty where the preprocessing is known.
    """
    graph = executors.graph
    is_known = graph.preprocessing.found not in UNSTATED or picture.values is not None
    if is_known or graph.channels not in (1, 3) or graph.own_input is not None:
        return []
    reading = executors.reading
    fitted = fit(picture.pixels, graph)[None]
    tried = usual(graph)
    if len(tried) == 1:
        return []
    rows: list[dict[str, Any]] = []
    first: Rows = {}
    for preprocessing in tried:
        x = np.ascontiguousarray(preprocessing.normalize(fitted), dtype=np.float32)
        values = Batch(executors, x).rows(reading)[0]
        first = first or values
        answer = reading.answer(values, top=1)
        row: dict[str, Any] = {"preprocessing": _name(preprocessing)}
        if isinstance(answer, Classes):
            best = answer.predictions[0]
            row |= {"index": best.index, "name": best.name, "probability": best.probability}
        else:
            row |= {"text": answer.text(), "moved": _moved(values, first)}
        rows.append(row)
    return rows


def in_words(rows: Sequence[dict[str, Any]], file: str) -> str:
    """``the answer depends on the preprocessing, which nobody states: unit cat 77.8%, caffe dog 99.4% (cat.jpg)``."""
    if "index" in rows[0]:
        listed = ", ".join(f"{row['preprocessing']} {row['name']} {row['probability']:.1%}" for row in rows)
        same = len({row["index"] for row in rows}) == 1
    else:
        shown = [row["text"] if len(row["text"]) <= _LONGEST else row["text"][: _LONGEST - 3] + "..." for row in rows]
        told = zip(rows[1:], shown[1:], strict=True)
        others = (f"{row['preprocessing']} {text} ({_far(row['moved'])})" for row, text in told)
        listed = "; ".join((f"{rows[0]['preprocessing']} {shown[0]}", *others))
        same = all(row["moved"] <= _HARDLY for row in rows)
    ranges = {row["preprocessing"].split()[0] for row in rows}
    what, word = ("order of channels", "order") if len(ranges) == 1 else ("preprocessing", "preprocessing")
    if same and "index" in rows[0] and np.ptp([row["probability"] for row in rows]) > _AS_SURE:
        start = f"the file states no {what}; the first class is the same under each of the usual, but not how sure it"
        return f"{start} is: {listed} ({file}); say which it is: {word}="
    if same:
        return f"the file states no {what}, but the answer is the same under each of the usual: {listed} ({file})"
    return f"the file states no {what}, and the answer depends on it: {listed} ({file}); say which it is: {word}="


def _name(p: Preprocessing) -> str:
    """The preset's name, with the order of channels where that is not the preset's own; or its arithmetic."""
    if p.preset == "custom" and (p.low, p.high) == (0, 255) and len(p.mean) == len(p.std) == 1:
        return f"(pixel - {p.mean[0]:g}) / {p.std[0]:g}"
    if p.order == "GRAY":
        return p.preset
    usual_order = PREPROCESSINGS[p.preset].order if p.preset in PREPROCESSINGS else ""
    return p.preset if p.order == usual_order and p.preset != "raw" else f"{p.preset} {p.order}"


def _moved(values: Rows, first: Rows) -> float:
    """As `answers` says, of the output that moved most."""
    shares = []
    for name, own in first.items():
        before, after = np.asarray(own, np.float64), np.asarray(values[name], np.float64)
        if before.shape != after.shape:  # as many boxes as are found
            return 1.0
        length = float(np.linalg.norm(before))
        shares.append(float(np.linalg.norm(after - before)) / length if length else float(bool(after.any())))
    return max(shares, default=0.0)


def _far(moved: float) -> str:
    return f"moved by {moved:.0%}" if moved < 10 else f"moved by {moved:.0f} times its length"


def _values(p: Preprocessing) -> tuple[Any, ...]:
    return p.low, p.high, p.mean, p.std, p.order
