"""``convscope predict``: decoded predictions."""

from __future__ import annotations

from typing import Any

from .calling import perform, takes
from .options import READING, TOP, Group, ImagesArgument, ModelArgument, batch

OPTIONS: Group = {"top": TOP, **READING, "batch": batch(16)}


@takes(OPTIONS)
def command(model: ModelArgument, images: ImagesArgument, **words: Any) -> None:
    """Say what the model sees in pictures: classes, boxes, masks, text, values, embeddings.

    With -o a page shows the pictures with boxes, masks, points and characters drawn on them. A picture that cannot be
    read is reported and skipped; the exit code then is 4, or 3 where none could be read.
    """
    from ..engine.runs import predict

    perform(predict, model, words, images, listed=True)
