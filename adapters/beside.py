"""A picture as the value of an input beside the picture: the other of a siamese pair, a mask, a depth map."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..engine.graph.graph import Graph
from ..engine.graph.preprocessing import Preprocessing
from ..engine.pictures.read import SUFFIXES, Picture, from_pillow, model_input, read_image
from ..errors import UsageError

_MASK = re.compile(r"mask", re.I)


def pictures_among(inputs: Mapping[str, Any]) -> dict[str, Picture]:
    """The values that are pictures, read: paths of picture files and Pillow images.

    Raises:
        UsageError: no such file. RefusedInput: a broken one.
    """
    found = {}
    for name, value in inputs.items():
        if isinstance(value, (str, os.PathLike)) and Path(value).suffix.lower() in SUFFIXES:
            found[name] = read_image(value)
        elif type(value).__module__.startswith("PIL."):
            found[name] = from_pillow(value, f"the picture of '{name}'")
    return found


def value_of(graph: Graph, name: str, picture: Picture) -> tuple[np.ndarray, str]:
    """What an input beside the picture is fed for a picture, in the input's own shape, and a note.

    With as many channels as the graph's picture it is preprocessed as that one; with one channel beside colours it is
    in gray, from 0 to 1, and a mask (by its name) is resized without blending. The size is the input's own, or where
    that is open the size of the graph's picture.

    Args:
        graph: imported with any value of the input.
        name: the input.
        picture: what it is given.

    Raises:
        UsageError: the input is not of rank 4 with one or three channels.
    """
    shape = graph.given[name].shape
    axis = _channel_axis(shape, graph.preprocessing.layout)
    if axis is None:
        shown = "x".join(map(str, shape)) or "one number"
        raise UsageError(
            f"inputs['{name}']: {picture.path} is a picture, and the input takes {shown}: give numbers, or an .npy "
            "file of what it takes for one picture"
        )
    channels = shape[axis]
    own = [side for place, side in enumerate(shape) if place not in (0, axis)]
    height, width = (side if side > 1 else taken for side, taken in zip(own, graph.image_size, strict=True))
    how = graph.preprocessing
    said = f"preprocessed as the picture is ({how.changed(size=(height, width)).in_words()})"
    if channels != graph.channels:
        how = Preprocessing(resize=how.resize, crop=how.crop, interpolation=how.interpolation, layout=how.layout)
        said = f"from 0 to 1, {'in gray' if channels == 1 else 'in colour'}, {height}x{width} {how.resize}"
        if _MASK.search(name):
            how, said = replace(how, interpolation="nearest"), f"{said}, without blending"
    spec = replace(graph.inputs[0], shape=(None, channels, height, width))
    view = replace(graph, inputs=(spec,), preprocessing=how, own_input=None)
    value = model_input(picture, view, (height, width))
    notes = "".join(f"; {note}" for note in picture.notes)
    return (value.transpose(0, 2, 3, 1) if axis == 3 else value), f"the input '{name}' is {picture.path}, {said}{notes}"


def _channel_axis(shape: tuple[int, ...], layout: str) -> int | None:
    """Which axis counts the channels of a picture; None where none can."""
    axes = [axis for axis in (1, 3) if len(shape) == 4 and shape[axis] in (1, 3)]
    if len(axes) == 2:
        return 3 if layout == "NHWC" else 1
    return axes[0] if axes else None
