"""Every verb of the command line as a function: the same words, the same defaults, results as objects.

Each takes a `Graph` from `load`, or what `load` takes, and pictures as people hold them. With ``folder`` it writes what
the command writes there, resumes what an earlier call left, and gives the same result.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from .engine.graph.graph import Graph

if TYPE_CHECKING:
    from torch import Tensor

    from .engine.ascent.recipe.canvases import Noise
    from .engine.ascent.recipe.objectives import Objective, Place, Taps
    from .engine.ascent.recipe.presets import Preset
    from .engine.ascent.results import AscentResult
    from .engine.compare.result import Comparison
    from .engine.runs.activations import Activated
    from .engine.runs.attack import Attacked
    from .engine.runs.events import OnEvent
    from .engine.runs.opening import Model
    from .engine.runs.result import Result
    from .engine.runs.stats import Measured
    from .engine.runs.top import TopResult
    from .engine.runs.verify import Verification
    from .engine.runs.weights import Weights

Folder = str | os.PathLike[str] | None


def _model(model: Any) -> Model:
    """A graph, or what opens one once the run has refused what no model can have."""
    if isinstance(model, Graph):
        return model
    from .models.load import load

    return partial(load, model)


def _graph(model: Any) -> Graph:
    found = _model(model)
    return found if isinstance(found, Graph) else found()


def _folder(folder: Folder) -> Path | None:
    return None if folder is None else Path(folder)


def _silent(_: Any) -> None:
    """Nobody listens."""


def _names(layer: Any) -> Any:
    """One layer or several as the runs take them: text with globs and commas, or a list of names."""
    if layer is None or isinstance(layer, str):
        return layer
    if isinstance(layer, (list, tuple)):
        return [_name(one) for one in layer]
    return [_name(layer)]


def _name(layer: Any) -> str:
    return str(getattr(layer, "name", layer))


# --- See -------------------------------------------------------------------------------------------------------------


@overload
def filters(
    graph: Any,
    layer: Place | Objective | Callable[[Taps], Tensor],
    units: str | int | Sequence[int] = ...,
    *,
    preset: str | Preset = ...,
    size: int | tuple[int, int] | None = ...,
    steps: int | None = ...,
    seed: int = ...,
    tuning: Mapping[str, float] | None = ...,
    start: Any = ...,
    noise: Noise | str | None = ...,
    noise_mean: float | None = ...,
    noise_std: float | None = ...,
    neuron: bool | None = ...,
    batch: int | str = ...,
    strip: int = ...,
    negative: bool = ...,
    alpha: bool = ...,
    animate: bool = ...,
    photos: Any = ...,
    diversity: int | None = ...,
    precision: str = ...,
    columns: int | None = ...,
    margin: int = ...,
    live: bool = ...,
    force: bool = ...,
    folder: Folder = ...,
    device: str = ...,
    on_event: OnEvent = ...,
) -> AscentResult: ...


@overload
def filters(
    graph: Any,
    layer: list[Place] | tuple[Place, ...],
    units: str | int | Sequence[int] = ...,
    *,
    preset: str | Preset = ...,
    size: int | tuple[int, int] | None = ...,
    steps: int | None = ...,
    seed: int = ...,
    tuning: Mapping[str, float] | None = ...,
    start: Any = ...,
    noise: Noise | str | None = ...,
    noise_mean: float | None = ...,
    noise_std: float | None = ...,
    neuron: bool | None = ...,
    batch: int | str = ...,
    strip: int = ...,
    negative: bool = ...,
    alpha: bool = ...,
    animate: bool = ...,
    photos: Any = ...,
    diversity: int | None = ...,
    precision: str = ...,
    columns: int | None = ...,
    margin: int = ...,
    live: bool = ...,
    force: bool = ...,
    folder: Folder = ...,
    device: str = ...,
    on_event: OnEvent = ...,
) -> list[AscentResult]: ...


def filters(
    graph: Any,
    layer: Any,
    units: str | int | Sequence[int] = "all",
    *,
    preset: str | Preset = "convscope",
    size: int | tuple[int, int] | None = None,
    steps: int | None = None,
    seed: int = 0,
    tuning: Mapping[str, float] | None = None,
    start: Any = None,
    noise: Noise | str | None = None,
    noise_mean: float | None = None,
    noise_std: float | None = None,
    neuron: bool | None = None,
    batch: int | str = "auto",
    strip: int = 0,
    negative: bool = False,
    alpha: bool = False,
    animate: bool = False,
    photos: Any = None,
    diversity: int | None = None,
    precision: str = "auto",
    columns: int | None = None,
    margin: int = 2,
    live: bool = False,
    force: bool = False,
    folder: Folder = None,
    device: str = "auto",
    on_event: OnEvent = _silent,
) -> Any:
    """What units respond to most: pictures made by gradient ascent.

    A unit's picture is a pure function of the graph, the unit, the preset, the size, the steps and the seed: neither
    batch nor company changes a byte of it on one machine.

    Args:
        graph: from `load`, or what `load` takes.
        layer: one layer, as `Graph.layer` takes it; a list of them; or an objective (`objectives`) or a function of the
            tapped tensors, and then there is one picture, which maximizes it; what pictures of units alone have is then
            refused, ``folder`` too (`AscentResult.save`).
        units: ``all``, ``0-63,70``, ``top:36`` for the strongest 36, or numbers.
        preset: a name, or a `Preset`; the default suits the layer.
        size: side of the pictures in pixels, or (height, width).
        steps: of the ascent; default the preset's.
        seed: of everything random; the same seed gives the same pictures.
        tuning: changes to the preset by name, for instance ``{"decay": 0.1}``.
        start: a picture to start from; see `given.sources`.
        noise: pixel noise to start from, or its kind, "uniform" or "normal".
        noise_mean: of such a kind, in 0..255; default 127.
        noise_std: of such a kind, in 0..255; default 10.
        neuron: maximize the middle of the map (True) or its mean (False).
        batch: pictures at once, or "auto".
        strip: how many pictures on the way to keep.
        negative: what inhibits the units instead.
        alpha: with transparency: what the ascent did not care for is left out.
        animate: in ``folder``, an animation of each unit's ascent beside its picture.
        photos: photographs to judge by, and for the preset ``vital`` to draw after; see `given.sources`.
        diversity: so many pictures of one unit, each of which excites it in another way.
        precision: of gradients, "auto", "bfloat16" or "float32".
        columns: of the grid in ``folder``; default a square.
        margin: pixels between the tiles of the grid.
        live: keep the page up to date while it is filled.
        force: begin anew in a folder that holds something else.
        folder: one PNG per unit, ``grid.png``, ``result.json`` and ``index.html``; the same call goes on where an
            earlier one stopped.
        device: "auto", "cpu" or "cuda[:n]".
        on_event: told of steps, units and verdicts (`engine.runs.events`).

    Returns:
        The pictures of the layer's units with their verdicts; for a list of layers, a list.

    Raises:
        UsageError: wrong use. RefusedInput: the model gives NaN.
    """
    from .engine.ascent.recipe.algebra import is_objective
    from .engine.runs import filters as run

    options = run.Options(
        preset=preset, size=size, steps=steps, seed=seed, start=start, noise=noise, noise_mean=noise_mean,
        noise_std=noise_std, neuron=neuron, strip=strip,
        negative=negative, alpha=alpha, animate=animate, photos=photos, batch=batch, precision=precision,
        device=device, tuning=tuning or {}, columns=columns, margin=margin, live=live, force=force,
    )  # fmt: skip
    if is_objective(layer):
        beside: dict[str, Any] = {"units": None if isinstance(units, str) and units == "all" else units}
        beside |= {"diversity": diversity, "folder": folder}
        return run.of_objective(_model(graph), layer, options, beside, on_event=on_event)
    asked = [units] if isinstance(units, int) else units
    if diversity is not None:
        from .engine.runs import facets

        made = facets.run(_model(graph), layer, asked, diversity, options, _folder(folder), on_event=on_event).facets
        assert made is not None
        return made
    several = isinstance(layer, (list, tuple))
    result = run.run(_model(graph), layer, asked, options, _folder(folder), on_event=on_event)
    return list(result.layers) if several else result.layers[0]


def maximize(
    graph: Any,
    classes: str | int | Sequence[str | int],
    *,
    preset: str | Preset = "convscope",
    size: int | tuple[int, int] | None = None,
    steps: int | None = None,
    seed: int = 0,
    tuning: Mapping[str, float] | None = None,
    batch: int | str = "auto",
    strip: int = 0,
    negative: bool = False,
    alpha: bool = False,
    animate: bool = False,
    photos: Any = None,
    precision: str = "auto",
    columns: int | None = None,
    margin: int = 2,
    live: bool = False,
    force: bool = False,
    folder: Folder = None,
    device: str = "auto",
    on_event: OnEvent = _silent,
) -> AscentResult:
    """What classes look like to the network: pictures that raise their logits most.

    Args:
        graph: from `load`, or what `load` takes.
        classes: names or numbers, one or several; ``all``, or ``top:16``.
        preset: a name, or a `Preset`.
        size: side of the pictures in pixels, or (height, width); default the model's own.
        steps: of the ascent; default the preset's.
        seed: of everything random; the same seed gives the same picture.
        tuning: changes to the preset by name, for instance ``{"decay": 0.1}``.
        batch: pictures at once, or "auto".
        strip: how many pictures on the way to keep.
        negative: what lowers the logits instead.
        alpha: with transparency: what the ascent did not care for is left out.
        animate: in ``folder``, an animation of each class's ascent beside its picture.
        photos: photographs to judge by, and for the preset ``vital`` to draw after; see `given.sources`.
        precision: of gradients, "auto", "bfloat16" or "float32".
        columns: of the grid in ``folder``; default a square.
        margin: pixels between the tiles of the grid.
        live: keep the page up to date while it is filled.
        force: begin anew in a folder that holds something else.
        folder: one PNG per class, ``grid.png``, ``result.json`` and ``index.html``; the same call goes on where an
            earlier one stopped.
        device: "auto", "cpu" or "cuda[:n]".
        on_event: told of steps, classes and verdicts (`engine.runs.events`).

    Returns:
        The pictures of the classes with their verdicts.

    Raises:
        UsageError: an unknown class, or a model without classes. RefusedInput: the model gives NaN.
    """
    from .engine.runs import maximize as run

    options = run.Options(
        preset=preset, size=size, steps=steps, seed=seed, strip=strip, negative=negative, alpha=alpha, animate=animate,
        photos=photos, batch=batch, precision=precision, device=device, tuning=tuning or {}, columns=columns,
        margin=margin, live=live, force=force,
    )  # fmt: skip
    result = run.run(_model(graph), classes, options, _folder(folder), on_event=on_event)
    assert result.classes is not None
    return result.classes


def dream(
    graph: Any,
    image: Any,
    layer: Place,
    units: str | int | Sequence[int] = "all",
    *,
    preset: str | Preset = "dream",
    size: int | tuple[int, int] | None = None,
    steps: int | None = None,
    seed: int = 0,
    tuning: Mapping[str, float] | None = None,
    strip: int = 0,
    folder: Folder = None,
    device: str = "auto",
    on_event: OnEvent = _silent,
) -> AscentResult:
    """A photograph changed towards what a layer, or some of its units, see in it (DeepDream, Mordvintsev et al. 2015).

    Args:
        graph: from `load`, or what `load` takes.
        image: one picture, as for `given.sources`.
        layer: whose activations grow.
        units: only these; default all.
        preset: a name, or a `Preset`.
        size: the longer side, pixels, or (height, width); default 384, or the model's own where it takes no other.
        steps: of the ascent; default the preset's.
        seed: of everything random; the same seed gives the same picture.
        tuning: changes to the preset by name, for instance ``{"decay": 0.1}``.
        strip: how many pictures on the way to keep.
        folder: writes ``dream.png``, ``before.png``, ``result.json`` and ``index.html``.
        device: "auto", "cpu" or "cuda[:n]".
        on_event: told of every step (`engine.runs.events`).

    Returns:
        One picture with its history; its start is the photograph.

    Raises:
        UsageError: wrong use. RefusedInput: the picture cannot be read.
    """
    from .engine.runs import dream as run

    asked = [units] if isinstance(units, int) else units
    options = run.Options(
        preset=preset, size=size, steps=steps, seed=seed, strip=strip, device=device, tuning=tuning or {}
    )
    result = run.run(_model(graph), image, layer, asked, options, _folder(folder), on_event=on_event)
    assert result.picture is not None
    return result.picture


def invert(
    graph: Any,
    image: Any,
    layer: Place,
    *,
    gain: float = 1.0,
    size: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    tuning: Mapping[str, float] | None = None,
    strip: int = 0,
    folder: Folder = None,
    device: str = "auto",
    on_event: OnEvent = _silent,
) -> AscentResult:
    """The picture that a layer cannot tell from a photograph (Mahendran and Vedaldi 2015, arXiv:1412.0035).

    Args:
        graph: from `load`, or what `load` takes.
        image: one picture, as for `given.sources`.
        layer: whose values are matched.
        gain: above 1 the values are asked for so many times larger: a caricature.
        size: side of the picture in pixels; default the model's own.
        steps: of the ascent; default the preset's.
        seed: of everything random; the same seed gives the same picture.
        tuning: changes to the preset by name, for instance ``{"decay": 0.1}``.
        strip: how many pictures on the way to keep.
        folder: writes ``inverted.png``, ``before.png``, ``result.json`` and ``index.html``.
        device: "auto", "cpu" or "cuda[:n]".
        on_event: told of every step (`engine.runs.events`).

    Returns:
        One picture with its history; its activation is minus the relative square distance, 0 for a perfect match.

    Raises:
        UsageError: wrong use. RefusedInput: the picture cannot be read.
    """
    from .engine.runs import invert as run

    options = run.Options(gain=gain, size=size, steps=steps, seed=seed, strip=strip, device=device, tuning=tuning or {})
    result = run.run(_model(graph), image, layer, options, _folder(folder), on_event=on_event)
    assert result.picture is not None
    return result.picture


def activations(
    graph: Any,
    images: Any,
    layer: Any = None,
    units: str | int | Sequence[int] = "all",
    *,
    scale: str = "lecture",
    colormap: str = "viridis",
    per_row: int = 16,
    save: str | None = None,
    grids: bool = True,
    batch: int = 8,
    preprocessed: bool = False,
    folder: Folder = None,
    device: str = "auto",
    on_event: OnEvent = _silent,
) -> Activated:
    """What layers compute on pictures, on ONNX Runtime.

    Args:
        graph: from `load`, or what `load` takes.
        images: pictures, as for `given.sources`; with ``preprocessed`` an array or tensor (N, C, H, W) in model space.
        layer: one or several, by name, glob or number; default feature maps from the first to the last.
        units: ``all``, ``0-63,70``, numbers in the order of the array, or ``top:N`` in each picture.
        scale: of the grids: "lecture" (each channel 64 standard deviations about 128), "minmax" or "shared".
        colormap: of the grids.
        per_row: tiles in a row of the grids.
        save: "npz" or "zarr" writes the arrays into ``folder``.
        grids: draw the grids into ``folder``.
        batch: pictures per pass.
        preprocessed: ``images`` is model input already.
        folder: writes grids, ``result.json`` and ``index.html``; the arrays are then on disk (``save``) and not in
            memory, so that a folder of any size can be gone through.
        device: "auto", "cpu" or "cuda[:n]".
        on_event: told of every picture, and of pictures left out.

    Returns:
        A mapping from layer names to arrays (N, C, H, W) or (N, C), float32, where there is no folder; what a torch
        hook or ``keras.Model(inputs, outputs)`` gives.

    Raises:
        UsageError: an unknown layer, or one without units. RefusedInput: no picture could be read.

    Example:
        >>> convscope.activations(graph, tensor, "layer1*")["layer1.0"].shape
        (8, 64, 56, 56)
    """
    from .engine.runs import activations as run

    options = run.Options(_names(layer), units, scale, colormap, per_row, save, grids, batch, device, preprocessed)
    return run.run(_model(graph), images, options, _folder(folder), on_event=on_event)


def top(
    graph: Any,
    images: Any,
    layer: Any,
    units: str | int | Sequence[int] = "all",
    *,
    k: int = 9,
    field: str = "map",
    shard: tuple[int, int] | None = None,
    batch: int = 8,
    force: bool = False,
    folder: Folder = None,
    device: str = "auto",
    on_event: OnEvent = _silent,
) -> TopResult:
    """For every unit the pictures that excite it most.

    Args:
        graph: from `load`, or what `load` takes.
        images: pictures, as for `given.sources`; best one folder.
        layer: one or several, by name, glob or number.
        units: those that are shown.
        k: pictures per unit.
        field: what crops show: "map", where the unit's own map is above half of its maximum, or "gradient", where the
            gradient of its value is; that takes a pass back per unit and picture.
        shard: (i, n): every n-th picture from the i-th on, counted from 1; a run without one merges them.
        batch: pictures per pass.
        force: see all pictures again.
        folder: keeps the state, so that the same call goes on, and gets strips of crops, numbers and a page.
        device: "auto", "cpu" or "cuda[:n]".
        on_event: told of every batch, and of pictures left out.

    Returns:
        ``content["layers"]`` holds, for every unit, the pictures that excite it most, where in them, and how much.

    Raises:
        UsageError: wrong use. RefusedInput: no picture could be read.
    """
    from .engine.runs import top as run

    options = run.Options(k=k, units=units, field=field, shard=shard, batch=batch, device=device, force=force)
    return run.run(_model(graph), images, _names(layer), options, _folder(folder), on_event=on_event)


def stats(
    graph: Any,
    images: Any,
    layer: Any = None,
    *,
    batch: int = 8,
    force: bool = False,
    folder: Folder = None,
    device: str = "auto",
    on_event: OnEvent = _silent,
) -> Measured:
    """How active every unit is over pictures: which are dead, always on, alike.

    Args:
        graph: from `load`, or what `load` takes.
        images: pictures, as for `given.sources`; best one folder.
        layer: one or several; default every feature map, and every layer of tokens with a grid.
        batch: pictures per pass.
        force: see all pictures again.
        folder: keeps the state, so that the same call goes on, and gets numbers and a page.
        device: "auto", "cpu" or "cuda[:n]".
        on_event: told of every batch, and of pictures left out.

    Returns:
        ``content["layers"]`` holds the numbers of every unit: mean, spread, largest, share of zeros, dead, always on.

    Raises:
        UsageError: wrong use. RefusedInput: no picture could be read.
    """
    from .engine.runs import stats as run

    options = run.Options(layer=_names(layer), batch=batch, device=device, force=force)
    return run.run(_model(graph), images, options, _folder(folder), on_event=on_event)


def accent(
    graph: Any,
    image: Any,
    layer: Place | None = None,
    units: int | None = None,
    *,
    wanted: str | int | None = None,
    keep: Place | None = None,
    weight: float = 4.0,
    preset: str | Preset = "accent",
    size: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    tuning: Mapping[str, float] | None = None,
    strip: int = 0,
    folder: Folder = None,
    device: str = "auto",
    on_event: OnEvent = _silent,
) -> AscentResult:
    """A photograph in which what a unit, or a class, sees in it stands out (Hamblin et al. 2024, arXiv:2402.10039).

    Args:
        graph: from `load`, or what `load` takes.
        image: one picture, as for `given.sources`.
        layer: of the unit; or none, and ``wanted`` is a class.
        units: the unit's number.
        wanted: a class by name or number.
        keep: the hidden layer in which the photograph is kept.
        weight: how much that counts: 0 lets the photograph go.
        preset: a name, or a `Preset`.
        size: side of the picture in pixels; default the model's own.
        steps: of the ascent; default the preset's.
        seed: of everything random; the same seed gives the same picture.
        tuning: changes to the preset by name, for instance ``{"decay": 0.1}``.
        strip: how many pictures on the way to keep.
        folder: writes ``accent.png``, ``before.png``, ``result.json`` and ``index.html``.
        device: "auto", "cpu" or "cuda[:n]".
        on_event: told of every step (`engine.runs.events`).

    Returns:
        One picture with its history; its start is the photograph.

    Raises:
        UsageError: wrong use. RefusedInput: the picture cannot be read.
    """
    from .engine.runs import accent as run

    options = run.Options(
        keep=keep, weight=weight, preset=preset, size=size, steps=steps, seed=seed, strip=strip, device=device,
        tuning=tuning or {},
    )  # fmt: skip
    result = run.run(_model(graph), image, layer, units, options, _folder(folder), wanted=wanted, on_event=on_event)
    assert result.picture is not None
    return result.picture


# --- Look ------------------------------------------------------------------------------------------------------------


def info(graph: Any) -> dict[str, Any]:
    """A model's layers, inputs, outputs, preprocessing and origin: the object of ``convscope info --json``.

    Args:
        graph: from `load`, or what `load` takes.

    Returns:
        Plain values; docs/results.md has every field.

    Raises:
        UsageError, RefusedInput: as `load`.
    """
    from .engine.graph.summary import summary

    return summary(_graph(graph))


def verify(
    graph: Any,
    *,
    size: int | tuple[int, int] | None = None,
    batch: int = 2,
    seed: int = 0,
    folder: Folder = None,
    on_event: OnEvent = _silent,
) -> Verification:
    """Whether the graph computes what the model file computes: every tensor of both executors, gradient and source.

    Args:
        graph: from `load`, or what `load` takes.
        size: side of the random images, or (height, width).
        batch: random images at once.
        seed: of the random images.
        folder: writes ``result.json``.
        on_event: told of every stage.

    Returns:
        What was compared and how far apart it was; ``ok`` where every bound holds.

    Raises:
        UsageError: a size or batch that is none. RefusedInput: the weights hold NaN.
    """
    from .adapters.verify import verify as prove
    from .engine.runs import verify as run

    result = run.run(_model(graph), prove, run.Options(size, batch, seed), _folder(folder), on_event=on_event)
    assert result.verification is not None
    return result.verification


def weights(
    graph: Any,
    layer: Any = None,
    units: str | int | Sequence[int] = "all",
    *,
    scale: str = "filter",
    per_row: int = 16,
    save: bool = False,
    folder: Folder = None,
    on_event: OnEvent = _silent,
) -> Weights:
    """The filters of convolutions as arrays, numbers and pictures.

    Args:
        graph: from `load`, or what `load` takes.
        layer: one or several; default all convolutions.
        units: ``all``, ``0-63,70``, or ``top:N`` of the largest norm.
        scale: "filter" or "layer".
        per_row: filters per row of a sheet.
        save: also write the arrays into ``folder``.
        folder: writes the sheets, ``result.json`` and ``index.html``.
        on_event: told of every layer.

    Returns:
        ``kernels`` maps layer names to arrays (out, in / groups, kh, kw), float32, of all filters, whatever ``units``
        shows; ``content["layers"]`` has the numbers.

    Raises:
        UsageError: an unknown layer, or one without a convolution.
    """
    from .engine.runs import weights as run

    return run.run(
        _model(graph), run.Options(_names(layer), units, scale, per_row, save), _folder(folder), on_event=on_event
    )


# --- Explain ---------------------------------------------------------------------------------------------------------


def attack(
    graph: Any,
    image: Any,
    *,
    method: str = "pixels",
    pixels: int = 1,
    target: str | int | None = None,
    epsilon: float = 8 / 255,
    steps: int | None = None,
    population: int = 400,
    top: int = 3,
    batch: int = 64,
    seed: int = 0,
    folder: Folder = None,
    device: str = "auto",
    on_event: OnEvent = _silent,
) -> Attacked:
    """The smallest change of a picture that makes the model err.

    Args:
        graph: from `load`, or what `load` takes.
        image: one picture, as for `given.sources`.
        method: "pixels" (Su et al. 2017, arXiv:1710.08864), "fgsm" or "pgd".
        pixels: how many may change.
        target: the class to be seen; default any other.
        epsilon: largest change of a value by the gradient attacks, of the range [0, 1].
        steps: of pgd, default 10; generations of the search for pixels, at most, default 100.
        population: candidates of a generation of that search.
        top: predictions to report.
        batch: pictures per pass.
        seed: of the search.
        folder: writes the attacked picture, the two side by side, the values and the numbers.
        device: "auto", "cpu" or "cuda[:n]".
        on_event: told of every step.

    Returns:
        The attacked picture, what the model saw before and sees now, and whether it errs.

    Raises:
        UsageError: wrong use, or a model that is no classifier. RefusedInput: the picture cannot be read.
    """
    from .engine.runs import attack as run

    options = run.Options(method, pixels, target, epsilon, steps, population, top, batch, seed, device)
    return run.run(_model(graph), image, options, _folder(folder), on_event=on_event)


def predict(
    graph: Any,
    images: Any,
    *,
    top: int = 3,
    like: Any = None,
    decoder: str | None = None,
    output: str | None = None,
    batch: int = 16,
    folder: Folder = None,
    device: str = "auto",
    on_event: OnEvent = _silent,
) -> Result:
    """What the model says of pictures: classes, boxes, masks, text, values, embeddings.

    ``content["images"]`` holds what ``convscope predict --json`` prints.

    Args:
        graph: from `load`, or what `load` takes.
        images: pictures, as for `given.sources`.
        top: how many classes or masks of each, best first.
        like: for embeddings: a vector, a ``.npy`` file or a picture file to compare with.
        decoder: how to read the outputs where the default is wrong.
        output: read this output alone.
        batch: pictures per pass.
        folder: writes ``result.json``, ``index.html``, and boxes, masks, points and characters drawn on the pictures.
        device: "auto", "cpu" or "cuda[:n]".
        on_event: told of every picture, and of pictures left out.

    Returns:
        One row of ``content["images"]`` for each picture; ``content["outputs"]`` says how the outputs were read, and
        why.

    Raises:
        UsageError: wrong use. RefusedInput: no picture could be read.
    """
    from .engine.runs import predict as run

    options = run.Options(top=top, batch=batch, device=device, like=like, decoder=decoder, output=output)
    return run.run(_model(graph), images, options, _folder(folder), on_event=on_event)


# --- Compare ---------------------------------------------------------------------------------------------------------


def compare(
    a: Any,
    b: Any,
    *,
    max_rel: float = 1e-4,
    images: Any = None,
    layer: Any = None,
    similarity: bool = False,
    match: bool = False,
    pictures: int = 8,
    preset: str = "convscope",
    size: int = 128,
    steps: int | None = None,
    seed: int = 0,
    folder: Folder = None,
    device: str = "cpu",
    on_event: OnEvent = _silent,
) -> Comparison:
    """Whether two models are the same network, where and why they part, and which units correspond.

    Args:
        a: a graph, a file, a catalog name or a live module.
        b: what it is compared with.
        max_rel: largest difference, relative to a layer's largest value, that counts as equal.
        images: files or folders that both look at; default the shipped photographs.
        layer: of A; the table is confined to these.
        similarity: also SVCCA, PWCCA, Procrustes and the matrix of CKA between all layers.
        match: list every unit's counterpart; in ``folder``, matched units side by side.
        pictures: how many matched units are drawn, for each layer.
        preset: of their pictures.
        size: of their pictures, in pixels.
        steps: of their ascent; default the preset's.
        seed: of their ascent.
        folder: writes ``result.json`` and ``index.html``.
        device: "cpu", "auto" or "cuda[:n]".
        on_event: told of every stage.

    Returns:
        The verdict, the first difference with its causes, the paired layers and their agreement.

    Raises:
        UsageError: no layer of one stands for a layer of the other. RefusedInput: no picture could be read.
    """
    from .engine.runs import compare as run

    options = run.Options(
        max_rel, images, _names(layer), similarity, match, pictures, preset, size, steps, seed, device
    )
    result = run.run(_model(a), _model(b), options, _folder(folder), on_event=on_event)
    assert result.comparison is not None
    return result.comparison
