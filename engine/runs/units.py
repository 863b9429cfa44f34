"""What `filters` and `maximize` share: their options, the folder that fills, its grid, numbers and page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ..ascent.album import MANIFEST
from ..ascent.fitting import asked_batch, check_precision
from ..ascent.many import AscentProgress
from ..ascent.recipe.canvases import Noise
from ..ascent.results import DEAD, WEAK, AscentResult
from ..ascent.settings import check_noise
from ..graph.graph import Graph
from ..pages.wall import stitched, write_animations, write_page, write_wall
from ..pictures.given import check_paths, photographs
from ..record import FILE, Record
from ..whole import keep_whole
from .ascent import AscentOptions
from .events import Note, OnEvent, Preview, Progress
from .photograph import read_photo

_REFRESH = 3  # seconds between reloads of a page that is being filled
FRAMES = 24  # of an animation, beside its start and its end
_NAMED = 12  # weak or dead units that the summary lists


@dataclass(frozen=True, kw_only=True)
class Options(AscentOptions):
    """How pictures of units are made and shown.

    Attributes:
        start: a picture to start from: what `given.sources` takes.
        noise: pixel noise to start from, or its kind, "uniform" or "normal".
        noise_mean, noise_std: of such a kind, in 0..255; default 127 and 10.
        neuron, negative, alpha, batch, precision: as for `ascent.filters`.
        photos: photographs to judge by instead of the shipped ones, and for `vital` to draw after: what `given.sources`
            takes, at most ``given.MOST`` of them.
        animate: write an animation of each unit's ascent beside its picture, ``unit-0000.webp``, of at least
            ``FRAMES`` pictures on the way.
        columns, margin: pictures per row of the grid (default the smallest square), pixels between them.
        live: keep the page up to date while it is filled.
        force: begin anew in a folder that holds something else, or the same.
    """

    start: Any = None
    noise: Noise | str | None = None
    noise_mean: float | None = None
    noise_std: float | None = None
    neuron: bool | None = None
    negative: bool = False
    alpha: bool = False
    batch: int | str = "auto"
    precision: str = "auto"
    photos: Any = None
    animate: bool = False
    columns: int | None = None
    margin: int = 2
    live: bool = False
    force: bool = False

    def check(self) -> None:
        """Raises UsageError for a preset or setting that no model can have."""
        super().check()
        check_precision(self.precision)
        asked_batch(self.batch)
        if (noise := self.pixel_noise) is not None:
            check_noise(noise)
            if self.start is not None:
                raise UsageError("noise= and start= exclude each other; give one of them")
        check_paths(self.start)
        check_paths(self.photos)
        keep_whole(self, columns=1, margin=0)

    @property
    def pixel_noise(self) -> Noise | None:
        """The noise that is stated; None for the preset's."""
        if isinstance(self.noise, str):
            mean = 127 if self.noise_mean is None else self.noise_mean
            return Noise(self.noise, mean, 10 if self.noise_std is None else self.noise_std)
        if self.noise_mean is not None or self.noise_std is not None:
            raise UsageError("noise_mean= and noise_std= describe noise=; add noise=uniform or noise=normal")
        return self.noise

    def of_ascent(self, graph: Graph, *more: str) -> dict[str, Any]:
        """The keywords of `ascent.filters` and `ascent.maximize` alike, for this model; and further ones by name.

        Raises:
            UsageError: pictures that are none, or too many. RefusedInput: one cannot be read.
        """
        photos = None if self.photos is None else photographs(graph, self.photos)
        strip = max(self.strip, FRAMES) if self.animate else self.strip
        found = self.keywords("negative", "alpha", "batch", "precision", "force", *more)
        if found.get("start") is not None:
            found["start"] = read_photo(self.start, graph).pixels
        if "noise" in found:
            found["noise"] = self.pixel_noise
        return {**found, "strip": strip, "photos": photos}


def stated(options: Options, names: Sequence[str]) -> str | None:
    """The first of these options that is not its default, or None."""
    usual = Options()
    for name in names:
        given, other = getattr(options, name), getattr(usual, name)
        same = given is other or (isinstance(given, str | int | float) and given == other)  # an array has no one answer
        if not same:
            return name
    return None


def check_place(options: Options, folder: Path | None) -> None:
    """Raises UsageError for what is written into a folder where there is none."""
    if folder is None and (name := stated(options, ("animate", "live"))) is not None:
        raise UsageError(f"{name}=True writes into a folder; name one with folder=, or leave it out")


