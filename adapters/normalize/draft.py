"""The model while it is being normalized: nodes in order, weights by name, edited in place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...engine.graph.index import reads, topological, trains
from ...errors import RefusedInput

_NEWEST_FORM = 10  # IR version: what is newer is refused by runtimes older than the exporter, and nothing here needs it


@dataclass
class Draft:
    """A mutable view of one ONNX model.

    Attributes:
        nodes: in topological order.
        inputs, outputs: the graph's, without weights.
        aliases: removed tensor -> tensor with the same values.
        permuted: tensor -> axes by which it is transposed against the source file's tensor of that name.
        shapes: tensor -> shape at the default image size, None where unknown; filled by `infer`.
        symbols: tensor -> shape inference's name for its first axis where its size is open ("N" is the batch).
        told: tensor -> what ONNX Runtime says of it, of operators that ONNX's own inference does not know.
        settled: tensor -> its value at the default image size, of what the model computes from sizes.
        whole: the type of whole numbers that the image input took in the file, or None.
        notes: what was changed that a user should know.
        given: the file's inputs beside the picture -> the value that each has, for one picture.
        own_input: name and shape of the file's own picture input where it is no (N, C, H, W).
        own_types: input or output -> the file's own data type, where it is another than here.
        decided: axes of the picture that the file leaves open and that control flow fixed at the import's own size.
        former_names: names that an earlier version gave to layers -> their tensors.
        inlined: names of the tensors that came out of subgraphs.
        untrained: constants that are no parameters: the values of inputs and what follows from them, and single numbers
            that fusing wrote out for each channel.
    """

    nodes: list[onnx.NodeProto]
    inputs: list[onnx.ValueInfoProto]
    outputs: list[onnx.ValueInfoProto]
    opset: int
    opsets: dict[str, int]
    ir_version: int
    graph_name: str
    tensors: dict[str, onnx.TensorProto]
    aliases: dict[str, str] = field(default_factory=dict)
    permuted: dict[str, tuple[int, ...]] = field(default_factory=dict)
    shapes: dict[str, tuple[int | None, ...]] = field(default_factory=dict)
    symbols: dict[str, str] = field(default_factory=dict)
    types: dict[str, int] = field(default_factory=dict)
    told: dict[str, onnx.ValueInfoProto] = field(default_factory=dict)
    settled: dict[str, np.ndarray] = field(default_factory=dict)
    whole: str | None = None
    notes: list[str] = field(default_factory=list)
    given: dict[str, np.ndarray] = field(default_factory=dict)
    own_input: tuple[str, tuple[int | None, ...]] | None = None
    own_types: dict[str, str] = field(default_factory=dict)
    decided: tuple[int, ...] = ()
    former_names: dict[str, str] = field(default_factory=dict)
    inlined: set[str] = field(default_factory=set)
    untrained: set[str] = field(default_factory=set)
    fold_budget: int | None = None  # bytes that folding may still make; set by its first call
    _arrays: dict[str, np.ndarray] = field(default_factory=dict)
    _fresh: int = 0
    _taken: Set[str] = frozenset()

    @classmethod
    def of(cls, model: onnx.ModelProto) -> Draft:
        """Takes the model apart; its protobuf objects are reused, not copied."""
        opsets = {("" if e.domain == "ai.onnx" else e.domain): e.version for e in model.opset_import}
        graph = model.graph
        tensors = {t.name: t for t in graph.initializer}
        tensors |= {s.values.name: numpy_helper.from_array(dense(s), s.values.name) for s in graph.sparse_initializer}
        nodes = list(graph.node)
        for node in nodes:
            if node.domain == "ai.onnx":
                node.domain = ""
        draft = cls(
            nodes=nodes,
            inputs=[i for i in graph.input if i.name not in tensors],
            outputs=list(graph.output),
            opset=opsets[""],
            opsets=opsets,
            ir_version=min(model.ir_version, _NEWEST_FORM),
            graph_name=graph.name,
            tensors=tensors,
        )
        draft.sort()
        return draft

    def constant(self, name: str) -> np.ndarray | None:
        """The value of a weight or folded constant, or None for a computed tensor."""
        if name not in self.tensors:
            return None
        if name not in self._arrays:
            self._arrays[name] = numpy_helper.to_array(self.tensors[name])
        return self._arrays[name]

    def set_constant(self, name: str, value: np.ndarray) -> None:
        """Adds or replaces a constant."""
        value = np.asarray(value)
        self.tensors[name] = numpy_helper.from_array(value, name)
        self._arrays[name] = value

    def symbol(self, tensor: str) -> str:
        """What shape inference calls the tensor's first axis; tensors with the same symbol have as many rows."""
        return self.symbols.get(tensor) or f"rows of {tensor}"

    def fresh(self, stem: str) -> str:
        """A tensor name that nothing else has."""
        if self._fresh == 0:  # the passes give no names of this form but by this method
            self._taken = {*self.tensors, *self.types, *(i.name for i in self.inputs)}
            self._taken |= {o for n in self.nodes for o in n.output}
        while True:
            self._fresh += 1
            name = f"{stem}__{self._fresh}"
            if name not in self._taken and name not in self.inlined:
                return name

    def consumers(self) -> Counter[str]:
        """How often each tensor is read, graph outputs included."""
        count = Counter(name for node in self.nodes for name in reads(node))
        count.update(o.name for o in self.outputs)
        return count

    def replace_uses(self, mapping: dict[str, str]) -> None:
        """Lets every reader of a key read its value instead (chains are followed), subgraphs included."""
        if not mapping:
            return

        def final(name: str) -> str:
            while name in mapping:
                name = mapping[name]
            return name

        for node in self.nodes:
            _rename_inputs(node, final)
        for removed in mapping:
            self.aliases[removed] = final(removed)
        for removed, kept in self.aliases.items():
            self.aliases[removed] = final(kept)

    def sort(self) -> None:
        """Topological order, stable; raises RefusedInput on a cycle."""
        self.nodes, on_cycle = topological(self.nodes)
        if on_cycle is not None:
            raise RefusedInput(f"the graph has a cycle through tensor '{on_cycle[:80]}'")

    def drop_dead(self) -> None:
        """Removes nodes and weights that no output needs, and unused trailing outputs of nodes."""
        needed = {o.name for o in self.outputs}
        kept: list[onnx.NodeProto] = []
        for node in reversed(self.nodes):
            if any(name in needed for name in node.output):
                needed.update(reads(node))
                fewest = self._fewest_outputs(node)
                while len(node.output) > fewest and node.output[-1] not in needed:
                    del node.output[-1]
                kept.append(node)
        self.nodes = kept[::-1]
        for name in [n for n in self.tensors if n not in needed]:
            del self.tensors[name]
            self._arrays.pop(name, None)

    def _fewest_outputs(self, node: onnx.NodeProto) -> int:
        """How many outputs the node must have, read or not: a Split is in as many pieces as it has outputs."""
        version = self.opsets.get(node.domain, 1)
        if trains(node) or not onnx.defs.has(node.op_type, version, node.domain):
            return len(node.output)
        declared = onnx.defs.get_schema(node.op_type, version, node.domain).outputs
        optional = onnx.defs.OpSchema.FormalParameterOption.Optional
        places = range(len(node.output))
        return 1 + max((i for i in places if i >= len(declared) or declared[i].option != optional), default=0)

    def settle_aliases(self) -> None:
        """Follows chains of aliases; drops those of tensors that live on or whose target is gone."""
        alive = {o for n in self.nodes for o in n.output} | {i.name for i in self.inputs} | set(self.tensors)
        settled: dict[str, str] = {}
        for name, target in self.aliases.items():
            seen = {name}
            while target in self.aliases and target not in alive and target not in seen:
                seen.add(target)
                target = self.aliases[target]
            if name not in alive and target in alive:
                settled[name] = target
        self.aliases = settled

    def build(self) -> onnx.ModelProto:
        """The canonical ModelProto; nodes and weights move into it."""
        model = onnx.ModelProto(ir_version=self.ir_version, producer_name="convscope")
        graph = model.graph  # filled in place: a graph of its own would be one more copy of the weights
        graph.name = self.graph_name or "graph"
        _distinct_names(self.nodes)
        graph.node.extend(self.nodes)
        graph.initializer.extend(self.tensors.values())
        graph.input.extend(self.inputs)
        graph.output.extend(self.outputs)
        used = {""} | {n.domain for n in self.nodes}
        model.opset_import.extend(
            helper.make_opsetid(domain, version) for domain, version in self.opsets.items() if domain in used
        )
        return model


