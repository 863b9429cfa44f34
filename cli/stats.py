"""``convscope stats``: how active every unit is over a folder of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .loading import loading_options, open_model
from .options import (
    BatchOption,
    DeviceOption,
    ForceOption,
    ImagesArgument,
    JsonOption,
    LayersOption,
    ModelArgument,
    OutOption,
    QuietOption,
)
from .output import command_line, finish, partly_done, say
from .progress import drawn
from .tables import show_statistics


@loading_options
def command(
    model: ModelArgument,
    images: ImagesArgument,
    layer: LayersOption = None,
    batch: BatchOption = 8,
    out: OutOption = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **loading: Any,
) -> None:
    """Measure every unit over a folder of pictures: mean, spread, maximum, sparsity, dead units, correlations.

    Writes result.json and a page with the histograms. It can be interrupted: the same command goes on.
    """
    from ..engine.pictures.read import image_paths
    from ..engine.runs import stats

    image_paths(images)  # refused before the model is opened
    graph = open_model(model, quiet=quiet, **loading)
    options = stats.Options(layer, batch, device, force)
    folder = out or Path(f"{graph.name}-stats")
    with drawn(quiet) as on_event:
        result = stats.run(graph, images, options, folder, command=command_line(), on_event=on_event)
    entries = result.content["layers"]
    if not as_json:
        show_statistics([(entry["layer"], stats.summary(entry)) for entry in entries])
    for entry in entries:
        if words := stats.in_words(entry):
            say(f"{entry['layer']}: {words}", quiet)
    finish(result, as_json)
    partly_done(result.failed, result.seen)
