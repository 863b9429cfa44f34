"""The work behind ``convscope top``: a pass that can stop and go on, then strips, numbers and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .common import clean, command_line, emit, emit_json, parse_units, progress, say
from .pictures import Skipped, kept, unique

if TYPE_CHECKING:
    from ..engine.activations.topk import TopImages
    from ..engine.graph.graph import Graph
    from ..engine.graph.layers import Layer

PAGE_UNITS = 1024  # a page holds its pictures inside; more would be slow to open


@dataclass(frozen=True)
class Job:
    """One run of the command: its settings."""

    graph: Graph
    layers: Sequence[Layer]
    k: int
    units: str
    folder: Path
    quiet: bool

    def state(self, layer: Layer, shard: tuple[int, int] | None = None) -> Path:
        """Where what is known of a layer is kept."""
        part = "" if shard is None else f".shard-{shard[0]}-of-{shard[1]}"
        return self.folder / "state" / f"{layer.index:04d}{part}.json"


def run(
    job: Job,
    folders: Sequence[Path],
    paths: Sequence[Path],
    shard: tuple[int, int] | None,
    batch: int,
    device: str,
    force: bool,
    as_json: bool,
) -> None:
    """Sees the pictures that no state knows, and writes what was found.

    Raises:
        UsageError: a state of another model, size or k is in the way, or a picture of it is gone.
        RefusedInput: no picture could be read. PartlyDone: some could not.
    """
    from ..engine.activations.folder_pass import picture_names
    from ..engine.activations.topk import shard_of

    for layer in job.layers:
        parse_units(job.units, layer.channels or 0)
    pictures = picture_names(paths, folders)
    states = [_known(job, layer, shard, force) for layer in job.layers]
    gone = sorted(set().union(*(s.done for s in states)) - set(pictures))
    if gone:
        raise UsageError(f"'{gone[0]}' was seen by an earlier run and is gone; --force starts again")
    mine = shard_of(list(pictures), shard)
    todo = {name: pictures[name] for name in mine if any(name not in s.done for s in states)}
    if len(todo) < len(mine):
        say(f"{len(mine) - len(todo)} of {len(mine)} images are done already", job.quiet)
    skipped = Skipped(job.quiet)
    _see(job, states, todo, shard, batch, device, skipped)
    skipped.refuse_all(len(mine))
    if shard is None:
        _finish(job, states, pictures, skipped, as_json)
    else:
        _shard_done(job, states, shard, skipped, as_json)
    skipped.finish(len(mine))


def _known(job: Job, layer: Layer, shard: tuple[int, int] | None, force: bool) -> TopImages:
    """What earlier runs have found: of this shard, or without one of all shards together."""
    from ..engine.activations.folder_pass import identity
    from ..engine.activations.topk import TopImages

    found = TopImages.empty(layer, job.k, identity(job.graph, layer))
    files = [job.state(layer, shard)] if shard else sorted((job.folder / "state").glob(f"{layer.index:04d}*.json"))
    for file in files:
        if force:
            file.unlink(missing_ok=True)
        elif file.is_file():
            earlier = TopImages.restore(file)
            if (earlier.identity, earlier.k) != (found.identity, found.k):
                raise UsageError(
                    f"'{file}' was made with another model, preprocessing, size or k; choose another -o, or --force"
                )
            found.merge(earlier)
    return found


def _see(
    job: Job,
    states: Sequence[TopImages],
    todo: dict[str, Path],
    shard: tuple[int, int] | None,
    batch: int,
    device: str,
    skipped: Skipped,
) -> None:
    """One pass over the pictures; however it ends, what was seen is kept."""
    from ..engine.activations.folder_pass import reduced_batches
    from ..engine.activations.topk import NEEDED

    def save() -> None:
        for layer, state in zip(job.layers, states, strict=True):
            if state.done:
                state.save(job.state(layer, shard))

    with kept(save) as tick, progress(len(todo), "looking", job.quiet, unit="images") as bar:
        for names, outputs in reduced_batches(
            job.graph, job.layers, todo, batch=batch, device=device, failed=skipped, statistics=NEEDED
        ):
            for layer, state in zip(job.layers, states, strict=True):
                state.add_outputs(layer, names, outputs)
            bar.advance(len(names), failed=len(skipped.failed))
            tick()


def _shard_done(job: Job, states: Sequence[TopImages], shard: tuple[int, int], skipped: Skipped, as_json: bool) -> None:
    files = [file for layer in job.layers if (file := job.state(layer, shard)).is_file()]  # none for an empty shard
    say("shard done; when all are, run the same command without --shard", job.quiet)
    if as_json:
        emit_json({"shard": list(shard), "images": len(states[0].done), "states": files, "failed": skipped.failed})
        return
    for file in files:
        emit(file)


def _finish(
    job: Job, states: Sequence[TopImages], pictures: Mapping[str, Path], skipped: Skipped, as_json: bool
) -> None:
    from ..engine.activations.top_pictures import rows
    from ..engine.pages.template import render_page
    from ..engine.render.artifacts import write_json, write_text

    entries, cards = [], []
    room = PAGE_UNITS
    for layer, state in zip(job.layers, states, strict=True):
        entry = {
            "layer": layer.name,
            "images": len(state.done),
            "units": rows(job.graph, layer, state, _shown(job, layer, state)),
        }
        cards.append({"layer": layer.name, "units": _strips(job, layer, entry["units"], pictures, room)})
        room -= len(cards[-1]["units"])
        entries.append(entry)
    made_by = command_line()
    result = {
        "model": {"name": job.graph.name, "sha256": job.graph.sha256, "source": job.graph.source.path},
        "preprocessing": job.graph.preprocessing.to_json(),
        "command": made_by,
        "k": job.k,
        "images": len(states[0].done),
        "layers": entries,
        "failed": skipped.failed,
    }
    write_json(job.folder / "result.json", {"schema_version": 1, **result})
    _parquet(job, entries)
    facts = {"images": len(states[0].done), "per unit": job.k}
    data = {"layers": cards, "total": sum(len(e["units"]) for e in entries)}
    title = f"{job.graph.name} · what excites each unit"
    page = write_text(
        job.folder / "index.html", render_page("top.html", title=title, facts=facts, command=made_by, data=data)
    )
    if as_json:
        emit_json(result)
    else:
        emit(page)


def _shown(job: Job, layer: Layer, state: TopImages) -> list[int]:
    wanted = parse_units(job.units, layer.channels or 0)
    if wanted.top is None:
        return list(wanted.indices)
    return [int(u) for u in (-state.values[:, 0]).argsort(kind="stable")[: wanted.top]]


def _strips(
    job: Job, layer: Layer, units: Sequence[dict[str, Any]], pictures: Mapping[str, Path], room: int
) -> list[dict[str, Any]]:
    """Writes each unit's strip, puts its file into its row, and returns the page's part for the first ``room``."""
    from ..engine.activations.top_pictures import strips
    from ..engine.pages.template import data_uri
    from ..engine.render.artifacts import save_png

    folder = f"{layer.index:04d}-{unique(layer.name, set())}"
    count = len({best["image"] for unit in units for best in unit["top"]})
    with progress(count, f"crops of {layer.name}", job.quiet, unit="images") as bar:
        sheets = strips(job.graph, units, pictures, lambda: bar.advance(1))
    cards: list[dict[str, Any]] = []
    for unit in units:
        sheet = sheets.get(unit["unit"])
        unit["file"] = None if sheet is None else f"{folder}/unit_{unit['unit']:04d}.png"
        if sheet is not None:
            metadata = {
                "convscope": f"{job.graph.name} sha256 {job.graph.sha256}",
                "layer": layer.name,
                "unit": str(unit["unit"]),
            }
            save_png(job.folder / unit["file"], sheet, metadata)
        if len(cards) < room:
            picture = None if sheet is None else data_uri(sheet, longest=72 * max(len(unit["top"]), 1), quality=75)
            cards.append({**unit, "name": _class_name(job.graph, layer, unit["unit"]), "picture": picture})
    return cards


def _class_name(graph: Graph, layer: Layer, unit: int) -> str:
    """What a unit of the output is called, else nothing."""
    is_output = layer.tensor in (graph.logits, graph.outputs[0].name)
    return graph.labels[unit] if is_output and graph.labels and unit < len(graph.labels) else ""


def _parquet(job: Job, entries: Sequence[dict[str, Any]]) -> None:
    """One row per unit and image; left out, and said, where pyarrow is missing."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        say("no result.parquet: install it with pip install 'convscope[index]'", job.quiet)
        return
    from ..engine.render.artifacts import atomic

    table: list[dict[str, Any]] = []
    for entry in entries:
        for unit in entry["units"]:
            for rank, best in enumerate(unit["top"]):
                box = dict(zip(("top", "left", "bottom", "right"), best["box"], strict=True))
                plain = {key: best[key] for key in ("value", "row", "column")}
                plain["image"] = clean(best["image"])  # a name that is no text cannot be written
                table.append({"layer": entry["layer"], "unit": unit["unit"], "rank": rank, **plain, **box})
    kinds = {"layer": "string", "unit": "int32", "rank": "int32", "image": "string", "value": "float32"}
    kinds |= dict.fromkeys(("row", "column", "top", "left", "bottom", "right"), "int32")
    schema = pyarrow.schema([(name, getattr(pyarrow, kind)()) for name, kind in kinds.items()])
    with atomic(job.folder / "result.parquet") as temporary:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table, schema), temporary)
