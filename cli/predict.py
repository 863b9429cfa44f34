"""``convscope predict``: decoded predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .loading import loading_options, open_model
from .options import (
    BatchOption,
    DecoderOption,
    DeviceOption,
    ImagesArgument,
    JsonOption,
    LikeOption,
    ModelArgument,
    OutOption,
    OutputOption,
    QuietOption,
    TopOption,
)
from .output import command_line, emit, emit_json, partly_done
from .progress import drawn

if TYPE_CHECKING:
    from ..engine.runs.events import Event


@loading_options
def command(
    model: ModelArgument,
    images: ImagesArgument,
    top: TopOption = 3,
    like: LikeOption = None,
    decoder: DecoderOption = None,
    output: OutputOption = None,
    batch: BatchOption = 16,
    out: OutOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **loading: Any,
) -> None:
    """Say what the model sees in pictures: classes, boxes, masks, text, values, embeddings.

    With -o the boxes, masks and points are drawn on the pictures. A picture that cannot be read is reported and
    skipped; the exit code then is 4, or 3 where none could be read.
    """
    from ..engine.pictures.read import image_paths
    from ..engine.runs import predict
    from ..engine.runs.events import ImageDone

    graph = open_model(model, quiet=quiet, **loading)
    paths = image_paths(images)
    with drawn(quiet) as draw:

        def on_event(event: Event) -> None:
            if isinstance(event, ImageDone) and not as_json:
                emit(f"{event.row['file']}: {event.text}")
            draw(event)

        options = predict.Options(top, batch, device, like, decoder, output)
        result = predict.run(graph, paths, options, out, command=command_line(), on_event=on_event)
    if as_json:
        emit_json(result.to_json())
    partly_done(result.failed, len(paths))
