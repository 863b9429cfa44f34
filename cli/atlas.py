"""``convscope atlas``: every unit of a model in one folder that opens in a browser."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PartlyDone, UsageError
from . import completion
from .loading import loading_options, open_model
from .options import (
    DeviceOption,
    JsonOption,
    LayersOption,
    QuietOption,
    SeedOption,
    SizeOption,
    StepsOption,
)
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
OutOption = Annotated[
    str | None, typer.Option("--out", "-o", metavar="DIR", help="Where to write: a folder, or an address like s3://...")
]
CountOption = Annotated[int, typer.Option("-k", min=1, max=100, metavar="K", help="Best photographs per unit.")]
BudgetOption = Annotated[
    str | None, typer.Option("--budget", metavar="TIME", help="For pictures: 90s, 30m or 8h; what is left is said.")
]
WorkersOption = Annotated[
    str, typer.Option("--workers", "-j", metavar="N|auto", help="Processes; auto is one per core, or per GPU.")
]
ShardOption = Annotated[
    str | None, typer.Option("--shard", metavar="I/N", help="Only that part of the work, and no page; then compile.")
]
CoarseOption = Annotated[bool, typer.Option("--coarse", help="Stop when every unit has its coarse picture.")]
AlbumOption = Annotated[
    list[Path] | None,
    typer.Option("--album", metavar="DIR", help="Take over the pictures of a folder of convscope filters; repeatable."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Only say how much there is to do, and how long it takes.")
]
ExecutorOption = Annotated[str, typer.Option("--executor", metavar="local|ray", help="What runs the processes.")]
AddressOption = Annotated[
    str | None, typer.Option("--address", metavar="ADDRESS", help="A running Ray; else one is started on this machine.")
]
PresetsOption = Annotated[
    list[str],
    typer.Option(
        "--preset",
        "-p",
        metavar="PRESET",
        help="As for filters; repeated, each further one makes one more picture of every unit.",
        autocompletion=completion.presets,
    ),
]
NegativeOption = Annotated[
    bool, typer.Option("--negative", help="Make a picture of what inhibits every unit as well, by the first preset.")
]
BrowserOption = Annotated[bool, typer.Option("--browser", help="With open: open it in the browser as well.")]


@loading_options
def command(
    what: WhatArgument,
    places: PlacesArgument = None,
    layer: LayersOption = None,
    preset: PresetsOption = ["convscope"],  # noqa: B006  # typer copies it
    negative: NegativeOption = False,
    size: SizeOption = None,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    k: CountOption = 9,
    budget: BudgetOption = None,
    coarse: CoarseOption = False,
    workers: WorkersOption = "auto",
    shard: ShardOption = None,
    album: AlbumOption = None,
    dry_run: DryRunOption = False,
    executor: ExecutorOption = "local",
    address: AddressOption = None,
    browser: BrowserOption = False,
    out: OutOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **options: Any,
) -> None:
    """Show every unit of every layer: picture, best photographs, numbers, weights, inputs and readers.

    Writes one folder whose index.html opens without a server. It can be interrupted, also by force: the same command
    goes on. Without photographs those that ship with convscope are taken. convscope atlas status DIR says how far it
    is, verify DIR checks every file, compile DIR writes the page of what is there, open DIR prints its address.
    """
    if what in _VERBS:
        _verb(what, places or [], as_json, browser)
        return
    from ..engine.atlas.build import COARSE_STAGES, STAGES, Manner, atlas, wished

    wished(preset, negative, size, steps, seed)  # refused before the model is opened
    part = None if shard is None else _shard(shard)
    manner = Manner(device, _workers(workers, device), part, _seconds(budget), executor, address)
    graph = open_model(what, quiet=quiet, **options)
    photos: list[str | Path] = list(places or [])
    wishes: dict[str, Any] = {
        "layers": layer, "preset": preset, "negative": negative, "size": size, "steps": steps, "seed": seed,
    }  # fmt: skip
    if dry_run:
        _estimate(graph, photos, manner, wishes, as_json, quiet)
        return
    if not photos:
        say("no photographs are given: units are measured on the four that ship with convscope", quiet)
    folder = out or f"{graph.name}-atlas"
    with drawn(quiet) as draw:
        found = atlas(
            graph,
            photos or None,
            folder,
            k=k,
            stages=COARSE_STAGES if coarse else STAGES,
            albums=album or (),
            manner=manner,
            certify=lambda: _certificate(graph),
            command=_command(what, photos, k, wishes, options, coarse),
            on_event=draw,
            **wishes,
        )
    _finish(found, part, as_json, quiet)


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


def _estimate(
    graph: Any, photos: Sequence[str | Path], manner: Manner, wishes: Mapping[str, Any], as_json: bool, quiet: bool
) -> None:
    from ..engine.atlas.estimate import estimate

    say("measuring two units of the first and of the last layer", quiet)
    found = estimate(graph, photos or None, manner=manner, **wishes)
    if as_json:
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
    k: int,
    wishes: Mapping[str, Any],
    options: Mapping[str, Any],
    coarse: bool,
) -> str:
    """The command line that makes the same atlas, without where and how it was run."""
    words = ["convscope", "atlas", what, *map(str, photos)]
    flags = {"--layer": wishes["layers"], "--size": wishes["size"], "--steps": wishes["steps"]}
    if wishes["seed"]:
        flags["--seed"] = wishes["seed"]
    if k != 9:
        flags["-k"] = k
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


def _shard(text: str) -> tuple[int, int]:
    from .top import _shard as parsed

    return parsed(text)


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
