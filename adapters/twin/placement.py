"""What the processor computes beside a GPU: sizes, which it has to read.

Exports for every picture size compute paddings and shapes from the size, node by node (Keras's "same" padding with a
stride). On a GPU each such node is a launch, reading a size waits for everything launched before, and a pass that waits
cannot be recorded. ONNX Runtime and TensorRT keep these nodes on the processor too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx
import torch
from torch import Tensor, nn

from ...engine.executors.twin import NodeCall
from ...engine.graph.operators import operator
from .converters.base import Converted, Function

PROCESSOR = torch.device("cpu")


def on_processor(nodes: Sequence[onnx.NodeProto], inputs: Sequence[str]) -> set[str]:
    """The tensors that are the size of another, or are computed from such and from constants alone.

    Args:
        nodes: in order of execution.
        inputs: tensors on the device.
    """
    elsewhere, found = set(inputs), set[str]()
    for node in nodes:
        there = operator(node).family != "size" and not elsewhere.isdisjoint(node.input)
        (elsewhere if there else found).update(name for name in node.output if name)
    return found


class Wiring:
    """The calls of a twin in the making: each gets its tensors where it computes.

    A tensor that is needed on both is two, the copy under a name of its own.

    Args:
        nodes: in order of execution.
        inputs: of the twin, on ``place``.
        constant: the value of a constant, None for other tensors.
        place: the device of all that is not a size.

    Attributes:
        calls, modules, constants: for `Twin`.
        kept: constants that stay on the processor, for `Twin`.
    """

    def __init__(
        self,
        nodes: Sequence[onnx.NodeProto],
        inputs: Sequence[str],
        constant: Callable[[str], Tensor | None],
        place: torch.device,
    ) -> None:
        self._near, self._constant, self._place = on_processor(nodes, inputs), constant, place
        self.calls: list[NodeCall] = []
        self.modules: dict[str, nn.Module] = {}
        self.constants: dict[str, Tensor] = {}
        self.kept: dict[str, Tensor] = {}

    def place(self, node: onnx.NodeProto) -> torch.device:
        """Where the node computes."""
        return self._place if self._near.isdisjoint(node.output) else PROCESSOR

    def add(self, node: onnx.NodeProto, converted: Converted, outputs: Sequence[str]) -> None:
        """The node as the next call; ``outputs`` are the names of its results."""
        numbers = _numbers(node) if self._near.isdisjoint(node.output) else set(converted.inputs)
        inputs = tuple(self._source(name, name in numbers) if name else "" for name in converted.inputs)
        self._append(converted.module, NodeCall("", node.op_type, node.name, inputs, tuple(outputs)))

    def require(self, name: str) -> None:
        """A tensor that the twin gives, which may be a constant."""
        value = self._constant(name)
        if value is not None:
            self.constants[name] = value.to(self._place)

    def _source(self, name: str, near: bool) -> str:
        """The name under which a call finds a tensor on the processor, or else on the device."""
        key, held, place = (f"{name}@processor", self.kept, PROCESSOR) if near else (name, self.constants, self._place)
        value = self._constant(name) if key not in held else None
        if value is not None:
            held[key] = value.to(place)
        if key in held:
            return key
        if near or name not in self._near:
            return name
        moved = f"{name}@device"
        if not any(moved in call.outputs for call in self.calls):
            self._append(Function(_Moved(place)), NodeCall("", "", "", (name,), (moved,)))
        return moved

    def _append(self, module: nn.Module, call: NodeCall) -> None:
        key = f"n{len(self.calls)}"
        self.modules[key] = module
        self.calls.append(NodeCall(key, call.op, call.node, call.inputs, call.outputs))


class _Moved:
    """Tensors brought to a device, again only where they changed: what depends on sizes alone seldom does."""

    def __init__(self, place: torch.device) -> None:
        self._place = place
        self._last: tuple[Tensor, Tensor] | None = None

    def __call__(self, value: Tensor) -> Tensor:
        if self._last is None or value.dtype != self._last[0].dtype or not torch.equal(value, self._last[0]):
            self._last = value, value.to(self._place)
        return self._last[1]


def _numbers(node: onnx.NodeProto) -> set[str]:
    """The node's inputs that are read as numbers and as nothing else."""
    places = operator(node).numbers or ()
    read = {name for i, name in enumerate(node.input) if i in places}
    return read - {name for i, name in enumerate(node.input) if i not in places}
