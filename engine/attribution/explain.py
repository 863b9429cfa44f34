"""`explain`: methods, targets and layers brought together."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UsageError
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..outputs.reading import Question, Reading
from ..outputs.target import Target, batch_axes, tensors_of
from ..pictures.given import model_batch
from ..whole import whole
from .batch import Batch, Executors
from .constant import constant_note
from .maps import Maps, heatmaps
from .places import chosen_layers
from .registry import Method, default_method, find_methods
from .targets import as_question, direct, resolve
from .where import figures_of


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
        """The heatmap laid over the picture that the model saw, or over ``picture`` if that shows the same.

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
        stored = self.target.to_json()
        plain = stored["read"] == "channel" and not self.target.against and self.target.sign == 1
        return {
            "method": self.method,
            "class": self.target.name,
            "index": self.target.index,
            "tensor": ",".join(self.target.tensors),
            **({} if plain else {"target": stored}),
            "layer": ",".join(self.layers) or None,
            "score": self.score,
            "meaning": self.target.meaning,
            **({"figures": dict(self.figures)} if self.figures else {}),
            **({"notes": list(self.notes)} if self.notes else {}),
        }


def explain(
    graph: Graph,
    images: Any,
    method: str | None = None,
    target: Question | Target | str | int | Callable[..., Any] | Sequence[Target] | None = None,
    layer: str | int | Layer | Sequence[str | int | Layer] | None = None,
    *,
    preprocessed: bool = False,
    device: str = "auto",
    batch: int = 16,
    decoder: str | None = None,
    output: str | None = None,
    **options: Any,
) -> Any:
    """Heatmaps of what in an image speaks for a target.

    Args:
        graph: from `convscope.load`.
        images: a path, a folder, a Pillow image, an array (H, W, C) or (N, C, H, W), a tensor (C, H, W) or
            (N, C, H, W), uint8 or in [0, 1], or a list of these: pictures, see `given.sources`.
        method: see `registry.METHODS`; default Grad-CAM, for detectors ODAM, for text HiResCAM, for files that
            choose their boxes themselves and leave no way back D-RISE.
        target: None (what the model says: the predicted class, the three surest boxes, the predicted masks, each
            character, the embedding's norm, the value), class index or name, ``top:K``, ``all:0.5`` (every label of at
            least that probability), ``unit:LAYER:UNIT[@ROW,COLUMN]``, ``output:NAME:INDEX``, a `Target` or several,
            a `Question` (one box, a region, another picture to be like, a contrast), or a callable of the outputs
            (mapping of name to one picture's value, numpy or torch) that returns one number.
        layer: for the CAM family; default the last with spatial extent, for detectors and masks every map that enters
            the head. Several are averaged.
        preprocessed: ``images`` is an array or tensor in model space already, taken as it is.
        device: "auto", "cpu" or "cuda[:n]".
        batch: images per pass.
        decoder: how to read the outputs where the default is wrong, see `outputs.DECODERS`.
        output: read this output alone.
        **options: the method's own, for instance ``steps=100``.

    Returns:
        One `Attribution` for one image and one target, else a list, image by image.

    Raises:
        UsageError: unknown method, target, layer or option. RefusedInput: an image cannot be read.

    Example:
        >>> convscope.explain(graph, "cat.png", "layercam", target="tabby").heatmap.shape
        (224, 224)
    """
    executors = Executors(graph, device=device, batch=batch, decoder=decoder, output=output)
    chosen = find_methods(method) if method else [default_method(executors, as_question(target), layer)]
    if len(chosen) > 1:
        raise UsageError(f"explain takes one method at a time, not {method}; call it for each")
    if method and layer is not None:
        check_layer(chosen)
    x, single = model_batch(graph, images, preprocessed=preprocessed)
    found: list[Attribution] = []
    for start in range(0, len(x), executors.batch):
        part = x[start : start + executors.batch]
        shown = graph.preprocessing.denormalize(part).clip(0, 1).transpose(0, 2, 3, 1)
        for picture, row in zip(
            shown, explain_batch(Batch(executors, part), chosen, target, layer, options), strict=True
        ):
            found.extend(replace(attribution, picture=picture) for attribution in row)
    return found[0] if single and len(found) == 1 else found


def check_layer(methods: Sequence[Method]) -> None:
    """Raises UsageError where none of the methods looks at a layer, though one is named."""
    if not any(method.needs_layer for method in methods):
        raise UsageError(
            f"layer= means nothing for {', '.join(m.name for m in methods)}: no layer is looked at; leave it out"
        )


