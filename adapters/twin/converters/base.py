"""What a converter gets and gives: one ONNX node in, one torch module out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ....errors import UnsupportedOperator


@dataclass(frozen=True)
class Node:
    """One ONNX node as a converter sees it.

    Attributes:
        op: the operator's name.
        domain: "" for ONNX's own operators.
        opset: the model's opset of that domain; each converter handles every version of its operator by it.
        name: the node's name, for messages.
        inputs: tensor names; "" is an omitted optional input.
        outputs: tensor names; "" is an output that nobody asks for.
        attributes: python values, strings decoded.
        constants: the model's weights and folded constants, by tensor name.
    """

    op: str
    domain: str
    opset: int
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    constants: Callable[[str], np.ndarray | None] = field(repr=False)

    def has(self, position: int) -> bool:
        """Whether the optional input is given."""
        return position < len(self.inputs) and bool(self.inputs[position])

    def constant(self, position: int) -> np.ndarray | None:
        """The value of an input that is constant; None where it is omitted or computed."""
        return self.constants(self.inputs[position]) if self.has(position) else None

    def integers(self, position: int) -> list[int] | None:
        """A constant integer input as a list; None where it is omitted or computed."""
        value = self.constant(position)
        return None if value is None else [int(v) for v in np.ravel(value)]

    def is_computed(self, position: int) -> bool:
        """Whether an input is given and not constant."""
        return self.has(position) and self.constant(position) is None

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute's value."""
        return self.attributes.get(name, default)

    def unsupported(self, reason: str) -> UnsupportedOperator:
        """The error for a form of the operator that is not converted; to be raised."""
        shown = self.name or (self.outputs[0] if self.outputs else "")
        where = f"{self.domain or 'ai.onnx'} opset {self.opset}"
        return UnsupportedOperator(f"operator {self.op} ({where}, node '{shown[:80]}'): {reason}")


@dataclass(frozen=True)
class Converted:
    """The module and the tensor names that it is called with, in order ("" passes None).

    Constants that the module holds itself (a convolution's weight) are left out of ``inputs``; the twin
    feeds the others as tensors. A module returns one tensor, or a tuple with one entry per output.
    """

    module: nn.Module
    inputs: tuple[str, ...]


Converter = Callable[[Node], Converted]


class Function(nn.Module):
    """A plain differentiable function as a module: ``forward(*inputs) = function(*inputs)``."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor | None) -> Any:
        return self.function(*inputs)


class OfKind(nn.Module):
    """A function of a data type and inputs: ``forward(*inputs) = function(kind, *inputs)``.

    For operators that state the type of what they make. A floating type follows the twin's own, as its weights do:
    a twin in float64 would else mix what is made in float32 with its weights.
    """

    def __init__(self, kind: torch.dtype, function: Callable[..., Any]) -> None:
        super().__init__()
        self.register_buffer("_example", torch.zeros((), dtype=kind), persistent=False)
        self.function = function

    def forward(self, *inputs: Tensor | None) -> Any:
        return self.function(self._example.dtype, *inputs)


def pointwise(function: Callable[..., Any]) -> Converter:
    """A converter for an operator without attributes: all inputs go to ``function``."""
    return lambda node: Converted(Function(function), node.inputs)


def first_input(node: Node, function: Callable[[Tensor], Any]) -> Converted:
    """The node as a function of its first input alone; all else was settled at conversion."""
    return Converted(Function(function), node.inputs[:1])


def parameter(value: np.ndarray) -> nn.Parameter:
    """A frozen float parameter that owns its memory."""
    return nn.Parameter(torch.from_numpy(np.array(value)), requires_grad=False)


@lru_cache(maxsize=256)
def whole_numbers(values: tuple[int, ...], device: torch.device) -> Tensor:
    """(N,) int64 on a device, brought there once: that waits for a GPU, which records no pass that waits."""
    with torch.inference_mode(False):  # it may be kept for a gradient later
        return torch.tensor(values, dtype=torch.int64).to(device)
