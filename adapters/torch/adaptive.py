"""Adaptive pooling to a size that does not divide the picture's, which the tracing exporter cannot write.

Place i of n out of a side of s takes the positions floor(i s / n) to ceil((i + 1) s / n) (torch's own rule), along each
axis by itself: a mean of means over windows of equal height and a maximum of maxima are those of the whole window.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

_POOLS = [(kind, rank) for kind in ("avg", "max") for rank in (1, 2, 3)]


@contextlib.contextmanager
def written_adaptive_pools() -> Iterator[None]:
    """While it is open, adaptive pools to such sizes are slices with a reduction each."""
    functional: Any = torch.nn.functional
    before = {f"adaptive_{kind}_pool{rank}d": (kind, rank) for kind, rank in _POOLS}
    plain = {name: getattr(functional, name) for name in before}
    for name, (kind, rank) in before.items():
        setattr(functional, name, _written(plain[name], kind, rank))
    try:
        yield
    finally:
        for name, function in plain.items():
            setattr(functional, name, function)


def _written(plain: Callable[..., Any], kind: str, rank: int) -> Callable[..., Any]:
    def pool(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
        sides = [int(side) for side in input.shape[-rank:]]
        asked = [output_size] * rank if isinstance(output_size, int) else list(output_size)
        wanted = [side if target is None else int(target) for side, target in zip(sides, asked, strict=True)]
        if return_indices or all(side % target == 0 for side, target in zip(sides, wanted, strict=True)):
            return plain(input, output_size, *((return_indices,) if return_indices else ()))
        found = input
        for axis, (side, target) in enumerate(zip(sides, wanted, strict=True), start=-rank):
            if side != target:
                found = torch.cat([_part(found, kind, axis, i, side, target) for i in range(target)], axis)
        return found

    return pool


def _part(x: Tensor, kind: str, axis: int, place: int, side: int, target: int) -> Tensor:
    start, end = place * side // target, -(-(place + 1) * side // target)
    piece = x.narrow(axis, start, end - start)
    return piece.amax(axis, keepdim=True) if kind == "max" else piece.mean(axis, keepdim=True)