class Wall:
    """Units of one layer while they become pictures, in a folder or in memory.

    Args:
        layer: its name.
        units: those asked for.
        options: how they are made and shown.
        folder: where they go, or None.
        record: what made them.
        kind: "units" or "classes".
        on_event: told of every unit.

    Raises:
        UsageError: the folder holds the result of another command.
    """

    def __init__(
        self,
        layer: str,
        units: Sequence[int],
        options: Options,
        folder: Path | None,
        record: Record,
        kind: str,
        on_event: OnEvent,
    ) -> None:
        self._layer, self._units, self._options, self._folder = layer, list(units), options, folder
        self._record, self._kind, self._on_event = record, kind, on_event
        self._so_far: AscentResult | None = None
        self._animated = set[int]()
        self._earlier: int | None = None  # units that an earlier run has finished
        if folder is not None and not options.force:
            _check_album(folder)

    def make(self, ascent: Callable[..., AscentResult]) -> AscentResult:
        """The finished result of an ascent that takes ``folder``, ``progress`` and ``on_unit``, and its files.

        Where the work is interrupted, what is kept is said, and a page that fills itself stops reloading.
        """
        try:
            result = ascent(folder=self._folder, progress=self._progress, on_unit=self._on_unit)
        except BaseException as exc:
            if self._folder is not None and self._options.live and self._so_far is not None:
                with suppress(Exception):  # what ended the work is what the user must hear of
                    write_page(self._folder, self._so_far)
            if isinstance(exc, KeyboardInterrupt) and self._folder is not None:
                kept = len(self._so_far) if self._so_far is not None else self._earlier or 0
                self._note(f"{kept} of {len(self._units)} {self._kind} are kept; the same command continues")
            raise
        result = replace(result, record=self._record)
        self._say_verdicts(result)
        self._animate(result)
        if self._folder is not None:
            write_wall(self._folder, result, self._options.columns, self._options.margin)
        return result

    def _animate(self, result: AscentResult) -> None:
        if self._options.animate and self._folder is not None:
            write_animations(self._folder, result, self._animated)

    def _progress(self, steps: AscentProgress) -> None:
        total = len(self._units)
        if self._earlier is None:
            self._earlier = total - steps.total
            if self._earlier:
                self._note(f"{self._earlier} of {total} {self._kind} are finished in {self._folder}")
            self._tell(self._earlier)
        ahead = steps.batch * steps.step / steps.steps
        self._tell(self._earlier + steps.done, min(ahead, steps.batch), f"step {steps.step}/{steps.steps}")

    def _on_unit(self, so_far: AscentResult) -> None:
        self._so_far = so_far = replace(so_far, record=self._record)
        self._animate(so_far)
        self._tell(len(so_far))
        self._on_event(Preview(lambda: stitched(so_far, self._options.columns, self._options.margin)))
        if self._options.live and self._folder is not None:
            done = {row["unit"] for row in so_far.to_json()["units"]}
            write_page(self._folder, so_far, [u for u in self._units if u not in done], _REFRESH)

    def _tell(self, done: int, ahead: float = 0.0, detail: str = "") -> None:
        stage = f"{self._record.model['name']} {self._layer}"
        self._on_event(Progress(stage, done, len(self._units), self._kind, ahead, detail))

    def _note(self, text: str) -> None:
        self._on_event(Note(text))

    def _say_verdicts(self, result: AscentResult) -> None:
        if not len(result) and self._units:
            what = f"all {len(self._units)} {self._kind} of {self._layer} are dead"
            self._note(f"{what}; without top: they are shown, crossed out")
        rows = result.to_json()["units"]
        for words in (summary(rows, self._kind), started(rows, self._kind)):
            if words:
                self._note(f"{self._layer}: {words}")


def summary(rows: Sequence[Mapping[str, Any]], kind: str = "units") -> str:
    """The verdicts in a line, ``53 of 64 units weak: 3, 8, ...; 2 dead: 11, 40``, or nothing where all are well."""
    parts: list[str] = []
    for status in (WEAK, DEAD):
        found = [row["unit"] for row in rows if row["status"] == status]
        if found:
            of = f" of {len(rows)} {kind}" if not parts else ""
            parts.append(f"{len(found)}{of} {status}: {_listed(found)}")
    return "; ".join(parts)


def started(rows: Sequence[Mapping[str, Any]], kind: str = "units") -> str:
    """Which pictures were begun from a photograph, and may still show it; nothing where none was."""
    found = [row["unit"] for row in rows if "photograph" in row["rescue"]]
    if not found:
        return ""
    steps = min(row["steps"] for row in rows if "photograph" in row["rescue"])
    return (
        f"{len(found)} of {len(rows)} {kind} were begun from a photograph, since noise led to less, and may still show "
        f"it after {steps} steps: {_listed(found)}"
    )


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:_NAMED])) + (", ..." if len(numbers) > _NAMED else "")


def _check_album(folder: Path) -> None:
    if (folder / FILE).exists() and not (folder / MANIFEST).exists():
        raise UsageError(
            f"{folder} holds the result of another command; choose another folder, or force=True to write into it"
        )
