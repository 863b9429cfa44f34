"""``convscope atlas``: every unit of a model in one folder that opens in a browser."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PartlyDone, UsageError
from . import completion
from .calling import Call, takes
from .options import FIELD, LAYERS, SEED, SIZE, STEPS, Group, option, parse_shard
from .output import clean, emit, emit_json, say
from .progress import drawn

if TYPE_CHECKING:
    from ..engine.atlas.build import Atlas, Manner

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
        str | None, None, "--budget", "For pictures: 90s, 30m or 8h; what is left is said.", metavar="TIME"
    ),
    "coarse": option(bool, False, "--coarse", "Stop when every unit has its coarse picture."),
    "workers": option(
        str, "auto", "--workers -j", "Processes; auto is one per core, or per GPU.", metavar="N|auto"
    ),
    "shard": option(
        str | None, None, "--shard", "Only that part of the work, and no page; then compile.", metavar="I/N"
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


@takes(OPTIONS)
def command(what: WhatArgument, places: PlacesArgument = None, **words: Any) -> None:
    """Show every unit of every layer: picture, best photographs, numbers, weights, inputs and readers.

    Writes one folder whose index.html opens without a server. It can be interrupted, also by force: the same command
    goes on. Without photographs those that ship with convscope are taken. convscope atlas status DIR says how far it
    is, verify DIR checks every file, compile DIR writes the page of what is there, open DIR prints its address.
    """
    call = Call(words)
    if what in _VERBS:
        _verb(what, places or [], call.as_json, words["browser"])
        return
    from ..engine.atlas.build import COARSE_STAGES, STAGES, Manner, atlas, wished

    wishes = {name: words[name] for name in ("preset", "negative", "size", "steps", "seed")}
    wished(**wishes)  # refused before the model is opened
    wishes["layers"] = words["layer"]
    part = parse_shard(words["shard"])
    workers = _workers(words["workers"], words["device"])
    manner = Manner(words["device"], workers, part, _seconds(words["budget"]), words["executor"], words["address"])
    graph = call.open(what)
    photos: list[str | Path] = list(places or [])
    others = {"-k": (words["k"], 9), "--field": (words["field"], "map")}
    if words["dry_run"]:
        _estimate(graph, photos, manner, wishes, call)
        return
    if not photos:
        say("no photographs are given: units are measured on the four that ship with convscope", call.quiet)
    with drawn(call.quiet) as draw:
        found = atlas(
            graph,
            photos or None,
            call.place or f"{graph.name}-atlas",
            k=words["k"],
            field=words["field"],
            stages=COARSE_STAGES if words["coarse"] else STAGES,
            albums=words["album"] or (),
            manner=manner,
            certify=lambda: _certificate(graph),
            command=_command(what, photos, others, wishes, call.loading, words["coarse"]),
            on_event=draw,
            **wishes,
        )
    _finish(found, part, call.as_json, call.quiet)


def _finish(found: Atlas, part: tuple[int, int] | None, as_json: bool, quiet: bool) -> None:
    """Says what there is; raises PartlyDone where something failed."""
    for sentence in found.failed:
        say(f"failed: {sentence}", quiet)
    if found.late:
        left, coarse = found.counts.get("missing", 0), found.counts.get("coarse", 0)
        say(f"the time is over: {left} units are not made, {coarse} are coarse; the same command goes on", quiet)
    if part is not None:
        say(f"shard done; when all are: convscope atlas compile {shlex.quote(found.place)}", quiet)
    if as_json:
        page = None if part is not None else found.page
        emit_json(
            {"atlas": found.place, "page": page, "units": found.units, **found.counts, "failed": list(found.failed)}
        )
    else:
        emit(found.place if part is not None else found.page)
    if found.failed:
        raise PartlyDone(f"{len(found.failed)} blocks of units could not be made; the same command tries them again")


def _verb(verb: str, places: Sequence[str], as_json: bool, browser: bool) -> None:
    if len(places) != 1:
        raise UsageError(f"convscope atlas {verb} takes the folder of one atlas, like: convscope atlas {verb} atlas/")
    from ..engine.atlas.files import opened
    from ..engine.atlas.plan import FILE, Plan

    files = opened(places[0])
    if verb == "verify":
        _verify(places[0], as_json)
        return
    plan = Plan.read(files)
    if verb == "status":
        _status(places[0], as_json)
    elif verb == "compile":
        from ..engine.atlas.report import compiled

        counts = compiled(files, plan)
        if as_json:
            emit_json({"atlas": files.place, **counts})
        else:
            emit(files.place.rstrip("/") + "/index.html")
    else:
        address = places[0].rstrip("/") + "/index.html"
        if "://" not in places[0]:
            address = (Path(places[0]) / "index.html").resolve().as_uri()
        if not files.has("index.html"):
            raise UsageError(f"{places[0]} has a {FILE} but no page yet; write it: convscope atlas compile {places[0]}")
        if browser:
            import webbrowser

            webbrowser.open(address)
        emit(address)


def _verify(place: str, as_json: bool) -> None:
    from ..engine.atlas.files import opened
    from ..engine.atlas.report import verified

    found = verified(opened(place))
    wrong = [*found["missing"], *found["changed"]]
    if as_json:
        emit_json({"atlas": place, **found})
    else:
        for kind in ("missing", "changed", "unlisted"):
            for name in found[kind]:
                emit(f"{kind}  {name}")
        emit(f"{'DAMAGED' if wrong else 'ok'}: {found['files']} files, {found['bytes']:,} bytes")
    if wrong:
        raise typer.Exit(1)


def _status(place: str, as_json: bool) -> None:
    from ..engine.atlas.files import opened
    from ..engine.atlas.report import status

    found = status(opened(place))
    if as_json:
        emit_json({"atlas": place, **found})
        return
    emit(f"{found['model']}: {found['photographs']['measured']} of {found['photographs']['all']} photographs measured")
    for row in found["layers"]:
        emit(f"{clean(row['name'])}: {row['units']} units, {row['coarse']} coarse, {row['fine']} fine")
    emit(f"{found['units']} units: {found['coarse']} coarse, {found['fine']} fine, {found['missing']} not made")
    for row in found["variants"]:
        emit(f"{clean(_variant(row))}: {row['units']} units")
    for row in found["runs"]:
        left = row["seconds_left"]
        rest = "" if left is None else f", about {_long(left)} left"
        emit(f"running: {row['stage']}, {row['done']} of {row['total']}, {row['rate']} {row['unit']} a second{rest}")
    if found["at_work"]:
        emit(f"in somebody's hands: {found['at_work']} pieces of work")
    for row in found["failed"]:
        emit(f"failed: {len(row['units'])} units of {row['name']} ({row['stage']}): {row['reason']}")


def _estimate(graph: Any, photos: Sequence[str | Path], manner: Manner, wishes: Mapping[str, Any], call: Call) -> None:
    from ..engine.atlas.estimate import estimate

    say("measuring two units of the first and of the last layer", call.quiet)
    found = estimate(graph, photos or None, manner=manner, **wishes)
    if call.as_json:
        emit_json(found)
        return
    for row in found["layers"]:
        emit(f"{clean(row['name'])}: {row['units']} units")
    emit(f"{found['units']} units of {len(found['layers'])} layers, {found['photographs']} photographs")
    for stage in ("coarse", "fine"):
        emit(f"{stage}: about {_long(found['seconds'][stage])} with {manner.workers} processes")
    for row in found["variants"]:
        emit(f"{clean(_variant(row))}: about {_long(row['seconds'])}")
    emit(f"disk: about {found['bytes'] / 1e6:.0f} MB")


def _variant(row: Mapping[str, Any]) -> str:
    return f"variant {row['preset']}{', negative' if row['negative'] else ''}"


def _certificate(graph: Any) -> dict[str, Any]:
    from ..adapters.verify import verify

    return verify(graph).to_json()


def _command(
    what: str,
    photos: Sequence[str | Path],
    others: Mapping[str, tuple[Any, Any]],
    wishes: Mapping[str, Any],
    options: Mapping[str, Any],
    coarse: bool,
) -> str:
    """The command line that makes the same atlas, without where and how it was run."""
    words = ["convscope", "atlas", what, *map(str, photos)]
    flags = {"--layer": wishes["layers"], "--size": wishes["size"], "--steps": wishes["steps"]}
    if wishes["seed"]:
        flags["--seed"] = wishes["seed"]
    flags |= {flag: value for flag, (value, default) in others.items() if value != default}
    for name, value in options.items():
        if value is not None and not isinstance(value, bool):
            flags["--" + name.replace("_", "-")] = value
    for flag, value in flags.items():
        if value is not None:
            words += [flag, str(value)]
    words += [word for one in wishes["preset"] if wishes["preset"] != ["convscope"] for word in ("--preset", one)]
    words += ["--negative"] if wishes["negative"] else []
    words += [*(["--trust"] if options.get("trust") else []), *(["--coarse"] if coarse else [])]
    return shlex.join(words)


def _workers(text: str, device: str) -> int:
    if text != "auto":
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1024):
            raise UsageError(f"--workers '{text}' is not understood; write auto or a number of processes")
        return int(text)
    from ..engine.atlas.workers import fitting_count

    return fitting_count(device)


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    number, unit = (text[:-1], text[-1]) if text[-1:] in ("s", "m", "h") else (text, "s")
    try:
        value = float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise UsageError(f"--budget '{text}' is not understood; write a time like 90s, 30m or 8h")
    return value


def _long(seconds: float) -> str:
    for size, name in ((3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} seconds"
