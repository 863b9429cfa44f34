"""What is explained: one number per image, read from one tensor of the graph.

A class is a channel of the logits, a unit the mean of a channel of any feature map, a neuron one position of
it, and a class of a segmentation the sum of its logit over a mask.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from ...errors import UsageError
from ..graph.graph import Graph
from ..graph.layers import Layer

_NUMBER = re.compile(r"[+-]?\d+")
_TOP = re.compile(r"top:(\d+)")
_UNIT = re.compile(r"unit:(?P<layer>.+):(?P<unit>\d+)(?:@(?P<row>\d+),(?P<column>\d+))?")
_OUTPUT = re.compile(r"output:(?P<output>.+):(?P<index>\d+)")


@dataclass(frozen=True, eq=False)
class Target:
    """One number per image: a channel of a tensor, reduced over its other axes.

    Attributes:
        tensor: ONNX tensor name.
        index: the channel: a class, or a unit.
        name: for people.
        axis: the tensor's channel axis (batch is 0).
        position: (row, column) of a neuron, or None for the whole channel.
        mask: (H, W) weights of the sum over positions, or None for the mean.
    """

    tensor: str
    index: int
    name: str
    axis: int = 1
    position: tuple[int, int] | None = None
    mask: np.ndarray | None = None

    def score(self, row: Any) -> Any:
        """The number, from one image's value of the tensor (numpy or torch, without the batch axis)."""
        channel = row[(slice(None),) * (self.axis - 1) + (self.index,)]
        if channel.ndim == 0:
            return channel
        if self.position is not None:
            return channel[self.position]
        if self.mask is None:
            return channel.mean()
        weights = self.mask if isinstance(channel, np.ndarray) else channel.new_tensor(self.mask)
        return (channel * weights).sum()


def scores(values: Any, targets: Sequence[Target]) -> Any:
    """(N,) numbers from a batch of the targets' tensor; one target per row, or one for all of them."""
    rows = targets if len(targets) == len(values) else [targets[0]] * len(values)
    if isinstance(values, np.ndarray):
        return np.asarray([t.score(row) for t, row in zip(rows, values, strict=True)], dtype=np.float64)
    import torch

    return torch.stack([t.score(row) for t, row in zip(rows, values, strict=True)])


def probabilities(values: np.ndarray, targets: Sequence[Target], *, independent: bool = False) -> np.ndarray:
    """(N,) probabilities of class targets from logits (N, K); scores as they are for other tensors.

    The softmax, or the sigmoid where the classes are ``independent`` or there is a single one.
    """
    rows = targets if len(targets) == len(values) else [targets[0]] * len(values)
    values = values.astype(np.float64)
    if values.ndim != 2:
        return scores(values, targets)
    chosen = values[np.arange(len(values)), [t.index for t in rows]]
    if independent or values.shape[1] == 1:
        return 1 / (1 + np.exp(-chosen))
    largest = values.max(axis=1)
    return np.exp(chosen - largest) / np.exp(values - largest[:, None]).sum(axis=1)


def resolve(graph: Graph, spec: Target | str | int | None, logits: np.ndarray) -> list[Target]:
    """The targets that a person asked for, on one image.

    Args:
        graph: the model.
        spec: None (the predicted class), a class index or name, ``top:K``, ``unit:LAYER:UNIT``,
            ``unit:LAYER:UNIT@ROW,COLUMN``, ``output:NAME:INDEX``, or a `Target`.
        logits: the image's own logits without the batch axis, (K,) or (K, H, W) for a segmentation.

    Raises:
        UsageError: no such class, layer, unit or output.
    """
    if isinstance(spec, Target):
        return [spec]
    if isinstance(spec, str):
        spec = spec.strip()
        if match := _UNIT.fullmatch(spec):
            position = (int(match["row"]), int(match["column"])) if match["row"] else None
            return [unit_target(graph, match["layer"], int(match["unit"]), position)]
        if match := _OUTPUT.fullmatch(spec):
            return [_output_target(graph, match["output"], int(match["index"]))]
    if logits.ndim == 2:
        raise UsageError(
            f"the first output of {graph.name} has shape {('N', *logits.shape)}, no class axis is known; "
            "name a target: unit:LAYER:UNIT or output:NAME:INDEX"
        )
    if spec is None:
        return _strongest(graph, logits, 1)
    if isinstance(spec, str) and (match := _TOP.fullmatch(spec)):
        return _strongest(graph, logits, int(match[1]))
    return [_class_target(graph, _class_index(graph, spec, len(logits)), logits)]


