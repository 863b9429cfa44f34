"""What bounds an import as a whole: whose fault an error is, and what the check may cost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from math import prod
from pathlib import Path

from ..engine.executors.session import first_line
from ..engine.graph.graph import Graph
from ..errors import ConvscopeError, RefusedInput, UnsafeFile

MAX_CHECKED = 2**28  # values of all tensors of one image: 1 GiB in each executor
_INPUT_COPIES = 4  # an input is drawn, normalized, cast and fed
_GROWN = 16  # a tensor with so many values per channel and pixel of the picture is no feature map of it


@contextlib.contextmanager
def blamed_on(path: Path | None) -> Iterator[None]:
    """Refusals name the file; whatever else a file makes our own code or a library raise refuses it too.

    Errors of live objects (``path`` None) are the caller's own and pass as they are.
    """
    try:
        yield
    except RefusedInput as error:
        text = str(error)
        if path is None or str(path) in text or text.startswith(f"{path.stem}:"):
            raise
        raise type(error)(f"{path}: {text}") from error
    except ConvscopeError:
        raise
    except Exception as error:
        if path is None:
            raise
        reason = f"{type(error).__name__}: {first_line(error, 200)}"
        raise RefusedInput(
            f"{path} cannot be imported ({reason}); if other programs can, report it with the output of --debug"
        ) from error


def check_values(graph: Graph, size: tuple[int, int] | None = None) -> int:
    """How many values all tensors of one image have, from the layer table.

    Args:
        graph: with the shapes of one image of its own size.
        size: (height, width) of another image. Tensors are taken to grow and shrink with it, but those that are
            far larger than the picture, a giant pad say, do not shrink.
    """
    height, width = graph.image_size
    scale = 1.0 if size is None else size[0] * size[1] / (height * width)
    total: float = sum(_INPUT_COPIES * prod(side or 1 for side in spec.shape) for spec in graph.inputs[1:])
    total += _INPUT_COPIES * scale * (graph.channels * height * width)
    for layer in graph.layers:
        values = prod(side or 1 for side in layer.shape)
        is_grown = values > _GROWN * height * width * (layer.channels or 1)
        total += values * (max(scale, 1.0) if is_grown else scale)
    return int(total)


def refuse_check(graph: Graph) -> UnsafeFile:
    """The refusal of a graph that is too large to be checked."""
    height, width = graph.image_size
    return UnsafeFile(
        f"one image of {height} x {width} makes {check_values(graph):,} values in this network; the check takes at "
        f"most {MAX_CHECKED:,}: pass --no-check if you know where the file is from"
    )
