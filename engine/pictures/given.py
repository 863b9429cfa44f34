"""Pictures as people hold them: files, folders, Pillow images, NumPy arrays, torch tensors, and lists of these.

All of them are pictures, and are preprocessed as the graph says. A tensor that is in model space already cannot be
told from a picture by its values, so it is taken for that only where the caller says so (``preprocessed=True``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UsageError
from ..graph.graph import Graph
from .read import Picture, checked_pixels, from_pillow, image_paths, model_input, read_image

Source = Path | Picture
MOST = 1000  # photographs to judge by


def sources(images: Any, channels: int = 3) -> tuple[list[Source], bool]:
    """The pictures that ``images`` stands for, files still unread, and whether it stands for a single one.

    Args:
        images: a path; a folder of pictures; a Pillow image; a NumPy array (H, W), (H, W, C), (N, C, H, W) or
            (N, H, W, C); a torch tensor (C, H, W) or (N, C, H, W); a list of any of these. Arrays are uint8, or
            floating in [0, 1].
        channels: of the model, for arrays that are neither in gray nor in colour.

    Raises:
        UsageError: none of these, no picture at all, a file that does not exist, or values outside [0, 1].
    """
    if isinstance(images, (str, os.PathLike)):
        return list(image_paths([images])), not Path(images).is_dir()
    if isinstance(images, Picture):
        return [images], True
    if _is_pillow(images):
        return [from_pillow(images, "picture 0")], True
    if hasattr(images, "__array__") or hasattr(images, "detach"):
        arrays, single = _of_array(images, channels)
        return [Picture(pixels, f"picture {i}") for i, pixels in enumerate(arrays)], single
    if isinstance(images, Iterable):
        found = [source for image in images for source in sources(image, channels)[0]]
        if not found:
            raise UsageError("no picture is given")
        return [_numbered(source, i) for i, source in enumerate(found)], False
    raise UsageError(
        f"a {type(images).__name__} is no picture; give a path, a Pillow image, an array (height, width, channels), "
        "a tensor (channels, height, width), or a list of these"
    )


def check_paths(images: Any) -> None:
    """Looks at pictures before there is a model to read them for.

    Args:
        images: as for `sources`; what is in memory, and None, is left alone.

    Raises:
        UsageError: a path does not exist, or there is no picture in a folder. RefusedInput: a single file cannot be
            read.
    """
    given = list(images) if isinstance(images, list | tuple) else [images]
    paths = [path for path in given if isinstance(path, (str, os.PathLike))]
    found = [file for path in paths for file in image_paths([path])]
    if len(given) == len(found) == 1 and not Path(paths[0]).is_dir():
        read_image(found[0])


def model_batch(
    graph: Graph, images: Any, *, preprocessed: bool = False, size: tuple[int, int] | None = None
) -> tuple[np.ndarray, bool]:
    """Model input (N, C, H, W) float32 of the pictures, and whether a single one was given.

    Args:
        graph: its preprocessing and image size decide.
        images: as for `sources`.
        preprocessed: ``images`` is an array or tensor (N, C, H, W) or (C, H, W) in model space, taken as it is.
        size: (height, width); default the graph's image size.

    Raises:
        UsageError: as for `sources`; ``preprocessed`` with something else than such an array.
        RefusedInput: a file cannot be read.
    """
    if preprocessed:
        return _in_model_space(graph, images)
    found, single = sources(images, graph.channels)
    rows = [model_input(s if isinstance(s, Picture) else read_image(s), graph, size) for s in found]
    return np.concatenate(rows), single


def photographs(graph: Graph, images: Any) -> np.ndarray:
    """What the model sees of photographs, (N, C, H, W) float32 in [0, 1].

    Args:
        graph: its preprocessing and image size decide.
        images: as for `sources`; at most ``MOST``, since all are held in memory.

    Raises:
        UsageError: as for `sources`; too many. RefusedInput: a file cannot be read.
    """
    found, _ = sources(images, graph.channels)
    if len(found) > MOST:
        raise UsageError(f"{len(found)} photographs are too many to judge by; give at most {MOST}")
    x, _ = model_batch(graph, found)
    return np.stack([picture.pixels.transpose(2, 0, 1) for picture in as_pictures(graph, x)])


def as_pictures(graph: Graph, x: np.ndarray) -> list[Picture]:
    """What model input (N, C, H, W) shows, clipped to [0, 1]."""
    shown = graph.preprocessing.denormalize(x).clip(0, 1).transpose(0, 2, 3, 1)
    return [Picture(pixels, f"picture {i}") for i, pixels in enumerate(shown)]


def _in_model_space(graph: Graph, images: Any) -> tuple[np.ndarray, bool]:
    values = _numpy(images) if hasattr(images, "__array__") or hasattr(images, "detach") else None
    if values is None or values.ndim not in (3, 4) or not values.size:
        what = f"shape {values.shape}" if values is not None else f"a {type(images).__name__}"
        raise UsageError(f"preprocessed=True takes an array or tensor (N, C, H, W) in model space, not {what}")
    batch = values if values.ndim == 4 else values[None]
    if batch.shape[1] != graph.channels:
        raise UsageError(f"model input of {graph.name} has {graph.channels} channels (N, C, H, W), not {values.shape}")
    x = np.ascontiguousarray(batch, dtype=np.float32)
    if not np.isfinite(x).all():
        raise UsageError("the model input holds values that are no finite numbers (NaN or infinity)")
    return x, len(batch) == 1


def _of_array(images: Any, channels: int) -> tuple[list[np.ndarray], bool]:
    """Pictures (H, W, C) float32 in [0, 1] of an array or tensor."""
    values = _numpy(images)
    allowed = {1, 3, channels}
    first = hasattr(images, "detach")  # torch's habit is channels first, NumPy's channels last
    if values.ndim == 4 and len(values):
        rows = [_channels_last(row, allowed, values.shape, True) for row in values]
        return [checked_pixels(row) for row in rows], len(rows) == 1
    if values.ndim == 3:
        values = _channels_last(values, allowed, values.shape, first)
    return [checked_pixels(values)], True


def _channels_last(values: np.ndarray, allowed: set[int], whole: tuple[int, ...], first: bool) -> np.ndarray:
    has_first, has_last = values.shape[0] in allowed, values.shape[2] in allowed
    if not has_first and not has_last:
        raise UsageError(
            f"an array of shape {whole} holds no pictures of {' or '.join(map(str, sorted(allowed)))} channels; "
            "give (height, width, channels), or (N, channels, height, width)"
        )
    return values.transpose(1, 2, 0) if has_first and (first or not has_last) else values


def _numpy(images: Any) -> np.ndarray:
    if hasattr(images, "detach"):
        tensor = images.detach().cpu()
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return np.asarray(images)


def _is_pillow(value: Any) -> bool:
    from PIL import Image

    return isinstance(value, Image.Image)


def _numbered(source: Source, number: int) -> Source:
    """A picture without a file is named by its place in the whole list, not in its own array."""
    unnamed = isinstance(source, Picture) and source.path.startswith("picture ")
    return replace(source, path=f"picture {number}") if unnamed and isinstance(source, Picture) else source
