"""``convscope top``: for every unit the pictures of a folder that excite it most."""

from __future__ import annotations

from typing import Any

from .calling import perform, takes
from .options import FIELD, FORCE, LAYERS, REQUIRED, SHARD, UNITS, Group, ImagesArgument, ModelArgument, batch, option

OPTIONS: Group = {
    "layer": (LAYERS[0], REQUIRED),
    "units": UNITS,
    "k": option(int, 9, "-k", "Pictures per unit.", min=1, max=100, metavar="K"),
    "field": FIELD,
    "shard": SHARD,
    "batch": batch(8),
    "force": FORCE,
}


@takes(OPTIONS)
def command(model: ModelArgument, images: ImagesArgument, **words: Any) -> None:
    """Find the pictures, and the places in them, that excite each unit most.

    Writes a strip of crops at the receptive field per unit, one page, and the numbers as result.json and
    result.parquet. It can be interrupted: the same command goes on. Shards may run anywhere, into one folder; the
    same command without --shard merges them and does what is missing. --units only chooses what is shown.
    """
    from ..engine.runs import top

    perform(top, model, words, images, ending="top")
