"""``convscope top``: for every unit the pictures of a folder that excite it most."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UsageError
from .common import (
    BatchOption,
    DeviceOption,
    ForceOption,
    ImagesArgument,
    JsonOption,
    ModelArgument,
    OutOption,
    QuietOption,
    UnitsOption,
    loading_options,
    open_model,
)

LayersOption = Annotated[
    str, typer.Option("--layer", "-l", metavar="LAYER,...", help="Names and globs; see convscope info.")
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
    layer: LayersOption,
    units: UnitsOption = "all",
    k: CountOption = 9,
    shard: ShardOption = None,
    batch: BatchOption = 8,
    out: OutOption = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **options: Any,
) -> None:
    """Find the pictures, and the places in them, that excite each unit most.

    Writes a strip of crops at the receptive field per unit, one page, and the numbers as result.json and
    result.parquet. It can be interrupted: the same command goes on. Shards may run anywhere, into one folder; the
    same command without --shard merges them and does what is missing. --units only chooses what is shown.
    """
    from ..engine.pictures.read import image_paths
    from .top_job import Job, run

    part = None if shard is None else _shard(shard)
    paths = image_paths(images)
    graph = open_model(model, quiet=quiet, **options)
    layers = graph.match(layer)
    without = [la.name for la in layers if la.channels is None]
    if without:
        raise UsageError(f"layer '{without[0]}' has no units; choose others: convscope info {model}")
    folder = out or Path(f"{graph.name}-top")
    run(Job(graph, layers, k, units, folder, quiet), images, paths, part, batch, device, force, as_json)


def _shard(text: str) -> tuple[int, int]:
    first, sign, last = text.partition("/")
    if not sign or not all(p.isascii() and p.isdigit() and len(p) < 7 for p in (first, last)):
        raise UsageError(f"--shard '{text}' is not understood; write I/N, like 1/4")
    if not 1 <= int(first) <= int(last):
        raise UsageError(f"--shard '{text}': the first number runs from 1 to {last}")
    return int(first), int(last)
