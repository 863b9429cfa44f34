"""``convscope stats``: how active every unit is over a folder of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from .common import (
    BatchOption,
    DeviceOption,
    ForceOption,
    ImagesArgument,
    JsonOption,
    ModelArgument,
    OutOption,
    QuietOption,
    command_line,
    emit,
    emit_json,
    loading_options,
    open_model,
    progress,
    say,
)
from .pictures import Skipped, kept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..engine.activations.statistics import UnitStatistics
    from ..engine.graph.graph import Graph
    from ..engine.graph.layers import Layer
    from ..engine.pages.gallery import Item

LayersOption = Annotated[
    str | None, typer.Option("--layer", "-l", metavar="LAYER,...", help="Names and globs; default every feature map.")
]


@loading_options
def command(
    model: ModelArgument,
    images: ImagesArgument,
    layer: LayersOption = None,
    batch: BatchOption = 8,
    out: OutOption = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **options: Any,
) -> None:
    """Measure every unit over a folder of pictures: mean, spread, maximum, sparsity, dead units, correlations.

    Writes result.json and a page with the histograms. It can be interrupted: the same command goes on.
    """
    from ..engine.activations.folder_pass import picture_names
    from ..engine.pictures.read import image_paths

    paths = image_paths(images)
    graph = open_model(model, quiet=quiet, **options)
    layers = [la for la in graph.match(layer) if la.channels] if layer else [la for la in graph.layers if la.is_spatial]
    if not layers:
        raise UsageError(f"no layer with units in '{layer}'; list them: convscope info {model}")
    folder = out or Path(f"{graph.name}-stats")
    pictures = picture_names(paths, images)
    skipped = Skipped(quiet)
    states = _measure(graph, layers, pictures, folder / "state.npz", batch, device, force, skipped)
    skipped.refuse_all(len(pictures))
    _finish(graph, states, folder, skipped, as_json)
    skipped.finish(len(pictures))


def _measure(
    graph: Graph,
    layers: Sequence[Layer],
    pictures: dict[str, Path],
    file: Path,
    batch: int,
    device: str,
    force: bool,
    skipped: Skipped,
) -> Sequence[UnitStatistics]:
    """The layers' figures over the pictures; however it ends, what was seen is kept in ``file``."""
    import hashlib

    from ..engine.activations.folder_pass import identity, reduced_batches
    from ..engine.activations.statistics import UnitStatistics, restore_states, save_states

    whose = hashlib.sha256("".join(identity(graph, la) for la in layers).encode()).hexdigest()
    done, states = set[str](), [UnitStatistics.empty(la) for la in layers]
    if file.is_file() and not force:
        done, states = restore_states(file, whose, layers)
        gone = sorted(done - set(pictures))
        if gone:
            raise UsageError(f"'{gone[0]}' was measured by an earlier run and is gone; --force starts again")
        say(f"{len(done)} of {len(pictures)} images are done already", skipped.quiet)
    todo = {name: path for name, path in pictures.items() if name not in done}

    def save() -> None:
        if done:
            save_states(file, whose, sorted(done), states)

    with kept(save) as tick, progress(len(todo), "measuring", skipped.quiet, unit="images") as bar:
        for names, outputs in reduced_batches(graph, layers, todo, batch=batch, device=device, failed=skipped):
            for state in states:
                state.add(outputs)
            done.update(names)
            bar.advance(len(names), failed=len(skipped.failed))
            tick()
    return states


def _finish(graph: Graph, states: Sequence[UnitStatistics], folder: Path, skipped: Skipped, as_json: bool) -> None:
    from ..engine.pages.gallery import pictures_page
    from ..engine.render.artifacts import write_json, write_text

    entries = [state.to_json() for state in states]
    made_by = command_line()
    result = {
        "model": {"name": graph.name, "sha256": graph.sha256, "source": graph.source.path},
        "preprocessing": graph.preprocessing.to_json(),
        "command": made_by,
        "images": states[0].images,
        "layers": entries,
        "failed": skipped.failed,
    }
    write_json(folder / "result.json", {"schema_version": 1, **result})
    items = [_item(state, entry) for state, entry in zip(states, entries, strict=True)]
    facts = {"images": states[0].images, "layers": len(states)}
    html = pictures_page(f"{graph.name} · statistics", items, facts=facts, command=made_by)
    page = write_text(folder / "index.html", html)
    if as_json:
        emit_json(result)
        return
    _show(entries)
    emit(page)


def _item(state: UnitStatistics, entry: dict[str, Any]) -> Item:
    from ..engine.activations.statistics import histogram_picture
    from ..engine.pages.gallery import Item

    picture, (low, high) = histogram_picture(state)
    caption = f"A row per unit, a column per half octave of its largest value per picture: {low:.3g} to {high:.3g}."
    return Item(entry["layer"], picture, caption=caption, numbers=_row(entry))


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    """A layer in a few numbers."""
    units = entry["units"]
    closest = entry["correlated"][0] if entry["correlated"] else None
    return {
        "units": len(units),
        "mean": sum(u["mean"] for u in units) / len(units),
        "max": max(u["max"] for u in units),
        "zeros": sum(u["sparsity"] for u in units) / len(units),
        "dead": len(entry["dead"]),
        "always on": len(entry["always_on"]),
        "most correlated": f"{closest['a']} and {closest['b']}: {closest['correlation']:.3f}" if closest else "–",
    }


def _show(entries: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from .common import clean

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=140)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer", overflow="fold")
    for head in ("units", "mean", "max", "zeros", "dead", "always on", "most correlated"):
        table.add_column(head, justify="right", no_wrap=True)
    for entry in entries:
        row = _row(entry)
        numbers = [f"{row['mean']:.4g}", f"{row['max']:.4g}", f"{row['zeros']:.0%}"]
        counts = [str(row["dead"]), str(row["always on"]), row["most correlated"]]
        table.add_row(Text(clean(entry["layer"])), str(row["units"]), *numbers, *counts)
    console.print(table)
