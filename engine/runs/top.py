"""``top``: for every unit the pictures that excite it most, by a pass that can stop, go on, and be split."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DamagedState, UsageError
from ..activations.fields import check_field
from ..activations.folder_pass import measurement_identity
from ..activations.top_pictures import add_fields, rows, strips
from ..activations.topk import NEEDED, TopImages, shard_of
from ..executors.devices import check_device
from ..graph.graph import Graph
from ..graph.labels import unit_name
from ..graph.layers import Layer
from ..graph.units import check_units, parse_units
from ..pages.siblings import connect
from ..pages.template import data_uri, render_page
from ..pictures.given import Source
from ..record import Record, write
from ..render.artifacts import save_png, unique, write_bytes, write_text
from ..whole import check_part, keep_whole
from .activations import with_units
from .events import Note, OnEvent, Progress, ignore
from .folder import locked
from .images import Failures
from .opening import Model, check_named, opened
from .passes import named_pictures, remaining, see
from .result import Result

PAGE_UNITS = 1024  # a page holds its pictures inside; more would be slow to open


@dataclass(frozen=True)
class Options:
    """What to look for, and how to share the work.

    Attributes:
        k: pictures per unit.
        units: those that are shown: ``all``, ``0-63,70``, or ``top:N`` for the N that are excited most.
        field: what crops show: "map", where the unit's own map is above half of its maximum, or "gradient", where the
            gradient of its value is, which takes a pass back per unit and picture.
        shard: (i, n): only every n-th picture, from the i-th on, counted from 1; such a run keeps its state and merges
            nothing.
        batch: pictures per pass.
        device: "auto", "cpu" or "cuda[:n]".
        force: see all pictures again.
    """

    k: int = 9
    units: str | int | Sequence[int] = "all"
    field: str = "map"
    shard: tuple[int, int] | None = None
    batch: int = 8
    device: str = "auto"
    force: bool = False

    def check(self) -> None:
        """Raises UsageError for a field that there is none of, or units that no layer can have."""
        check_device(self.device)
        check_units(self.units)
        check_field(self.field)
        keep_whole(self, k=1, batch=1)
        check_part(self.shard)
        if self.shard is not None:
            object.__setattr__(self, "shard", (int(self.shard[0]), int(self.shard[1])))


@dataclass(frozen=True, eq=False, repr=False)
class TopResult(Result):
    """The result of `run`.

    Attributes:
        states: files of a shard's state; empty where the run was no shard.
    """

    states: Sequence[Path] = ()

    @property
    def paths(self) -> Sequence[Path]:
        """A shard's state, else the page."""
        return self.states or super().paths


def run(
    model: Model,
    images: Any,
    layer: str,
    options: Options | None = None,
    folder: Path | None = None,
    *,
    command: str | None = None,
    on_event: OnEvent = ignore,
) -> TopResult:
    """The best ``k`` pictures of every unit, with the place of the maximum and what it sees.

    Args:
        model: from `convscope.load`, or what opens it.
        images: pictures, as for `given.sources`; best one folder.
        layer: names and globs with commas.
        options: default nine pictures of all units.
        folder: keeps the state, and gets a strip of crops per unit, ``result.json``, ``index.html``, and
            ``result.parquet`` where pyarrow is installed. Shards may run anywhere into one folder; a run without one
            merges them. None keeps the numbers in the result, and no state.
        command: what the record says made it.
        on_event: told of every batch, and of pictures left out.

    Raises:
        UsageError: an unknown layer or unit; a state of another model, size or k; a picture of it that is gone.
        RefusedInput: no picture could be read.
    """
    options = options or Options()
    options.check()
    if options.shard is not None and folder is None:
        raise UsageError("a shard keeps its state in a folder; name one")
    graph = opened(model, folder, on_event, images)
    check_named(graph, layer, "top")
    layers = with_units(graph, layer, on_event)
    for la in layers:
        parse_units(options.units, la.channels or 0)
    pictures = named_pictures(graph, images, keeps=folder is not None)
    job = _Run(graph, layers, options, folder, on_event)
    with _held(folder, options.shard):
        return job.run(pictures, Record.of(graph, command))


