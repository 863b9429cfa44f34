"""Images under question, and the executors that answer: built once per cut of the graph, then reused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...errors import UsageError
from ..executors.devices import torch_device
from ..executors.session import Session
from ..graph.graph import Graph
from ..graph.labels import ends_in_sigmoid
from ..graph.layers import Layer
from .targets import Target, probabilities, scores


class Executors:
    """The sessions and twins of one graph on one device.

    Args:
        graph: the model.
        device: "auto", "cpu" or "cuda[:n]".
        batch: images per pass for methods that need many passes; every pass has exactly this many.
    """

    def __init__(self, graph: Graph, *, device: str = "auto", batch: int = 16) -> None:
        if batch < 1:
            raise UsageError(f"batch {batch} is too small; use 1 or more")
        self.graph = graph
        self.device = device
        self.batch = batch
        self._sessions: dict[tuple[Any, ...], Session] = {}
        self._twins: dict[tuple[Any, ...], Any] = {}
        self._cuts: dict[tuple[str, str], tuple[str, ...]] = {}

    @cached_property
    def torch_device(self) -> Any:
        """Where the twins run."""
        return torch_device(self.device)

    def session(self, outputs: Sequence[str], inputs: Sequence[str] | None = None) -> Session:
        """The forward session for this cut."""
        key = (tuple(outputs), tuple(inputs or ()))
        if key not in self._sessions:
            self._sessions[key] = self.graph.session(outputs, inputs, device=self.device)
        return self._sessions[key]

    def twin(self, outputs: Sequence[str], inputs: Sequence[str] | None = None) -> Any:
        """The differentiable twin for this cut."""
        key = (tuple(outputs), tuple(inputs or ()))
        if key not in self._twins:
            self._twins[key] = self.graph.twin(outputs, inputs, device=self.device)
        return self._twins[key]

    def tensor(self, values: np.ndarray) -> Any:
        """A torch tensor on the twins' device."""
        import torch

        return torch.from_numpy(np.ascontiguousarray(values)).to(self.torch_device)

    def sides(self, layer: Layer, target: str) -> tuple[str, ...]:
        """See `side_tensors`."""
        key = (layer.tensor, target)
        if key not in self._cuts:
            self._cuts[key] = side_tensors(self.graph, layer, target)
        return self._cuts[key]

    def probabilities(self, values: np.ndarray, targets: Sequence[Target]) -> np.ndarray:
        """(N,) probabilities from a batch of the targets' tensor, as the model's own head makes them."""
        independent = targets[0].tensor == self.graph.logits and ends_in_sigmoid(self.graph)
        return probabilities(values, targets, independent=independent)

    def scores(
        self,
        x: np.ndarray,
        targets: Sequence[Target],
        *,
        inputs: Sequence[str] | None = None,
        probability: bool = False,
    ) -> np.ndarray:
        """(N,) float64 scores of a batch of images (or of values of ``inputs[0]``) in passes of a fixed size.

        Args:
            x: (N, ...).
            targets: all on one tensor; one per row, or one for all.
            inputs: start there and not at the image.
            probability: softmax probabilities in place of logits.
        """
        session = self.session([targets[0].tensor], inputs)
        read = self.probabilities if probability else scores
        rows = targets if len(targets) == len(x) else [targets[0]] * len(x)
        found = []
        for start, part in passes(x, self.batch):
            chosen = rows[start : start + self.batch]
            found.append(read(session.run(part)[targets[0].tensor][: len(chosen)], chosen))
        return np.concatenate(found)


@dataclass(eq=False)
class Batch:
    """Images and what is known about them so far.

    Attributes:
        executors: of the graph.
        x: (N, C, H, W) float32 model input.
    """

    executors: Executors
    x: np.ndarray

    def __post_init__(self) -> None:
        self._known: dict[str, np.ndarray] = {}

    @property
    def graph(self) -> Graph:
        """The model."""
        return self.executors.graph

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the images."""
        return self.x.shape[2], self.x.shape[3]

    def values(self, names: Sequence[str]) -> list[np.ndarray]:
        """Tensors by name, each computed once, all that are missing in one forward pass."""
        missing = [n for n in dict.fromkeys(names) if n not in self._known]
        if missing:
            self._known.update(self.executors.session(missing).run(self.x))
        return [self._known[n] for n in names]

    def scores(self, targets: Sequence[Target], *, probability: bool = False) -> np.ndarray:
        """(N,) scores of the images themselves."""
        (values,) = self.values([targets[0].tensor])
        return (self.executors.probabilities if probability else scores)(values, targets)


def passes(x: np.ndarray, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """(start, rows) in parts of exactly ``size`` rows; the last is filled up with copies of its last row.

    One shape for all passes spares the executors a new plan, and a row's result does not depend on its place.
    """
    for start in range(0, len(x), size):
        part = x[start : start + size]
        if len(part) < size and len(x) > size:
            part = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
        yield start, np.ascontiguousarray(part)


def side_tensors(graph: Graph, layer: Layer, target: str) -> tuple[str, ...]:
    """What the part above a layer needs beside it: tensors from the image that bypass the layer.

    A skip connection around the layer is such a tensor. They are constants of the question how the target
    depends on the layer.

    Raises:
        UsageError: the target does not depend on the layer.
    """
    try:
        return graph.index.sides(layer.tensor, target)
    except UsageError:
        raise UsageError(
            f"layer '{layer.name}' has no influence on tensor '{target}'; choose a layer before it"
        ) from None
