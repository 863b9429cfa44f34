"""What bounds an import as a whole: whose fault an error is, and what the check may cost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path

from ..engine.executors.session import first_line
from ..engine.graph.graph import Graph
from ..engine.graph.layers import Layer
from ..errors import ConvscopeError, RefusedInput, UnsafeFile
from .normalize.draft import Draft

MAX_CHECKED = 2**28  # values of all tensors of one image: 1 GiB in each executor
MAX_WORK = 2**37  # multiply-adds of one image: some ten seconds on one processor
_INPUT_COPIES = 4  # an input is drawn, normalized, cast and fed
_VARIADIC = {"Sum", "Max", "Min", "Mean"}
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
            f"{path} cannot be imported ({reason}); if other programs can, report it with the traceback"
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


def check_work(graph: Graph, size: tuple[int, int] | None = None) -> int:
    """How many multiply-adds one image takes; arguments as for `check_values`."""
    height, width = graph.image_size
    scale = 1.0 if size is None else size[0] * size[1] / (height * width)
    return int(sum(layer.macs for layer in graph.layers) * scale)


def refuse_hidden(draft: Draft, layers: Sequence[Layer]) -> None:
    """Bounds the tensors and products that no layer shows: of constants alone, of integers, or grown along the batch.

    Raises:
        UnsafeFile: they are as many as all layers of a large network have.
    """
    shown = sum(prod(side or 1 for side in layer.shape) for layer in layers)
    made = [draft.shapes.get(name, ()) for node in draft.nodes for name in node.output]
    hidden = sum(prod(side or 1 for side in shape) for shape in made) - shown
    work = 0
    for node in draft.nodes:
        if node.op_type in _VARIADIC:  # each input is gone through, however often it is the same
            hidden += (len(node.input) - 1) * prod(side or 1 for side in draft.shapes.get(node.output[0], ()))
        if node.op_type in ("MatMul", "Gemm", "MatMulInteger") and len(node.input) > 1:
            inner = draft.shapes.get(node.input[0], ())
            work += prod(side or 1 for side in draft.shapes.get(node.output[0], ())) * (inner[-1] or 1 if inner else 1)
    work -= sum(layer.macs for layer in layers if layer.op in ("MatMul", "Gemm", "MatMulInteger"))
    if hidden > MAX_CHECKED or work > MAX_WORK:
        raise UnsafeFile(
            f"one image makes {max(hidden, 0):,} values and {max(work, 0):,} multiply-adds beside the layers' own; at "
            f"most {MAX_CHECKED:,} and {MAX_WORK:,} are taken"
        )


def refuse_check(graph: Graph) -> UnsafeFile:
    """The refusal of a graph that is too large to be checked."""
    height, width = graph.image_size
    return UnsafeFile(
        f"one image of {height} x {width} makes {check_values(graph):,} values and {check_work(graph):,} multiply-adds "
        f"in this network; the check takes at most {MAX_CHECKED:,} and {MAX_WORK:,}: pass check=False if you know "
        "where the file is from"
    )
