"""Operators that move, join, cut and count values without computing on them."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from .base import Converted, Converter, Function, Node, OfKind, first_input, whole_numbers


def _reshape(node: Node) -> Converted:
    keep_zero = bool(node.get("allowzero", 0))

    def run(x: Tensor, target: Sequence[int]) -> Tensor:
        return x.reshape([x.shape[i] if n == 0 and not keep_zero else n for i, n in enumerate(target)])

    constant = node.integers(1)
    if constant is not None:
        return first_input(node, lambda x: run(x, constant))
    return Converted(Function(lambda x, target: run(x, target.tolist())), node.inputs)


def _flatten(node: Node) -> Converted:
    axis = int(node.get("axis", 1))

    def run(x: Tensor) -> Tensor:
        cut = axis + x.ndim if axis < 0 else axis
        if cut == 1:
            return x.flatten(1) if x.ndim > 1 else x.reshape(-1, 1)
        rows = int(np.prod(x.shape[:cut]))
        return x.reshape(rows, -1) if x.numel() else x.reshape(rows, int(np.prod(x.shape[cut:])))

    return first_input(node, run)


def _axes(node: Node, position: int = 1) -> list[int] | None:
    axes = node.get("axes")
    return [int(a) for a in axes] if axes is not None else node.integers(position)


def _squeeze(node: Node) -> Converted:
    if node.is_computed(1):
        raise node.unsupported("axes that are computed while the model runs")
    axes = _axes(node)

    def run(x: Tensor) -> Tensor:
        return x.squeeze(tuple(a % x.ndim for a in axes)) if axes else x.squeeze()  # no axes: all, as ONNX Runtime

    return first_input(node, run)


def _unsqueeze(node: Node) -> Converted:
    axes = _axes(node)
    if axes is None:
        raise node.unsupported("axes that are computed while the model runs")

    def run(x: Tensor) -> Tensor:
        rank = x.ndim + len(axes)
        for axis in sorted(a % rank for a in axes):
            x = x.unsqueeze(axis)
        return x

    return first_input(node, run)


def _transpose(node: Node) -> Converted:
    perm = node.get("perm")
    return first_input(node, lambda x: x.permute(tuple(perm) if perm else tuple(range(x.ndim - 1, -1, -1))))


def _expand(node: Node) -> Converted:
    constant = node.integers(1)

    def run(x: Tensor, target: Sequence[int]) -> Tensor:
        return x.expand(torch.broadcast_shapes(x.shape, tuple(target)))

    if constant is not None:
        return first_input(node, lambda x: run(x, constant))
    return Converted(Function(lambda x, target: run(x, target.tolist())), node.inputs)


def _tile(node: Node) -> Converted:
    constant = node.integers(1)
    if constant is not None:
        return first_input(node, lambda x: x.repeat(tuple(constant)))
    return Converted(Function(lambda x, repeats: x.repeat(tuple(repeats.tolist()))), node.inputs)


def _concat(node: Node) -> Converted:
    axis = int(node.get("axis", 1))
    return Converted(Function(lambda *inputs: torch.cat(inputs, axis)), node.inputs)


def _split(node: Node) -> Converted:
    axis, sizes = int(node.get("axis", 0)), node.get("split")
    given = [int(s) for s in sizes] if sizes is not None else node.integers(1)
    count = int(node.get("num_outputs", len(node.outputs)))

    def run(x: Tensor, computed: Tensor | None = None) -> tuple[Tensor, ...]:
        if computed is not None:
            return torch.split(x, computed.tolist(), axis)
        chunk = -(-x.shape[axis] // count)
        equal = [min(chunk, x.shape[axis] - i * chunk) for i in range(count)]
        return torch.split(x, given or equal, axis)

    return Converted(Function(run), node.inputs if node.is_computed(1) else node.inputs[:1])


def _slice(node: Node) -> Converted:
    if node.get("starts") is not None:
        starts, ends = [int(v) for v in node.get("starts")], [int(v) for v in node.get("ends")]
        axes = [int(a) for a in node.get("axes", range(len(starts)))]
        return first_input(node, lambda x: _cut(x, starts, ends, axes, [1] * len(starts)))
    if not any(node.is_computed(i) for i in range(1, 5)):
        first, last = node.integers(1) or [], node.integers(2) or []
        along = node.integers(3) or list(range(len(first)))
        by = node.integers(4) or [1] * len(first)
        return first_input(node, lambda x: _cut(x, first, last, along, by))

    def run(x: Tensor, begin: Tensor, end: Tensor, axes: Tensor | None = None, steps: Tensor | None = None) -> Tensor:
        count = begin.numel()
        chosen = list(range(count)) if axes is None else axes.tolist()
        return _cut(x, begin.tolist(), end.tolist(), chosen, [1] * count if steps is None else steps.tolist())

    return Converted(Function(run), node.inputs)


def _cut(x: Tensor, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int]) -> Tensor:
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        dim = axis % x.ndim
        if step > 0:
            low, high, _ = slice(start, end, step).indices(x.shape[dim])
            x = x[(slice(None),) * dim + (slice(low, max(high, low), step),)]
        else:  # torch has no negative steps
            places = range(*_backwards(start, end, step, x.shape[dim]))
            x = x.index_select(dim, whole_numbers(tuple(places), x.device))
    return x


_FARTHEST = (2**31 - 1, 2**63 - 1)  # ONNX Runtime takes these for "as far as it goes" in both directions


def _backwards(start: int, end: int, step: int, size: int) -> tuple[int, int, int]:
    """ONNX's bounds for a negative step: start clamps to [0, size - 1], end to just before the first."""
    if not size:
        return 0, 0, step
    low = max(min(start + size if start < 0 else start, size - 1), 0)
    if end in _FARTHEST:
        return low, -1, step
    high = end + size if -size <= end < 0 else end
    return low, max(high, -1), step


