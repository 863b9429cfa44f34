"""`explain`: methods, targets and layers brought together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UsageError
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..pictures.given import model_batch
from .batch import Batch, Executors, side_tensors
from .maps import Maps, heatmaps
from .registry import Method, find_methods
from .targets import Target, resolve, target_tensor


@dataclass(frozen=True, eq=False, repr=False)
class Attribution:
    """Why one number came out for one image.

    Attributes:
        heatmap: (H, W) float32 in [0, 1] over the model's input; 0 is no evidence for the target.
        values: the raw result, signed: (h, w) of the layer, or (C, H, W) for pixel methods; where several
            layers were averaged, (H, W) again.
        method: the method's name.
        target: what was explained.
        layers: names of the layers that the method looked at, empty for methods that need none.
        score: the target's value (a logit).
        graph: sha256 of the canonical graph.
        figures: what the method reports about itself, for instance ``completeness_gap``.
        notes: sentences for the reader.
        picture: (H, W, C) in [0, 1], what the model saw, where `explain` made the attribution.
    """

    heatmap: np.ndarray
    values: np.ndarray
    method: str
    target: Target
    layers: tuple[str, ...]
    score: float
    graph: str
    figures: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    picture: np.ndarray | None = None

    def __repr__(self) -> str:
        return f"<Attribution of {self.target.name!r} by {self.method}: score {self.score:.3g}>"

    def overlay(
        self, picture: np.ndarray | None = None, *, colormap: str = "jet", alpha: float = 0.4, style: str = "blend"
    ) -> np.ndarray:
        """The heatmap laid over the picture that the model saw, or over ``picture`` if that shows the same; see
        `render.overlay.overlay`.

        Raises:
            UsageError: no picture is known; an unknown colormap or style.
        """
        from ..render.overlay import overlay

        below = self.picture if picture is None else picture
        if below is None:
            raise UsageError("this attribution knows no picture; give one: overlay(picture)")
        seen = np.asarray(below)
        if seen.ndim == 3 and seen.shape[2] not in (1, 3):
            seen = seen.mean(axis=2)  # no colours: laid over the channels' mean
        return overlay(seen, self.heatmap, colormap, alpha, style)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the overlay as a PNG file, or the raw values where ``path`` ends in .npy; returns the path."""
        from ..render.artifacts import save_npy, save_png

        return save_npy(path, self.values) if Path(path).suffix == ".npy" else save_png(path, self.overlay())

    def _repr_png_(self) -> bytes | None:
        from ..render.notebook import png

        return None if self.picture is None else png(self.overlay())

    def to_json(self) -> dict[str, Any]:
        """Everything but the arrays."""
        return {
            "method": self.method,
            "class": self.target.name,
            "index": self.target.index,
            "tensor": self.target.tensor,
            "layer": ",".join(self.layers) or None,
            "score": self.score,
            **({"figures": dict(self.figures)} if self.figures else {}),
            **({"notes": list(self.notes)} if self.notes else {}),
        }


def explain(
    graph: Graph,
    images: Any,
    method: str = "gradcam",
    target: Target | str | int | None = None,
    layer: str | int | Layer | Sequence[str | int | Layer] | None = None,
    *,
    preprocessed: bool = False,
    device: str = "auto",
    batch: int = 16,
    **options: Any,
) -> Any:
    """Heatmaps of what in an image speaks for a target.

    Args:
        graph: from `convscope.load`.
        images: a path, a folder, a Pillow image, an array (H, W, C) or (N, C, H, W), a tensor (C, H, W) or
            (N, C, H, W), uint8 or in [0, 1], or a list of these: pictures, see `given.sources`.
        method: see `methods.METHODS`.
        target: None (the predicted class), class index or name, ``top:K``, ``unit:LAYER:UNIT[@ROW,COLUMN]``,
            ``output:NAME:INDEX``, or a `Target`.
        layer: for the CAM family; default the last with spatial extent. Several are averaged.
        preprocessed: ``images`` is an array or tensor in model space already, taken as it is.
        device: "auto", "cpu" or "cuda[:n]".
        batch: images per pass.
        **options: the method's own, for instance ``steps=100``.

    Returns:
        One `Attribution` for one image and one target, else a list, image by image.

    Raises:
        UsageError: unknown method, target, layer or option. RefusedInput: an image cannot be read.

    Example:
        >>> convscope.explain(graph, "cat.png", "layercam", target="tabby").heatmap.shape
        (224, 224)
    """
    chosen = find_methods(method)
    if len(chosen) > 1:
        raise UsageError(f"explain takes one method at a time, not {method}; call it for each")
    x, single = model_batch(graph, images, preprocessed=preprocessed)
    executors = Executors(graph, device=device, batch=batch)
    found: list[Attribution] = []
    for start in range(0, len(x), batch):
        part = x[start : start + batch]
        shown = graph.preprocessing.denormalize(part).clip(0, 1).transpose(0, 2, 3, 1)
        for picture, row in zip(
            shown, explain_batch(Batch(executors, part), chosen, target, layer, options), strict=True
        ):
            found.extend(replace(attribution, picture=picture) for attribution in row)
    return found[0] if single and len(found) == 1 else found


