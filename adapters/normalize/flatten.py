"""Channels-last models flatten (H, W, C): the order goes into the weights of the dense layer behind it.

Transpose, Flatten and Gemm become Flatten and Gemm with its weight's rows in the order (C, H, W), exactly: the
same numbers meet the same numbers. A VGG16 from Keras then is the chain that torch writes, and none of its
tensors but the flat ones changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx

from ...engine.graph.index import reads
from ...engine.graph.operators import operator
from .draft import Draft, attribute

_WITH_CONSTANT = ("Add", "Sub", "Mul", "Div", "PRelu")


@dataclass
class _Plan:
    """What must change with the order: the flat tensors, and (node, input, axis) of every constant they meet."""

    tensors: list[str]
    constants: list[tuple[onnx.NodeProto, int, int]] = field(default_factory=list)
    ends: bool = False  # in a dense layer, whose result has no such order


def fold_flatten_order(draft: Draft) -> None:
    """Rewrites the draft in place; ``draft.shapes`` must be filled.

    Applied where everything that reads the flat tensor works on each value by itself with constants
    (activations, batch-norm, scales) and ends in a dense layer with a constant weight. Where the flat tensor is
    an output of the model, or something else reads it too, its order is what the user asked for: the Transpose
    stays. The tensors in the new order get new names, and the old ones become aliases of these, since a tensor
    that keeps its name keeps its values.
    """
    producer = {name: node for node in draft.nodes for name in node.output}
    for node in draft.nodes:
        before = producer.get(node.input[0]) if node.op_type == "Flatten" and not node.domain else None
        if before is None or before.op_type != "Transpose" or before.domain or attribute(node, "axis", 1) != 1:
            continue
        order = _order(draft, before)
        plan = _plan(draft, node.output[0], len(order)) if order is not None else None
        if order is None or plan is None:
            continue
        node.input[0] = before.input[0]
        _reorder(draft, plan.constants, order)
        _rename(draft, plan.tensors)


def _order(draft: Draft, transpose: onnx.NodeProto) -> np.ndarray | None:
    """(K,) for each place of the flattened source the place that the flattened Transpose has for it."""
    shape, perm = draft.shapes.get(transpose.input[0]), attribute(transpose, "perm")
    if not shape or not perm or perm[0] != 0 or len(perm) != len(shape):
        return None
    sides = [s for s in shape[1:] if s is not None]
    if len(sides) != len(shape) - 1:
        return None
    axes = [p - 1 for p in perm[1:]]
    places = np.arange(prod(sides)).reshape([sides[a] for a in axes])
    return places.transpose(np.argsort(axes)).reshape(-1)


def _plan(draft: Draft, flat: str, width: int) -> _Plan | None:
    """What follows from another order of ``flat``, or None where something would see the difference."""
    outputs = {o.name for o in draft.outputs}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in draft.nodes:
        for name in set(reads(node)):
            readers.setdefault(name, []).append(node)
    plan = _Plan([flat])
    for tensor in plan.tensors:  # grows while it is walked
        if tensor in outputs:
            return None
        for node in readers.get(tensor, []):
            if (found := _meets(draft, node, tensor, width)) is None:
                return None
            plan.constants += [(node, position, axis) for position, axis in found]
            if node.op_type in ("Gemm", "MatMul"):
                plan.ends = True
            else:
                plan.tensors.append(node.output[0])
    return plan if plan.ends else None


def _meets(draft: Draft, node: onnx.NodeProto, tensor: str, width: int) -> list[tuple[int, int]] | None:
    """(input, axis) of the node's constants that stand in the order of ``tensor``; None for other operators."""
    if node.domain or list(node.input).count(tensor) != 1 or len([o for o in node.output if o]) != 1:
        return None
    shapes = {i: v.shape for i, n in enumerate(node.input) if n and (v := draft.constant(n)) is not None}
    if any(n and n != tensor and i not in shapes for i, n in enumerate(node.input)):
        return None
    place = list(node.input).index(tensor)
    if node.op_type in ("Gemm", "MatMul"):
        axis = 1 if node.op_type == "Gemm" and attribute(node, "transB", 0) else 0
        fits = place == 0 and not attribute(node, "transA", 0) and len(shapes[1]) == 2 and shapes[1][axis] == width
        return [(1, axis)] if fits else None
    if node.op_type == "BatchNormalization":
        return [(i, 0) for i in range(1, 5)] if place == 0 and all(shapes[i] == (width,) for i in range(1, 5)) else None
    if node.op_type in _WITH_CONSTANT and len(shapes) == 1:
        ((other, shape),) = shapes.items()
        if prod(shape) == 1:
            return []
        vector = shape[-1] == width and prod(shape) == width and len(shape) <= 2
        return [(other, len(shape) - 1)] if vector else None
    plain = (
        operator(node).elementwise
        and not operator(node).broadcasts
        and place == 0
        and all(prod(s) == 1 for s in shapes.values())
    )
    return [] if plain else None


def _reorder(draft: Draft, constants: list[tuple[onnx.NodeProto, int, int]], order: np.ndarray) -> None:
    """A constant with one reader keeps its name, which says whose weight it is; a shared one is copied."""
    count = draft.consumers()
    for node, position, axis in constants:
        name = node.input[position]
        value = draft.constant(name)
        assert value is not None
        moved = np.ascontiguousarray(value.take(order, axis=axis))
        if count[name] > 1:
            count[name] -= 1
            name = draft.fresh(f"{name}/channels_first")
            node.input[position] = name
        draft.set_constant(name, moved)


def _rename(draft: Draft, tensors: list[str]) -> None:
    for old in tensors:
        new = draft.fresh(f"{old}/channels_first")
        draft.shapes[new], draft.types[new] = draft.shapes.get(old, ()), draft.types.get(old, 1)
        for names in _lists(draft):
            for i, name in enumerate(names):
                if name == old:
                    names[i] = new
        draft.aliases[old] = new


def _lists(draft: Draft) -> Iterator[list[str]]:
    for node in draft.nodes:
        yield node.input
        yield node.output
