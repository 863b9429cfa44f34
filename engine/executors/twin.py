"""The differentiable executor: the graph's nodes as torch modules, tensors by their ONNX names.

`Twin` only runs what it is given; which module computes which operator is decided in `adapters.twin`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...errors import UnsupportedOperator
from .exact import float32_exactly
from .session import row_of_batch

# A rule replaces the computation of every node of one operator: it gets the node's module and its inputs
# and returns its output(s). Guided backprop, redirected ReLU and DeepLIFT are rules.
Rule = Callable[..., Tensor]


@dataclass(frozen=True)
class NodeCall:
    """One node: ``outputs = modules[key](*inputs)``; an empty input name is an omitted optional input."""

    key: str
    op: str
    node: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Twin(nn.Module):
    """Runs from ``inputs`` to ``outputs``, both tensor names, and nothing beside the path between them.

    Constants move with the twin from device to device; those ``kept`` stay on the processor, where sizes are read.
    Parameters are frozen and the modules are in inference mode. Every image size and batch that the
    operators on the path allow will do, whatever the export fixed.

    Attributes:
        alone: run one picture at a time, where an operator would mix those of a batch.
        batch_axes: tensor -> the axis that counts pictures, where that is not 0.
    """

    def __init__(
        self,
        calls: Sequence[NodeCall],
        modules: Mapping[str, nn.Module],
        constants: Mapping[str, Tensor],
        kept: Mapping[str, Tensor],
        inputs: Sequence[str],
        outputs: Sequence[str],
    ) -> None:
        super().__init__()
        self.calls = tuple(calls)
        self.nodes = nn.ModuleDict(dict(modules))
        self.input_names = tuple(inputs)
        self.output_names = tuple(outputs)
        self._constant_keys = {name: f"constant_{i}" for i, name in enumerate(constants)}
        for name, value in constants.items():
            self.register_buffer(self._constant_keys[name], value, persistent=False)
        self._kept = dict(kept)
        self._release = _last_uses(self.calls, self.output_names)
        self.alone = False
        self.batch_axes: Mapping[str, int] = {}
        self.requires_grad_(False)
        self.eval()

    def forward(
        self,
        x: Tensor | Mapping[str, Tensor],
        rules: Mapping[str, Rule] | None = None,
        *,
        pictures: int | None = None,
    ) -> dict[str, Tensor]:
        """The asked tensors by name.

        Args:
            x: the input tensor, or one per input name.
            rules: operator name -> rule, used in place of that operator's own computation.
            pictures: that the inputs are of; default as many as the first of them has rows.

        Returns:
            One entry per output name, in that order, in the ONNX tensors' own shapes.

        Raises:
            UnsupportedOperator: torch cannot compute a node on its data type.
        """
        feeds = dict(x) if isinstance(x, Mapping) else {self.input_names[0]: x}
        count = (len(feeds[self.input_names[0]]) if pictures is None else pictures) if self.alone else 1
        if count > 1:
            rows = [self._forward(row_of_batch(feeds, i, count), rules) for i in range(count)]
            axes = {name: self.batch_axes.get(name, 0) for name in self.output_names}
            return {n: torch.cat([torch.atleast_1d(row[n]) for row in rows], axes[n]) for n in self.output_names}
        return self._forward(feeds, rules)

    def _forward(self, feeds: Mapping[str, Tensor], rules: Mapping[str, Rule] | None) -> dict[str, Tensor]:
        with float32_exactly():
            return self._computed(feeds, rules)

    def _computed(self, feeds: Mapping[str, Tensor], rules: Mapping[str, Rule] | None) -> dict[str, Tensor]:
        values = {**self._kept, **feeds}
        for name, key in self._constant_keys.items():
            values[name] = getattr(self, key)
        for call, release in zip(self.calls, self._release, strict=True):
            arguments = [values[name] if name else None for name in call.inputs]
            module = self.nodes[call.key]
            rule = rules.get(call.op) if rules else None
            try:
                result = rule(module, *arguments) if rule else module(*arguments)
            except NotImplementedError as error:  # a data type that torch's kernel lacks (uint16, uint32, uint64)
                raise UnsupportedOperator(f"operator {call.op} (node '{call.node[:80]}'): {error}") from error
            if len(call.outputs) == 1:
                values[call.outputs[0]] = result[0] if isinstance(result, (tuple, list)) else result
            else:
                values.update((n, r) for n, r in zip(call.outputs, result, strict=False) if n)
            for name in release:
                values.pop(name, None)
        return {name: values[name] for name in self.output_names}

    def only(self, x: Tensor, rules: Mapping[str, Rule] | None = None) -> Tensor:
        """The value of the one output (the first, where there are more)."""
        return self(x, rules)[self.output_names[0]]

    @property
    def device(self) -> torch.device:
        """Where the weights are (the CPU where there are none)."""
        for tensor in (*self.parameters(), *self.buffers()):
            return tensor.device
        return torch.device("cpu")


def _last_uses(calls: Sequence[NodeCall], keep: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """For each call the tensors that nobody needs after it, so that a forward pass holds few at once."""
    seen = set(keep)
    releases: list[tuple[str, ...]] = []
    for call in reversed(calls):
        names = {name for name in (*call.inputs, *call.outputs) if name and name not in seen}
        releases.append(tuple(sorted(names)))
        seen |= names
    return tuple(reversed(releases))
