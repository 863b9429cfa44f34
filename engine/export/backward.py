"""The walk from the target back to a tensor: reverse-mode differentiation, written down instead of carried out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from ...errors import UsageError
from ..graph.index import reads
from .gradients import CONSTANT, GRADIENTS, Visit
from .trace import Trace
from .writer import Value, Writer, total


@dataclass
class Backward:
    """What a walk gives.

    Attributes:
        gradient: at the tensor that was asked for, in its shape.
        second_outputs: first output of a MaxPool -> the name that its second output, the winners' places, must get.
    """

    gradient: Value
    second_outputs: dict[str, str] = field(default_factory=dict)


def backward(
    nodes: Sequence[onnx.NodeProto],
    writer: Writer,
    trace: Trace,
    start: str,
    seeds: Mapping[str, Value],
    straight: frozenset[str] = frozenset(),
    second_outputs: Mapping[str, str] | None = None,
) -> Backward:
    """The gradient at ``start`` of what the seeds are the gradients of.

    Args:
        nodes: of the model, in order of execution.
        writer: takes the new nodes.
        trace: of the model.
        start: the tensor whose gradient is asked for.
        seeds: gradients to begin with, by tensor.
        straight: tensors whose nodes pass the gradient on to their first input as it is.
        second_outputs: names that earlier walks through the same nodes gave, see `Backward`.

    Raises:
        UnsupportedOperator: a node on the way has no gradient.
        UsageError: none of the seeds' tensors depends on ``start``.
    """
    carrying = carriers(nodes, trace, start)
    gradients: dict[str, list[Value]] = defaultdict(list)
    for name, seed in seeds.items():
        gradients[name].append(seed)
    named = dict(second_outputs or {})
    for node in reversed(nodes):
        upstream = [_summed(gradients, name) if name and name in carrying else None for name in node.output]
        wanted = frozenset(i for i, name in enumerate(node.input) if name in carrying)
        if node.op_type in CONSTANT or start in node.output or not any(upstream) or not _is_reached(node, carrying):
            continue
        if node.output[0] in straight:
            gradients[node.input[0]].append(upstream[0])  # type: ignore[arg-type]
            continue
        rule = GRADIENTS.get(node.op_type)
        visit = Visit(node, writer, trace, upstream, wanted, named)
        if rule is None or (node.domain and node.op_type not in _CONTRIBUTED):
            raise visit.unsupported("it has none in convscope")
        for position, gradient in rule(visit).items():
            if position in wanted:
                gradients[node.input[position]].append(gradient)
    found = _summed(gradients, start)
    if found is None:
        names = ", ".join(f"'{name}'" for name in seeds)
        raise UsageError(f"tensor '{start}' has no influence on {names}; choose a layer before it")
    return Backward(found, named)


def lacking(nodes: Sequence[onnx.NodeProto], trace: Trace, start: str, target: str) -> list[str]:
    """The operators between two tensors that have no gradient in the table, each once."""
    carrying = carriers(nodes, trace, start)
    needed, found = {target}, dict[str, None]()
    for node in reversed(nodes):
        if not needed.intersection(node.output) or not _is_reached(node, carrying) or start in node.output:
            continue
        needed.update(name for name in _values(node) if name in carrying)
        known = node.op_type in GRADIENTS or node.op_type in CONSTANT
        if not known or (node.domain and node.op_type not in _CONTRIBUTED):
            found[node.op_type] = None
    return list(found)


def carriers(nodes: Sequence[onnx.NodeProto], trace: Trace, start: str) -> set[str]:
    """The tensors through which a gradient for ``start`` may flow.

    Comparisons, sizes and whole numbers end it, quantized values do not: what is computed from them carries on, so
    that an operator on integers is refused instead of being taken for a constant.
    """
    carrying = {start}
    for node in nodes:
        given = [name for name in _values(node) if name in carrying]
        if not given or node.op_type in CONSTANT:
            continue
        goes_on = any(trace.kind(name).kind in "iu" for name in given) or "Quantize" in node.op_type
        carrying.update(name for name in node.output if name and (goes_on or trace.kind(name).kind == "f"))
    return carrying


_CONTRIBUTED = frozenset({  # of com.microsoft; those that the standard has as well have its meaning
    "Gelu", "QuickGelu", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLSTM", "QGemm", "QLinearAdd",
    "QLinearMul", "QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearSigmoid", "QLinearConcat",
})  # fmt: skip


def _is_reached(node: onnx.NodeProto, carrying: set[str]) -> bool:
    return any(name in carrying for name in _values(node))


def _values(node: onnx.NodeProto) -> list[str]:
    """What a node's result depends on: of CastLike's inputs the second gives its data type alone."""
    return list(node.input[:1]) if node.op_type == "CastLike" else reads(node)


def _summed(gradients: dict[str, list[Value]], name: str) -> Value | None:
    found = gradients.get(name)
    if not found:
        return None
    if len(found) > 1:
        gradients[name] = [total(found)]
    return gradients[name][0]
