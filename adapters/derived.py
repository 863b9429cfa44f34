"""The size of the picture where the network's own constants fix it: dense weights or a Reshape behind a flatten.

A dense layer of 1,152 inputs behind a last map of 128 channels takes nine positions, and there are few sizes of the
picture that leave just those. Positions grow with the picture, so the sizes are found by halving.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

LARGEST = 1024  # pixels of a side that is looked for
_FIRST = 224
_WEIGHT = 4096  # values; larger constants are weights, whose values no shape depends on
_OPEN = 2**20  # values of a Reshape's target at most
_KEEPS = {"Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Relu", "Dropout", "Cast", "Clip"}
_FLATTENS = {"Flatten", "Reshape"}


@dataclass(frozen=True)
class Derived:
    """A size that the network's constants ask for.

    Attributes:
        size: (height, width).
        reason: for people: which constant, and how many values it takes.
    """

    size: tuple[int, int]
    reason: str


def side_for(fed: Callable[[int], int | None], wanted: int) -> int | None:
    """The side of a square picture at which ``fed`` is ``wanted``; of several the one with the most factors of two.

    Args:
        fed: side -> how many values arrive, which never falls with the side; None where the side is too small.
        wanted: how many are taken.
    """
    known: dict[int, int] = {}

    def values(side: int) -> int:
        if side not in known:
            known[side] = fed(side) or 0
        return known[side]

    def first(reached: Callable[[int], bool]) -> int:
        """The smallest side for which it is so, `LARGEST` + 1 where none is."""
        low, high = 0, _FIRST
        while high <= LARGEST and not reached(high):
            low, high = high, high * 2 if high * 2 <= LARGEST else max(LARGEST, high + 1)
        high = min(high, LARGEST + 1)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if reached(middle) else (middle, high)
        return high

    least = first(lambda side: values(side) >= wanted)
    if least > LARGEST or values(least) != wanted:
        return None
    after = first(lambda side: values(side) > wanted)
    if after > LARGEST:  # every picture leaves as many: what is flattened was averaged before
        return None
    return max(range(least, after), key=lambda side: (side & -side, -side))


def derived_size(model: onnx.ModelProto) -> Derived | None:
    """The size that a constant behind a flatten fixes, or None: sides are no longer open, or no constant is found.

    Args:
        model: as exported, its first input a picture (N, C, H, W) or (N, H, W, C) with both sides open.
    """
    weights = {t.name for t in model.graph.initializer}
    picture = next((i for i in model.graph.input if i.name not in weights), None)
    axes = _open_sides(picture) if picture is not None else None
    if picture is None or axes is None:
        return None
    skeleton = _skeleton(model)
    shape = partial(_shape, skeleton, picture.name, axes)
    for tensor, wanted, taker, what in _takers(model):
        side = side_for(lambda side, name=tensor: _positions(shape(name, side)), wanted)  # type: ignore[misc]
        if side is not None and _is_flatten(shape(tensor, side), shape(taker, side) if taker else None):
            return Derived((side, side), f"{what} takes {wanted:,} values, which is what a picture of that size leaves")
    return None


def _open_sides(picture: onnx.ValueInfoProto) -> tuple[int, int] | None:
    """The axes of height and width, where both are open."""
    shape = [d.dim_value or None for d in picture.type.tensor_type.shape.dim]
    if len(shape) != 4:
        return None
    axes = (1, 2) if shape[3] in (1, 3) and shape[1] not in (1, 3) else (2, 3)
    return axes if shape[axes[0]] is None and shape[axes[1]] is None else None


def _is_flatten(source: list[int] | None, taken: list[int] | None) -> bool:
    """Whether a map is flattened to a row of values for each picture.

    Tokens (N, L, C) that a dense layer takes one by one are moved about by the same operators.
    """
    return source is not None and len(source) == 4 and (taken is None or len(taken) == 2)


def _takers(model: onnx.ModelProto) -> Iterator[tuple[str, int, str, str]]:
    """What takes a map's values, in order of execution.

    Yields:
        (the map, how many of its values are taken for one picture, a dense layer's input or "", the taker in words).
    """
    producers = {o: node for node in model.graph.node for o in node.output}
    constants = _constants(model)
    for node in model.graph.node:
        if node.op_type in ("Gemm", "MatMul") and len(node.input) > 1 and node.input[1] in constants:
            shape = constants[node.input[1]][0]
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            before, is_flat = _flattened(node.input[0], producers)
            if is_flat and len(shape) == 2:
                title = f"the dense layer '{(node.name or node.output[0])[:60]}'"
                yield before, shape[1 if transposed else 0], node.input[0], title
        if node.op_type == "Reshape" and len(node.input) > 1 and node.input[1] in constants:
            target = constants[node.input[1]][1]
            if target is not None and target.ndim == 1 and len(target) > 1 and (target[1:] > 0).all():
                before, _ = _flattened(node.input[0], producers)
                yield before, int(target[1:].prod()), "", f"the Reshape '{(node.name or node.output[0])[:60]}'"


def _flattened(name: str, producers: dict[str, onnx.NodeProto]) -> tuple[str, bool]:
    """The tensor before operators that move or bound values, and whether they flatten it."""
    is_flat = False
    while (node := producers.get(name)) is not None and node.op_type in _KEEPS and node.input:
        is_flat = is_flat or node.op_type in _FLATTENS
        name = node.input[0]
    return name, is_flat


def _constants(model: onnx.ModelProto) -> dict[str, tuple[tuple[int, ...], np.ndarray | None]]:
    """Name -> (shape, values where they are few whole numbers) of weights and Constant nodes."""
    stored = [(t.name, t) for t in model.graph.initializer]
    stored += [
        (node.output[0], a.t)
        for node in model.graph.node
        if node.op_type == "Constant"
        for a in node.attribute
        if a.name == "value"
    ]
    found: dict[str, tuple[tuple[int, ...], np.ndarray | None]] = {}
    for name, tensor in stored:
        few = tensor.data_type == onnx.TensorProto.INT64 and prod(tensor.dims) <= _WEIGHT
        found[name] = tuple(tensor.dims), numpy_helper.to_array(tensor) if few else None
    return found


def _skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its large weights as inputs, known by shape alone, so that inference need not carry them."""
    skeleton = onnx.ModelProto()
    skeleton.ir_version = max(model.ir_version, 4)
    skeleton.opset_import.extend(model.opset_import)
    graph = skeleton.graph
    graph.name = "skeleton"
    known = {t.name for t in model.graph.initializer}
    graph.input.extend(i for i in model.graph.input if i.name not in known)

    def shaped(name: str, tensor: onnx.TensorProto) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims))

    for tensor in model.graph.initializer:
        if prod(tensor.dims) > _WEIGHT:
            graph.input.append(shaped(tensor.name, tensor))
        else:
            graph.initializer.append(tensor)
    for node in model.graph.node:
        value = next((a.t for a in node.attribute if node.op_type == "Constant" and a.name == "value"), None)
        if value is not None and prod(value.dims) > _WEIGHT:
            graph.input.append(shaped(node.output[0], value))
        else:
            graph.node.append(node)
    return skeleton


def _positions(shape: list[int] | None) -> int | None:
    """How many values a tensor of this shape has for one picture."""
    return prod(shape[1:]) if shape is not None else None


def _shape(skeleton: onnx.ModelProto, picture: str, axes: tuple[int, int], tensor: str, side: int) -> list[int] | None:
    """A tensor's shape for pictures of this side, None where it cannot be told; nobody needs to know the batch."""
    for info in skeleton.graph.input:
        if info.name == picture:
            dims = info.type.tensor_type.shape.dim
            dims[0].dim_value = 1
            for axis in axes:
                dims[axis].dim_value = side
    try:
        inferred = shape_inference.infer_shapes(skeleton, data_prop=True)
    except Exception:  # onnx's own errors, of many types: the side contradicts the graph
        return None
    for info in inferred.graph.value_info:
        if info.name == tensor:
            sides = [d.dim_value for d in info.type.tensor_type.shape.dim]
            return sides if len(sides) > 1 and all(s > 0 for s in sides[1:]) else None
    return None