def explain_batch(
    batch: Batch,
    methods: Sequence[Method],
    target: Any = None,
    layer: str | int | Layer | Sequence[str | int | Layer] | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[list[Attribution]]:
    """For each image of the batch, every method on every target; arguments as for `explain`."""
    options = _checked_options(methods, options or {})
    question = as_question(target)
    known = direct(batch.graph, question)
    reading = None if known is not None else batch.executors.reading
    tensors = tensors_of(known) if known is not None else reading_tensors(reading)
    axes = batch_axes(known) if known is not None else dict(reading.axes if reading else {})
    if batch.executors.one_at_a_time(axes) and len(batch.x) > 1:
        parts = [Batch(batch.executors, batch.x[i : i + 1]) for i in range(len(batch.x))]
        return [explain_batch(part, methods, target, layer, options)[0] for part in parts]
    layers: list[Layer] = []
    if any(m.needs_layer for m in methods):
        layers = chosen_layers(batch.graph, layer, tensors if reading is None else reading.head, reading)
        batch.together = batch.executors.cut_together(layers)
    _prefetch(batch, tensors, layers)
    per_image = _per_image(batch, question, known, reading)
    results: list[list[Attribution]] = [[] for _ in per_image]
    # a picture that has fewer targets than another is explained again for its last one, and that is dropped
    most = max(len(targets) for targets in per_image)
    batch.asked = [[row[min(rank, len(row) - 1)] for row in per_image] for rank in range(most)]
    for rank, targets in enumerate(batch.asked):
        for method in methods:
            for image, attribution in enumerate(_run(batch, method, targets, layers, options)):
                if rank < len(per_image[image]):
                    results[image].append(attribution)
    return results


def reading_tensors(reading: Reading | None) -> tuple[str, ...]:
    """The tensors that a reading needs; none without one."""
    return () if reading is None else reading.tensors


def _per_image(
    batch: Batch, question: Question, known: list[Target] | None, reading: Reading | None
) -> list[list[Target]]:
    """Each picture's own targets."""
    if known is not None:
        _check_batch(batch, known)
        return [known] * len(batch.x)
    assert reading is not None
    return [resolve(reading, question, row) for row in batch.rows(reading)]


def _check_batch(batch: Batch, targets: Sequence[Target]) -> None:
    """Raises UsageError where a tensor does not hold one result per picture."""
    for name, axis in batch_axes(targets).items():
        (values,) = batch.values([name])
        if axis is not None and (values.ndim <= axis or values.shape[axis] != len(batch.x)):
            raise UsageError(
                f"{batch.graph.name} gives '{name}' of shape {values.shape} for {len(batch.x)} images, not one result "
                "for each; explain one at a time"
            )


def _checked_options(methods: Sequence[Method], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as the methods take them.

    Raises:
        UsageError: one that none of them has, or one that is to be a number and is none.
    """
    found = dict(options)
    known = {name for method in methods for name in method.options}
    for name in options:
        if name not in known:
            hint = f"it takes {', '.join(sorted(known))}" if known else "it takes no options"
            raise UsageError(f"option '{name}' is unknown to {', '.join(m.name for m in methods)}; {hint}")
        for method in methods:
            if name in method.options:
                found[name] = _checked_number(name, options[name], method.kind(name))
    return found


def _checked_number(name: str, value: Any, kind: str) -> Any:
    """The value of an option; ``kind`` is its annotation."""
    if value is None and "None" in kind:
        return None
    if kind.startswith("int"):
        return whole(value, f"option {name}", 1 if name in ("window", "stride") else 0)
    if kind == "float" and not (isinstance(value, Real) and 0 <= float(value) < float("inf")):
        raise UsageError(f"option {name}={value} is not a number, 0 or more")
    return value


def _run(
    batch: Batch, method: Method, targets: list[Target], layers: Sequence[Layer], options: Mapping[str, Any]
) -> list[Attribution]:
    parts = maps_by(method, batch, targets, layers, options)
    heat, values = combined(parts, batch.size)
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
            figures={
                **{name: float(numbers[i]) for name, numbers in parts[0].figures.items()},
                **figures_of(targets[i], heat[i]),
            },
            notes=(*notes, *_own_notes(batch, i, targets[i], heat[i], values[i], float(scores[i]))),
        )
        for i in range(len(batch.x))
    ]


def maps_by(
    method: Method,
    batch: Batch,
    targets: Sequence[Target],
    layers: Sequence[Layer],
    options: Mapping[str, Any] | None = None,
) -> list[Maps]:
    """A method's maps, of each layer where it looks at one at a time; of the ``options`` it takes its own."""
    own = {k: v for k, v in (options or {}).items() if k in method.options}
    if method.joins_layers:
        return [method.run(batch, targets, layers, **own)]
    if method.needs_layer:
        return [method.run(batch, targets, layer, **own) for layer in layers]
    return [method.run(batch, targets, **own)]


def _own_notes(
    batch: Batch, index: int, target: Target, heat: np.ndarray, values: np.ndarray, score: float
) -> tuple[str, ...]:
    if not (np.isfinite(values).all() and math.isfinite(score)):
        return ("the map or its score holds values that are no finite numbers; what is shown leaves them out",)
    constant = constant_note(batch, index, target, values, score)
    if constant:
        return (constant,)
    return () if heat.any() else ("no evidence for the target: the map is zero everywhere",)


def _prefetch(batch: Batch, tensors: Sequence[str], layers: Sequence[Layer]) -> None:
    """One forward pass for what the answer is read from and for everything that the layers' heads will need."""
    names = dict.fromkeys((*tensors, *(layer.tensor for layer in layers)))
    for group in [batch.together] if batch.together else [(layer,) for layer in layers]:
        ends = batch.executors.ends(group, tensors)
        names.update(dict.fromkeys(batch.executors.cut(group, tensors).names))
        names.update(dict.fromkeys(batch.executors.gathering(ends, tensors).names if ends else ()))
    batch.values(list(names))


def combined(parts: Sequence[Maps], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps and raw values; several layers' heatmaps are averaged, each with its maximum at 1 before."""
    each = [heatmaps(part.evidence, size) for part in parts]
    if len(each) == 1:
        return each[0], parts[0].values
    mean = np.mean(each, axis=0)
    return heatmaps(mean, size), mean
