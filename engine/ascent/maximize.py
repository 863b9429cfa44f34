"""What a class looks like to the network: its logit maximized, by name or number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

from ...errors import UsageError
from ..graph.graph import Graph
from ..graph.layers import Layer
from .filters import gathered
from .many import OnProgress, Studio
from .recipe.presets import AUTO, Preset
from .results import AscentResult, UnitResult
from .settings import Settings, checked_units, settings


def logits_layer(graph: Graph) -> Layer:
    """The layer whose units are the classes.

    Raises:
        UsageError: the model's output is not one value per class.
    """
    for layer in graph.layers:
        if layer.tensor == graph.logits and layer.channels is not None:
            return layer
    raise UsageError(f"{graph.name} has no output of one value per class; use filters on one of its layers")


def class_settings(graph: Graph, **options: Any) -> Settings:
    """Settings for classes: by default the model's own picture size and the recipe `objects`; options as for
    `settings`."""
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
    precision: str = "auto",
    progress: OnProgress | None = None,
) -> AscentResult:
    """Pictures that raise the logits of classes most.

    Args:
        graph: from `convscope.load`.
        classes: indices or names (as in ``graph.labels``).
        preset, size, steps, seed, batch, device, strip, precision, progress: as for `filters`; the size is by
            default the model's own.

    Raises:
        UsageError: an unknown class (close matches are named), or a model without classes.
    """
    wanted = [classes] if isinstance(classes, (int, Integral, str)) else list(classes)
    indices = [find(graph, c) for c in wanted]
    chosen = class_settings(graph, preset_name=preset, size=size, steps=steps, seed=seed, strip=strip)
    layer = logits_layer(graph)
    studio = Studio(graph, layer, chosen, device=device, batch=batch, precision=precision)
    made = named(graph, studio.make(checked_units(layer, indices), progress))
    return gathered(graph, layer.name, studio.chosen, list(made), studio.precision)


def find(graph: Graph, wanted: int | str) -> int:
    """The index of a class given by index or name."""
    if isinstance(wanted, Integral):
        return int(wanted)
    from ..graph.labels import find_class

    return find_class(graph, wanted)


def named(graph: Graph, results: Iterator[UnitResult]) -> Iterator[UnitResult]:
    """The results with their classes' names."""
    for result in results:
        known = graph.labels is not None and result.unit < len(graph.labels)
        yield replace(result, name=graph.labels[result.unit]) if known and graph.labels else result
