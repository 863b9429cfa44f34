"""``convscope atlas``: every unit of a model in one folder that opens in a browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from . import completion, parsing
from .calling import finish, perform, takes
from .loading import LOADING
from .options import FIELD, LAYERS, SEED, SIZE, STEPS, Group, option
from .output import written

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
        reads=parsing.seconds, form="a time like 90s, 30m or 8h",
    ),
    "coarse": option(bool, False, "--coarse", "Stop when every unit has its coarse picture."),
    "workers": option(
        Any, "auto", "--workers -j", "Processes; auto is one per core, or per GPU.", metavar="N|auto",
        reads=parsing.processes, form="auto or a number of processes",
    ),
    "shard": option(
        Any, None, "--shard", "Only that part of the work, and no page; then compile.", metavar="I/N",
        reads=parsing.part, form="I/N with I from 1 to N, like 1/4",
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
    from ..adapters.verify import verify
    from ..engine.runs import atlas

    is_browser = words.pop("browser")
    if what in atlas.QUESTIONS:
        found = atlas.ask(what, places or ())
        if is_browser and what == "open":
            webbrowser.open(found.content["page"])
        finish(found, words["as_json"])
        return
    command = written(["atlas", what, *(places or [])], {**OPTIONS, **LOADING}, words, without=_HOW)
    opening = written([what], LOADING, words, without=_HOW).removeprefix("convscope ")
    more = {"prove": verify, "command": command, "opening": opening}
    perform(atlas, what, words, places or None, ending="atlas", **more)
