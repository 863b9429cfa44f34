"""What a class looks like to the network: its logit maximized, by name or number."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UsageError
from ..graph.graph import Graph
from ..graph.labels import unit_name
from ..graph.layers import Layer
from ..graph.units import check_units, is_strongest, parse_units
from ..whole import each, whole
from .filters import OnResult, checked_top, gathered, png_text
from .making import made, open_album
from .many import OnProgress, Studio
from .recipe.presets import AUTO, Preset
from .results import AscentResult, UnitResult
from .settings import Settings, checked_units, settings


def logits_layer(graph: Graph) -> Layer:
    """The layer whose units are the classes.

    Raises:
        UsageError: the model's output is not one value per class, as of a detector, whose first channels are boxes.
    """
    for layer in graph.layers:
        if layer.tensor == graph.logits and layer.channels is not None:
            _check_meaning(graph, layer)
            return layer
    raise UsageError(f"{graph.name} has no output of one value per class; use filters on one of its layers")


def _check_meaning(graph: Graph, layer: Layer) -> None:
    """Raises UsageError where the channels of an output with places are known to be something else than classes."""
    from ..outputs.registry import read_outputs

    if layer.places == 1:
        return
    reading = read_outputs(graph)
    if reading.form not in ("classification", "segmentation", "unknown"):
        raise UsageError(
            f"{graph.name} is read as {reading.reason}: the channels of '{layer.name}' are no classes; "
            "use filters on one of its layers"
        )


def class_settings(graph: Graph, **options: Any) -> Settings:
    """Settings for classes, by default the model's own picture size and the recipe `objects`.

    Options are those of `settings`.
    """
    if options.get("size") is None:
        options["size"] = graph.image_size
    if options.get("preset_name", AUTO) == AUTO:
        options["preset_name"] = "objects"
    return settings(graph, **options)


def maximize(
    graph: Graph,
    classes: Sequence[int | str] | int | str,
    *,
    preset: str | Preset = AUTO,
    size: int | tuple[int, int] | None = None,
    steps: int | None = None,
    seed: int = 0,
    batch: int | str = "auto",
    device: str = "auto",
    strip: int = 0,
    negative: bool = False,
    alpha: bool = False,
    precision: str = "auto",
    top: int | None = None,
    photos: np.ndarray | None = None,
    tuning: Mapping[str, float] | None = None,
    folder: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: OnProgress | None = None,
    on_unit: OnResult = lambda result: None,
) -> AscentResult:
    """Pictures that raise the logits of classes most.

    Args:
        graph: from `convscope.load`.
        classes: indices or names (as in ``graph.labels``).
        preset: a name, or a `Preset`.
        size: side of the pictures, by default the model's own.
        steps: of the ascent; default the preset's.
        seed: of everything random; the same seed gives the same picture.
        batch: pictures at once, or "auto".
        device: "auto", "cpu" or "cuda[:n]".
        strip: how many pictures on the way to keep.
        negative: what lowers the logits instead.
        alpha: keep also how much each place mattered, as the picture's opacity.
        precision: of gradients, "auto", "bfloat16" or "float32".
        top: keep only so many, those with the highest logits first.
        photos: photographs (N, C, H, W) in [0, 1] to judge by, and for `vital` to draw after.
        tuning: changes to the preset by name, for instance ``{"decay": 0.1}``.
        folder: keeps each picture there as soon as it is finished; those that it holds are not made again.
        force: make them again.
        progress: called after every step.
        on_unit: called when a picture is finished, with the result so far.

    Raises:
        UsageError: an unknown class (close matches are named), or a model without classes.
    """
    indices = [find(graph, one) for one in each(classes)]
    top = checked_top(top)
    chosen = class_settings(
        graph,
        preset_name=preset,
        size=size,
        steps=steps,
        seed=seed,
        strip=strip,
        negative=negative,
        alpha=alpha,
        tuning=tuning,
    )
    layer = logits_layer(graph)
    studio = Studio(graph, layer, chosen, device=device, batch=batch, photos=photos, precision=precision)
    text = png_text(graph, layer.name, studio.chosen)
    album = None if folder is None else open_album(Path(folder), studio, {"photos": photos}, text, force)

    def result(units: Sequence[UnitResult]) -> AscentResult:
        return gathered(graph, layer.name, studio.chosen, units, studio.precision)

    return result(
        made(
            studio,
            checked_units(layer, indices),
            album,
            top=top,
            named=partial(named, graph),
            progress=progress,
            on_unit=lambda units: on_unit(result(units)),
        )
    )


def find_classes(graph: Graph, text: str) -> tuple[list[int], int | None]:
    """The classes that ``--class`` names, each once and in that order, and how many to keep.

    Args:
        graph: its labels name the classes.
        text: names or indices with commas, ``all``, or ``top:16`` for the classes that can be raised most.

    Raises:
        UsageError: an unknown class, or none.
    """
    check_classes(text)
    if text == "all" or text.startswith("top:"):
        units = parse_units(text, logits_layer(graph).channels or 0)
        return list(units.indices), units.top
    whole = text.lower() in {label.lower() for label in graph.labels or ()}  # some labels have commas
    names = [text] if whole else [part.strip() for part in text.split(",") if part.strip()]
    return list(dict.fromkeys(find(graph, n) for n in names)), None


def check_classes(text: str) -> None:
    """Raises UsageError where a text names no class of any model."""
    if is_strongest(text):
        check_units(text, "classes")
    if not text.replace(",", "").strip():
        raise UsageError(f"classes='{text}' names no class; write names or indices with commas, all, or top:16")


def find(graph: Graph, wanted: int | str) -> int:
    """The index of a class given by index or name."""
    if not isinstance(wanted, str):
        return whole(wanted, "class")
    from ..graph.labels import find_class

    return find_class(graph, wanted)


def named(graph: Graph, results: Iterator[UnitResult]) -> Iterator[UnitResult]:
    """The results with their classes' names."""
    layer = logits_layer(graph)
    for result in results:
        yield replace(result, name=unit_name(graph, layer, result.unit))
