"""The objective of the preset `vital`: features distributed as in the photographs that excite a unit most."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...errors import UsageError
from ..executors.exact import grad
from ..graph.graph import Graph
from ..graph.layers import Layer
from .loop import Goal
from .network import Network
from .recipe.algebra import Objective, Tensors
from .recipe.matching import Ranked, importance, mismatch

MOST = 50  # photographs that a picture is matched with
TAPS = 5
_ENOUGH = 1.5  # times what the best photograph reaches: more activation than that counts for nothing
_ALIKE = 0.5  # photographs are taken that excite the unit at least so much as the best does
_TOGETHER = 8
_POSITIONS = 4096  # of a map that are sorted, at most
_KEPT = 16  # units whose photographs' values are kept, some megabytes each; as many as a batch has pictures


def matched_layers(graph: Graph, layer: Layer) -> list[Layer]:
    """The last feature map of each stride on the way to the layer, at most ``TAPS``, its own included.

    Raises:
        UsageError: there is none.
    """
    nodes = graph.index.between([i.name for i in graph.inputs], [layer.tensor])
    on_the_way = {name for node in nodes for name in node.output}
    by_stride = {
        la.receptive_field.stride: la
        for la in graph.layers[: layer.index + 1]
        if la.tensor in on_the_way and la.receptive_field is not None and la.op != "Pad" and _is_map(la)
    }
    if not by_stride:
        raise UsageError(
            f"preset vital compares feature maps, and {graph.name} has none on the way to '{layer.name}'; "
            "choose another preset, for instance objects"
        )
    return list(by_stride.values())[-TAPS:]


def _is_map(layer: Layer) -> bool:
    """Whether the layer has more positions than one."""
    sides = [side for axis, side in enumerate(layer.shape) if axis not in (0, layer.channel_axis)]
    return layer.is_spatial and any(side != 1 for side in sides)


class Matching:
    """What the photographs that excite each unit have in common, and how far a picture is from it.

    Args:
        graph, layer: where the units are.
        measure: what a unit is judged by.
        tap: the tensor that it reads.
        photographs: (N, C, H, W) in [0, 1], of the pictures' size.
        device: as for `Network`.
    """

    def __init__(
        self, graph: Graph, layer: Layer, measure: Goal, tap: str, photographs: np.ndarray, device: str
    ) -> None:
        self.layers = matched_layers(graph, layer)
        self._measure, self._photographs, self._is_class = measure, photographs, not layer.is_spatial
        self._network = Network(graph, [*self.tensors, tap], device)
        self._wanted: dict[int, list[Ranked]] = {}

    @property
    def tensors(self) -> list[str]:
        """The feature maps' tensors."""
        return [la.tensor for la in self.layers]

    def goal(self, units: Sequence[int], references: Sequence[float]) -> Objective:
        """Each unit's activation minus the mismatch of all layers.

        The activation counts as a multiple of the most that photographs reach, up to ``_ENOUGH``.

        Args:
            units: of the pictures in the batch.
            references: the most that photographs reach, one for each of them.
        """
        others = [known for known in self._wanted if known not in units]
        for other in others[: max(0, len(self._wanted) - _KEPT)]:  # the eldest go first
            del self._wanted[other]
        measured = self._measure(units)
        scales = [max(abs(reference), 1e-6) for reference in references]

        def value(values: Tensors) -> Tensor:
            activation = measured(values).float()
            share = activation / torch.tensor(scales, device=activation.device)
            rows = [self._one(unit, i, values) for i, unit in enumerate(units)]
            return share.clamp_max(_ENOUGH) - torch.stack(rows)

        return Objective((*self.tensors, *measured.tensors), value, f"{measured.label}, as in photographs")

    def _one(self, unit: int, row: int, values: Tensors) -> Tensor:
        wanted = self.wanted(unit)
        maps = [_flat(la, values[la.tensor][row : row + 1])[0].float() for la in self.layers]
        return torch.stack([mismatch(one, of) for one, of in zip(maps, wanted, strict=True)]).sum()

    def wanted(self, unit: int) -> list[Ranked]:
        """Of each layer, what the photographs that excite the unit have.

        Classes match all channels alike, units those that speak for them.
        """
        if unit not in self._wanted:
            chosen = self.chosen(unit)
            parts = [self._maps(unit, chosen[i : i + _TOGETHER]) for i in range(0, len(chosen), _TOGETHER)]
            self._wanted[unit] = [self._ranked(rows) for rows in zip(*parts, strict=True)]
        return self._wanted[unit]

    def _ranked(self, rows: Sequence[tuple[Tensor, Tensor]]) -> Ranked:
        maps, gradients = torch.cat([m for m, _ in rows]), torch.cat([g for _, g in rows])
        weights = torch.ones_like(maps[0, :, 0]) if self._is_class else importance(maps, gradients)
        return Ranked.of(list(maps), weights)

    def chosen(self, unit: int) -> np.ndarray:
        """The photographs that excite the unit at least half as much as the best, the best first."""
        values: list[float] = []
        with torch.no_grad():
            for first in range(0, len(self._photographs), _TOGETHER):
                tapped = self._network(self._tensor(self._photographs[first : first + _TOGETHER]))
                values += self._measure([unit])(tapped).float().tolist()
        found = np.array(values)
        order = np.argsort(-found, kind="stable")[:MOST]
        return order[(found[order] >= _ALIKE * found.max()) | (order == order[0])]

    def _maps(self, unit: int, chosen: np.ndarray) -> list[tuple[Tensor, Tensor]]:
        """Of each layer, the maps (photographs, channels, positions) and the unit's gradients with respect to them."""
        with torch.enable_grad():
            tapped = self._network(self._tensor(self._photographs[chosen]).requires_grad_())
            total = self._measure([unit])(tapped).sum()
            values = [tapped[name] for name in self.tensors]
            gradients = grad(total, values, allow_unused=True)
        return [
            (_flat(la, v.detach()), _flat(la, torch.zeros_like(v) if g is None else g))
            for la, v, g in zip(self.layers, values, gradients, strict=True)
        ]

    def _tensor(self, pictures: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(pictures)).to(self._network.device)


def _flat(layer: Layer, values: Tensor) -> Tensor:
    """(N, channels, positions), of a large map every second row and column, or third: sorting is what takes time."""
    maps = layer.maps(values)
    step = math.ceil((math.prod(maps.shape[2:]) / _POSITIONS) ** (1 / (maps.dim() - 2)))
    return maps[(slice(None), slice(None), *[slice(None, None, step)] * (maps.dim() - 2))].flatten(2)
