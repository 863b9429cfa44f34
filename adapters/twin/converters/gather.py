"""Reading and writing at computed places."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Converted, Converter, Function, Node, first_input, whole_numbers


def _gather(node: Node) -> Converted:
    axis, constant = int(node.get("axis", 0)), node.constant(1)

    def run(x: Tensor, indices: Tensor) -> Tensor:
        dim = axis % x.ndim
        wrapped = torch.where(indices < 0, indices + x.shape[dim], indices).to(torch.int64)
        found = x.index_select(dim, wrapped.reshape(-1))
        return found.reshape((*x.shape[:dim], *indices.shape, *x.shape[dim + 1 :]))

    if constant is not None and constant.size == 1 and constant.ndim == 0:
        place = int(constant)
        return first_input(node, lambda x: x.select(axis, place))
    return Converted(Function(run), node.inputs)


def _gather_elements(node: Node) -> Converted:
    axis = int(node.get("axis", 0))

    def run(x: Tensor, indices: Tensor) -> Tensor:
        return torch.gather(x, axis, torch.where(indices < 0, indices + x.shape[axis], indices).to(torch.int64))

    return Converted(Function(run), node.inputs)


def _gather_nd(node: Node) -> Converted:
    batch = int(node.get("batch_dims", 0))

    def run(x: Tensor, indices: Tensor) -> Tensor:
        depth = indices.shape[-1]
        shared = x.shape[:batch]
        flat = x.reshape(-1, *x.shape[batch:])
        places = indices.reshape(flat.shape[0], -1, depth).to(torch.int64)
        row = torch.arange(flat.shape[0], device=x.device)[:, None].expand(places.shape[:2])
        found = flat[(row, *places.unbind(-1))]
        return found.reshape((*shared, *indices.shape[batch:-1], *x.shape[batch + depth :]))

    return Converted(Function(run), node.inputs)


_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _scatter_elements(node: Node) -> Converted:
    axis, how = int(node.get("axis", 0)), str(node.get("reduction", "none"))

    def run(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        places = torch.where(indices < 0, indices + x.shape[axis], indices).to(torch.int64)
        if how == "none":
            return x.scatter(axis, places, updates)
        return x.scatter_reduce(axis, places, updates, _REDUCTIONS[how], include_self=True)

    return Converted(Function(run), node.inputs)


def _scatter_nd(node: Node) -> Converted:
    how = str(node.get("reduction", "none"))

    def run(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        depth = indices.shape[-1]
        strides = [int(torch.tensor(x.shape[i + 1 : depth]).prod()) for i in range(depth)]
        wrapped = torch.stack(
            [torch.where(p < 0, p + x.shape[i], p) for i, p in enumerate(indices.to(torch.int64).unbind(-1))], -1
        )
        rows = (wrapped * whole_numbers(tuple(strides), x.device)).sum(-1).reshape(-1)
        inner = x.shape[depth:]
        flat = x.reshape(-1, *inner)
        values = updates.reshape(-1, *inner)
        if how == "none":
            return flat.index_put((rows,), values).reshape(x.shape)
        places = rows.reshape(-1, *(1,) * len(inner)).expand_as(values)
        return flat.scatter_reduce(0, places, values, _REDUCTIONS[how], include_self=True).reshape(x.shape)

    return Converted(Function(run), node.inputs)


def _one_hot(node: Node) -> Converted:
    axis = int(node.get("axis", -1))

    def run(indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
        count = int(depth.reshape(-1)[0])
        wrapped = torch.where(indices < 0, indices + count, indices).to(torch.int64)
        dim = axis % (indices.ndim + 1)
        line = torch.arange(count, device=indices.device).reshape(
            *(-1 if i == dim else 1 for i in range(indices.ndim + 1))
        )
        return torch.where(wrapped.unsqueeze(dim) == line, values[1], values[0])

    return Converted(Function(run), node.inputs)


def _compress(node: Node) -> Converted:
    axis = node.get("axis")

    def run(x: Tensor, condition: Tensor) -> Tensor:
        source, dim = (x.reshape(-1), 0) if axis is None else (x, int(axis))
        return source.index_select(dim, torch.nonzero(condition).reshape(-1))

    return Converted(Function(run), node.inputs)


def _reverse_sequence(node: Node) -> Converted:
    """The first steps of each sequence, as many as it is long, in reverse order."""
    along, batch = int(node.get("time_axis", 0)), int(node.get("batch_axis", 1))

    def run(x: Tensor, lengths: Tensor) -> Tensor:
        steps = x.movedim((batch, along), (0, 1))
        place = torch.arange(steps.shape[1], device=x.device).expand(steps.shape[:2])
        size = lengths.reshape(-1, 1).to(place.dtype)
        source = torch.where(place < size, size - 1 - place, place)
        rows = torch.arange(len(steps), device=x.device)[:, None]
        return steps[rows, source].movedim((0, 1), (batch, along))

    return Converted(Function(run), node.inputs)


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "ReverseSequence"): _reverse_sequence,
    ("", "Gather"): _gather,
    ("", "GatherElements"): _gather_elements,
    ("", "GatherND"): _gather_nd,
    ("", "Scatter"): _scatter_elements,
    ("", "ScatterElements"): _scatter_elements,
    ("", "ScatterND"): _scatter_nd,
    ("", "OneHot"): _one_hot,
    ("", "Compress"): _compress,
}
