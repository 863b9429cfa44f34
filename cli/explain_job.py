"""The work behind ``convscope explain``: pictures in batches, files out, a ranking at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RefusedInput, UsageError
from .common import command_line, emit, emit_json, progress, say
from .pictures import Skipped, unique

if TYPE_CHECKING:
    from ..engine.attribution import Attribution, Batch, Method
    from ..engine.graph.graph import Graph


@dataclass
class Job:
    """One run of the command: its settings, and what it has made so far."""

    graph: Graph
    methods: list[Method]
    every: bool  # all methods were asked for, so one that this model cannot have is left out
    wanted: str | None
    layer: str | None
    metrics: bool
    boxes: list[tuple[int, int, int, int]]
    settings: dict[str, Any]
    style: Any
    top: int
    folder: Path
    quiet: bool
    images: list[dict[str, Any]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    ranked: list[list[Any]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.skipped = Skipped(self.quiet)


def run(job: Job, paths: Sequence[Path], batch: int, device: str) -> None:
    """Explains the pictures batch by batch and writes their files; broken ones are said and skipped."""
    import numpy as np

    from ..engine.attribution import Batch, Executors

    executors = Executors(job.graph, device=device, batch=batch)
    with progress(len(paths), "explaining", job.quiet, unit="images") as bar:
        for part in _batches(job, paths, batch, bar):
            x = np.concatenate([given for _, _, given in part])
            _explain_part(job, Batch(executors, x), [(path, pixels) for path, pixels, _ in part], bar)


def _batches(job: Job, paths: Sequence[Path], size: int, bar: Any) -> Iterator[list[Any]]:
    """(path, pixels, model input) in lists of up to ``size``; unreadable images are reported and skipped."""
    from ..engine.pictures.read import model_input, stream

    part = []
    for path, found in stream(paths, lambda picture: (picture, model_input(picture, job.graph))):
        if isinstance(found, RefusedInput):
            job.skipped(path, found)
            bar.advance(1, failed=len(job.skipped.failed))
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


def _explain_part(job: Job, batch: Batch, pictures: Sequence[tuple[Path, Any]], bar: Any) -> None:
    results = _attributions(job, batch)
    (logits,) = batch.values([job.graph.logits])
    for index, (path, pixels) in enumerate(pictures):
        ranked = _rank(job, batch, index, results[index]) if job.metrics else []
        _write(job, path, pixels, _predictions(job, logits[index]), results[index], ranked)
        bar.advance(1)


def _attributions(job: Job, batch: Batch) -> list[list[Attribution]]:
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


def _check_settings(job: Job) -> None:
    known = {name for m in job.methods for name in m.options}
    for name in job.settings:
        if name not in known:
            takes = f"they take {', '.join(sorted(known))}" if known else "they take none"
            raise UsageError(f"--set {name}: no method here has that option; {takes}")


def _rank(job: Job, batch: Batch, index: int, attributions: Sequence[Attribution]) -> list[Any]:
    from ..engine.attribution.faithfulness.ranking import rank

    first = [a for a in attributions if a.target.index == attributions[0].target.index]
    ranked = rank(batch, index, first, boxes=job.boxes)
    job.ranked.append(ranked)
    return ranked


def _predictions(job: Job, logits: Any) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from ..engine.graph.labels import predictions

    return [asdict(p) for p in predictions(job.graph, logits, job.top)] if logits.ndim == 1 else []


def _write(
    job: Job,
    path: Path,
    pixels: Any,
    predictions: list[dict[str, Any]],
    attributions: Sequence[Attribution],
    ranked: Sequence[Any],
) -> None:
    from ..engine.pages import explanation as report

    folder = job.folder / unique(path.stem, job.names)
    saved = [report.save(job.graph, a, pixels, folder, job.style) for a in attributions]
    rows = [r.to_json() for r in ranked]
    entry: dict[str, Any] = {"file": str(path), "predictions": predictions, "maps": [s[0] for s in saved]}
    if rows:
        entry["metrics"] = rows
    job.images.append(entry)
    if len(job.entries) < report.PAGE_IMAGES:
        job.entries.append(report.page_entry(path.name, pixels, predictions, saved, rows))


def finish(job: Job, total: int, as_json: bool) -> None:
    """Writes result.json and the page, and prints the result.

    Raises:
        RefusedInput: no picture could be read. PartlyDone: some could not.
    """
    from ..engine.pages import explanation as report
    from ..engine.render.artifacts import write_json, write_text

    job.skipped.refuse_all(total)
    made_by = command_line()
    result = {
        "model": {"name": job.graph.name, "sha256": job.graph.sha256, "source": job.graph.source.path},
        "preprocessing": job.graph.preprocessing.to_json(),
        "command": made_by,
        "images": job.images,
        "failed": job.skipped.failed,
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
    job.skipped.finish(total)


def _show_ranking(job: Job) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..engine.attribution.faithfulness.ranking import average

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
