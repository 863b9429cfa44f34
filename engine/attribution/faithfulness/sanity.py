"""Does a map depend on what the network has learned? Cascading randomization of its weights.

Adebayo et al. 2018, "Sanity Checks for Saliency Maps", arXiv:1810.03292: the layers' weights are destroyed one
after the other, the last first. A method whose map stays the same explains the architecture, or finds edges,
and not the trained network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import numpy_helper

from ....errors import UsageError
from ...graph.graph import Graph
from ...graph.operators import operator
from ...outputs.target import Target
from ..batch import Batch, Executors
from ..explain import combined, maps_by
from ..registry import Method

INSENSITIVE = 0.5  # mean rank correlation over the cascade above which a method is flagged


@dataclass(frozen=True)
class Sanity:
    """How similar a method's map stays while weights are randomized.

    Attributes:
        method: its name.
        stages: how many layers' weights were random at each stage, from the top.
        similarity: Spearman rank correlation with the trained network's map, at each stage.
    """

    method: str
    stages: tuple[int, ...]
    similarity: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean similarity over the stages."""
        return sum(self.similarity) / len(self.similarity)

    @property
    def insensitive(self) -> bool:
        """Whether the mean is above `INSENSITIVE`.

        The mean and not the last stage: the finding of the paper is that some maps stay the same while the
        upper layers, which hold what the network knows of classes, are already destroyed.
        """
        return self.mean > INSENSITIVE


def cascade(
    batch: Batch,
    methods: Sequence[Method],
    targets: Sequence[Target],
    layers: Sequence[Any],
    *,
    stages: int = 4,
    seeds: Sequence[int] = (0,),
    options: Mapping[str, Any] | None = None,
) -> list[Sanity]:
    """The cascading randomization test of several methods on a batch.

    Deviations from the paper: weights are shuffled within their tensor and not drawn anew, which keeps their
    distribution and so the activations' scale; only ``stages`` points of the cascade are looked at, and the
    similarity is the rank correlation of the unrectified evidence alone (the paper adds SSIM and HOG).

    Args:
        batch: images on the trained graph.
        methods: to test.
        targets: one per image.
        layers: for methods that look at some.
        stages: points of the cascade, evenly spaced, the last with every weight random.
        seeds: of the shuffles; similarities are averaged.
        options: of the methods.
    """
    names = weight_names(batch.graph)
    if not names:
        raise UsageError(f"{batch.graph.name} has no weights that could be randomized")
    counts = sorted({max(1, round(len(names) * (i + 1) / stages)) for i in range(stages)})
    trained = {m.name: _evidence(m, batch, targets, layers, options) for m in methods}
    found: dict[str, list[list[float]]] = {m.name: [] for m in methods}
    for seed in seeds:
        rows: dict[str, list[float]] = {m.name: [] for m in methods}
        for count in counts:
            random = Executors(
                randomized(batch.graph, names[-count:], seed),
                device=batch.executors.device,
                batch=batch.executors.batch,
            )
            other = Batch(random, batch.x)
            for method in methods:
                rows[method.name].append(
                    rank_correlation(trained[method.name], _evidence(method, other, targets, layers, options))
                )
        for name, row in rows.items():
            found[name].append(row)
    means = {name: np.mean(rows, axis=0) for name, rows in found.items()}
    return [Sanity(m.name, tuple(counts), tuple(float(v) for v in means[m.name])) for m in methods]


def weight_names(graph: Graph) -> list[str]:
    """The weight tensors (of rank 2 and more) of convolutions and dense layers, in order of execution."""
    stored = graph.index.weights
    found: dict[str, None] = {}
    for node in graph.index.nodes:
        if operator(node).family in ("convolution", "dense"):
            found.update(dict.fromkeys(n for n in node.input[1:2] if n in stored and len(stored[n].dims) >= 2))
    return list(found)


def randomized(graph: Graph, names: Sequence[str], seed: int) -> Graph:
    """A copy of the graph with the named weights shuffled within each tensor."""
    values = {}
    for tensor in graph.model.graph.initializer:
        if tensor.name in names:
            own = hashlib.sha256(f"{seed}:{tensor.name}".encode()).digest()
            trained = numpy_helper.to_array(tensor)
            shuffled = np.random.default_rng(list(own[:16])).permutation(trained.ravel())
            values[tensor.name] = shuffled.reshape(trained.shape)
    return graph.with_weights(values)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over the batch of Spearman's rank correlation of two maps (N, ...); 0 where one is constant."""
    from scipy.stats import rankdata  # takes longer to import than most methods run

    found = []
    for left, right in zip(a, b, strict=True):
        x, y = rankdata(left.ravel()), rankdata(right.ravel())
        x, y = x - x.mean(), y - y.mean()
        size = np.linalg.norm(x) * np.linalg.norm(y)
        found.append(float(x @ y / size) if size > 0 else 0.0)
    return float(np.mean(found))


def _evidence(
    method: Method,
    batch: Batch,
    targets: Sequence[Target],
    layers: Sequence[Any],
    options: Mapping[str, Any] | None,
) -> np.ndarray:
    parts = maps_by(method, batch, targets, layers, options)
    return parts[0].evidence if len(parts) == 1 else combined(parts, batch.size)[0]
