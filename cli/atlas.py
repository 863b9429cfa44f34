"""``convscope atlas``: every unit of a model in one folder that opens in a browser."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PartlyDone, UsageError
from . import completion
from .calling import Call, takes, written
from .loading import LOADING
from .options import FIELD, LAYERS, SEED, SIZE, STEPS, Group, option
from .output import emit, emit_json, say
from .parsing import parse_seconds, parse_shard, parse_workers
from .progress import drawn

if TYPE_CHECKING:
    from ..engine.atlas.build import Atlas

_VERBS = ("status", "verify", "compile", "open")

WhatArgument = Annotated[
    str,
    typer.Argument(metavar="MODEL|VERB", help="A model; or status, verify, compile or open.", show_default=False),
]
PlacesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="PHOTOS...|DIR", help="Photographs and folders of them; behind a verb the atlas."),
]
OPTIONS: Group = {
    "layer": LAYERS,
    "preset": option(
        list[str], ["convscope"], "--preset -p",
        "As for filters; repeated, each further one makes one more picture of every unit.", metavar="PRESET",
        autocompletion=completion.presets,
    ),
    "negative": option(
        bool, False, "--negative", "Make a picture of what inhibits every unit as well, by the first preset."
    ),
    "size": SIZE,
    "steps": STEPS,
    "seed": SEED,
    "k": option(int, 9, "-k", "Best photographs per unit.", min=1, max=100, metavar="K"),
    "field": FIELD,
    "budget": option(
        Any, None, "--budget", "For pictures: 90s, 30m or 8h; what is left is said.", metavar="TIME",
        parser=parse_seconds,
    ),
    "coarse": option(bool, False, "--coarse", "Stop when every unit has its coarse picture."),
    "workers": option(
        Any, "auto", "--workers -j", "Processes; auto is one per core, or per GPU.", metavar="N|auto",
        parser=parse_workers,
    ),
    "shard": option(
        Any, None, "--shard", "Only that part of the work, and no page; then compile.", metavar="I/N",
        parser=parse_shard,
    ),
    "album": option(
        list[Path] | None, None, "--album", "Take over the pictures of a folder of convscope filters; repeatable.",
        metavar="DIR",
    ),
    "dry_run": option(bool, False, "--dry-run", "Only say how much there is to do, and how long it takes."),
    "executor": option(str, "local", "--executor", "What runs the processes.", metavar="local|ray"),
    "address": option(
        str | None, None, "--address", "A running Ray; else one is started on this machine.", metavar="ADDRESS"
    ),
    "browser": option(bool, False, "--browser", "With open: open it in the browser as well."),
    "out": option(
        str | None, None, "--out -o", "Where to write: a folder, or an address like s3://...", metavar="DIR"
    ),
}  # fmt: skip
# What changes nothing of what is made: where, with what, and how far this time.
_HOW = {"budget", "workers", "shard", "album", "dry_run", "executor", "address", "browser", "out", "check"}


@takes(OPTIONS)
def command(what: WhatArgument, places: PlacesArgument = None, **words: Any) -> None:
    """Show every unit of every layer: picture, best photographs, numbers, weights, inputs and readers.

    Writes one folder whose index.html opens without a server. It can be interrupted, also by force: the same command
    goes on. Without photographs those that ship with convscope are taken. convscope atlas status DIR says how far it
    is, verify DIR checks every file, compile DIR writes the page of what is there, open DIR prints its address.
    """
    if what in _VERBS:
        _verb(what, places or [], words["as_json"], words["browser"])
        return
    from ..engine.atlas.build import COARSE_STAGES, STAGES, Manner, atlas, wished
    from ..engine.atlas.estimate import estimate, estimate_in_words
    from ..engine.atlas.workers import fitting_count

    line = written(["atlas", what, *(places or [])], {**OPTIONS, **LOADING}, words, without=_HOW)
    opening = written([what], LOADING, words, without=_HOW).removeprefix("convscope ")
    call = Call(words)
    wishes = {name: words[name] for name in ("preset", "negative", "size", "steps", "seed")}
    wished(**wishes)  # refused before the model is opened
    workers = words["workers"] or fitting_count(words["device"])
    manner = Manner(words["device"], workers, words["shard"], words["budget"], words["executor"], words["address"])
    graph = call.open(what)
    wishes |= {"layers": words["layer"], "manner": manner}
    photos = places or None
    if words["dry_run"]:
        say("measuring two units of the first and of the last layer", call.quiet)
        _show(found := estimate(graph, photos, **wishes), estimate_in_words(found, workers), call.as_json)
        return
    if photos is None:
        say("no photographs are given: units are measured on the four that ship with convscope", call.quiet)
    with drawn(call.quiet) as draw:
        made = atlas(
            graph,
            photos,
            call.place or f"{graph.name}-atlas",
            k=words["k"],
            field=words["field"],
            stages=COARSE_STAGES if words["coarse"] else STAGES,
            albums=words["album"] or (),
            certify=lambda: _certificate(graph),
            command=line,
            opening=opening,
            on_event=draw,
            **wishes,
        )
    _finish(made, words["shard"] is not None, call.as_json, call.quiet)


def _finish(made: Atlas, is_shard: bool, as_json: bool, quiet: bool) -> None:
    """Says what there is; raises PartlyDone where something failed."""
    for sentence in made.failed:
        say(f"failed: {sentence}", quiet)
    if made.late:
        say(f"the time is over: {made.left}; the same command goes on", quiet)
    if is_shard:
        say(f"shard done; when all are: convscope atlas compile {shlex.quote(made.place)}", quiet)
    page = None if is_shard else made.page
    counts = {"units": made.units, **made.counts, "failed": list(made.failed)}
    _show({"atlas": made.place, "page": page, **counts}, [page or made.place], as_json)
    if made.failed:
        raise PartlyDone(f"{len(made.failed)} blocks of units could not be made; the same command tries them again")


def _verb(verb: str, places: Sequence[str], as_json: bool, browser: bool) -> None:
    """What there is to ask of a folder."""
    if len(places) != 1:
        raise UsageError(f"convscope atlas {verb} takes the folder of one atlas, like: convscope atlas {verb} atlas/")
    from ..engine.atlas import report
    from ..engine.atlas.files import opened

    files = opened(places[0])
    if verb == "verify":
        found = report.verified(files)
        _show({"atlas": places[0], **found}, report.verified_in_words(found), as_json)
        if found["missing"] or found["changed"]:
            raise typer.Exit(1)
    elif verb == "status":
        found = report.status(files)
        _show({"atlas": places[0], **found}, report.status_in_words(found), as_json)
    elif verb == "compile":
        counts = report.compiled(files)
        _show({"atlas": files.place, **counts}, [files.place.rstrip("/") + "/index.html"], as_json)
    else:
        emit(address := report.page_address(files))
        if browser:
            import webbrowser

            webbrowser.open(address)


def _show(found: dict[str, Any], lines: Sequence[str], as_json: bool) -> None:
    if as_json:
        emit_json(found)
    else:
        for line in lines:
            emit(line)


def _certificate(graph: Any) -> dict[str, Any]:
    from ..adapters.verify import verify

    return verify(graph).to_json()
