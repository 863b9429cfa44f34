"""What bounds an import as a whole: whose fault an error is, and what the check may cost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from math import prod
from pathlib import Path

from ..engine.graph import Graph
from ..engine.session import first_line
from ..errors import ConvscopeError, RefusedInput, UnsafeFile

MAX_CHECKED = 2**29  # values of all tensors of one image: 2 GiB in each executor
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


def check_cost(graph: Graph, fixed: bool) -> None:
    """Refuses the parity check where one image would fill the memory: absurd sizes, doubling chains, giant pads.

    Args:
        graph: with the shapes of one image in its layer table.
        fixed: whether the check runs at the graph's own image size. On a small image only those tensors count
            that are far larger than the picture, since the others shrink with it.

    Raises:
        UnsafeFile: with the number of values, and the way past the check.
    """
    height, width = graph.image_size
    total = 0
    for layer in graph.layers:
        values = prod(side or 1 for side in layer.shape)
        if fixed or values > _GROWN * height * width * (layer.channels or 1):
            total += values
    if total > MAX_CHECKED:
        raise UnsafeFile(
            f"one image of {height} x {width} makes {total:,} values in this network; the check takes at most "
            f"{MAX_CHECKED:,}: pass --no-check if you know where the file is from"
        )
