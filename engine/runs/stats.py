"""``stats``: how active every unit is over many pictures, by a pass that can stop and go on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DamagedState, UsageError
from ..activations.folder_pass import measurement_identity
from ..activations.statistics import FEWEST_ALIKE, UnitStatistics, restore_states, save_states
from ..executors.devices import check_device
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..pages.siblings import connect
from ..pages.statistics import statistics_page
from ..record import Record, write
from ..render.artifacts import write_text
from ..whole import keep_whole
from .activations import with_units
from .events import Note, OnEvent, Progress, ignore
from .folder import locked
from .images import Failures
from .opening import Model, opened
from .passes import named_pictures, remaining, see
from .result import Result, Table

_STATE = "state.npz"
_LISTED = 12  # units or pairs that a sentence lists
ALIKE = 0.95  # correlation from which two units say the same


@dataclass(frozen=True)
class Options:
    """What to measure.

    Attributes:
        layer: names and globs with commas; None is every feature map, and every layer of tokens with a grid.
        batch: pictures per pass.
        device: "auto", "cpu" or "cuda[:n]".
        force: measure all pictures again.
    """

    layer: str | None = None
    batch: int = 8
    device: str = "auto"
    force: bool = False

    def check(self) -> None:
        """Raises UsageError for a batch that is none."""
        check_device(self.device)
        keep_whole(self, batch=1)


@dataclass(frozen=True, eq=False, repr=False)
class Measured(Result):
    """The result of `run`."""

    @property
    def table(self) -> Table:
        """A row per layer, see `summary`."""
        numbers = ("units", "mean", "max", "zeros", "dead", "always on", "most correlated")
        found = [(entry["layer"], summary(entry)) for entry in self.content["layers"]]
        forms = {"mean": ".4g", "max": ".4g", "zeros": ".0%"}
        rows = [(name, *(format(row[key], forms.get(key, "")) for key in numbers)) for name, row in found]
        return Table(("layer", *numbers), rows, words=("layer",))


def run(
    model: Model,
    images: Any,
    options: Options | None = None,
    folder: Path | None = None,
    *,
    command: str | None = None,
    on_event: OnEvent = ignore,
) -> Measured:
    """Mean, spread, maximum, sparsity, histogram of every unit; dead and always-on units; pairs that correlate.

    Args:
        model: from `convscope.load`, or what opens it.
        images: pictures, as for `given.sources`; best one folder.
        options: default every feature map.
        folder: keeps the state, and gets ``result.json`` and ``index.html``. None keeps the numbers in the result.
        command: what the record says made it.
        on_event: told of every batch, and of pictures left out.

    Raises:
        UsageError: an unknown layer; a state of another model, size or layers; a picture of it that is gone.
        RefusedInput: no picture could be read.
    """
    options = options or Options()
    options.check()
    graph = opened(model, folder, on_event, images)
    layers = _layers(graph, options.layer, on_event)
    pictures = named_pictures(graph, images, keeps=folder is not None)
    whose = hashlib.sha256("".join(measurement_identity(graph, la) for la in layers).encode()).hexdigest()
    failures = Failures(on_event)
    with locked(folder):
        file = None if folder is None else folder / _STATE
        done, states = set[str](), [UnitStatistics.empty(la) for la in layers]
        if file is not None and file.is_file() and not options.force:
            try:
                done, states = restore_states(file, whose, layers)
            except DamagedState:
                on_event(Note(f"{file} is damaged; its pictures are measured again"))
        todo = remaining(pictures, done, list(pictures), on_event)

        def add(names: list[str], outputs: dict[str, np.ndarray]) -> None:
            for state in states:
                state.add(outputs)
            done.update(names)

        def save() -> None:
            if done and file is not None:
                save_states(file, whose, sorted(done), states)

        see(
            graph,
            layers,
            todo,
            add,
            save,
            stage="measuring",
            batch=options.batch,
            device=options.device,
            failures=failures,
            on_event=on_event,
        )
        failures.refuse_all(len(pictures))
        entries: list[dict[str, Any]] = []
        for state in states:  # of a large model this takes as long as some pictures do
            on_event(Progress("summing up", len(entries), len(states), "layers"))
            entries.append(state.to_json())
        on_event(Progress("summing up", len(entries), len(states), "layers"))
        if states[0].images < FEWEST_ALIKE:
            few = f"{states[0].images} picture{'s' * (states[0].images != 1)}"
            on_event(Note(f"which units are alike is not told from {few}: give at least {FEWEST_ALIKE}"))
        for entry in entries:
            if told := in_words(entry):
                on_event(Note(f"{entry['layer']}: {told}"))
        record = Record.of(graph, command)
        content = record.to_json({"images": states[0].images, "layers": entries}, failures.rows)
        page = None
        if folder is not None:
            write(folder, content)
            title = f"{graph.name} · statistics"
            html = statistics_page(title, states, entries, alike=ALIKE, command=record.command or "")
            page = write_text(folder / "index.html", html)
            connect(graph, folder)
    return Measured(content, page, seen=len(pictures))


def summary(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A layer of ``content["layers"]`` in a few numbers."""
    units = entry["units"]
    known = [u for u in units if not np.isnan(u["mean"])] or units  # of NaN in every picture nothing is known
    closest = entry["correlated"][0] if entry["correlated"] and entry["images"] >= FEWEST_ALIKE else None
    return {
        "units": len(units),
        "mean": sum(u["mean"] for u in known) / len(known),
        "max": max(u["max"] for u in known),
        "zeros": sum(u["sparsity"] for u in known) / len(known),
        "dead": len(entry["dead"]),
        "always on": len(entry["always_on"]),
        "most correlated": f"{closest['a']} and {closest['b']}: {closest['correlation']:.3f}" if closest else "–",
    }


def in_words(entry: Mapping[str, Any]) -> str:
    """Which units of a layer are dead, always on, or say the same; "" where none are."""
    pairs = entry["correlated"] if entry["images"] >= FEWEST_ALIKE else []  # over fewer nearly all would be
    alike = [f"{p['a']} and {p['b']}" for p in pairs if abs(p["correlation"]) >= ALIKE]
    kinds = {"dead": entry["dead"], "always on": entry["always_on"], "alike": alike}
    parts = []
    for name, found in kinds.items():
        if found:
            listed = ", ".join(map(str, found[:_LISTED])) + (", ..." if len(found) > _LISTED else "")
            parts.append(f"{name}: {listed}")
    return "; ".join(parts)


def _layers(graph: Graph, patterns: str | None, on_event: OnEvent) -> list[Layer]:
    if patterns is None:
        found = [la for la in graph.layers if la.has_maps]
        if not found:
            raise UsageError(f"{graph.name} has no feature maps; name layers with layer=")
        return found
    return list(with_units(graph, patterns, on_event))
