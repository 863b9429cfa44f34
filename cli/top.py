"""``convscope top``: for every unit the pictures of a folder that excite it most."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError
from . import completion
from .loading import loading_options, open_model
from .options import (
    BatchOption,
    DeviceOption,
    FieldOption,
    ForceOption,
    ImagesArgument,
    JsonOption,
    ModelArgument,
    OutOption,
    QuietOption,
    UnitsOption,
)
from .output import command_line, emit, finish, partly_done
from .progress import drawn

NeededLayersOption = Annotated[
    str,
    typer.Option(
        "--layer",
        "--layers",
        "-l",
        metavar="LAYER,...",
        help="Names and globs; see convscope info.",
        autocompletion=completion.layers,
    ),
]
CountOption = Annotated[int, typer.Option("-k", min=1, max=100, metavar="K", help="Pictures per unit.")]
ShardOption = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Only every N-th picture, from the I-th on; a run without merges."),
]


@loading_options
def command(
    model: ModelArgument,
    images: ImagesArgument,
    layer: NeededLayersOption,
    units: UnitsOption = "all",
    k: CountOption = 9,
    field: FieldOption = "map",
    shard: ShardOption = None,
    batch: BatchOption = 8,
    out: OutOption = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **loading: Any,
) -> None:
    """Find the pictures, and the places in them, that excite each unit most.

    Writes a strip of crops at the receptive field per unit, one page, and the numbers as result.json and
    result.parquet. It can be interrupted: the same command goes on. Shards may run anywhere, into one folder; the
    same command without --shard merges them and does what is missing. --units only chooses what is shown.
    """
    from ..engine.pictures.read import image_paths
    from ..engine.runs import top

    options = top.Options(k, units, field, None if shard is None else _shard(shard), batch, device, force)
    image_paths(images)  # refused before the model is opened
    graph = open_model(model, quiet=quiet, **loading)
    folder = out or Path(f"{graph.name}-top")
    with drawn(quiet) as on_event:
        result = top.run(graph, images, layer, options, folder, command=command_line(), on_event=on_event)
    if result.page is None and not as_json:
        for state in result.states:
            emit(state)
    else:
        finish(result, as_json)
    partly_done(result.failed, result.seen)


def _shard(text: str) -> tuple[int, int]:
    first, sign, last = text.partition("/")
    if not sign or not all(p.isascii() and p.isdigit() and len(p) < 7 for p in (first, last)):
        raise UsageError(f"--shard '{text}' is not understood; write I/N, like 1/4")
    if not 1 <= int(first) <= int(last):
        raise UsageError(f"--shard '{text}': the first number runs from 1 to {last}")
    return int(first), int(last)
