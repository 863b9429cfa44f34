"""From what a person writes to `Target` objects: classes, boxes, masks, characters, units, outputs, callables."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ...errors import UsageError
from ..graph.graph import Graph
from ..graph.labels import class_name
from ..graph.layers import Layer
from ..graph.operators import operator
from ..outputs.reading import Question, Reading
from ..outputs.reads import Channel, Entry, Masked, Rows
from ..outputs.registry import read_outputs
from ..outputs.specs import check_form
from ..outputs.target import Target, of_function

_UNIT = re.compile(r"unit:(?P<layer>.+):(?P<unit>\d+)(?:@(?P<row>\d+),(?P<column>\d+))?")
_OF_UNIT = "the unit's activation, the mean over its map"
_OUTPUT = re.compile(r"output:(?P<output>.+):(?P<index>\d+)")


def as_question(target: Any) -> Question:
    """A `Question` as it is; anything else is the target of one."""
    return target if isinstance(target, Question) else Question(target=target)


def direct(graph: Graph, question: Question) -> list[Target] | None:
    """The targets that need no reading of the outputs: objects, callables, units, outputs; None for all else.

    Raises:
        UsageError: no such layer, unit or output, or a text that begins as one of these and is none.
    """
    spec = question.target
    found: list[Target] | None = None
    if isinstance(spec, Target):
        found = [spec]
    elif isinstance(spec, (list, tuple)) and spec and all(isinstance(t, Target) for t in spec):
        found = list(spec)
    elif callable(spec):
        found = [of_function(spec, [o.name for o in graph.outputs if o.dtype.startswith("float")])]
    elif isinstance(spec, str):
        if match := _UNIT.fullmatch(spec.strip()):
            position = (int(match["row"]), int(match["column"])) if match["row"] else None
            found = [unit_target(graph, match["layer"], int(match["unit"]), position)]
        elif match := _OUTPUT.fullmatch(spec.strip()):
            found = [output_target(graph, match["output"], int(match["index"]))]
        else:
            check_form(spec, graph.labels or ())
    if found is not None and question.given():
        raise UsageError(f"{question.given()[0]}= does not go with a target that is named by itself; leave one out")
    return found


def resolve(reading: Reading, question: Question, rows: Rows) -> list[Target]:
    """The targets that a person asked for, on one picture.

    Args:
        reading: of the graph's outputs.
        question: what is asked.
        rows: the picture's own values of ``reading.tensors``, without the batch axis.

    Raises:
        UsageError: no such class, box, layer, unit or output.
    """
    found = direct(reading.graph, question)
    return reading.targets(rows, question) if found is None else found


def unit_target(graph: Graph, layer: Layer | str, unit: int, position: tuple[int, ...] | None = None) -> Target:
    """A unit (the mean of its feature map) or a neuron (one position of it) of any layer; of tokens those of the grid.

    Raises:
        UsageError: no such layer or unit, or the position lies outside the feature map.
    """
    chosen = layer if isinstance(layer, Layer) else graph.layer(layer)
    axis = chosen.channel_axis or 1
    if chosen.channels is None:
        raise UsageError(f"layer '{chosen.name}' of shape {chosen.shape} has no channel axis, so it has no units")
    if not 0 <= unit < chosen.channels:
        raise UsageError(f"unit {unit} is out of range: layer '{chosen.name}' has {chosen.channels} units")
    where = f"@{position[0]},{position[1]}" if position else ""
    name = f"{chosen.name}:{unit}{where}"
    grid = chosen.tokens
    if position is None:
        if grid is None or chosen.is_unfolded:
            return Target(Channel(chosen.tensor, unit, axis), name, quantity=_OF_UNIT)
        mean = np.zeros(grid.count, dtype=np.float32)
        mean[grid.prefix : grid.end] = 1 / (grid.rows * grid.columns)
        return Target(Masked(chosen.tensor, unit, mean, axis), name, quantity=_OF_UNIT)
    sizes = [s for a, s in enumerate(chosen.shape) if a not in (0, axis)] if grid is None else [grid.rows, grid.columns]
    if len(sizes) != 2 or any(s is not None and not 0 <= p < s for p, s in zip(position, sizes, strict=True)):
        raise UsageError(f"position {position} lies outside layer '{chosen.name}' of spatial size {tuple(sizes)}")
    if grid is not None and grid.depth > 1:
        height = grid.rows // grid.slices
        position = (position[0] // height, position[0] % height, position[1])
    elif grid is not None:
        position = (grid.prefix + position[0] * grid.columns + position[1],)
    place = (unit, *position) if axis == 1 else (*position, unit)
    return Target(Entry(((chosen.tensor, place),)), name, quantity="the neuron's activation")


def segmentation_target(graph: Graph, index: int, mask: np.ndarray) -> Target:
    """The sum of a class's logit map over a mask (H, W) of the output's own size."""
    weights = np.asarray(mask, dtype=np.float32)
    quantity = "sum of the class's logits over the mask"
    return Target(Masked(graph.logits, index, weights), class_name(graph, index), quantity=quantity)


def output_target(graph: Graph, name: str, index: int) -> Target:
    """A channel of an output, the mean over its other axes."""
    names = [o.name for o in graph.outputs]
    if name not in names:
        raise UsageError(f"output '{name}' is not in {graph.name}; it has {', '.join(names)}")
    spec = graph.outputs[names.index(name)]
    axis = _channel_axis(graph, name, len(spec.shape))
    reading = read_outputs(graph)
    width = spec.shape[axis] if len(spec.shape) > axis else None
    if width is not None and not 0 <= index < width:
        raise UsageError(f"index {index} is out of range: output '{name}' has {width} channels")
    return Target(Channel(name, index, axis, batch_axis=reading.axes.get(name, 0)), f"{name}:{index}")


def _channel_axis(graph: Graph, name: str, rank: int) -> int:
    """The axis of an output that an index counts along: the symbols of a sequence, the columns of a table, else 1."""
    if rank != 3:
        return 1
    reading = read_outputs(graph)
    axes = graph.permuted.get(name, (0, 1, 2))
    node = graph.index.producer.get(name)
    if reading.form == "text" or (node is not None and operator(node).head in ("softmax", "log softmax")):
        return axes.index(2)
    shape = graph.outputs[[o.name for o in graph.outputs].index(name)].shape
    table = reading.form == "detection" and all(shape[1:])
    return 1 + int((shape[1] or 0) > (shape[2] or 0)) if table else 1
