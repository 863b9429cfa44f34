"""What both models look at: the shipped photographs, or the user's."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import RefusedInput, UsageError
from ..graph.graph import Graph
from .difference import Pictures

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def reference(graph: Graph, size: tuple[int, int]) -> np.ndarray:
    """The shipped crops of photographs, (16, C, H, W) in [0, 1]."""
    from ..ascent.recipe.spectrum import reference_pictures

    return reference_pictures(graph.channels, size)


def from_files(paths: Paths, left_out: Callable[[RefusedInput], Any] = lambda error: None) -> Pictures:
    """The pictures in files and folders, fitted as each model's preprocessing says.

    Only the fitted pictures stay in memory, once for models that fit alike. A file that cannot be read is left
    out for both models and told to ``left_out``, once.

    Raises:
        UsageError: no such file. The result raises RefusedInput where no picture is left.
    """
    from ..pictures.read import fit, image_paths, photograph, stream

    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not given or not all(isinstance(path, (str, os.PathLike)) for path in given):
        raise UsageError("images= takes picture files and folders, one or several; leave it out for the shipped ones")
    files = image_paths(given)
    kept: dict[tuple[Any, ...], np.ndarray] = {}

    def fitted(graph: Graph, size: tuple[int, int]) -> np.ndarray:
        p = graph.preprocessing
        key = (graph.channels, size, p.resize, p.crop, p.interpolation)
        if key in kept:
            return kept[key]
        rows = []
        for path, found in stream(list(files), lambda picture: fit(photograph(picture), graph, size)):
            if isinstance(found, RefusedInput):
                left_out(found)
                files.remove(path)
            else:
                rows.append(found)
        if not rows:
            raise RefusedInput(f"no image could be read from {', '.join(map(str, given))}")
        kept[key] = np.stack(rows)
        return kept[key]

    return fitted


def as_pictures(given: Pictures | Paths) -> Pictures:
    """A function as it is; paths as what their files show."""
    return given if callable(given) else from_files(given)
