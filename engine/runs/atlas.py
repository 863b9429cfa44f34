"""``atlas``: every unit of a model in one folder, how much work that is, and what there is to ask of such a folder."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UsageError
from ..activations.fields import check_field
from ..ascent.recipe.presets import AUTO, Preset
from ..atlas import files, report
from ..atlas.build import COARSE_STAGES, STAGES, Atlas, Manner, atlas, wished
from ..atlas.estimate import estimate, estimate_in_words
from ..atlas.workers import fitting_count
from ..executors.devices import check_device
from ..graph.graph import Graph
from ..pictures.sides import height_width
from ..whole import keep_whole
from .events import Note, OnEvent, ignore
from .opening import Model, opened
from .result import Result
from .verify import Verification

Place = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What an atlas shows, and how it is made; see `atlas.build.atlas` and `atlas.build.Manner`.

    Attributes:
        layer, preset, negative, size, steps, seed, k, field: what it shows.
        coarse: stop when every unit has its coarse picture.
        album: folders of ``convscope filters`` whose pictures are taken over.
        budget, shard, executor, address, device: how; they change nothing of what is made.
        workers: processes; None is as many as fit.
    """

    layer: str | Sequence[str] | None = None
    preset: str | Preset | Sequence[str | Preset] = AUTO
    negative: bool = False
    size: int | None = None
    steps: int | None = None
    seed: int = 0
    k: int = 9
    field: str = "map"
    coarse: bool = False
    album: Sequence[Path] | None = None
    budget: float | None = None
    workers: int | None = None
    shard: tuple[int, int] | None = None
    executor: str = "local"
    address: str | None = None
    device: str = "auto"

    def check(self) -> None:
        """Raises UsageError for a wish that no model can have."""
        check_device(self.device)
        keep_whole(self, steps=1, seed=0, k=1)
        if self.size is not None:
            height_width(self.size)
        wished(**self.wishes)
        check_field(self.field)
        self.manner.check()

    @property
    def wishes(self) -> dict[str, Any]:
        """What the pictures are, as `atlas.build.wished` takes it."""
        return {name: getattr(self, name) for name in ("preset", "negative", "size", "steps", "seed")}

    @property
    def manner(self) -> Manner:
        """How it is made."""
        workers = fitting_count(self.device) if self.workers is None else self.workers
        return Manner(self.device, workers, self.shard, self.budget, self.executor, self.address)


@dataclass(frozen=True, eq=False, repr=False)
class Told(Result):
    """What there is to say of an atlas.

    Attributes:
        words: for people, a line each.
        ok: whether everything is as it should be.
        unfinished: what could not be made.
    """

    words: Sequence[str] = ()
    ok: bool = True
    unfinished: str = ""

    @property
    def lines(self) -> Sequence[str]:
        """The words."""
        return self.words


def run(
    model: Model,
    photos: Any = None,
    options: Options | None = None,
    folder: Place | None = None,
    *,
    dry_run: bool = False,
    prove: Callable[[Graph], Verification] | None = None,
    command: str = "",
    opening: str = "",
    on_event: OnEvent = ignore,
) -> Told:
    """Makes an atlas as far as the time goes; the same call goes on.

    Args:
        model: from `convscope.load`, or what opens it.
        photos: files and folders to measure units on; None takes those that ship with convscope.
        options: default every layer that makes units.
        folder: where, or an address with a scheme; default ``atlas``.
        dry_run: only say how much work there is.
        prove: compares the graph with its source, as `adapters.verify.verify` does; its answer is kept in the atlas.
        command: the command line that the page names.
        opening: how a command line names the model.
        on_event: told how far each stage is, and what could not be made.

    Raises:
        UsageError: a wish that the model does not fit; the folder holds something else. RefusedInput: none of the
            photographs can be read.
    """
    options = options or Options()
    options.check()
    place = "atlas" if folder is None else folder
    if not dry_run:
        files.opened(place).check()
    graph = opened(model, None, on_event, photos)
    wishes = {**options.wishes, "layers": options.layer, "manner": options.manner}
    if dry_run:
        on_event(Note("measuring two units of the first and of the last layer"))
        found = estimate(graph, photos, **wishes)
        return Told(found, words=estimate_in_words(found, options.manner.workers))
    if photos is None:
        on_event(Note("no photographs are given: units are measured on the four that ship with convscope"))
    made = atlas(
        graph,
        photos,
        place,
        k=options.k,
        field=options.field,
        stages=COARSE_STAGES if options.coarse else STAGES,
        albums=options.album or (),
        certify=None if prove is None else lambda: prove(graph).to_json(),
        command=command,
        opening=opening,
        on_event=on_event,
        **wishes,
    )
    for sentence in made.failed:
        on_event(Note(f"failed: {sentence}"))
    is_shard = options.shard is not None
    if is_shard:
        on_event(Note(f"shard done; when all are: convscope atlas compile {shlex.quote(made.place)}"))
    page = None if is_shard else made.page
    content = {
        "atlas": made.place,
        "page": page,
        "units": made.units,
        **made.counts,
        "failed": list(made.failed),
    }
    return Told(content, words=[page or made.place], unfinished=_unfinished(made))


def _unfinished(made: Atlas) -> str:
    """What the same command would go on with, in words."""
    if made.failed:
        return f"{len(made.failed)} blocks of units could not be made; the same command tries them again"
    return f"the time is over: {made.left}; the same command goes on" if made.late else ""


def _status(store: files.Files) -> Told:
    found = report.status(store)
    return Told({"atlas": store.place, **found}, words=report.status_in_words(found))


def _verified(store: files.Files) -> Told:
    found = report.verified(store)
    is_whole = not (found["missing"] or found["changed"])
    return Told({"atlas": store.place, **found}, words=report.verified_in_words(found), ok=is_whole)


def _compiled(store: files.Files) -> Told:
    counts = report.compiled(store)
    return Told({"atlas": store.place, **counts}, words=[store.place.rstrip("/") + "/index.html"])


def _opened(store: files.Files) -> Told:
    address = report.page_address(store)
    return Told({"atlas": store.place, "page": address}, words=[address])


QUESTIONS: Mapping[str, Callable[[files.Files], Told]] = {
    "status": _status, "verify": _verified, "compile": _compiled, "open": _opened,
}  # fmt: skip


def ask(question: str, places: Sequence[Place]) -> Told:
    """How far an atlas is, whether every file is what it was, its page written anew, or the page's address.

    Args:
        question: of `QUESTIONS`.
        places: the atlas's folder, or its address, and nothing else.

    Raises:
        UsageError: not one place; the folder holds no atlas, or what is asked for is not there yet.
    """
    if len(places) != 1:
        line = f"convscope atlas {question}"
        raise UsageError(f"{line} takes the folder of one atlas, like: {line} atlas/")
    return QUESTIONS[question](files.opened(places[0]))
