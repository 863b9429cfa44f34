"""Attributions to files: raw heatmap, coloured heatmap, overlay at the picture's own size, and one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..attribution.explain import Attribution
from ..attribution.maps import heatmaps, resized
from ..graph.graph import Graph
from ..outputs.reading import Answer
from ..outputs.reads import Channel, Masked
from ..outputs.target import Target
from ..pictures.crops import onto_picture, whole_input
from ..record import Record
from ..render.answers import drawn_answer, with_boxes
from ..render.artifacts import save_npy, save_png
from ..render.colormaps import colorize
from ..render.overlay import overlay
from .answers import PAGE_IMAGES, PAGE_PIXELS, answer_entry, preprocessing_in_words, preprocessing_name
from .template import data_uri, render_page

__all__ = ["PAGE_IMAGES", "Style", "drawn", "on_picture", "page", "page_entry", "save"]


@dataclass(frozen=True)
class Style:
    """How heatmaps are drawn.

    Attributes:
        colormap: see `render.colormaps.names`.
        alpha: weight of the colours in the overlay.
        kind: "lecture" or "blend", see `render.overlay`.
    """

    colormap: str = "jet"
    alpha: float = 0.4
    kind: str = "lecture"


def on_picture(graph: Graph, heatmap: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A heatmap of the model's input on the picture's own pixels (H, W); 0 where the model saw nothing."""
    return onto_picture(graph, heatmap, size, lambda plane, to: resized(plane[None], to)[0])


def drawn(graph: Graph, attribution: Attribution, pixels: np.ndarray, style: Style) -> tuple[np.ndarray, np.ndarray]:
    """(coloured heatmap, overlay), both (H, W, 3) at the picture's own size.

    Maps of single pixels have a few extreme values that would leave the rest dark: they are capped at the 99th
    percentile for the drawing, as in the SmoothGrad paper (arXiv:1706.03825, section 3.1); files stay raw.
    The lecture style colours the layer's own map before it is enlarged, as the lesson does; it needs a map of
    one layer and a model that sees the whole picture.
    """
    size = (pixels.shape[0], pixels.shape[1])
    shown = attribution.heatmap
    if attribution.values.ndim == 3:
        shown = np.clip(shown / max(float(np.percentile(shown, 99)), 1e-12), 0, 1)
    heat = on_picture(graph, shown, size)
    given = heat
    whole = whole_input(graph, size) == (0, 0, *size)
    layer = graph.layer(attribution.layers[0]) if len(attribution.layers) == 1 else None
    is_plane = layer is not None and not layer.is_volume
    if style.kind == "lecture" and whole and attribution.values.ndim == 2 and is_plane:
        given = heatmaps(attribution.values[None], attribution.values.shape)[0]
    over = overlay(pixels, given, style.colormap, style.alpha, style.kind)
    if attribution.target.box is not None:
        over = with_boxes(graph, over, [attribution.target.box], [attribution.target.name])
    return colorize(heat, style.colormap), over


def save(
    graph: Graph, attribution: Attribution, pixels: np.ndarray, folder: Path, style: Style, record: Record
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Writes one attribution's four files into a folder: heatmap, raw values, and the two pictures.

    Returns:
        The entry for ``result.json`` (file names relative to the folder's parent), the coloured heatmap and
        the overlay.
    """
    heat, over = drawn(graph, attribution, pixels, style)
    stem = f"{attribution.method}-{_word(graph, attribution.target)}"
    names = {
        "heatmap": f"{stem}.npy",
        "values": f"{stem}.values.npy",
        "colored": f"{stem}.heat.png",
        "overlay": f"{stem}.overlay.png",
    }
    save_npy(folder / names["heatmap"], attribution.heatmap)
    save_npy(folder / names["values"], attribution.values)
    shown = {k: v for k, v in attribution.to_json().items() if k in ("method", "class", "layer", "score")}
    text = record.png_text(**shown)
    save_png(folder / names["colored"], heat, text)
    save_png(folder / names["overlay"], over, text)
    files = {key: f"{folder.name}/{name}" for key, name in names.items()}
    return {**attribution.to_json(), **files, "max": float(attribution.heatmap.max())}, heat, over


def page_entry(
    graph: Graph,
    name: str,
    pixels: np.ndarray,
    answer: Answer,
    words: str,
    maps: Sequence[tuple[Mapping[str, Any], np.ndarray, np.ndarray]],
    metrics: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """One image's part of the page's data: the picture, what the model sees on it and in words, and the maps."""
    entry = answer_entry(graph, name, pixels, drawn_answer(graph, answer, pixels), answer, words)
    return {
        **entry,
        "frame": entry["frame"] and f"{entry['frame']} Outside that there are no colours.",
        "metrics": list(metrics),
        "maps": [
            {
                **{key: made.get(key) for key in ("method", "class", "layer", "score", "meaning", "figures", "notes")},
                "overlay": data_uri(over, longest=PAGE_PIXELS),
                "heat": data_uri(heat, longest=PAGE_PIXELS),
            }
            for made, heat, over in maps
        ],
    }


def page(
    graph: Graph, entries: Sequence[Mapping[str, Any]], *, command: str, total: int, outputs: str, colormap: str
) -> str:
    """The side-by-side page as HTML text; ``outputs`` says how the model's outputs are read."""
    facts = {"images": total, "preprocessing": preprocessing_name(graph), "outputs": outputs}
    return render_page(
        "explain.html",
        title=f"Why {graph.name} decides so",
        facts=facts,
        command=command,
        data={
            "images": list(entries),
            "total": total,
            "preprocessing": preprocessing_in_words(graph, "map"),
            "scale": data_uri(colorize(np.linspace(0, 1, 160, dtype=np.float32)[None].repeat(2, 0), colormap)),
        },
    )


def _word(graph: Graph, target: Target) -> str:
    """A file name's part for a target: a class's index, or the name of a unit, an output, a box or a region."""
    name = target.name
    if (
        target.sign == 1
        and target.box is None
        and isinstance(target.read, (Channel, Masked))
        and target.tensors[0] == graph.logits
    ):
        name = str(target.index)
    if target.against:
        name = f"{name}-against-{'-'.join(str(other.index) for other in target.against)}"
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name)[:60]
