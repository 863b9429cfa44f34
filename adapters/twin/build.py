"""The torch twin: every node of the canonical graph as a torch module, tensors by their ONNX names.

Each node is converted once for each precision, device and order of axes in memory, so that many truncated twins share
their weights.
Our converters win; where we have none, onnx2torch's is taken if it is known to be right (`bridge`).
The twin runs node by node in ONNX's order instead of as an fx graph: stock fx graphs are wired
by node, which loses the names of tensors and mixes up nodes with several outputs, and names are the identity.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper

from ...engine.executors.devices import torch_device
from ...engine.executors.twin import Twin
from ...engine.graph.index import Index, first_output
from ...engine.graph.operators import operator
from ...errors import UnsupportedOperator
from .bridge import stock_module
from .converters import CONVERTERS
from .converters.base import Converted, Node
from .folding import fold_into, is_foldable
from .placement import Wiring

# of four and eight bits: as what quantizers make, see `converters.quantize`
_HELD_AS_FLOATS = frozenset({"int4", "uint4", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"})


class TwinFactory:
    """Builds twins of one canonical model.

    Args:
        model: the canonical graph; kept, not copied.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._index = Index(model.graph)
        self._opsets = {("" if e.domain == "ai.onnx" else e.domain): e.version for e in model.opset_import}
        self._converted: dict[tuple[Any, ...], Converted] = {}

    def __call__(
        self,
        outputs: tuple[str, ...],
        inputs: tuple[str, ...],
        *,
        device: str = "cpu",
        fold: bool = True,
        dtype: torch.dtype | None = None,
        channels_last: bool = False,
    ) -> Twin:
        """A twin from ``inputs`` to ``outputs``; arguments as for `Graph.twin`.

        Raises:
            UnsupportedOperator: there is no converter for a node on the path.
        """
        place, kind = torch_device(device), dtype or torch.float32
        nodes = self._index.between(inputs, outputs)
        folded = self._foldable(nodes, outputs) if fold else {}
        given = set(inputs)
        wiring = Wiring(nodes, inputs, lambda name: None if name in given else self._constant_tensor(name, kind), place)
        for node in nodes:
            if first_output(node) in folded.values():
                continue  # a batch-norm that its convolution has taken in
            norm = folded.get(first_output(node))
            try:
                converted = self._module(node, norm, wiring.place(node), kind, channels_last)
            except UnsupportedOperator as error:
                raise UnsupportedOperator(f"{error}; no gradient passes it") from error
            wiring.add(node, converted, (norm,) if norm is not None else tuple(node.output))
        for name in outputs:
            wiring.require(name)
        return Twin(wiring.calls, wiring.modules, wiring.constants, wiring.kept, inputs, outputs)

    def opaque(self) -> dict[str, str]:
        """First output of each node that has no converter -> why; see `Graph.opaque`."""
        found: dict[str, str] = {}
        for node in self._index.nodes:
            try:
                self._module(node, None, torch.device("cpu"), torch.float32)
            except UnsupportedOperator as error:
                found[first_output(node)] = str(error)
        return found

    def _foldable(self, nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> dict[str, str]:
        """Convolution's output -> batch-norm's output, where nothing else reads what lies between."""
        reads = Counter(name for node in nodes for name in node.input)
        norms = {n.input[0]: n for n in nodes if n.op_type == "BatchNormalization" and not n.domain}
        found: dict[str, str] = {}
        for node in nodes:
            between = node.output[0]
            norm = norms.get(between)
            if norm is None or reads[between] != 1 or between in outputs:
                continue
            if is_foldable(node, norm, self._index.weights.keys()):
                found[between] = norm.output[0]
        return found

    def _module(
        self, node: onnx.NodeProto, norm: str | None, place: torch.device, kind: torch.dtype, last: bool = False
    ) -> Converted:
        """A node's module, kept for all twins; one with channels ``last`` shares all but its kernels with the other."""
        key = (first_output(node), norm, place, kind)
        if (*key, last) not in self._converted:
            other = self._converted.get((*key, not last))
            made = self._made(node, norm, place, kind) if other is None else _with_own_kernels(other)
            if last or other is not None:
                _lay(made.module, torch.channels_last if last else torch.contiguous_format)
            self._converted[(*key, last)] = made
        return self._converted[(*key, last)]

    def _made(self, node: onnx.NodeProto, norm: str | None, place: torch.device, kind: torch.dtype) -> Converted:
        converted = self._convert(node)
        if norm is not None:
            after = self._index.producer[norm]
            fold_into(converted.module, node, self._node(after))
        module = converted.module.to(place)
        module = module.to(kind) if kind != torch.float32 else module
        return Converted(module.eval().requires_grad_(False), converted.inputs)

    def _convert(self, node: onnx.NodeProto) -> Converted:
        described = self._node(node)
        converter = CONVERTERS.get((described.domain, node.op_type))
        if converter is not None:
            return converter(described)
        stock = stock_module(node, described.opset)
        if stock is not None:
            return Converted(*stock)
        if operator(node).chance:
            raise described.unsupported("it draws random numbers, so that no answer of the network is its own")
        raise described.unsupported("no converter")

    def _node(self, node: onnx.NodeProto) -> Node:
        domain = "" if node.domain == "ai.onnx" else node.domain
        return Node(
            op=node.op_type,
            domain=domain,
            opset=self._opsets.get(domain, 1),
            name=node.name,
            inputs=tuple(node.input),
            outputs=tuple(node.output),
            attributes={a.name: _attribute(a) for a in node.attribute},
            constants=self._index.constant,
        )

    def _constant_tensor(self, name: str, kind: torch.dtype) -> torch.Tensor | None:
        value = self._index.constant(name)
        if value is None:
            return None
        if value.dtype.name in _HELD_AS_FLOATS:
            value = value.astype(np.float32)
        try:
            tensor = torch.from_numpy(np.array(value))
        except TypeError:
            raise UnsupportedOperator(f"tensor '{name[:80]}' has a data type that torch lacks") from None
        return tensor.to(kind) if tensor.is_floating_point() else tensor


def _kernels(module: torch.nn.Module) -> list[torch.Tensor]:
    """The tensors for which an order of axes in memory is there to choose."""
    return [tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.dim() == 4]


def _lay(module: torch.nn.Module, form: torch.memory_format) -> None:
    """Lays the kernels in memory in another order."""
    for kernel in _kernels(module):
        kernel.data = kernel.data.contiguous(memory_format=form)


def _with_own_kernels(converted: Converted) -> Converted:
    """A copy of the module that shares all tensors with it but the kernels."""
    own = {id(tensor) for tensor in _kernels(converted.module)}
    tensors = (*converted.module.parameters(), *converted.module.buffers())
    shared = {id(tensor): tensor for tensor in tensors if id(tensor) not in own}
    return Converted(copy.deepcopy(converted.module, shared), converted.inputs)


def _attribute(entry: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(entry)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list) and value and isinstance(value[0], bytes):
        return [v.decode("utf-8", "replace") for v in value]
    return value
