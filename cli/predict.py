"""``convscope predict``: decoded predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .common import (
    DeviceOption,
    ImagesArgument,
    JsonOption,
    ModelArgument,
    QuietOption,
    emit,
    emit_json,
    loading_options,
    open_model,
    progress,
    say,
)
from .pictures import Skipped

TopOption = Annotated[int, typer.Option("--top", min=1, help="How many classes of each picture.")]
BATCH = 16


@loading_options
def command(
    model: ModelArgument,
    images: ImagesArgument,
    top: TopOption = 3,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    **options: Any,
) -> None:
    """Say what the model sees in pictures: class, probability, logit.

    A picture that cannot be read is reported and skipped; the exit code then is 4, or 3 where none could be read.
    """
    import numpy as np

    from ..engine.graph.labels import predictions
    from ..engine.pictures.read import image_paths, model_input, stream
    from ..errors import RefusedInput

    options.setdefault("check", True)
    graph = open_model(model, quiet=quiet, **options)
    paths = image_paths(images)
    session = graph.session([graph.logits], device=device)
    results: list[dict[str, Any]] = []
    skipped = Skipped(quiet)
    waiting: list[tuple[Path, np.ndarray]] = []

    def flush() -> None:
        if not waiting:
            return
        logits = session.run(np.concatenate([x for _, x in waiting]))[graph.logits]
        for (path, _), row in zip(waiting, logits, strict=True):
            found = predictions(graph, row.reshape(row.shape[0], -1).mean(axis=1), top)
            results.append({"file": str(path), "predictions": [p.to_json() for p in found]})
            if not as_json:
                shown = ", ".join(f"{p.name} {p.probability:.1%}" for p in found)
                emit(f"{path}: {shown}")
        waiting.clear()

    with progress(len(paths), "predicting", quiet, unit="images") as bar:
        for path, prepared in stream(paths, lambda picture: (picture, model_input(picture, graph))):
            if isinstance(prepared, RefusedInput):
                skipped(path, prepared)
            else:
                picture, x = prepared
                for note in picture.notes:
                    say(f"note: {path}: {note}", quiet)
                waiting.append((path, x))
                if len(waiting) == BATCH:
                    flush()
            bar.advance(1)
        flush()
    skipped.refuse_all(len(paths))
    if as_json:
        emit_json({"images": results, "failed": skipped.failed})
    skipped.finish(len(paths))