def _shape(node: Node) -> Converted:
    start, end = int(node.get("start", 0)), node.get("end")
    part = slice(start, None if end is None else int(end))
    return first_input(node, lambda x: torch.tensor(list(x.shape)[part], dtype=torch.int64))


def _constant(node: Node) -> Converted:
    value = node.get("value")
    if value is not None:
        array = numpy_helper.to_array(value)
    else:
        key = next(
            (k for k in ("value_float", "value_floats", "value_int", "value_ints") if k in node.attributes), None
        )
        if key is None:
            raise node.unsupported("a constant that is neither a tensor nor numbers")
        array = np.asarray(node.get(key), dtype=np.float32 if "float" in key else np.int64)
    tensor = torch.from_numpy(np.array(array))
    return Converted(OfKind(tensor.dtype, tensor.to), ())


def _constant_of_shape(node: Node) -> Converted:
    value = node.get("value")
    fill = torch.zeros(()) if value is None else torch.from_numpy(np.array(numpy_helper.to_array(value))).reshape(-1)[0]

    def run(kind: torch.dtype, shape: Tensor) -> Tensor:
        return torch.full(tuple(shape.tolist()), fill.item(), dtype=kind, device=shape.device)

    return Converted(OfKind(fill.dtype, run), node.inputs)


def _range(node: Node) -> Converted:
    def run(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
        count = max(ceil((limit.item() - start.item()) / delta.item()), 0)
        return start + torch.arange(count, dtype=start.dtype, device=start.device) * delta

    return Converted(Function(run), node.inputs)


def _depth_to_space(node: Node) -> Converted:
    block, columns = int(node.get("blocksize")), node.get("mode", "DCR") == "CRD"

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        if columns:
            return torch.nn.functional.pixel_shuffle(x, block)
        parts = x.reshape(n, block, block, c // block**2, h, w)
        return parts.permute(0, 3, 4, 1, 5, 2).reshape(n, c // block**2, h * block, w * block)

    return first_input(node, run)


def _space_to_depth(node: Node) -> Converted:
    block, columns = int(node.get("blocksize")), node.get("mode", "DCR") == "CRD"

    def run(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        parts = x.reshape(n, c, h // block, block, w // block, block)
        order = (0, 1, 3, 5, 2, 4) if columns else (0, 3, 5, 1, 2, 4)
        return parts.permute(order).reshape(n, c * block**2, h // block, w // block)

    return first_input(node, run)


def _triangle(node: Node) -> Converted:
    upper, offset = bool(node.get("upper", 1)), node.integers(1)
    if node.is_computed(1):
        raise node.unsupported("a diagonal that is computed while the model runs")
    diagonal = offset[0] if offset else 0
    return first_input(node, lambda x: torch.triu(x, diagonal) if upper else torch.tril(x, diagonal))


def _eye_like(node: Node) -> Converted:
    offset, stated = int(node.get("k", 0)), node.get("dtype")

    def run(kind: torch.dtype | None, x: Tensor) -> Tensor:
        rows, columns = x.shape
        line = torch.arange(columns, device=x.device)[None] - torch.arange(rows, device=x.device)[:, None]
        return (line == offset).to(kind or x.dtype)

    if stated is None:
        return first_input(node, lambda x: run(None, x))
    wanted = torch.from_numpy(np.zeros(1, helper.tensor_dtype_to_np_dtype(stated))).dtype
    return Converted(OfKind(wanted, run), node.inputs[:1])


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "Reshape"): _reshape,
    ("", "Flatten"): _flatten,
    ("", "Squeeze"): _squeeze,
    ("", "Unsqueeze"): _unsqueeze,
    ("", "Transpose"): _transpose,
    ("", "Expand"): _expand,
    ("", "Tile"): _tile,
    ("", "Concat"): _concat,
    ("", "Split"): _split,
    ("", "Slice"): _slice,
    ("", "Shape"): _shape,
    ("", "Size"): lambda node: first_input(node, lambda x: torch.tensor(x.numel())),
    ("", "Constant"): _constant,
    ("", "ConstantOfShape"): _constant_of_shape,
    ("", "Range"): _range,
    ("", "DepthToSpace"): _depth_to_space,
    ("", "SpaceToDepth"): _space_to_depth,
    ("", "Trilu"): _triangle,
    ("", "EyeLike"): _eye_like,
}
