"""Proof of a cause: B's layer, recomputed with A's setting on A's input, gives A's result."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...errors import ConvscopeError
from ..graph.graph import Graph
from ..graph.index import attributes
from .align import Pair
from .cause import Cause
from .difference import Bench, common_grid
from .operations import CommonForm, Operation
from .written import KINDS

_NOT_TRIED = ("missing layer", "swapped layers", "weight shape", "operator")


def proven(bench: Bench, pair: Pair, found: Sequence[Cause], x: np.ndarray, max_rel: float) -> list[Cause]:
    """The causes with `Cause.confirmed` set, all of them together.

    Args:
        bench: both models.
        pair: the layers that differ.
        found: why.
        x: A's model input for one picture, (1, C, H, W).
        max_rel: from which relative difference results are equal.
    """
    verdict = _confirmed(bench, pair, found, x, max_rel)
    return [replace(cause, confirmed=verdict) for cause in found]


def _confirmed(bench: Bench, pair: Pair, found: Sequence[Cause], x: np.ndarray, max_rel: float) -> bool | None:
    a, b = pair.a, pair.b
    absorbed = b.is_anchor and b.inputs[0] != b.node.input[0]
    if not found or len(a.inputs) != 1 or len(b.inputs) != 1 or absorbed or any(c.kind in _NOT_TRIED for c in found):
        return None
    model = _patched(bench, pair, found)
    if model is None:
        return None
    try:
        other = _with_b(bench, replace(bench.b.graph, model=model))
        given = next(other.run(other.a, x, [a.inputs[0], a.tensor]))
        values = next(other.run(other.b, given[a.inputs[0]], [b.tensor], b.inputs[0]))
    except ConvscopeError:
        return None
    one, two = common_grid(given[a.tensor], values[b.tensor])
    return one.shape == two.shape and bool(np.abs(one - two).max() <= max_rel * np.abs(one).max())


def _with_b(bench: Bench, graph: Graph) -> Bench:
    """The same bench with another B and sessions of its own."""
    other = copy(bench)
    other.b = CommonForm(graph)
    other.forget()
    return other


def _patched(bench: Bench, pair: Pair, found: Sequence[Cause]) -> onnx.ModelProto | None:
    a, b = pair.a, pair.b
    model = onnx.ModelProto()
    model.CopyFrom(bench.b.graph.model)
    nodes = {node.output[0]: node for node in model.graph.node if node.output}
    node = nodes[b.node.output[0]]
    if not b.is_anchor:
        if any(side.kind in KINDS and side.node.op_type != side.kind for side in (a, b)):
            return None  # one operator cannot stand for several
        if [n for n in a.node.input if n in bench.a.weights] or [n for n in b.node.input if n in bench.b.weights]:
            return None
        node.op_type = a.node.op_type
        del node.attribute[:]
        node.attribute.extend(a.node.attribute)
        return model
    _set(node, {k: v for k, v in a.attributes.items() if k != "pads" or isinstance(v, list)})
    if isinstance(pads := a.attributes.get("pads"), str):
        _set(node, {"auto_pad": pads})
    if a.norm is not None and b.norm is not None:
        _set(nodes[b.norm.node.output[0]], {"epsilon": a.norm.epsilon})
    elif a.norm is not None or b.norm is not None:
        return None
    kinds = {c.kind for c in found}
    if kinds & {"padding", "strides", "dilations", "group", "epsilon"}:
        return model
    return model if _weights_set(model, bench, a, b) else None


def _weights_set(model: onnx.ModelProto, bench: Bench, a: Operation, b: Operation) -> bool:
    if a.node.op_type != b.node.op_type or bool(a.stored_bias) != bool(b.stored_bias):
        return False
    if attributes(a.node).get("transB", 0) != attributes(b.node).get("transB", 0):
        return False
    tables = {t.name: t for t in model.graph.initializer}
    norms = zip(a.norm.node.input[1:5], b.norm.node.input[1:5], strict=True) if a.norm and b.norm else ()
    for one, two in ((a.stored, b.stored), (a.stored_bias, b.stored_bias), *norms):
        if not one:
            continue
        if one not in bench.a.weights or two not in tables:  # behind a quantizer
            return False
        values, old = numpy_helper.to_array(bench.a.weights[one]), numpy_helper.to_array(tables[two])
        if values.size != old.size:
            return False
        tables[two].CopyFrom(numpy_helper.from_array(values.reshape(old.shape).astype(old.dtype), two))
    return True


def _set(node: onnx.NodeProto, values: dict[str, object]) -> None:
    kept = [x for x in node.attribute if x.name not in values and not (x.name == "auto_pad" and "pads" in values)]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(k, v) for k, v in values.items())])