def _distinct_names(nodes: list[onnx.NodeProto]) -> None:
    """Some exporters repeat node names, which ONNX Runtime refuses."""
    seen: set[str] = set()
    for index, node in enumerate(nodes):
        if node.name in seen:
            node.name = f"{node.name}__{index}"
        if node.name:
            seen.add(node.name)


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """A node's attribute as a python value (strings decoded), or the default."""
    for entry in node.attribute:
        if entry.name == name:
            value = helper.get_attribute_value(entry)
            return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return default


def copy_zeros(node: onnx.NodeProto) -> None:
    """Lets a 0 in a Reshape's target mean "copy the axis", whatever the export says (``allowzero`` is new in 14)."""
    if attribute(node, "allowzero"):
        set_attribute(node, "allowzero", 0)


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Sets or replaces an attribute."""
    for i, entry in enumerate(node.attribute):
        if entry.name == name:
            del node.attribute[i]
            break
    node.attribute.append(helper.make_attribute(name, value))


def node_axes(draft: Draft, node: onnx.NodeProto, position: int = 1, name: str = "axes") -> list[int] | None:
    """Axes, or other whole numbers, given as an attribute (older opsets) or as a constant input; None where absent.

    Raises:
        KeyError: they are computed while the model runs.
    """
    stated = attribute(node, name)
    if stated is not None:
        return [int(a) for a in stated]
    if len(node.input) <= position or not node.input[position]:
        return None
    value = draft.constant(node.input[position])
    if value is None:
        raise KeyError(node.input[position])
    return [int(a) for a in value.ravel()]


def _rename_inputs(node: onnx.NodeProto, final: Any) -> None:
    for i, name in enumerate(node.input):
        node.input[i] = final(name)
    for entry in node.attribute:
        graphs = [entry.g] if entry.type == onnx.AttributeProto.GRAPH else list(entry.graphs)
        for graph in graphs:
            for inner in graph.node:
                _rename_inputs(inner, final)
            for output in graph.output:
                output.name = final(output.name)


def dense(sparse: onnx.SparseTensorProto) -> np.ndarray:
    """The values of a sparse tensor in their places, zeros in all others."""
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    found = np.zeros(tuple(sparse.dims), dtype=values.dtype)
    if indices.ndim == 1:
        found.ravel()[indices] = values
    else:
        found[tuple(indices.T)] = values
    return found