@contextmanager
def _held(folder: Path | None, shard: tuple[int, int] | None) -> Iterator[None]:
    """The folder for one run alone, or together with other shards, each of which runs once at a time."""
    if folder is None or shard is None:
        with locked(folder):
            yield
        return
    with locked(folder, shared=True), locked(folder / "state" / "shard-{}-of-{}".format(*shard)):
        yield


class _Run:
    """One run and its states."""

    def __init__(
        self, graph: Graph, layers: Sequence[Layer], options: Options, folder: Path | None, on_event: OnEvent
    ) -> None:
        self.graph, self.layers, self.options, self.folder = graph, layers, options, folder
        self.on_event, self.failures = on_event, Failures(on_event)

    def run(self, pictures: Mapping[str, Source], record: Record) -> TopResult:
        states = [self._known(layer) for layer in self.layers]
        mine = shard_of(list(pictures), self.options.shard)
        seen = set.intersection(*(s.done for s in states))
        every = set.union(*(s.done for s in states))
        remaining(pictures, every, (), ignore)  # refuses a picture that is gone, whichever state has seen it
        todo = remaining(pictures, seen, mine, self.on_event)

        def add(names: list[str], outputs: dict[str, np.ndarray]) -> None:
            for layer, state in zip(self.layers, states, strict=True):
                state.add_outputs(layer, names, outputs)

        def save() -> None:
            for layer, state in zip(self.layers, states, strict=True):
                if state.done and (file := self._state(layer)) is not None:
                    state.save(file)

        see(
            self.graph,
            self.layers,
            todo,
            add,
            save,
            stage="looking",
            batch=self.options.batch,
            device=self.options.device,
            failures=self.failures,
            on_event=self.on_event,
            statistics=NEEDED,
        )
        self.failures.refuse_all(len(mine))
        if self.options.shard is not None:
            return self._shard_done(states, len(mine), record)
        return self._finish(states, pictures, record)

    def _state(self, layer: Layer) -> Path | None:
        """Where what is known of a layer is kept."""
        if self.folder is None:
            return None
        part = "" if self.options.shard is None else ".shard-{}-of-{}".format(*self.options.shard)
        return self.folder / "state" / f"{layer.index:04d}{part}.json"

    def _known(self, layer: Layer) -> TopImages:
        """What earlier runs have found: of this shard, or without one of all shards together."""
        found = TopImages.empty(layer, self.options.k, measurement_identity(self.graph, layer))
        own = self._state(layer)
        if own is None:
            return found
        for file in [own] if self.options.shard else sorted(own.parent.glob(f"{layer.index:04d}*.json")):
            if self.options.force:
                file.unlink(missing_ok=True)
            elif file.is_file():
                try:
                    earlier = TopImages.restore(file)
                except DamagedState:
                    self.on_event(Note(f"{file} is damaged; its pictures are seen again"))
                    continue
                if (earlier.identity, earlier.k) != (found.identity, found.k):
                    raise UsageError(
                        f"'{file}' was made with another model, preprocessing, size or k; choose another folder, "
                        "or force=True"
                    )
                if not earlier.suits(layer):
                    self.on_event(Note(f"{file} is damaged; its pictures are seen again"))
                    continue
                found.merge(earlier)
        return found

    def _shard_done(self, states: Sequence[TopImages], asked: int, record: Record) -> TopResult:
        # none for an empty shard
        files = [file for la in self.layers if (file := self._state(la)) is not None and file.is_file()]
        self.on_event(Note("shard done; when all are, run the same without shard="))
        shard = list(self.options.shard or ())
        content = {"shard": shard, "images": len(states[0].done), "states": [str(file) for file in files]}
        return TopResult(record.to_json(content, self.failures.rows), None, files, seen=asked)

    def _finish(self, states: Sequence[TopImages], pictures: Mapping[str, Source], record: Record) -> TopResult:
        entries: list[dict[str, Any]] = []
        cards: list[dict[str, Any]] = []
        room = PAGE_UNITS
        found = [(la, rows(self.graph, la, s, self._shown(la, s))) for la, s in zip(self.layers, states, strict=True)]
        looking = self._told("where units are excited", [unit for _, units in found for unit in units])
        add_fields(self.graph, found, pictures, self.options.device, self.options.field, looking)
        for (layer, units), state in zip(found, states, strict=True):
            if self.folder is not None:
                cards.append({"layer": layer.name, "units": self._strips(layer, units, pictures, room, record)})
                room -= len(cards[-1]["units"])
            entries.append({"layer": layer.name, "images": len(state.done), "units": units})
        seen = len(states[0].done)
        content = record.to_json(
            {"k": self.options.k, "field": self.options.field, "images": seen, "layers": entries}, self.failures.rows
        )
        page = None
        if self.folder is not None:
            write(self.folder, content)
            self._parquet(entries)
            data = {"layers": cards, "total": sum(len(e["units"]) for e in entries), "field": self.options.field}
            facts = {"images": seen, "per unit": self.options.k}
            title = f"{self.graph.name} · what excites each unit"
            html = render_page("top.html", title=title, facts=facts, command=record.command or "", data=data)
            page = write_text(self.folder / "index.html", html)
            connect(self.graph, self.folder)
        return TopResult(content, page, seen=len(pictures))

    def _shown(self, layer: Layer, state: TopImages) -> list[int]:
        asked = parse_units(self.options.units, layer.channels or 0)
        if asked.top is None:
            return list(asked.indices)
        return [int(u) for u in (-state.values[:, 0]).argsort(kind="stable")[: asked.top]]

    def _strips(
        self,
        layer: Layer,
        units: Sequence[dict[str, Any]],
        pictures: Mapping[str, Source],
        room: int,
        record: Record,
    ) -> list[dict[str, Any]]:
        """Writes each unit's strip, puts its file into its row, and returns the page's part for the first ``room``."""
        assert self.folder is not None
        into = f"{layer.index:04d}-{unique(layer.name, set())}"
        sheets = strips(self.graph, units, pictures, self._told(f"crops of {layer.name}", units))
        fields = strips(self.graph, units[: max(room, 0)], pictures, field=True)
        cards: list[dict[str, Any]] = []
        for unit in units:
            sheet = sheets.get(unit["unit"])
            unit["file"] = None if sheet is None else f"{into}/unit_{unit['unit']:04d}.png"
            if sheet is not None:
                save_png(self.folder / unit["file"], sheet, record.png_text(layer=layer.name, unit=unit["unit"]))
            if len(cards) < room:
                name = unit_name(self.graph, layer, unit["unit"])
                shown = {"picture": _embedded(sheet), "field": _embedded(fields.get(unit["unit"]))}
                cards.append({**unit, "name": name, **shown})
        return cards

    def _told(self, stage: str, units: Sequence[dict[str, Any]]) -> Callable[[], None]:
        """What tells of every picture among the units' best that is done with."""
        total = len({best["image"] for unit in units for best in unit["top"]})
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            self.on_event(Progress(stage, done, total, "images"))

        self.on_event(Progress(stage, 0, total, "images"))
        return advance

    def _parquet(self, entries: Sequence[dict[str, Any]]) -> None:
        """One row per unit and image; left out, and said, where pyarrow is missing."""
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            self.on_event(Note("no result.parquet: install it with pip install 'convscope[index]'"))
            return
        kinds = {"layer": "string", "unit": "int32", "rank": "int32", "image": "string", "value": "float32"}
        kinds |= dict.fromkeys(("row", "column", "top", "left", "bottom", "right"), "int32")
        schema = pyarrow.schema([(name, getattr(pyarrow, kind)()) for name, kind in kinds.items()])
        assert self.folder is not None
        buffer = io.BytesIO()  # it takes the name of a file for an address, and for text
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(_flat(entries), schema), buffer)
        write_bytes(self.folder / "result.parquet", buffer.getvalue())


def _embedded(sheet: np.ndarray | None) -> str | None:
    """A strip for the page, three quarters of its size."""
    return None if sheet is None else data_uri(sheet, longest=sheet.shape[1] * 3 // 4, quality=75)


def _flat(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row per layer, unit and picture."""
    found: list[dict[str, Any]] = []
    for entry in entries:
        for unit in entry["units"]:
            for rank, best in enumerate(unit["top"]):
                box = dict(zip(("top", "left", "bottom", "right"), best["box"], strict=True))
                # a name that is no text cannot be written
                image = best["image"].encode("utf-8", errors="replace").decode()
                plain = {"image": image, **{key: best[key] for key in ("value", "row", "column")}}
                found.append({"layer": entry["layer"], "unit": unit["unit"], "rank": rank, **plain, **box})
    return found
