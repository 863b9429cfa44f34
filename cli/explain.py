"""``convscope explain``: heatmaps of what speaks for a class, and a ranking of the methods by faithfulness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PartlyDone, RefusedInput, UsageError
from .common import (
    DeviceOption,
    JsonOption,
    LayerOption,
    ModelArgument,
    OutOption,
    QuietOption,
    clean,
    emit,
    emit_json,
    loading_options,
    open_model,
    progress,
    say,
)

if TYPE_CHECKING:
    from ..engine.attribution import Attribution, Batch, Method
    from ..engine.graph import Graph

ImagesArgument = Annotated[
    list[Path], typer.Argument(metavar="IMAGE...", help="Pictures, or folders of pictures.", show_default=False)
]
MethodOption = Annotated[
    str, typer.Option("--method", "-m", metavar="NAME,...", help="gradcam, layercam, integratedgradients, ... or all.")
]
ClassOption = Annotated[
    str | None,
    typer.Option(
        "--class",
        "-c",
        metavar="CLASS",
        help="Name, index, top:3, unit:LAYER:UNIT[@ROW,COLUMN] or output:NAME:INDEX; default the predicted class.",
    ),
]
MetricsOption = Annotated[bool, typer.Option("--metrics", help="Rank the methods by how faithful they are here.")]
ColormapOption = Annotated[str, typer.Option("--colormap", metavar="NAME", help="jet, turbo, viridis, magma, ...")]
AlphaOption = Annotated[float, typer.Option("--alpha", min=0.0, max=1.0, help="Weight of the colours.")]
StyleOption = Annotated[
    str, typer.Option("--style", metavar="STYLE", help="lecture (the classic Keras overlay) or blend.")
]
BoxOption = Annotated[
    list[str] | None,
    typer.Option("--box", metavar="T,L,B,R", help="Where the object is, pixels of the model's input; for --metrics."),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A method's own option, like steps=100.")
]
BatchOption = Annotated[int, typer.Option("--batch", min=1, help="Images per pass.")]
TopOption = Annotated[int, typer.Option("--top", min=1, help="Predictions to report.")]


@loading_options
def command(
    model: ModelArgument,
    images: ImagesArgument,
    method: MethodOption = "gradcam",
    wanted: ClassOption = None,
    layer: LayerOption = None,
    metrics: MetricsOption = False,
    box: BoxOption = None,
    settings: SetOption = None,
    colormap: ColormapOption = "jet",
    alpha: AlphaOption = 0.4,
    style: StyleOption = "lecture",
    top: TopOption = 3,
    batch: BatchOption = 16,
    out: OutOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **options: Any,
) -> None:
    """Show where in a picture the evidence for a class lies.

    Writes each heatmap raw (npy), coloured and laid over the picture, a side-by-side page and result.json.
    """
    from ..engine.attribution.methods import find_methods
    from ..engine.attribution.report import Style
    from ..engine.images import image_paths
    from ..engine.render import colormaps, overlay

    methods = find_methods(method)
    colormaps.table(colormap)
    if style not in overlay.STYLES:
        raise UsageError(f"--style '{style}' is unknown; choose {' or '.join(overlay.STYLES)}")
    boxes = [_box(text) for text in box or ()]
    paths = image_paths(images)
    graph = open_model(model, quiet=quiet, **options)
    job = _Job(
        graph=graph,
        methods=methods,
        every="all" in [m.strip().lower() for m in method.split(",")],
        wanted=wanted,
        layer=layer,
        metrics=metrics,
        boxes=boxes,
        settings=_settings(settings or ()),
        style=Style(colormap, alpha, style),
        top=top,
        folder=out or Path(f"{graph.name}-explained"),
        quiet=quiet,
    )
    _run(job, paths, batch, device)
    _finish(job, len(paths), as_json)


class _Job:
    """One run of the command: its settings, and what it has made so far."""

    def __init__(self, **settings: Any) -> None:
        self.graph: Graph = settings["graph"]
        self.methods: list[Method] = settings["methods"]
        self.every: bool = settings["every"]
        self.wanted: str | None = settings["wanted"]
        self.layer: str | None = settings["layer"]
        self.metrics: bool = settings["metrics"]
        self.boxes: list[tuple[int, int, int, int]] = settings["boxes"]
        self.settings: dict[str, Any] = settings["settings"]
        self.style: Any = settings["style"]
        self.top: int = settings["top"]
        self.folder: Path = settings["folder"]
        self.quiet: bool = settings["quiet"]
        self.images: list[dict[str, Any]] = []
        self.entries: list[dict[str, Any]] = []
        self.failed: list[dict[str, str]] = []
        self.ranked: list[list[Any]] = []
        self.names: set[str] = set()


def _run(job: _Job, paths: Sequence[Path], batch: int, device: str) -> None:
    import numpy as np

    from ..engine.attribution import Batch, Executors

    executors = Executors(job.graph, device=device, batch=batch)
    with progress(len(paths), "explaining", job.quiet, unit="images") as bar:
        for part in _batches(job, paths, batch, bar):
            x = np.concatenate([given for _, _, given in part])
            _explain_part(job, Batch(executors, x), [(path, pixels) for path, pixels, _ in part], bar)


def _batches(job: _Job, paths: Sequence[Path], size: int, bar: Any) -> Iterator[list[Any]]:
    """(path, pixels, model input) in lists of up to ``size``; unreadable images are reported and skipped."""
    from ..engine.images import model_input, stream

    part = []
    for path, found in stream(paths, lambda picture: (picture, model_input(picture, job.graph))):
        if isinstance(found, RefusedInput):
            say(f"skipped: {found}", job.quiet)
            job.failed.append({"file": str(path), "error": str(found)})
            bar.advance(1, failed=len(job.failed))
            continue
        picture, given = found
        for note in picture.notes:
            say(f"{path.name}: {note}", job.quiet)
        part.append((path, picture.pixels, given))
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def _explain_part(job: _Job, batch: Batch, pictures: Sequence[tuple[Path, Any]], bar: Any) -> None:
    results = _attributions(job, batch)
    (logits,) = batch.values([job.graph.logits])
    for index, (path, pixels) in enumerate(pictures):
        ranked = _rank(job, batch, index, results[index]) if job.metrics else []
        _write(job, path, pixels, _predictions(job, logits[index]), results[index], ranked)
        bar.advance(1)


def _attributions(job: _Job, batch: Batch) -> list[list[Attribution]]:
    """Every method in turn; with ``all``, those that this model cannot have are named and dropped."""
    from ..engine.attribution import explain_batch

    results: list[list[Attribution]] = [[] for _ in batch.x]
    _check_settings(job)
    for method in list(job.methods):
        own = {k: v for k, v in job.settings.items() if k in method.options}
        try:
            found = explain_batch(batch, [method], job.wanted, job.layer, own)
        except UsageError as error:
            if not job.every or method.name != "cam":
                raise
            say(f"left out: {error}", job.quiet)
            job.methods.remove(method)
            continue
        for row, more in zip(results, found, strict=True):
            row.extend(more)
    if not job.images and any(m.needs_layer for m in job.methods):
        used = next(a.layers for a in results[0] if a.layers)
        say(
            f"layer: {', '.join(used)}{'' if job.layer else ' (the last with spatial extent; --layer overrides)'}",
            job.quiet,
        )
    return results


def _check_settings(job: _Job) -> None:
    known = {name for m in job.methods for name in m.options}
    for name in job.settings:
        if name not in known:
            takes = f"they take {', '.join(sorted(known))}" if known else "they take none"
            raise UsageError(f"--set {name}: no method here has that option; {takes}")


def _rank(job: _Job, batch: Batch, index: int, attributions: Sequence[Attribution]) -> list[Any]:
    from ..engine.attribution.ranking import rank

    first = [a for a in attributions if a.target.index == attributions[0].target.index]
    ranked = rank(batch, index, first, boxes=job.boxes)
    job.ranked.append(ranked)
    return ranked


def _predictions(job: _Job, logits: Any) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from ..engine.labels import predictions

    return [asdict(p) for p in predictions(job.graph, logits, job.top)] if logits.ndim == 1 else []


def _write(
    job: _Job,
    path: Path,
    pixels: Any,
    predictions: list[dict[str, Any]],
    attributions: Sequence[Attribution],
    ranked: Sequence[Any],
) -> None:
    from ..engine.attribution import report

    folder = job.folder / _unique(path.stem, job.names)
    saved = [report.save(job.graph, a, pixels, folder, job.style) for a in attributions]
    rows = [r.to_json() for r in ranked]
    entry: dict[str, Any] = {"file": str(path), "predictions": predictions, "maps": [s[0] for s in saved]}
    if rows:
        entry["metrics"] = rows
    job.images.append(entry)
    if len(job.entries) < report.PAGE_IMAGES:
        job.entries.append(report.page_entry(path.name, pixels, predictions, saved, rows))


def _finish(job: _Job, total: int, as_json: bool) -> None:
    import shlex
    import sys

    from ..engine.attribution import report
    from ..engine.render.artifacts import write_json, write_text

    if not job.images:
        raise RefusedInput(f"none of the {total} images could be read; the first: {job.failed[0]['error']}")
    made_by = shlex.join(["convscope", *sys.argv[1:]])
    result = {
        "model": {"name": job.graph.name, "sha256": job.graph.sha256, "source": job.graph.source.path},
        "preprocessing": job.graph.preprocessing.to_json(),
        "command": made_by,
        "images": job.images,
        "failed": job.failed,
    }
    write_json(job.folder / "result.json", {"schema_version": 1, **result})
    html = report.page(job.graph, job.entries, command=made_by, total=len(job.images))
    index = write_text(job.folder / "index.html", html)
    if len(job.images) > report.PAGE_IMAGES:
        say(f"the page shows the first {report.PAGE_IMAGES} images; result.json lists all {len(job.images)}", job.quiet)
    if as_json:
        emit_json(result)
    else:
        if job.ranked:
            _show_ranking(job)
        emit(index)
    if job.failed:
        raise PartlyDone(f"{len(job.failed)} of {total} images could not be read; the others are done")


def _show_ranking(job: _Job) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..engine.attribution.ranking import average

    rows = average(job.ranked)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=140)
    table = Table(box=None, pad_edge=False, header_style="bold")
    heads = [
        "rank",
        "method",
        "deletion -",
        "insertion +",
        "avg drop -",
        "increase +",
        "ROAD +",
        "sensitivity -",
        "randomized -",
    ]
    for head in [*heads, *(["in box +"] if job.boxes else []), ""]:
        table.add_column(head, justify="left" if head in ("method", "") else "right", no_wrap=True)
    for row in rows:
        numbers = [
            row.deletion,
            row.insertion,
            row.average_drop,
            row.increase,
            row.road,
            row.sensitivity,
            row.similarity,
        ]
        cells = [str(row.rank), row.method, *("–" if n is None else f"{n:.3f}" for n in numbers)]
        if job.boxes:
            cells.append("–" if row.pointing is None else f"{float(row.pointing):.2f}")
        table.add_row(*cells, "insensitive to the weights" if row.insensitive else "")
    console.print(table)
    say(
        "+ high is good, - low is good; rank by the mean place in deletion, insertion, average drop and ROAD; "
        f"{len(job.ranked)} image{'s' if len(job.ranked) > 1 else ''}",
        job.quiet,
    )


def _box(text: str) -> tuple[int, int, int, int]:
    parts = text.split(",")
    if len(parts) != 4 or not all(p.strip().isascii() and p.strip().isdigit() for p in parts):
        raise UsageError(f"--box '{text}' is not understood; write top,left,bottom,right in pixels")
    top, left, bottom, right = (int(p) for p in parts)
    if top >= bottom or left >= right:
        raise UsageError(f"--box '{text}' is empty; write top,left,bottom,right in pixels")
    return top, left, bottom, right


def _settings(texts: Sequence[str]) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier():
            raise UsageError(f"--set '{clean(text)}' is not understood; write NAME=VALUE")
        found[name] = _number(value)
    return found


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _unique(stem: str, taken: set[str]) -> str:
    """A folder name for a picture; a second picture of that name gets a number."""
    name, number = stem, 2
    while name.lower() in taken:
        name, number = f"{stem}-{number}", number + 1
    taken.add(name.lower())
    return name
