"""Preprocessing told from a network's own weights, where neither the file nor anything beside it states it.

A batch-norm keeps mean and variance of what arrived at it in training. The photographs that ship go through the network
up to its first batch-norm under each of the usual preprocessings; the one under which mean and variance come out as
stored is taken. How well they fit is the Kullback-Leibler divergence of two normal distributions, channel by channel.

Where an exporter folded batch-norm into the convolution, its bias remains. With the stored mean and variance in them,
bias and spread of the first convolution's values are of one size in the range that the network was trained with; in a
range 255 times as small the bias drowns the picture. And bias follows the sum of a filter's weights where the pixels
that it balances were not centred; the pixel that they balance lies in the range of the input, so one beyond 1 is of a
range like that of ``torch``.

What a network does to its own input before anything else tells more than either, see `own_scale`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx

from ..engine.graph.graph import Graph
from ..engine.graph.preprocessing import PREPROCESSINGS, Preprocessing
from ..engine.pictures.photographs import photographs
from ..engine.pictures.read import fit, read_image
from ..errors import RefusedInput
from .guard import MAX_CHECKED, check_values
from .own_scale import own_scale

_MOST_WORK = 8e10  # multiply-adds that may be spent on it; a network's first layers take a hundredth
_FITS = 1.5  # nats; what fits worse is no evidence: the network was not trained on photographs
_CLEARLY = 1.25  # times: the second best has to fit so much worse
_FAR = 10.0  # nats: a stated family that fits so badly is not what this network was trained with
_BGR_FITS = 0.7  # times the divergence in RGB: what order changes is little, and most networks take RGB
_FEWEST = 16  # channels: fewer fit by chance
_DEAD = 1e-3  # of the median variance
_DROWNS, _BALANCED = 30.0, 5.0  # bias to spread, in the range 0..1 and in 0..255
_FOLLOWS, _CENTRE = -0.4, (60.0, 190.0)  # correlation of bias and sum of weights; the pixel that it balances
_BEYOND = (1.05, 3.5)  # a pixel that only inputs divided by their deviation reach: white is 2.25 to 2.64 in `torch`

# behind one of these nothing of the range is left: values divided by their own statistics, or shares of one
_LEVELS = frozenset({
    "InstanceNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization", "LpNormalization",
    "MeanVarianceNormalization", "LRN", "ReduceMean", "ReduceL2", "ReduceMax", "ReduceMin", "Softmax",
})  # fmt: skip

_SMALL, _LARGE = ("unit", "tf", "torch"), ("caffe", "raw")


@dataclass(frozen=True)
class Evidence:
    """What the weights say.

    Attributes:
        preprocessing: a preset, with the graph's own size and layout.
        reason: for people, in one line.
    """

    preprocessing: Preprocessing
    reason: str


def from_weights(graph: Graph) -> Evidence | None:
    """The preprocessing that a network's weights fit, or None where they tell nothing.

    Args:
        graph: takes pictures in gray or colour; of a known size. A preprocessing that is no more than assumed is
            replaced; one that is a family's only where the weights contradict it.
    """
    shape = graph.inputs[0].shape
    if graph.own_input is not None or len(shape) != 4 or graph.channels not in (1, 3) or graph.preprocessing.whole:
        return None
    # a family's preprocessing too is at times part of the file (keras.applications' preprocess_input in the model)
    known = graph.preprocessing
    if (stated := own_scale(graph)) is not None and (known.found == "assumed" or known.preset != stated[0].preset):
        return _evidence(graph, *stated, told_by="operators")
    if check_values(graph) > MAX_CHECKED:
        return None
    try:
        norm = _first_norm(graph)
        return _by_norm(graph, norm) if norm is not None else _by_bias(graph)
    except RefusedInput:  # it does not run on one picture
        return None


def _by_norm(graph: Graph, norm: onnx.NodeProto) -> Evidence | None:
    mean, variance = (graph.index.constant(name) for name in norm.input[3:5])
    if mean is None or variance is None or _untouched(mean, variance):
        return None
    live = variance > _DEAD * np.median(variance)
    if live.sum() < _FEWEST:
        return None
    trial = _Trial(graph, norm.input[0])
    if not trial.pictures:
        return None
    stored = mean[live].astype(np.float64), variance[live].astype(np.float64)

    def divergences(names: tuple[str, ...], order: str = "RGB") -> dict[str, np.ndarray]:
        values = {name: trial.values(replace(PREPROCESSINGS[name], order=order)) for name in names}
        return {name: _divergence(value[:, live], *stored) for name, value in values.items()}

    first = divergences(("unit", "caffe"))
    names: tuple[str, ...] = _SMALL if np.median(first["unit"]) < np.median(first["caffe"]) else _LARGE
    if graph.channels == 1:  # gray pictures have no mean and deviation that everybody takes
        names = tuple(name for name in names if name != "torch")
    found = {**first, **divergences(tuple(n for n in names if n not in first))}
    fits = {name: float(np.median(value)) for name, value in found.items()}
    best, second = sorted(fits, key=lambda name: fits[name])[:2]
    stated = graph.preprocessing.preset if graph.preprocessing.found == "family" else None
    if fits[best] > _FITS or fits[second] < _CLEARLY * fits[best]:
        return None
    if stated is not None and (stated not in fits or fits[stated] < _FAR):
        return None
    order = PREPROCESSINGS[best].order if graph.channels == 3 else "GRAY"
    if graph.channels == 3 and trial.is_cheap:
        bgr, rgb = (float(divergences((best,), turned)[best].mean()) for turned in ("BGR", "RGB"))
        order = "BGR" if bgr < _BGR_FITS * rgb else order
    return _evidence(
        graph,
        replace(PREPROCESSINGS[best], order=order),
        f"under it photographs have the mean and variance that its first batch-norm stored "
        f"(divergence {fits[best]:.2g}; {second}: {fits[second]:.2g})",
    )


def _by_bias(graph: Graph) -> Evidence | None:
    """That the range is 0..255, or that of ``torch``: 0..1 is assumed anyway."""
    index = graph.index
    first = next(
        (n for n in index.nodes if n.op_type == "Conv" and graph.inputs[0].name in index.ancestors(n.input)), None
    )
    if first is None or len(first.input) < 3 or graph.preprocessing.found != "assumed":
        return None
    weight, bias = index.constant(first.input[1]), index.constant(first.input[2])
    if weight is None or bias is None or not bias.any():
        return None
    flat = weight.reshape(len(weight), -1).astype(np.float64)
    size = np.sqrt((flat**2).sum(axis=1))
    live = size > np.sqrt(_DEAD) * np.median(size)
    trial = _Trial(graph, first.output[0])
    if live.sum() < _FEWEST or not trial.pictures:
        return None
    spread = trial.values(PREPROCESSINGS["unit"])[1][live]
    drowned = float(np.median(np.abs(bias[live]) / np.maximum(spread**0.5, 1e-12)))
    sums = flat[live].sum(axis=1)
    follows = float(np.corrcoef(sums, bias[live])[0, 1]) < _FOLLOWS
    balanced, error = _balanced(sums, bias[live].astype(np.float64))
    if drowned >= _DROWNS and drowned / 255 <= _BALANCED:
        return _of_bytes(graph, drowned, balanced, follows and _CENTRE[0] < balanced < _CENTRE[1])
    if graph.channels == 3 and follows and _BEYOND[0] < balanced - error and balanced < _BEYOND[1]:
        return _evidence(
            graph,
            PREPROCESSINGS["torch"],
            f"the biases of its first convolution balance pixels around {balanced:.2g}, which neither 0..1 nor -1..1 "
            "reaches",
        )
    return None


def _of_bytes(graph: Graph, drowned: float, balanced: float, is_raw: bool) -> Evidence:
    """Of the range 0..255, centred or not."""
    kind = f"pixels that are not centred (around {balanced:.0f})" if is_raw else "centred pixels"
    found = PREPROCESSINGS["raw" if is_raw else "caffe"]
    reason = (
        f"its first convolution's biases are {drowned:.0f} times the spread of photographs in 0..1, and fit {kind} of "
        "the range 0..255"
    )
    if is_raw and graph.channels == 3 and _has_focus(graph):
        # Of the two families with this stem YOLOv5 takes 0..1; YOLOX (Ge et al. 2021) takes OpenCV's bytes as they are.
        found = replace(found, order="BGR")
        reason += "; with its stem of every second pixel it has the form of YOLOX, which takes BGR"
        return _evidence(graph, found, reason, resize="letterbox")
    return _evidence(graph, found, reason)


def _balanced(sums: np.ndarray, bias: np.ndarray) -> tuple[float, float]:
    """The pixel that the biases balance, by least squares, and its standard error."""
    slope, offset = np.polyfit(sums, bias, 1)
    rest = bias - slope * sums - offset
    error = float(np.sqrt((rest**2).sum() / max(len(sums) - 2, 1) / ((sums - sums.mean()) ** 2).sum()))
    return -float(slope), error


def _has_focus(graph: Graph) -> bool:
    """Whether the pixels are taken apart in four by steps of two before the first convolution."""
    sliced = [n.output[0] for n in graph.index.nodes if n.op_type == "Slice"]
    joined = [n for n in graph.index.nodes if n.op_type == "Concat" and len(n.input) == 4]
    reached = graph.index.ancestors(joined[0].output) if joined else set()
    return (
        bool(joined)
        and set(joined[0].input) <= set(sliced)
        and not any(n.op_type == "Conv" and n.output[0] in reached for n in graph.index.nodes)
    )


def _evidence(
    graph: Graph, found: Preprocessing, reason: str, resize: str | None = None, told_by: str = "weights"
) -> Evidence:
    own = graph.preprocessing
    kept = replace(
        _in_gray(found) if graph.channels == 1 else found,
        size=own.size,
        resize=resize or own.resize,
        crop=own.crop,
        layout=own.layout,
        preset=found.preset,
        found=told_by,
    )
    return Evidence(kept, f"preprocessing told from the {told_by}: {kept.preset}, {kept.order}: {reason}")


class _Trial:
    """The shipped photographs on their way to one tensor.

    Attributes:
        pictures: (1, C, H, W) in [0, 1]; as many as the work of this tensor allows, perhaps none.
        is_cheap: whether all of them can be run as often as one likes.
    """

    def __init__(self, graph: Graph, tensor: str) -> None:
        self._graph, self._tensor = graph, tensor
        above = graph.index.ancestors(tensor)
        work = max(sum(layer.macs for layer in graph.layers if layer.tensor in above), 1)
        files = photographs()
        runs = len(_SMALL) + 1
        self.is_cheap = work * len(files) * 3 * runs < _MOST_WORK
        count = min(len(files), int(_MOST_WORK / (work * runs)))
        self.pictures = [fit(read_image(path).pixels, graph)[None] for path in files[:count]]
        self._session = graph.session([tensor], device="cpu")

    def values(self, preprocessing: Preprocessing) -> np.ndarray:
        """(2, C): mean and variance of every channel over all photographs."""
        own = _in_gray(preprocessing) if self._graph.channels == 1 else preprocessing
        sums: Mapping[int, list[np.ndarray]] = {1: [], 2: []}
        for picture in self.pictures:
            value = self._run(np.ascontiguousarray(own.normalize(picture), dtype=np.float32))
            for power, found in sums.items():
                found.append((value**power).mean(axis=tuple(a for a in range(value.ndim) if a != 1)))
        mean, square = (np.mean(found, axis=0) for found in sums.values())
        return np.stack([mean, np.maximum(square - mean**2, 0.0)])

    def _run(self, x: np.ndarray) -> np.ndarray:
        feeds = {self._graph.inputs[0].name: x.astype(self._graph.inputs[0].dtype)}
        for spec in self._graph.inputs[1:]:
            feeds[spec.name] = np.zeros(tuple(1 if i == 0 else s or 1 for i, s in enumerate(spec.shape)), spec.dtype)
        known = {name: value for name, value in feeds.items() if name in self._session.input_names}
        return self._session.run(known)[self._tensor].astype(np.float64)


def _in_gray(preprocessing: Preprocessing) -> Preprocessing:
    """The same for pictures of one channel: a preset's three means and deviations are one of each."""
    mean, std = (float(np.mean(values)) for values in (preprocessing.mean, preprocessing.std))
    return replace(preprocessing, mean=(mean,), std=(std,), order="GRAY")


def _divergence(values: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """KL(measured || stored) of normal distributions, nats, by channel."""
    ratio = (values[1] + 1e-12) / variance
    return np.asarray(0.5 * (ratio + (values[0] - mean) ** 2 / variance - 1 - np.log(ratio)))


def _untouched(mean: np.ndarray, variance: np.ndarray) -> bool:
    """Whether the statistics are those of a network that was never trained."""
    return not mean.any() and bool(np.all(variance == 1))


def _first_norm(graph: Graph) -> onnx.NodeProto | None:
    """The first batch-norm of feature maps, unless the network has levelled its values before.

    Behind a dense layer what arrives is too much the training data's own.
    """
    index, picture = graph.index, graph.inputs[0].name
    reached = index.descendants(picture)
    maps = {picture, *(layer.tensor for layer in graph.layers if layer.is_spatial)}
    for node in index.nodes:
        if node.op_type == "BatchNormalization" and node.input[0] in reached and node.input[0] in maps:
            way = index.between([i.name for i in graph.inputs], [node.input[0]])
            return None if any(step.op_type in _LEVELS for step in way) else node
    return None
