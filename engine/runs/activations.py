"""``activations``: what layers compute on pictures, as grids, numbers and arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UsageError
from ..activations.stream import ActivationBatch, activations, of_input
from ..executors.devices import check_device
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..graph.operators import names
from ..graph.units import check_units, is_strongest, layers_with_units, left_out, parse_units
from ..pages.feature_maps import PAGE_IMAGES, FeatureMaps, Grids
from ..pictures.given import as_pictures, model_batch, sources
from ..pictures.read import Picture
from ..record import Record
from ..render import colormaps
from ..render.activation_grids import check_scale
from ..render.array_store import Store, open_store
from ..whole import keep_whole
from .events import ImageDone, Note, OnEvent, Progress, ignore
from .folder import locked
from .images import Failures
from .opening import Model, opened
from .result import Result

DEFAULT_LAYERS = 24
_FINISHING = {*names(lambda row: row.family == "activation"), "BatchNormalization", "Mul"}  # Mul of x sigmoid(x)


@dataclass(frozen=True)
class Options:
    """What to compute, and how to show it.

    Attributes:
        layer: names and globs with commas; None is feature maps from the first to the last.
        units: ``all``, ``0-63,70``, or ``top:N`` for the N of the highest mean in each picture, which needs a folder:
            the grids show them, and saved arrays hold all units.
        scale, colormap, per_row: of the grids, see `render.activation_grids`.
        save: "npz" or "zarr" writes the arrays, keyed by layer name; None does not.
        grids: draw the grids.
        batch: pictures per pass.
        device: "auto", "cpu" or "cuda[:n]".
        preprocessed: the pictures are an array or tensor (N, C, H, W) in model space.
    """

    layer: str | Sequence[str] | None = None
    units: str | int | Sequence[int] = "all"
    scale: str = "lecture"
    colormap: str = "viridis"
    per_row: int = 16
    save: str | None = None
    grids: bool = True
    batch: int = 8
    device: str = "auto"
    preprocessed: bool = False

    def check(self) -> None:
        """Raises UsageError for a scale, colormap or units that there are none of."""
        check_device(self.device)
        check_units(self.units)
        keep_whole(self, batch=1, per_row=1)
        if self.save not in (None, "npz", "zarr"):
            raise UsageError(f"save='{self.save}' is unknown; choose npz or zarr")
        check_scale(self.scale)
        colormaps.table(self.colormap)


@dataclass(frozen=True, eq=False, repr=False)
class Activated(Result):
    """The result of `run`: layer name -> array, where the arrays are in memory.

    Attributes:
        saved: the file or folder of the arrays, where they were asked for.
        values: layer name -> (N, C, H, W) or (N, C) float32, of the units asked for, in
            their order; empty where there is a folder.
    """

    saved: Path | None = None
    values: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def paths(self) -> Sequence[Path]:
        """The arrays and the page."""
        return (*([self.saved] if self.saved else ()), *super().paths)

    def __getitem__(self, layer: str) -> np.ndarray:
        """The values of one layer.

        Raises:
            UsageError: it was not asked for, or the arrays went into the folder.
        """
        if layer in self.values:
            return self.values[layer]
        if not self.values:
            raise UsageError(
                f"the arrays are not in memory but in {self.saved or 'no file: add save'}; leave folder out"
            )
        raise UsageError(f"layer '{layer}' was not asked for; there are {', '.join(self.values)}")

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def __len__(self) -> int:
        return len(self.values)

    def keys(self) -> Iterable[str]:
        """Names of the layers, so that ``dict(result)`` is the arrays."""
        return self.values.keys()


def run(
    model: Model,
    images: Any,
    options: Options | None = None,
    folder: Path | None = None,
    *,
    command: str | None = None,
    on_event: OnEvent = ignore,
) -> Activated:
    """Numbers of every layer on every picture; grids, arrays and a page where there is a folder.

    Args:
        model: from `convscope.load`, or what opens it.
        images: pictures, as for `given.sources`.
        options: default feature maps throughout.
        folder: writes a grid per picture and layer, ``result.json`` and ``index.html`` there, and with ``save`` the
            arrays. None writes nothing and keeps the arrays in the result.
        command: what the record says made it.
        on_event: told of every picture, and of pictures left out.

    Raises:
        UsageError: an unknown layer, or one without units. RefusedInput: no picture could be read.
    """
    options = options or Options()
    options.check()
    if folder is None and is_strongest(options.units):
        raise UsageError(
            f"units='{options.units}' are other units in every picture, which one array cannot hold; name the units, "
            "or a folder"
        )
    if options.save is not None and folder is None:
        raise UsageError("save= writes into a folder; name one, or leave it out and take the arrays of the result")
    graph = opened(model, folder, on_event, images)
    layers = chosen_layers(graph, options.layer, on_event)
    job = _Run(graph, options, layers, folder, Record.of(graph, command), on_event)
    with locked(folder):
        if options.preprocessed:
            x, _ = model_batch(graph, images, preprocessed=True)
            return job.run(as_pictures(graph, x), x)
        pictures, _ = sources(images, graph.channels)
        return job.run(pictures)


def chosen_layers(graph: Graph, patterns: str | Sequence[str] | None, on_event: OnEvent = ignore) -> Sequence[Layer]:
    """The asked layers, or feature maps from the first to the last where none are asked for.

    Raises:
        UsageError: a layer is unknown, or one named exactly has no units.
    """
    if patterns is not None:
        return with_units(graph, patterns, on_event)
    maps = _finished_maps(graph)
    if not maps:
        raise UsageError(f"{graph.name} has no feature maps; name layers with layer=")
    if len(maps) > DEFAULT_LAYERS:
        count = sum(la.has_maps for la in graph.layers)
        on_event(Note(f"{DEFAULT_LAYERS} of {count} feature maps, evenly spaced; layer='*' takes all"))
        maps = [maps[round(i * (len(maps) - 1) / (DEFAULT_LAYERS - 1))] for i in range(DEFAULT_LAYERS)]
    return maps


def with_units(graph: Graph, patterns: str | Sequence[str], on_event: OnEvent = ignore) -> Sequence[Layer]:
    """The layers of names and globs; of a glob those that have units, and a note names the others.

    Raises:
        UsageError: a layer is unknown, or one named exactly has no units.
    """
    found, without = layers_with_units(graph, patterns)
    if without:
        on_event(Note(left_out(without)))
    return found


def _finished_maps(graph: Graph) -> list[Layer]:
    """The feature maps, without padding and without those that only a normalization or an activation reads."""

    def is_finished(layer: Layer) -> bool:
        readers = {node.op_type for node in graph.index.readers.get(layer.tensor, ())}
        return not readers or not readers <= _FINISHING

    maps = [la for la in graph.layers if la.has_maps and la.op not in ("Pad", "Transpose", "Sigmoid")]
    return [la for la in maps if is_finished(la)]


class _Run:
    """One run and what it has made so far."""

    def __init__(
        self,
        graph: Graph,
        options: Options,
        layers: Sequence[Layer],
        folder: Path | None,
        record: Record,
        on_event: OnEvent,
    ) -> None:
        self.graph, self.options, self.layers, self.folder = graph, options, layers, folder
        self.on_event, self.failures = on_event, Failures(on_event)
        grids = Grids(options.scale, options.colormap, options.per_row, options.grids)
        self.maps = FeatureMaps(graph, layers, options.units, grids, folder, record)
        self.arrays: dict[str, list[np.ndarray]] = {}
        self.kept = {la.name: self._saved_units(la) for la in layers}

    def run(self, pictures: Sequence[Path | Picture], x: np.ndarray | None = None) -> Activated:
        """Goes through the pictures, or through model input ``x`` that shows them."""
        saved = None
        if self.options.save is not None and self.folder is not None:
            saved = self.folder / f"activations.{self.options.save}"
        given = {p.path: p for p in pictures if isinstance(p, Picture)}
        with ExitStack() as stack:
            store = None
            if saved is not None:
                store = stack.enter_context(open_store(saved, self.options.save or ""))
            self.on_event(Progress("activations", 0, len(pictures), "images"))
            for part in self._parts(pictures, x):
                self._keep(part.values, store)
                for index, path in enumerate(part.paths):
                    values = {name: of_layer[index] for name, of_layer in part.values.items()}
                    self.on_event(ImageDone(self.maps.add(path, values, given.get(str(path)))))
                done = len(self.maps.images) + len(self.failures.rows)
                self.on_event(Progress("activations", done, len(pictures), "images"))
            self.failures.refuse_all(len(pictures))
        arrays = {name: np.concatenate(parts) for name, parts in self.arrays.items()}
        if self.maps.drawn and (total := len(self.maps.images)) > PAGE_IMAGES:
            self.on_event(Note(f"the page shows the first {PAGE_IMAGES} images; the folder holds all {total}"))
        content, page = self.maps.finish(saved, self.failures.rows)
        return Activated(content, page, saved, arrays, seen=len(pictures))

    def _parts(self, pictures: Sequence[Path | Picture], x: np.ndarray | None) -> Iterator[ActivationBatch]:
        size, device = min(self.options.batch, len(pictures)), self.options.device
        if x is not None:
            names = [Path(p.path) for p in pictures if isinstance(p, Picture)]
            return of_input(self.graph, x, names, self.layers, batch=size, device=device)
        return activations(self.graph, pictures, self.layers, batch=size, device=device, failed=self.failures)

    def _saved_units(self, layer: Layer) -> list[int] | None:
        """The units of a layer's saved array, None for all; refuses units that the layer lacks."""
        asked = parse_units(self.options.units, layer.channels or 0)
        return None if asked.indices == tuple(range(layer.channels or 0)) else list(asked.indices)

    def _keep(self, values: Mapping[str, np.ndarray], store: Store | None) -> None:
        """The arrays of the units asked for, in the store, or in memory where there is no folder."""
        asked = {n: v if (units := self.kept[n]) is None else v[:, units] for n, v in values.items()}
        if store is not None:
            store.append(asked)
        if self.folder is None:
            for name, array in asked.items():
                self.arrays.setdefault(name, []).append(array)
