"""``convscope models``: the catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import JsonOption, OutOption, QuietOption
from .output import emit, emit_json
from .progress import drawn

app = typer.Typer(no_args_is_help=True, help="List, fetch and locate the models of the catalog.")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A name of the catalog.", show_default=False)]

SampleArgument = Annotated[
    str | None,
    typer.Argument(metavar="NAME", help="astronaut.jpg, cat.jpg, coffee.jpg or rocket.jpg; default all."),
]


@app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """List the catalog: names, licences, and whether the file is here."""
    from ..models.catalog import listed

    if as_json:
        emit_json({"models": listed()})
        return
    for row in listed():
        emit(f"{row['name']:<20} {'here' if row['present'] else '-':<5} {row['licence']:<11} {row['title']}")


@app.command("path", help="Print the path of a model's file, fetching or building it first where it is not here.")
@app.command("fetch", help="Download or build a model's file; an interrupted download is continued.")
def fetch(name: NameArgument, as_json: JsonOption = False, quiet: QuietOption = False) -> None:
    """The path as one line, or with the file's size and sum as JSON."""
    from ..engine.render.artifacts import sha256_of
    from ..engine.runs.events import Progress
    from ..models import catalog

    recipe = catalog.find(name)
    path = catalog.local_path(recipe)
    if not path.exists():
        with drawn(quiet) as on_event:
            catalog.fetch(recipe, lambda done, total: on_event(Progress(f"fetching {name}", done, total, "bytes")))
    if as_json:
        emit_json({"name": name, "path": str(path), "bytes": path.stat().st_size, "sha256": sha256_of(path)})
    else:
        emit(path)


@app.command("sample")
def sample(name: SampleArgument = None, out: OutOption = None) -> None:
    """Copy a photograph that ships, or all of them, to try things on."""
    from ..engine.pictures.photographs import sample_photographs
    from ..engine.render.artifacts import check_folder, write_bytes

    photographs, folder = sample_photographs(name), Path(out or "")
    check_folder(folder)
    for path in photographs:
        emit(write_bytes(folder / path.name, path.read_bytes()))
