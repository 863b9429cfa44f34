"""What the runs share about a model's outputs: the question in a user's words, and the record of how they are read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import RefusedInput, UsageError
from ..attribution.batch import Batch, Executors
from ..graph.graph import Graph
from ..outputs.reading import Question, Reading
from ..outputs.vectors import Embedding, EmbeddingReading
from ..pictures.arrays import read_npy
from ..pictures.read import fit, model_input, read_image

Region = tuple[int, int, int, int]


@dataclass(frozen=True)
class Asked:
    """A question as a person writes it; paths are read with the model at hand, see `question`.

    Attributes:
        target, box, of, region, to, against: as for `Question`.
        mask: (H, W) weights, or a picture file whose bright pixels are inside.
        like: a vector, a ``.npy`` file of one, or a picture file.
    """

    target: Any = None
    box: int | None = None
    of: str = "score"
    region: Region | None = None
    mask: Any = None
    like: Any = None
    to: float | None = None
    against: Any = None

    def question(self, executors: Executors) -> Question:
        """The same with files read.

        Raises:
            UsageError: the model has no embedding to compare with. RefusedInput: a file cannot be read.
        """
        if isinstance(self.target, Question):
            beside = [f.name for f in fields(self) if f.name != "target" and getattr(self, f.name) != f.default]
            if beside:
                raise UsageError(f"{beside[0]}= does not go with a Question, which says it itself; leave one out")
            return self.target
        mask = None if self.mask is None else mask_of(self.mask, executors.graph)
        like = None if self.like is None else vector_of(executors, self.like)
        return Question(self.target, self.box, self.of, self.region, mask, like, self.to, self.against)


def mask_of(given: Any, graph: Graph) -> np.ndarray:
    """(H, W) weights over the model's input from an array, a ``.npy`` file, or a picture: half and more is inside.

    A picture of another size than the input is one drawn over a photograph, and is cut and resized as that is.
    """
    if isinstance(given, (str, os.PathLike)):
        path = Path(given)
        if path.suffix == ".npy":
            return _array(path)
        gray = read_image(path).pixels.mean(axis=2, keepdims=True)
        if gray.shape[:2] == graph.image_size:
            return (gray[..., 0] >= 0.5).astype(np.float32)
        shown, there = (
            fit(np.repeat(plane, graph.channels, axis=2), graph).mean(axis=0) for plane in (gray, np.ones_like(gray))
        )
        return ((shown >= 0.5) & (there > 0.9)).astype(np.float32)  # what is laid beside a picture is no part of it
    return np.asarray(given, dtype=np.float32)


def vector_of(executors: Executors, given: Any) -> np.ndarray:
    """The vector to be like: as given, from a ``.npy`` file, or the model's own output for a picture."""
    if isinstance(given, (str, os.PathLike)):
        path = Path(given)
        if path.suffix == ".npy":
            return _array(path).reshape(-1)
        reading = executors.reading
        if not isinstance(reading, EmbeddingReading):
            raise UsageError(
                f"like= compares embeddings; {executors.graph.name} is read as {reading.reason} "
                "(decoder=embedding overrules)"
            )
        batch = Batch(executors, model_input(read_image(path), executors.graph))
        answer = reading.answer(batch.rows(reading)[0])
        return answer.vector
    try:
        return np.asarray(given, dtype=np.float32).reshape(-1)
    except (TypeError, ValueError):
        raise UsageError(f"like= is a {type(given).__name__} that holds no numbers") from None


def outputs_record(reading: Reading) -> dict[str, Any]:
    """How the outputs were read, for ``result.json``."""
    return {"form": reading.form, "decoder": reading.decoder, "reason": reading.reason}


def compared(row: dict[str, Any], answer: Any, like: np.ndarray | None) -> None:
    """Adds the similarity to a vector to an embedding's row."""
    if like is not None and isinstance(answer, Embedding):
        row["similarity"] = answer.similarity(like)


def in_words(row: Mapping[str, Any], text: str) -> str:
    """An answer's line, with the similarity where there is one."""
    return f"{text}, similarity {row['similarity']:.4f}" if "similarity" in row else text


def _array(path: Path) -> np.ndarray:
    found = read_npy(path)
    if np.iscomplexobj(found):
        raise RefusedInput(f"{path} holds complex numbers")
    return found.astype(np.float32)
