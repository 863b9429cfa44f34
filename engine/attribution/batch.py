"""Images under question, and the executors that answer: built once per cut of the graph, then reused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...errors import UsageError, instead
from ..executors.devices import torch_device
from ..executors.session import Session
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..outputs.reading import Reading
from ..outputs.registry import read_outputs
from ..outputs.target import Target, batch_axes, row_of, scores, tensors_of
from ..whole import whole
from .ends import branch_ends
from .probabilities import probabilities

_FORWARD = "take a method that runs forward alone (rise, occlusion, sobol), or look only below it or only above"


@dataclass(frozen=True)
class Cut:
    """A network in two parts: up to some layers forward alone, and what lies above them with gradients.

    Attributes:
        roots: tensors of the layers that no other of them leads to; the upper part begins there.
        inner: tensors of the other layers, which the upper part computes.
        names: all that the upper part is fed, the roots and what bypasses them.
        targets: what it computes beside ``inner``.
    """

    roots: tuple[str, ...]
    inner: tuple[str, ...]
    names: tuple[str, ...]
    targets: tuple[str, ...]

    @property
    def computed(self) -> list[str]:
        """The tensors that the upper part gives, without those that it is fed."""
        return [name for name in dict.fromkeys((*self.targets, *self.inner)) if name not in self.names]


class Executors:
    """The sessions and twins of one graph on one device.

    Args:
        graph: the model.
        device: "auto", "cpu" or "cuda[:n]".
        batch: images per pass for methods that need many passes; every pass has exactly this many.
        decoder, output: how the outputs are read, see `read_outputs`.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        device: str = "auto",
        batch: int = 16,
        decoder: str | None = None,
        output: str | None = None,
    ) -> None:
        self.graph = graph
        self.device = device
        self.batch = whole(batch, "batch", 1)
        self.decoder, self.output = decoder, output
        self._sessions: dict[tuple[Any, ...], Session] = {}
        self._twins: dict[tuple[Any, ...], Any] = {}
        self._cuts: dict[tuple[Any, ...], tuple[str, ...]] = {}
        self._ends: dict[tuple[Any, ...], tuple[str, ...]] = {}
        self._lowest: dict[tuple[str, ...], tuple[Layer, ...]] = {}

    @cached_property
    def torch_device(self) -> Any:
        """Where the twins run."""
        return torch_device(self.device)

    @cached_property
    def reading(self) -> Reading:
        """What the graph's outputs mean."""
        return read_outputs(self.graph, self.decoder, self.output, self.device)

    def session(self, outputs: Sequence[str], inputs: Sequence[str] | None = None) -> Session:
        """The forward session for this cut."""
        key = (tuple(outputs), tuple(inputs or ()))
        if key not in self._sessions:
            self._sessions[key] = self.graph.session(outputs, inputs, device=self.device)
        return self._sessions[key]

    def twin(
        self, outputs: Sequence[str], inputs: Sequence[str] | None = None, cut: Sequence[str] | None = None
    ) -> Any:
        """The differentiable twin between ``inputs`` and ``outputs``.

        Args:
            outputs: tensor names.
            inputs: as for `Graph.twin`.
            cut: those of the inputs that a gradient is asked of; default the image.

        Raises:
            UnsupportedOperator: an operator on the way has no gradient.
        """
        key = (tuple(outputs), tuple(inputs or ()))
        if key not in self._twins:
            with instead(_FORWARD):
                self.graph.require_gradient(outputs, cut)
                self._twins[key] = self.graph.twin(outputs, inputs, device=self.device)
        return self._twins[key]

    def tensor(self, values: np.ndarray) -> Any:
        """A torch tensor on the twins' device."""
        import torch

        return torch.from_numpy(np.ascontiguousarray(values)).to(self.torch_device)

    def cut(self, layers: Sequence[Layer], targets: Sequence[str]) -> Cut:
        """Where the network is cut so that the layers' gradients come from one run of what lies above them."""
        roots = self.lowest(layers)
        inner = tuple(layer.tensor for layer in layers if layer not in roots)
        names = (*(layer.tensor for layer in roots), *self.sides(roots, (*targets, *inner)))
        return Cut(tuple(layer.tensor for layer in roots), inner, tuple(dict.fromkeys(names)), tuple(targets))

    def ends(self, layers: Sequence[Layer], targets: Sequence[str]) -> tuple[str, ...]:
        """See `branch_ends`."""
        key = (tuple(layer.tensor for layer in layers), tuple(targets))
        if key not in self._ends:
            self._ends[key] = branch_ends(self.graph, *key)
        return self._ends[key]

    def gathering(self, ends: Sequence[str], targets: Sequence[str]) -> Cut:
        """The cut at the ends of a head's branches, behind which their results are gathered."""
        key = (tuple(ends), tuple(targets))
        if key not in self._cuts:
            self._cuts[key] = self.graph.index.sides(ends, targets) or ()
        sides = self._cuts[key]
        return Cut(tuple(ends), (), tuple(dict.fromkeys((*ends, *sides))), tuple(targets))

    def one_at_a_time(self, axes: Mapping[str, int | None]) -> bool:
        """Whether pictures are asked about one by one: the file holds one picture's results, or mixes its batch.

        Args:
            axes: the batch axis of each tensor that is read, None for the results of one picture.
        """
        return None in axes.values() or self.graph.mixes_batch is not None

    def rows_together(self, targets: Sequence[Target]) -> int:
        """How many inputs one pass takes: one where they would mix, or where the outputs cannot tell them apart."""
        return 1 if self.one_at_a_time(batch_axes(targets)) else self.batch

    def sides(self, layers: Layer | Sequence[Layer], targets: Sequence[str]) -> tuple[str, ...]:
        """See `side_tensors`."""
        together = (layers,) if isinstance(layers, Layer) else tuple(layers)
        key = (tuple(layer.tensor for layer in together), tuple(targets))
        if key not in self._cuts:
            self._cuts[key] = side_tensors(self.graph, together, targets)
        return self._cuts[key]

    def cut_together(self, layers: Sequence[Layer]) -> tuple[Layer, ...]:
        """The layers if one run of what lies above them serves all, as it does but where pictures run one at a time.

        There the rows of a layer are put together behind the run, and no gradient leads back to one above another.
        """
        stacked = len(self.lowest(layers)) < len(layers)
        return tuple(layers) if len(layers) > 1 and not (stacked and self.graph.mixes_batch is not None) else ()

    def lowest(self, layers: Sequence[Layer]) -> tuple[Layer, ...]:
        """Those of the layers that no other of them leads to: what lies above all of them can be cut off there."""
        key = tuple(layer.tensor for layer in layers)
        if key not in self._lowest:
            ancestors = self.graph.index.ancestors
            below = {name: ancestors(name) - {name} for name in key} if len(key) > 1 else {}
            self._lowest[key] = tuple(layer for layer in layers if not below or below[layer.tensor].isdisjoint(key))
        return self._lowest[key]

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
            targets: one per row, or one for all.
            inputs: start there and not at the image.
            probability: of a class its probability in place of the logit; every other target's own number.
        """
        names = tensors_of(targets)
        session = self.session(names, inputs)
        rows = targets if len(targets) == len(x) else [targets[0]] * len(x)
        found = []
        # a session that runs pictures one at a time lays them one behind the other, wherever the output counts them
        for start, part in passes(x, self.rows_together(targets)):
            chosen = rows[start : start + len(part)]
            outputs = session.run(part)
            found.append(self.read(outputs, chosen, len(chosen), probability=probability))
        return np.concatenate(found)

    def read(
        self, outputs: Mapping[str, np.ndarray], targets: Sequence[Target], count: int, *, probability: bool = False
    ) -> np.ndarray:
        """(N,) float64 scores from whole tensors by name; ``probability`` as for `scores`."""
        if probability:
            return probabilities(self, outputs, targets, count)
        found: np.ndarray = scores(outputs, targets, count)
        return found


class Batch:
    """Images and what is known about them so far.

    Attributes:
        executors: of the graph.
        x: (N, C, H, W) float32 model input.
        together: layers that are cut at once, so that all of their gradients come from one pass of what lies above.
        asked: each picture's targets, of every round of questions, as far as they are known beforehand.
    """

    def __init__(self, executors: Executors, x: np.ndarray, together: Sequence[Layer] = ()) -> None:
        self.executors = executors
        self.x = x
        self.together = tuple(together)
        self.asked: list[list[Target]] = []
        self.heads: dict[Any, Any] = {}  # what lies above a cut, computed once and asked for many targets
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

    def outputs(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """As `values`, by name."""
        return dict(zip(names, self.values(names), strict=True))

    def rows(self, reading: Reading) -> list[dict[str, np.ndarray]]:
        """For each image the reading's tensors without their batch axis.

        Raises:
            UsageError: an output does not hold one result per image.
        """
        outputs = self.outputs(reading.tensors)
        for name, values in outputs.items():
            axis = reading.axes.get(name, 0)
            results = 1 if axis is None else values.shape[axis] if values.ndim > axis else 0
            if results != len(self.x):
                raise UsageError(
                    f"{self.graph.name} gives {results} results ('{name}' {values.shape}) for {len(self.x)} images; "
                    "explain one at a time"
                )
        return [row_of(outputs, reading.axes, index) for index in range(len(self.x))]

    def scores(self, targets: Sequence[Target], *, probability: bool = False) -> np.ndarray:
        """(N,) scores of the images themselves."""
        outputs = self.outputs(tensors_of(targets))
        return self.executors.read(outputs, targets, len(self.x), probability=probability)


def passes(x: np.ndarray, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """(start, rows) in parts of exactly ``size`` rows; the last is filled up with copies of its last row.

    One shape for all passes spares the executors a new plan, and a row's result does not depend on its place.
    """
    for start in range(0, len(x), size):
        part = x[start : start + size]
        if len(part) < size and len(x) > size:
            part = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
        yield start, np.ascontiguousarray(part)


def side_tensors(graph: Graph, layers: Sequence[Layer], targets: Sequence[str]) -> tuple[str, ...]:
    """What the part above some layers needs beside them: tensors from the image that bypass the layers.

    A skip connection around a layer is such a tensor. They are constants of the question how the targets depend on the
    layers.

    Raises:
        UsageError: none of the targets depends on a layer.
    """
    sides = graph.index.sides([layer.tensor for layer in layers], targets)
    if sides is None:
        named = " or ".join(f"'{layer.name}'" for layer in layers)
        raise UsageError(
            f"layer {named} has no influence on tensor {', '.join(repr(t) for t in targets)}; choose a layer before it"
        )
    return sides
