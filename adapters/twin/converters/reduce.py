"""Reductions over axes, given as an attribute (older opsets) or as an input (newer ones)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .base import Converted, Converter, Function, Node

Reduction = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def _reducer(function: Reduction) -> Converter:
    def convert(node: Node) -> Converted:
        axes = node.get("axes")
        given = [int(a) for a in axes] if axes is not None else node.integers(1)
        keep, idle = bool(node.get("keepdims", 1)), bool(node.get("noop_with_empty_axes", 0))

        def run(x: Tensor, computed: Tensor | None = None) -> Tensor:
            chosen = given if computed is None else [int(a) for a in computed.reshape(-1).tolist()]
            if (not chosen and idle) or not x.ndim:
                return function(x.unsqueeze(0), (0,), False) if function in _NOT_IDLE else x
            dims = tuple(a % x.ndim for a in chosen) if chosen else tuple(range(x.ndim))
            return function(x, dims, keep)

        return Converted(Function(run), node.inputs if node.is_computed(1) else node.inputs[:1])

    return convert


def _one_by_one(step: Callable[[Tensor, int], Tensor]) -> Reduction:
    """A reduction that torch offers along one axis only."""

    def run(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
        for dim in sorted(dims, reverse=True):
            x = step(x, dim)
        return x if not keep else _restore(x, dims)

    return run


def _restore(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    for dim in sorted(dims):
        x = x.unsqueeze(dim)
    return x


def _extreme(function: Callable[..., Tensor], empty: float) -> Reduction:
    def run(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
        if x.dtype == torch.bool:
            return run(x.to(torch.float32), dims, keep) > 0
        if x.numel() == 0:
            return torch.sum(x, dims, keepdim=keep) + empty
        return function(x, dims, keepdim=keep)

    return run


def _mean(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    if x.is_floating_point():
        return torch.mean(x, dims, keepdim=keep)
    return torch.mean(x.double(), dims, keepdim=keep).to(x.dtype)


def _sum(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return torch.sum(x, dims, keepdim=keep).to(x.dtype)


def _l1(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return _sum(x.abs(), dims, keep)


def _square(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return _sum(x * x, dims, keep)


def _l2(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return (
        torch.sqrt(_square(x, dims, keep).double()).to(x.dtype) if not x.is_floating_point() else _norm(x, dims, keep)
    )


def _norm(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return torch.linalg.vector_norm(x, dim=dims, keepdim=keep)


def _log_sum(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return torch.log(_sum(x, dims, keep))


def _log_sum_exp(x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    return torch.logsumexp(x, dims, keepdim=keep)


_NOT_IDLE = (_l1, _l2, _square, _log_sum, _log_sum_exp)  # one value is not left as it is by these


def _arg(largest: bool) -> Converter:
    def convert(node: Node) -> Converted:
        axis, keep = int(node.get("axis", 0)), bool(node.get("keepdims", 1))
        last = bool(node.get("select_last_index", 0))

        def run(x: Tensor) -> Tensor:
            source = x.flip(axis) if last else x
            # max and min return some index of a tie; comparing finds the first
            extreme = source.amax(axis, keepdim=True) if largest else source.amin(axis, keepdim=True)
            index = (source == extreme).to(torch.uint8).argmax(axis, keepdim=keep)
            return x.shape[axis] - 1 - index if last else index

        return Converted(Function(run), node.inputs)

    return convert


def _cumulative(function: Callable[..., Tensor], start: float) -> Converter:
    def convert(node: Node) -> Converted:
        axis = node.integers(1)
        exclusive, reverse = bool(node.get("exclusive", 0)), bool(node.get("reverse", 0))

        def run(x: Tensor, computed: Tensor | None = None) -> Tensor:
            dim = axis[0] if axis else int(computed.reshape(-1)[0]) if computed is not None else 0
            source = x.flip(dim) if reverse else x
            if exclusive:  # shifted by one place, since undoing the last step would leave rounding errors
                first = torch.full_like(source.narrow(dim, 0, 1), start)
                source = torch.cat([first, source.narrow(dim, 0, x.shape[dim] - 1)], dim)
            total = function(source, dim).to(x.dtype)
            return total.flip(dim) if reverse else total

        return Converted(Function(run), node.inputs if axis is None else node.inputs[:1])

    return convert


def _top_k(node: Node) -> Converted:
    axis, largest = int(node.get("axis", -1)), bool(node.get("largest", 1))
    constant = node.integers(1) or ([int(node.get("k"))] if node.get("k") is not None else None)

    def run(x: Tensor, computed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        k = constant[0] if constant else int(computed.reshape(-1)[0]) if computed is not None else 1
        # a stable sort gives the lower index first among equals, as ONNX asks
        values, indices = torch.sort(x, dim=axis, descending=largest, stable=True)
        return values.narrow(axis, 0, k), indices.narrow(axis, 0, k)

    return Converted(Function(run), node.inputs if constant is None else node.inputs[:1])


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "ReduceMean"): _reducer(_mean),
    ("", "ReduceSum"): _reducer(_sum),
    ("", "ReduceMax"): _reducer(_extreme(torch.amax, float("-inf"))),
    ("", "ReduceMin"): _reducer(_extreme(torch.amin, float("inf"))),
    ("", "ReduceProd"): _reducer(_one_by_one(lambda x, dim: torch.prod(x, dim).to(x.dtype))),
    ("", "ReduceL1"): _reducer(_l1),
    ("", "ReduceL2"): _reducer(_l2),
    ("", "ReduceSumSquare"): _reducer(_square),
    ("", "ReduceLogSum"): _reducer(_log_sum),
    ("", "ReduceLogSumExp"): _reducer(_log_sum_exp),
    ("", "ArgMax"): _arg(True),
    ("", "ArgMin"): _arg(False),
    ("", "CumSum"): _cumulative(torch.cumsum, 0),
    ("", "CumProd"): _cumulative(torch.cumprod, 1),
    ("", "TopK"): _top_k,
    ("", "NonZero"): lambda node: Converted(Function(lambda x: torch.nonzero(x).T), node.inputs),
}
