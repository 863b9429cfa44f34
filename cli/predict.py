"""``convscope predict``: decoded predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .loading import loading_options, open_model
from .options import (
    BatchOption,
    DeviceOption,
    ImagesArgument,
    JsonOption,
    ModelArgument,
    QuietOption,
    TopOption,
)
from .output import command_line, emit, emit_json, partly_done, predictions_in_words
from .progress import drawn

if TYPE_CHECKING:
    from ..engine.runs.events import Event


@loading_options
def command(
    model: ModelArgument,
    images: ImagesArgument,
    top: TopOption = 3,
    batch: BatchOption = 16,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **loading: Any,
) -> None:
    """Say what the model sees in pictures: class, probability, logit.

    A picture that cannot be read is reported and skipped; the exit code then is 4, or 3 where none could be read.
    """
    from ..engine.pictures.read import image_paths
    from ..engine.runs import predict
    from ..engine.runs.events import ImageDone

    graph = open_model(model, quiet=quiet, **loading)
    paths = image_paths(images)
    with drawn(quiet) as draw:

        def on_event(event: Event) -> None:
            if isinstance(event, ImageDone) and not as_json:
                emit(f"{event.row['file']}: {predictions_in_words(event.row['predictions'])}")
            draw(event)

        options = predict.Options(top, batch, device)
        result = predict.run(graph, paths, options, command=command_line(), on_event=on_event)
    if as_json:
        emit_json(result.to_json())
    partly_done(result.failed, len(paths))
