"""The same pictures through both models, and how far apart every pair of layers is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...errors import ConvscopeError
from ..executors.session import Session
from ..graph.graph import Graph
from .align import Pair
from .operations import CommonForm

Size = tuple[int, int]
Pictures = Callable[[Graph, Size], np.ndarray]  # -> (N, C, H, W) in [0, 1]
Values = dict[str, np.ndarray]


class Bench:
    """Both models ready to run on one set of pictures, at one size where both allow it.

    Args:
        a, b: the models.
        pictures: gives the pictures as (N, C, H, W) in [0, 1] for a model and a size.
        device: of the sessions.

    Attributes:
        size_a, size_b: (height, width) that the models run at.
        note: what is said about sizes, or "".
    """

    def __init__(self, a: CommonForm, b: CommonForm, pictures: Pictures, device: str = "cpu") -> None:
        self.a, self.b, self.device = a, b, device
        self._pictures = pictures
        self.size_a, self.size_b = a.graph.image_size, b.graph.image_size
        self.note = ""
        self._kept: dict[bool, tuple[CommonForm, tuple[str, ...], str, Session]] = {}
        if self.size_a != self.size_b:
            self._settle_size()

    def inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """Each model's own input of the same pictures, (N, C, H, W) float32."""
        return tuple(  # type: ignore[return-value]
            network.graph.preprocessing.normalize(self._pictures(network.graph, size)).astype(np.float32)
            for network, size in ((self.a, self.size_a), (self.b, self.size_b))
        )

    def session(self, network: CommonForm, outputs: Sequence[str], inputs: Sequence[str] | None = None) -> Session:
        """A session that takes any image size and batch, whatever the export fixed."""
        model = network.graph.submodel(list(dict.fromkeys(outputs)), inputs)
        for info in model.graph.input:
            for axis, dim in enumerate(info.type.tensor_type.shape.dim):
                if axis != 1:
                    dim.Clear()
        return Session(model, self.device)

    def run(
        self, network: CommonForm, x: np.ndarray, tensors: Sequence[str], start: str | None = None
    ) -> Iterator[Values]:
        """The tensors for one picture after another; ``start`` is the tensor that ``x`` is, default the input."""
        image = network.graph.inputs[0].name
        first, start = start or image, None if start == image else start
        wanted = tuple(t for t in dict.fromkeys(tensors) if t != first)
        session = self._session(network, wanted, start) if wanted else None
        for row in x:
            values = session.run({first: row[None]}) if session else {}
            yield {**values, first: row[None]}

    def forget(self) -> None:
        """Starts with no session of its own."""
        self._kept = {}

    def _session(self, network: CommonForm, wanted: tuple[str, ...], start: str | None) -> Session:
        """The last session of each side is kept: the hypotheses run the same tensors again and again."""
        kept = self._kept.get(network is self.a)
        if kept is not None and kept[0] is network and kept[1:3] == (wanted, start or ""):
            return kept[3]
        session = self.session(network, wanted, [start] if start else None)
        self._kept[network is self.a] = (network, wanted, start or "", session)
        return session

    def _settle_size(self) -> None:
        smaller = min(self.size_a, self.size_b, key=lambda s: s[0] * s[1])
        own = f"{self.size_a[0]}x{self.size_a[1]} and {self.size_b[0]}x{self.size_b[1]}"
        for candidate in dict.fromkeys((smaller, self.size_a, self.size_b)):
            if all(self._takes(network, candidate) for network in (self.a, self.b)):
                self.size_a = self.size_b = candidate
                self.note = f"the models are meant for {own}; both were run at {candidate[0]}x{candidate[1]}"
                return
        self.note = f"the models take only their own sizes, {own}: feature maps were averaged to a common grid"

    def _takes(self, network: CommonForm, size: Size) -> bool:
        graph = network.graph
        x = np.zeros((1, graph.channels, *size), dtype=np.float32)
        try:
            next(self.run(network, x, [graph.outputs[0].name]))
        except ConvscopeError:
            return False
        return True


def relative_differences(
    pairs: Sequence[Pair],
    left: Iterator[Values],
    right: Iterator[Values],
    networks: tuple[CommonForm, CommonForm],
    order: Mapping[str, np.ndarray] | None = None,
    progress: Callable[[], Any] | None = None,
) -> list[float]:
    """Per pair the largest absolute difference over all pictures, relative to A's largest absolute value.

    Args:
        pairs: aligned layers.
        left: the values of A, picture by picture.
        right: the values of B, picture by picture.
        networks: A and B.
        order: B's tensor -> which of its channels stands for each channel of A.
        progress: called after every picture.
    """
    worst, largest = np.zeros(len(pairs)), np.zeros(len(pairs))
    for values_a, values_b in zip(left, right, strict=True):
        for i, pair in enumerate(pairs):
            x = networks[0].channels_first(pair.a.tensor, values_a[pair.a.tensor])
            y = networks[1].channels_first(pair.b.tensor, values_b[pair.b.tensor])
            if order is not None and pair.b.tensor in order and len(order[pair.b.tensor]) == y.shape[1]:
                y = y[:, order[pair.b.tensor]]
            x, y = common_grid(x, y)
            worst[i] = max(worst[i], _distance(x, y) if x.shape == y.shape else np.inf)
            largest[i] = max(largest[i], float(np.abs(x).max(initial=0, where=np.isfinite(x))))
        if progress:
            progress()
    return [float(w / m) if m > 0 else (0.0 if w == 0 else np.inf) for w, m in zip(worst, largest, strict=True)]


def _distance(x: np.ndarray, y: np.ndarray) -> float:
    """The largest absolute difference; there is none where both are the same infinity, or both NaN."""
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    with np.errstate(invalid="ignore"):
        apart = np.abs(x.astype(np.float64) - y)
    found = float(apart.max(initial=0, where=~same))
    return np.inf if np.isnan(found) else found


def common_grid(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both with the same spatial size: flat against 1 x 1 is the same, larger maps are averaged over cells."""
    if x.shape == y.shape:
        return x, y
    if x.size == y.size and x.shape[:2] == y.shape[:2]:
        return x, y.reshape(x.shape)
    if x.ndim != 4 or y.ndim != 4 or x.shape[1] != y.shape[1]:
        return x, y
    height, width = (min(x.shape[axis], y.shape[axis]) for axis in (2, 3))
    return cells(x, height, width), cells(y, height, width)


def cells(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """(N, C, height, width): means over the cells of a regular grid on (N, C, H, W)."""
    for axis, size in ((2, height), (3, width)):
        if x.shape[axis] != size:
            edges = np.arange(size) * x.shape[axis] // size
            counts = np.diff(np.append(edges, x.shape[axis]))
            x = np.add.reduceat(x, edges, axis=axis) / counts.reshape([-1 if i == axis else 1 for i in range(4)])
    return x
