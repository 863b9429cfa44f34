"""Activations of any layers for any number of images, on ONNX Runtime, in bounded memory.

Images are decoded and preprocessed in threads while the session computes. Every batch has the same shape (the
last one is filled up and cut), so that the session allocates once; its inputs and outputs are bound, and only
the asked tensors leave it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import RefusedInput, UsageError
from ..executors.session import Session
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..pictures.given import Source, sources
from ..pictures.read import Picture, model_input, stream
from .reductions import reduced_layer

Failure = Callable[[Path, RefusedInput], None]


def _refuse(_path: Path, error: RefusedInput) -> None:
    raise error


@dataclass(frozen=True, eq=False)
class ActivationBatch:
    """Activations of a few images.

    Attributes:
        first: the number of the first image among those that could be read.
        paths: one per image.
        values: layer name -> (n, C, H, W) float32 (rank 2 layers: (n, C)).
    """

    first: int
    paths: tuple[Path, ...]
    values: dict[str, np.ndarray]


def activations(
    graph: Graph,
    paths: Any,
    layers: Sequence[Layer | str | int],
    *,
    batch: int = 8,
    size: tuple[int, int] | None = None,
    device: str = "auto",
    workers: int = 2,
    failed: Failure = _refuse,
) -> Iterator[ActivationBatch]:
    """The layers' activations, batch by batch, in the order of the paths.

    Args:
        graph: the model.
        paths: pictures, as for `given.sources`: files, a folder, arrays, tensors, or a list of these.
        layers: which, by name or index too; channels-last layers come channels-first, tokens as the maps of their grid.
        batch: images per pass.
        size: (height, width); default the graph's image size.
        device: "auto", "cpu" or "cuda[:n]".
        workers: decoding threads.
        failed: called for every picture that cannot be read, which is then left out; by default it is an error.

    Raises:
        UsageError: no or unknown layers, no such picture, numbers that are not positive. RefusedInput: a picture cannot
            be read, or ONNX Runtime refuses the model.
    """
    if min(batch, workers, *(size or (1,))) < 1 or not layers:
        raise UsageError(f"batch {batch}, workers {workers}, size {size} and {len(layers)} layers: none may be zero")
    found = [layer if isinstance(layer, Layer) else graph.layer(layer) for layer in layers]
    files, _ = sources(paths, graph.channels)
    session = graph.session(list(dict.fromkeys(layer.tensor for layer in found)), device=device)
    for first, names, values in run_batches(session, graph, files, batch, size, workers, failed):
        yield ActivationBatch(first, names, {la.name: np.asarray(la.maps(values[la.tensor])) for la in found})


def of_input(
    graph: Graph,
    x: np.ndarray,
    names: Sequence[Path],
    layers: Sequence[Layer],
    *,
    batch: int = 8,
    device: str = "auto",
) -> Iterator[ActivationBatch]:
    """The layers' activations for model input (N, C, H, W), batch by batch; ``names`` stand for the paths."""
    session = graph.session(list(dict.fromkeys(layer.tensor for layer in layers)), device=device)
    for first in range(0, len(x), batch):
        part = x[first : first + batch]
        filled = np.concatenate([part, np.repeat(part[-1:], batch - len(part), axis=0)]) if len(part) < batch else part
        values = batch_first(graph, session.run(filled.astype(graph.inputs[0].dtype, copy=False)), len(filled))
        found = {la.name: np.asarray(la.maps(values[la.tensor]))[: len(part)] for la in layers}
        yield ActivationBatch(first, tuple(names[first : first + len(part)]), found)


def run_batches(
    session: Session,
    graph: Graph,
    paths: Sequence[Source],
    batch: int,
    size: tuple[int, int] | None,
    workers: int,
    failed: Failure,
) -> Iterator[tuple[int, tuple[Path, ...], dict[str, np.ndarray]]]:
    """(number of the first image, paths, outputs by tensor name, the axis that counts images first) of every batch."""

    def prepare(picture: Picture) -> np.ndarray:
        return model_input(picture, graph, size).astype(graph.inputs[0].dtype, copy=False)

    bound = Bound(session, graph.inputs[0].name)
    first = 0
    for group in _groups(stream(paths, prepare, workers), batch, failed):
        x = np.concatenate([value for _, value in group])
        filled = np.concatenate([x, np.repeat(x[-1:], batch - len(x), axis=0)]) if len(x) < batch else x
        values = batch_first(graph, bound.run(filled), len(filled))
        names = tuple(path for path, _ in group)
        yield first, names, {name: value[: len(names)] for name, value in values.items()}
        first += len(names)


def batch_first(graph: Graph, values: Mapping[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """Tensors by name with the axis that counts pictures first.

    Raises:
        UsageError: a tensor does not hold one result for each of the ``count`` pictures.
    """
    found = {}
    for name, value in values.items():
        axis = graph.batch_axes.get(name, 0)
        if value.ndim <= axis or value.shape[axis] != count:
            layer = reduced_layer(graph, name)
            label = name if layer is None else layer.name
            raise UsageError(
                f"layer '{label}' gives values of shape {value.shape} for {count} pictures, not one result for each; "
                "take another layer"
            )
        found[name] = np.moveaxis(value, axis, 0) if axis else value
    return found


class Bound:
    """A session with bound input and outputs, which gives its outputs away without copying them.

    The outputs are bound anew for every run: ONNX Runtime then takes memory for them from its pool, and they are
    views of it, which goes back to the pool with the last array. On CUDA that memory is the host's.

    Args:
        session: of one image input.
        input_name: what is fed.

    Raises:
        RefusedInput: the session has other inputs beside it.
    """

    def __init__(self, session: Session, input_name: str) -> None:
        session.check_one_input()
        self.session = session
        self.input_name = input_name
        self.binding = session.ort.io_binding()

    def run(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs by name, arrays of the caller's own.

        Raises:
            RefusedInput: ONNX Runtime fails on the input.
        """
        from ..executors.session import first_line

        if self.session.alone and len(x) > 1:
            return self.session.run({self.input_name: x})
        self.binding.clear_binding_outputs()
        for name in self.session.output_names:
            self.binding.bind_output(name)
        self.binding.bind_cpu_input(self.input_name, np.ascontiguousarray(x))
        try:
            self.session.ort.run_with_iobinding(self.binding)
        except Exception as error:  # ONNX Runtime raises many unrelated types
            raise RefusedInput(f"ONNX Runtime failed on the model: {first_line(error)}") from error
        values = {n: v.numpy() for n, v in zip(self.session.output_names, self.binding.get_outputs(), strict=True)}
        self.binding.clear_binding_outputs()
        return values


def _groups(items: Iterable[tuple[Path, Any]], batch: int, failed: Failure) -> Iterator[list[tuple[Path, np.ndarray]]]:
    group: list[tuple[Path, np.ndarray]] = []
    for path, value in items:
        if isinstance(value, RefusedInput):
            failed(path, value)
            continue
        group.append((path, value))
        if len(group) == batch:
            yield group
            group = []
    if group:
        yield group
