"""``explain``: pictures in batches, heatmaps to files or to memory, a ranking of the methods at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UnsupportedOperator, UsageError
from ..attribution import Attribution, Batch, Executors, Method, Question, explain_batch, find_methods
from ..attribution.explain import check_layer
from ..attribution.faithfulness.ranking import HEADINGS, LEGEND, Ranked, average, rank
from ..attribution.registry import default_method
from ..attribution.targets import direct
from ..executors.devices import check_device
from ..graph.graph import Graph
from ..outputs.reading import Answer, Reading
from ..outputs.registry import find_decoder
from ..pages import explanation
from ..pages.explanation import Style
from ..pictures.given import Source, sources
from ..pictures.read import Picture
from ..record import Record, write
from ..render import colormaps
from ..render.artifacts import unique, write_text
from ..render.overlay import STYLES
from ..whole import keep_whole
from .events import ImageDone, Note, OnEvent, Progress, ignore
from .folder import locked
from .images import Failures, batches
from .opening import Model, opened
from .reading import Asked, compared, in_words, outputs_record
from .result import Result, Table

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Options:
    """How to explain.

    Attributes:
        method: names with commas, or ``all``; default the one that suits the outputs.
        target: as for `attribution.explain`; default what the model says.
        box, of, region, mask, like, to, against: the rest of the question, see `Asked`.
        decoder: how to read the outputs where the default is wrong, see `outputs.DECODERS`.
        output: read this output alone.
        layer: for methods that look at one; default the last with spatial extent, or all that enter a head.
        metrics: rank the methods by how faithful they are on these pictures.
        boxes: (top, left, bottom, right) of the object, pixels of the model's input; for ``metrics``.
        settings: the methods' own options, for instance ``{"steps": 100}``.
        style: how heatmaps are drawn.
        top: predictions to report.
        batch: pictures per pass.
        device: "auto", "cpu" or "cuda[:n]".
    """

    method: str | None = None
    target: Any = None
    box: int | None = None
    of: str = "score"
    region: Box | None = None
    mask: Any = None
    like: Any = None
    to: float | None = None
    against: Any = None
    decoder: str | None = None
    output: str | None = None
    layer: str | None = None
    metrics: bool = False
    boxes: Sequence[Box] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    style: Style = field(default_factory=Style)
    top: int = 3
    batch: int = 16
    device: str = "auto"

    def check(self) -> list[Method]:
        """The methods, none for the default; what can be wrong without a model is refused before one is opened.

        Raises:
            UsageError: an unknown decoder, method, colormap, style or setting.
        """
        check_device(self.device)
        if self.decoder is not None:
            find_decoder(self.decoder)
        keep_whole(self, top=0, batch=1)
        methods = [] if self.method is None else find_methods(self.method)
        if methods and self.layer is not None:
            check_layer(methods)
        if self.boxes and not self.metrics:
            raise UsageError("boxes= with four sides is where the object is, for metrics=True; leave it out")
        colormaps.table(self.style.colormap)
        if self.style.kind not in STYLES:
            raise UsageError(f"style='{self.style.kind}' is unknown; choose {' or '.join(STYLES)}")
        if methods:
            self.check_settings(methods)
        return methods

    def check_settings(self, methods: Sequence[Method]) -> None:
        """Raises UsageError for a setting that none of the methods takes."""
        known = {name for method in methods for name in method.options}
        for name in self.settings:
            if name not in known:
                takes = f"they take {', '.join(sorted(known))}" if known else "they take none"
                raise UsageError(f"settings['{name}']: no method here has that option; {takes}")

    @property
    def asked(self) -> Asked:
        """The question."""
        return Asked(self.target, self.box, self.of, self.region, self.mask, self.like, self.to, self.against)

    @property
    def every(self) -> bool:
        """Whether all methods are asked for, so that one that the model cannot have is left out."""
        return "all" in [name.strip().lower() for name in (self.method or "").split(",")]


@dataclass(frozen=True, eq=False, repr=False)
class Explained(Result):
    """The result of `run`.

    Attributes:
        attributions: per picture, in the order of ``content["images"]``; empty where they were written to files,
            since a folder of pictures has more of them than memory holds.
        ranking: the methods' mean faithfulness over the pictures, the best first; empty without ``metrics``.
    """

    attributions: Sequence[Sequence[Attribution]] = ()
    ranking: Sequence[Ranked] = ()

    @property
    def table(self) -> Table | None:
        """The ranking, the best first; with the pointing game where it was asked where the object is."""
        if not self.ranking:
            return None
        images = len(self.content["images"])
        legend = f"{LEGEND}; {images} image{'s' * (images != 1)}"
        is_pointed = any(row.pointing is not None for row in self.ranking)
        headings = {name: heading for name, heading in HEADINGS.items() if name != "pointing" or is_pointed}
        rows = [
            (
                str(row.rank),
                row.method,
                *("–" if (n := getattr(row, name)) is None else f"{float(n):.3f}" for name in headings),
                "insensitive to the weights" if row.insensitive else "",
            )
            for row in self.ranking
        ]
        return Table(("rank", "method", *headings.values(), ""), rows, ("method", ""), legend)


def run(
    model: Model,
    images: Any,
    options: Options | None = None,
    folder: Path | None = None,
    *,
    command: str | None = None,
    on_event: OnEvent = ignore,
) -> Explained:
    """Explains pictures.

    Args:
        model: from `convscope.load`, or what opens it.
        images: pictures, as for `given.sources`: files, folders, arrays, tensors, or a list of these.
        options: default the method that suits the outputs, on what the model says.
        folder: writes each heatmap raw and drawn, ``result.json`` and ``index.html`` there; None keeps the heatmaps in
            the result.
        command: what the record says made it.
        on_event: told of every picture, of pictures left out, and of notes.

    Raises:
        UsageError: wrong use, see `Options.check` and `attribution.explain`. RefusedInput: no picture could be read.
    """
    options = options or Options()
    methods = options.check()
    graph = opened(model, folder, on_event, images)
    job = _Run(graph, options, methods, folder, on_event)
    pictures, _ = sources(images, graph.channels)
    with locked(folder):
        return job.run(pictures, Record.of(graph, command))


class _Run:
    """One run and what it has made so far."""

    def __init__(
        self, graph: Graph, options: Options, methods: list[Method], folder: Path | None, on_event: OnEvent
    ) -> None:
        self.graph, self.options, self.methods = graph, options, methods
        self.folder, self.on_event = folder, on_event
        self.failures = Failures(on_event)
        self.images: list[dict[str, Any]] = []
        self.attributions: list[list[Attribution]] = []
        self.entries: list[dict[str, Any]] = []  # of the page
        self.ranked: list[list[Ranked]] = []
        self.names: set[str] = set()
        self.executors = Executors(
            graph, device=options.device, batch=options.batch, decoder=options.decoder, output=options.output
        )

    def run(self, pictures: Sequence[Source], record: Record) -> Explained:
        reading = self.executors.reading
        question = self.options.asked.question(self.executors)
        self.on_event(Note(reading.in_words()))
        if not self.methods:
            self.methods = [default_method(self.executors, question, self.options.layer)]
            if self.methods[0].family == "perturbation":
                why = "which runs forward alone: an operator on the way has no gradient"
                self.on_event(Note(f"method: {self.methods[0].name}, {why}"))
            elif not self.methods[0].needs_layer:
                why = "which needs no feature map: none leads to what is explained"
                self.on_event(Note(f"method: {self.methods[0].name}, {why}"))
            self.options.check_settings(self.methods)
        self._hint(reading, question)
        self.on_event(Progress("explaining", 0, len(pictures), "images"))
        size = 1 if self.executors.one_at_a_time(reading.axes) else self.options.batch
        for part in batches(self.graph, pictures, size, self.failures, self.on_event):
            batch = Batch(self.executors, np.concatenate([x for _, x in part]))
            found = self._attributions(batch, question)
            rows = batch.rows(reading)
            for index, (picture, _) in enumerate(part):
                answer = reading.answer(rows[index], top=self.options.top)
                ranked = self._rank(batch, index, found[index]) if self.options.metrics else []
                self._keep(picture, answer, question, found[index], ranked, record)
                done = len(self.images) + len(self.failures.rows)
                self.on_event(Progress("explaining", done, len(pictures), "images"))
        self.failures.refuse_all(len(pictures))
        content = record.to_json({"outputs": outputs_record(reading), "images": self.images}, self.failures.rows)
        page = self._write(content, record)
        ranking = average(self.ranked) if self.ranked else ()
        return Explained(content, page, self.attributions, ranking, seen=len(pictures))

    def _hint(self, reading: Reading, question: Question) -> None:
        if reading.form == "embedding" and question.like is None and direct(self.graph, question) is None:
            self.on_event(Note("explaining the embedding's norm; like=OTHER.png asks what makes two pictures alike"))

    def _attributions(self, batch: Batch, question: Question) -> list[list[Attribution]]:
        """Every method in turn; with ``all``, those that this model cannot have are named and dropped."""
        results: list[list[Attribution]] = [[] for _ in batch.x]
        for method in list(self.methods):
            own = {k: v for k, v in self.options.settings.items() if k in method.options}
            try:
                found = explain_batch(batch, [method], question, self.options.layer, own)
            except (UsageError, UnsupportedOperator) as error:
                is_known = isinstance(error, UnsupportedOperator) or method.name in ("cam", "refinecam", "deeplift")
                if not self.options.every or not is_known:
                    raise
                self.on_event(Note(f"left out: {error}"))
                self.methods.remove(method)
                continue
            for row, more in zip(results, found, strict=True):
                row.extend(more)
        if not self.images and any(m.needs_layer for m in self.methods):
            used = next(a.layers for a in results[0] if a.layers)
            kind = "the maps that enter the head" if len(used) > 1 else "the last with spatial extent"
            why = "" if self.options.layer else f" ({kind}; layer= overrides)"
            self.on_event(Note(f"layer: {', '.join(used)}{why}"))
        return results

    def _rank(self, batch: Batch, index: int, attributions: Sequence[Attribution]) -> list[Ranked]:
        first = [a for a in attributions if a.target is attributions[0].target or _same(a, attributions[0])]
        ranked = rank(batch, index, first, boxes=self.options.boxes or _box_of(first[0]), options=self.options.settings)
        self.ranked.append(ranked)
        return ranked

    def _keep(
        self,
        picture: Picture,
        answer: Answer,
        question: Question,
        attributions: list[Attribution],
        ranked: Sequence[Ranked],
        record: Record,
    ) -> None:
        path = Path(picture.path)
        row: dict[str, Any] = {"file": str(path), **answer.to_json()}
        compared(row, answer, question.like)
        words = in_words(row, answer.text())
        metrics = [r.to_json() for r in ranked]
        if self.folder is None:
            self.attributions.append(attributions)
            row["maps"] = [a.to_json() for a in attributions]
        else:
            into = self.folder / unique(path.stem, self.names)
            saved = [
                explanation.save(self.graph, a, picture.pixels, into, self.options.style, record) for a in attributions
            ]
            row["maps"] = [entry for entry, _, _ in saved]
            if len(self.entries) < explanation.PAGE_IMAGES:
                entry = explanation.page_entry(self.graph, path.name, picture.pixels, answer, words, saved, metrics)
                self.entries.append(entry)
        if metrics:
            row["metrics"] = metrics
        self.images.append(row)
        self.on_event(ImageDone(row, f"sees {words}; explained: {explained_in_words(row['maps'])}"))

    def _write(self, content: Mapping[str, Any], record: Record) -> Path | None:
        if self.folder is None:
            return None
        write(self.folder, content)
        html = explanation.page(
            self.graph,
            self.entries,
            command=record.command or "",
            total=len(self.images),
            outputs=self.executors.reading.reason,
            colormap=self.options.style.colormap,
        )
        if len(self.images) > explanation.PAGE_IMAGES:
            shown = f"the page shows the first {explanation.PAGE_IMAGES} images"
            self.on_event(Note(f"{shown}; result.json lists all {len(self.images)}"))
        return write_text(self.folder / "index.html", html)


def explained_in_words(maps: Sequence[Mapping[str, Any]]) -> str:
    """What was explained of a picture, each target once with its number, and what these numbers are."""
    groups: dict[str, dict[str, None]] = {}
    for entry in maps:
        groups.setdefault(entry["meaning"], {})[f"{entry['class']} ({entry['score']:.3g})"] = None
    return "; ".join(f"{', '.join(listed)}: {meaning}" for meaning, listed in groups.items())


def _same(a: Attribution, b: Attribution) -> bool:
    """Whether two attributions have one target: made anew for every method, it is no longer the same object."""
    return a.target.to_json() == b.target.to_json()


def _box_of(attribution: Attribution) -> Sequence[Box]:
    """The box of a detection as (top, left, bottom, right) in whole pixels, for the pointing game."""
    box = attribution.target.box
    if box is None:
        return ()
    left, top, right, bottom = (round(side) for side in box)
    return ((top, left, max(bottom, top + 1), max(right, left + 1)),)
