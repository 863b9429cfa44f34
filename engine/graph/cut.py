"""Cutting the part of a graph that leads from some tensors to others."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import helper

from ...errors import UsageError


def nodes_between(graph: onnx.GraphProto, inputs: Sequence[str], outputs: Sequence[str]) -> list[onnx.NodeProto]:
    """The nodes, in order of execution, that compute ``outputs`` when ``inputs`` are given.

    Raises:
        UsageError: an output needs a graph input that is not among ``inputs``, or does not exist.
    """
    producer = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    given = set(inputs) | {t.name for t in graph.initializer}
    needed: set[int] = set()
    stack = [name for name in outputs if name not in given]
    while stack:
        name = stack.pop()
        if name not in producer:
            raise UsageError(f"tensor '{name}' cannot be computed from {', '.join(inputs)}")
        index = producer[name]
        if index in needed:
            continue
        needed.add(index)
        stack.extend(n for n in reads(graph.node[index]) if n and n not in given)
    return [graph.node[i] for i in sorted(needed)]


def reads(node: onnx.NodeProto) -> list[str]:
    """The node's inputs, and what its subgraphs (If, Loop) take from outside."""
    names = list(node.input)
    for attribute in node.attribute:
        for sub in [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs:
            inner = {n for s in sub.node for n in s.output} | {t.name for t in sub.initializer}
            inner |= {i.name for i in sub.input}
            names += [n for s in sub.node for n in reads(s) if n not in inner]
            names += [o.name for o in sub.output if o.name not in inner]
    return names


def extract(model: onnx.ModelProto, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[str]) -> onnx.ModelProto:
    """A model of its own with those inputs and outputs; weights are copied, unused ones left out."""
    names = [i.name for i in inputs]
    nodes = nodes_between(model.graph, names, outputs)
    used = {n for node in nodes for n in reads(node)} | set(outputs)
    cut = onnx.ModelProto(ir_version=model.ir_version)
    part = cut.graph  # filled in place: a graph of its own would be one more copy of the weights
    part.name = model.graph.name or "graph"
    part.node.extend(nodes)
    part.input.extend(i for i in inputs if i.name in used or i.name in names)
    part.initializer.extend(t for t in model.graph.initializer if t.name in used)
    part.output.extend(helper.make_empty_tensor_value_info(name) for name in outputs)
    cut.opset_import.extend(model.opset_import)
    cut.functions.extend(model.functions)
    return cut
