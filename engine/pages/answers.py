"""The page of predictions: each picture with what the model sees on it, the answer as a table, and how it was read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..graph.graph import Graph
from ..outputs.reading import Answer
from ..pictures.crops import seen_box
from .template import data_uri, render_page

PAGE_IMAGES = 100  # a page holds its pictures inside; more would be slow to open
PAGE_PIXELS = 360
PREDICT_PIXELS = 720  # names on boxes are read at this size


def answer_entry(
    graph: Graph,
    name: str,
    pixels: np.ndarray,
    seen: np.ndarray | None,
    answer: Answer,
    words: str,
    longest: int = PAGE_PIXELS,
) -> dict[str, Any]:
    """One image's part of a page's data: the picture, what the model sees on it, in words and as a table.

    Args:
        graph: the model.
        name: of the picture.
        pixels: (H, W, 3) in [0, 1].
        seen: the same with the answer drawn on it, see `render.answers`; None where nothing has a place.
        answer: of a reading.
        words: the answer in one line.
        longest: side of the embedded pictures, in pixels.
    """
    return {
        "name": name,
        "picture": data_uri(pixels, longest=longest),
        "seen": None if seen is None else data_uri(seen, longest=longest),
        "words": words,
        "frame": frame_in_words(graph, pixels.shape[:2]),
        "rows": [{"name": title, "share": share, "text": text} for title, share, text in answer.rows()],
    }


def answers_page(graph: Graph, entries: Sequence[Mapping[str, Any]], content: Mapping[str, Any]) -> str:
    """The page of predictions as HTML text.

    Args:
        graph: the model.
        entries: of `answer_entry`, of the first `PAGE_IMAGES` pictures.
        content: the object of ``result.json``.
    """
    outputs, total = content["outputs"], len(content["images"])
    data = {
        "images": list(entries),
        "total": total,
        "reason": outputs["reason"],
        "preprocessing": preprocessing_in_words(graph, "answer"),
        "trials": content.get("usual_preprocessings", []),
    }
    return render_page(
        "predict.html",
        title=f"What {graph.name} sees",
        facts={"images": total, "outputs": outputs["form"], "preprocessing": preprocessing_name(graph)},
        command=content["command"] or "",
        data=data,
    )


def preprocessing_name(graph: Graph) -> str:
    """The preset, for the head of a page."""
    return "its own, see below" if graph.preprocessing.preset == "custom" else graph.preprocessing.preset


def preprocessing_in_words(graph: Graph, made: str) -> str:
    """The preprocessing, and what it means where it is custom or assumed; ``made`` is what it was made for."""
    preprocessing = graph.preprocessing
    words = preprocessing.in_words()
    if preprocessing.preset == "custom":
        words += "; custom: the numbers that belong to this model, none of the presets"
    if preprocessing.found == "assumed":
        words += f"; assumed, since the file does not say: if it is wrong, so is every {made}"
    return words


def frame_in_words(graph: Graph, size: tuple[int, ...]) -> str:
    """Which part of the picture the model sees; "" where it is all of it."""
    top, left, bottom, right = seen_box(graph, (size[0], size[1]))
    if (top, left, bottom, right) == (0, 0, *size):
        return ""
    seen = f"rows {top} to {bottom} and columns {left} to {right} of {size[0]} x {size[1]}"
    return f"The model sees {seen}: its preprocessing crops the picture."
