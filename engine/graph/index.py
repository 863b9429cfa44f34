"""Who makes and who reads each tensor: one index of a graph, built once and asked by everybody."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...errors import UsageError


class Index:
    """A graph's nodes by the tensors that they make and read.

    Args:
        graph: not copied, and not to be edited while the index is in use.

    Attributes:
        nodes: in order of execution.
        producer: tensor -> the node that makes it; weights and inputs have none.
        weights: name -> stored tensor.
        inputs: names of the graph's inputs, weights aside.
        outputs: names of the graph's outputs.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.nodes: tuple[onnx.NodeProto, ...] = tuple(graph.node)
        self.producer: dict[str, onnx.NodeProto] = {o: node for node in self.nodes for o in node.output if o}
        self.weights: dict[str, onnx.TensorProto] = {t.name: t for t in graph.initializer}
        self.inputs: tuple[str, ...] = tuple(i.name for i in graph.input if i.name not in self.weights)
        self.outputs: tuple[str, ...] = tuple(o.name for o in graph.output)
        self._constants: dict[str, np.ndarray] = {}

    @cached_property
    def readers(self) -> dict[str, tuple[onnx.NodeProto, ...]]:
        """Tensor -> the nodes that read it, also from within a subgraph, in order of execution."""
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(reads(node)):
                found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: i for i, node in enumerate(self.nodes) for name in node.output if name}

    def constant(self, name: str) -> np.ndarray | None:
        """A weight's values in its own type, not to be written to; None for a tensor that is computed."""
        if name not in self.weights:
            return None
        if name not in self._constants:
            self._constants[name] = numpy_helper.to_array(self.weights[name])
        return self._constants[name]

    def argument(self, node: onnx.NodeProto, place: int, attribute: str = "", default: Any = None) -> Any:
        """A node's setting that is an attribute in older opsets and an input in newer ones.

        Returns:
            The attribute's value, or the constant input as an array; the default where it is left out.

        Raises:
            KeyError: it is computed while the model runs; the tensor's name.
        """
        if attribute and (value := attributes(node).get(attribute)) is not None:
            return value
        if len(node.input) <= place or not node.input[place]:
            return default
        value = self.constant(node.input[place])
        if value is None:
            raise KeyError(node.input[place])
        return value

    def ancestors(self, tensors: str | Iterable[str]) -> set[str]:
        """Every tensor that one of these is computed from (these included)."""
        seen, stack = set[str](), [tensors] if isinstance(tensors, str) else list(tensors)
        while stack:
            name = stack.pop()
            if name not in seen:
                seen.add(name)
                stack.extend(reads(self.producer[name]) if name in self.producer else ())
        return seen

    def descendants(self, tensors: str | Iterable[str]) -> set[str]:
        """Every tensor that depends on one of these (these included)."""
        reached = {tensors} if isinstance(tensors, str) else set(tensors)
        for node in self.nodes:
            if not reached.isdisjoint(reads(node)):
                reached.update(n for n in node.output if n)
        return reached

    def between(self, inputs: Sequence[str], outputs: Sequence[str]) -> list[onnx.NodeProto]:
        """The nodes, in order of execution, that compute ``outputs`` when ``inputs`` are given.

        Raises:
            UsageError: an output needs a graph input that is not among ``inputs``, or does not exist.
        """
        given = set(inputs) | self.weights.keys()
        needed: set[int] = set()
        stack = [name for name in outputs if name not in given]
        while stack:
            name = stack.pop()
            if name not in self._places:
                raise UsageError(f"tensor '{name}' cannot be computed from {', '.join(inputs)}")
            index = self._places[name]
            if index not in needed:
                needed.add(index)
                stack.extend(n for n in reads(self.nodes[index]) if n not in given)
        return [self.nodes[i] for i in sorted(needed)]

    def sides(self, tensors: Sequence[str], targets: Sequence[str]) -> tuple[str, ...] | None:
        """The tensors that depend on the inputs, bypass ``tensors`` and are needed to compute ``targets`` from them.

        None where no target depends on any of them.
        """
        above, from_inputs = self.descendants(tensors), self.descendants(self.inputs)
        if above.isdisjoint(targets):
            return None
        sides: dict[str, None] = {}
        seen, stack = set(tensors), list(targets)
        while stack:
            name = stack.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in above:
                stack.extend(reads(self.producer[name]))
            elif name in from_inputs:
                sides[name] = None
        return tuple(sorted(sides))


def first_output(node: onnx.NodeProto) -> str:
    """The first tensor that the node makes; an LSTM may leave out its first output and give the state alone."""
    return next((name for name in node.output if name), "")


def reads(node: onnx.NodeProto) -> list[str]:
    """The node's inputs, and what its subgraphs (If, Loop) take from outside."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for sub in [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs:
            inner = {n for s in sub.node for n in s.output} | {t.name for t in sub.initializer}
            inner |= {i.name for i in sub.input}
            names += [n for s in sub.node for n in reads(s) if n not in inner]
            names += [o.name for o in sub.output if o.name not in inner]
    return names


def topological(nodes: Sequence[onnx.NodeProto]) -> tuple[list[onnx.NodeProto], str | None]:
    """(nodes in an order in which each comes after those whose results it reads, None).

    Of those that could come next the first one given does, so that nodes in order keep it. Where there is a cycle:
    (those before it, a tensor on it).
    """
    maker = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    needs = [{maker[name] for name in reads(node) if name in maker} for node in nodes]
    readers: list[list[int]] = [[] for _ in nodes]
    for i, needed in enumerate(needs):
        for j in needed:
            readers[j].append(i)
    open_ = [len(needed) for needed in needs]
    waiting = [i for i, count in enumerate(open_) if not count]
    placed: list[int] = []
    while waiting:
        placed.append(heapq.heappop(waiting))
        for i in readers[placed[-1]]:
            open_[i] -= 1
            if not open_[i]:
                heapq.heappush(waiting, i)
    ordered = [nodes[i] for i in placed]
    if len(placed) == len(nodes):
        return ordered, None
    left = set(range(len(nodes))) - set(placed)
    at, passed = min(left), set[int]()
    while at not in passed:  # upstream, as often as it takes to come back
        passed.add(at)
        at = min(needs[at] & left)
    return ordered, next(name for name in nodes[at].output if name in maker)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes as plain Python values; tensors and graphs are left out.

    Floats are what their float32 prints as: 0.1, not 0.10000000149.
    """
    found: dict[str, Any] = {}
    for entry in node.attribute:
        value = helper.get_attribute_value(entry)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif isinstance(value, float):
            value = float(np.float32(value).astype(str))
        elif hasattr(value, "__iter__") and not isinstance(value, (str, onnx.TensorProto, onnx.GraphProto)):
            value = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in value]
        if isinstance(value, (int, float, str, list)):
            found[entry.name] = value
    return found


def trains(node: onnx.NodeProto) -> bool:
    """Whether it is a batch-norm in training mode: its statistics are those of the batch, not stored ones."""
    return node.op_type == "BatchNormalization" and bool(attributes(node).get("training_mode"))