def explain_batch(
    batch: Batch,
    methods: Sequence[Method],
    target: Target | str | int | None = None,
    layer: str | int | Layer | Sequence[str | int | Layer] | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[list[Attribution]]:
    """For each image of the batch, every method on every target; arguments as for `explain`."""
    _check_options(methods, options or {})
    tensor = target_tensor(batch.graph, target)
    layers = _layers(batch.graph, layer, tensor) if any(m.needs_layer for m in methods) else []
    _prefetch(batch, tensor, layers)
    (logits,) = batch.values([batch.graph.logits])
    if len(logits) != len(batch.x):
        raise UsageError(
            f"{batch.graph.name} gives {len(logits)} results for {len(batch.x)} images; explain one at a time"
        )
    per_image = [resolve(batch.graph, target, row) for row in logits]
    results: list[list[Attribution]] = [[] for _ in per_image]
    for rank in range(min(len(targets) for targets in per_image)):
        targets = [row[rank] for row in per_image]
        for method in methods:
            for image, attribution in enumerate(_run(batch, method, targets, layers, options or {})):
                results[image].append(attribution)
    return results


def default_layer(graph: Graph, target: str) -> Layer:
    """The last spatial layer that the target depends on (and is not itself).

    Raises:
        UsageError: there is none.
    """
    if target == graph.logits:
        return graph.last_spatial_layer()
    for layer in reversed(graph.layers):
        if layer.is_spatial and layer.tensor != target and all(s is None or s > 1 for s in layer.shape[1:]):
            try:
                side_tensors(graph, layer, target)
            except UsageError:
                continue
            return layer
    raise UsageError(f"no layer with spatial extent leads to '{target}'; name one with --layer")


def _layers(graph: Graph, layer: Any, target: str) -> list[Layer]:
    if layer is None:
        return [default_layer(graph, target)]
    if isinstance(layer, Layer):
        return [layer]
    if isinstance(layer, str):
        return list(graph.match(layer))
    if isinstance(layer, Integral) and not isinstance(layer, bool):
        return [graph.layer(int(layer))]
    if not isinstance(layer, Iterable) or not (layer := list(layer)):
        raise UsageError(f"layer {layer} names none; give a name, a tensor, an index or several")
    return [found for item in layer for found in _layers(graph, item, target)]


def _check_options(methods: Sequence[Method], options: Mapping[str, Any]) -> None:
    known = {name for method in methods for name in method.options}
    for name in options:
        if name not in known:
            hint = f"it takes {', '.join(sorted(known))}" if known else "it takes no options"
            raise UsageError(f"option '{name}' is unknown to {', '.join(m.name for m in methods)}; {hint}")
        for method in methods:
            if name in method.options:
                _check_number(name, options[name], method.kind(name))


def _check_number(name: str, value: Any, kind: str) -> None:
    """Raises for an option that is to be a number and is none; ``kind`` is its annotation."""
    least = 1 if name in ("window", "stride") else 0
    if kind.startswith("int"):
        right = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least
        if not right and not (value is None and "None" in kind):
            raise UsageError(f"option {name}={value} is not a whole number, {least} or more")
    elif kind == "float" and not (isinstance(value, Real) and 0 <= float(value) < float("inf")):
        raise UsageError(f"option {name}={value} is not a number, 0 or more")


def _run(
    batch: Batch, method: Method, targets: list[Target], layers: Sequence[Layer], options: Mapping[str, Any]
) -> list[Attribution]:
    own = {k: v for k, v in options.items() if k in method.options}
    if method.needs_layer:
        parts = [method.run(batch, targets, layer, **own) for layer in layers]
    else:
        parts = [method.run(batch, targets, **own)]
    heat, values = _combined(parts, batch.size)
    scores = batch.scores(targets)
    names = tuple(layer.name for layer in layers) if method.needs_layer else ()
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    return [
        Attribution(
            heatmap=heat[i],
            values=values[i],
            method=method.name,
            target=targets[i],
            layers=names,
            score=float(scores[i]),
            graph=batch.graph.sha256,
            figures={name: float(numbers[i]) for name, numbers in parts[0].figures.items()},
            notes=notes if heat[i].any() else (*notes, "no evidence for the target: the map is zero everywhere"),
        )
        for i in range(len(batch.x))
    ]


def _prefetch(batch: Batch, target: str, layers: Sequence[Layer]) -> None:
    """One forward pass for the predictions and for everything that the layers' heads will need."""
    names = {batch.graph.logits: None, target: None, **{layer.tensor: None for layer in layers}}
    for layer in layers:
        names.update(dict.fromkeys(batch.executors.sides(layer, target)))
    batch.values(list(names))


def _combined(parts: Sequence[Maps], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps and raw values; several layers' heatmaps are averaged, each with its maximum at 1 before."""
    each = [heatmaps(part.evidence, size) for part in parts]
    if len(each) == 1:
        return each[0], parts[0].values
    mean = np.mean(each, axis=0)
    return heatmaps(mean, size), mean