def target_tensor(graph: Graph, spec: Target | str | int | None) -> str:
    """The tensor that a target will be on, known before any image; ``spec`` as for `resolve`."""
    if isinstance(spec, Target):
        return spec.tensor
    if isinstance(spec, str) and (_UNIT.fullmatch(spec.strip()) or _OUTPUT.fullmatch(spec.strip())):
        return resolve(graph, spec, np.zeros(0))[0].tensor
    return graph.logits


def unit_target(graph: Graph, layer: Layer | str, unit: int, position: tuple[int, int] | None = None) -> Target:
    """A unit (the mean of its feature map) or a neuron (one position of it) of any layer.

    Raises:
        UsageError: no such layer or unit, or the position lies outside the feature map.
    """
    chosen = layer if isinstance(layer, Layer) else graph.layer(layer)
    axis = chosen.channel_axis or 1
    if chosen.channels is not None and not 0 <= unit < chosen.channels:
        raise UsageError(f"unit {unit} is out of range: layer '{chosen.name}' has {chosen.channels} units")
    if position is not None:
        sizes = [s for a, s in enumerate(chosen.shape) if a not in (0, axis)]
        if len(sizes) != 2 or any(s is not None and not 0 <= p < s for p, s in zip(position, sizes, strict=True)):
            raise UsageError(f"position {position} lies outside layer '{chosen.name}' of spatial size {tuple(sizes)}")
    where = f"@{position[0]},{position[1]}" if position else ""
    return Target(chosen.tensor, unit, f"{chosen.name}:{unit}{where}", axis, position)


def segmentation_target(graph: Graph, index: int, mask: np.ndarray) -> Target:
    """The sum of a class's logit map over a mask (H, W) of the output's own size."""
    return Target(graph.logits, index, _class_name(graph, index), 1, None, np.asarray(mask, dtype=np.float32))


def _strongest(graph: Graph, logits: np.ndarray, count: int) -> list[Target]:
    if count < 1:
        raise UsageError(f"top:{count} asks for no class; use top:1 or more")
    strength = logits if logits.ndim == 1 else _share(logits)
    order = np.argsort(-strength, kind="stable")[:count]
    return [_class_target(graph, int(index), logits) for index in order]


def _share(logits: np.ndarray) -> np.ndarray:
    """For each class of a segmentation the share of positions where it is the strongest."""
    return np.bincount(logits.argmax(axis=0).ravel(), minlength=len(logits)) / logits[0].size


def _class_target(graph: Graph, index: int, logits: np.ndarray) -> Target:
    if logits.ndim == 3 and len(logits) > 1:
        mask = logits.argmax(axis=0) == index
        if not mask.any():  # the class is nowhere the strongest: ask about its whole map
            mask = np.ones_like(mask)
        return segmentation_target(graph, index, mask)
    return Target(graph.logits, index, _class_name(graph, index))


def _class_index(graph: Graph, spec: str | int, classes: int) -> int:
    if isinstance(spec, Integral) and not isinstance(spec, bool):
        index = int(spec)
    elif not isinstance(spec, str):
        raise UsageError(f"target {spec!r} is neither a class nor a `Target`; give an index, a name or unit:LAYER:UNIT")
    elif _NUMBER.fullmatch(spec):
        index = int(spec)
    else:
        from ..graph.labels import find_class

        index = find_class(graph, spec)
    if not 0 <= index < classes:
        raise UsageError(f"class {index} is out of range: {graph.name} has {classes} classes, 0 to {classes - 1}")
    return index


def _class_name(graph: Graph, index: int) -> str:
    from ..graph.labels import class_name

    return class_name(graph, index)


def _output_target(graph: Graph, name: str, index: int) -> Target:
    names = [o.name for o in graph.outputs]
    if name not in names:
        raise UsageError(f"output '{name}' is not in {graph.name}; it has {', '.join(names)}")
    spec = graph.outputs[names.index(name)]
    width = spec.shape[1] if len(spec.shape) > 1 else None
    if width is not None and not 0 <= index < width:
        raise UsageError(f"index {index} is out of range: output '{name}' has {width} channels")
    return Target(name, index, f"{name}:{index}")
