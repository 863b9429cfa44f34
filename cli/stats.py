"""``convscope stats``: how active every unit is over a folder of pictures."""

from __future__ import annotations

from typing import Any

from .calling import Call, pictures, takes
from .options import FORCE, LAYERS, Group, ImagesArgument, ModelArgument, batch
from .output import say
from .tables import show_statistics

OPTIONS: Group = {"layer": LAYERS, "batch": batch(8), "force": FORCE}


@takes(OPTIONS)
def command(model: ModelArgument, images: ImagesArgument, **words: Any) -> None:
    """Measure every unit over a folder of pictures: mean, spread, maximum, sparsity, dead units, correlations.

    Writes result.json and a page with the histograms. It can be interrupted: the same command goes on.
    """
    from ..engine.runs import stats

    call = Call(words, "stats")
    options = stats.Options(**call.options)
    pictures(images)
    result = call.run(stats.run, call.open(model), images, options)
    entries = result.content["layers"]
    if not call.as_json:
        show_statistics([(entry["layer"], stats.summary(entry)) for entry in entries])
    for entry in entries:
        if told := stats.in_words(entry):
            say(f"{entry['layer']}: {told}", call.quiet)
    call.finish(result, result.seen)
