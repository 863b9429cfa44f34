"""``convscope stats``: how active every unit is over a folder of pictures."""

from __future__ import annotations

from typing import Any

from .calling import perform, takes
from .options import FORCE, LAYERS, Group, ImagesArgument, ModelArgument, batch

OPTIONS: Group = {"layer": LAYERS, "batch": batch(8), "force": FORCE}


@takes(OPTIONS)
def command(model: ModelArgument, images: ImagesArgument, **words: Any) -> None:
    """Measure every unit over a folder of pictures: mean, spread, maximum, sparsity, dead units, correlations.

    Writes result.json and a page with the histograms. It can be interrupted: the same command goes on.
    """
    from ..engine.runs import stats

    perform(stats, model, words, images, ending="stats")
