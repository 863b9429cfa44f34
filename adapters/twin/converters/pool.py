"""Pooling in one, two and three dimensions, at any image size.

Where torch's own kernel means the same it is called directly. Otherwise the padding is made explicit and the
end is padded or cut such that plain flooring gives the number of windows that ONNX asks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry import Window
from .base import Converted, Converter, Function, Node, first_input
from .conv import pad_spatial

_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_UNPOOL = {1: F.max_unpool1d, 2: F.max_unpool2d, 3: F.max_unpool3d}


def _window(node: Node) -> Window:
    kernel = node.get("kernel_shape")
    if kernel is None or len(kernel) not in _MAX:
        raise node.unsupported("1 to 3 spatial axes are supported")
    window = Window(node, kernel, pools=True)
    beyond = max(s - k for s, k in zip(window.strides, window.kernel, strict=True))
    if window.auto.startswith("SAME") and beyond > (1 if max(window.dilations) == 1 else 0):
        raise node.unsupported(
            "SAME padding with a stride two or more beyond the kernel, or with dilation and a stride beyond it; "
            "ONNX Runtime cuts or fails there"
        )
    return window


def _is_direct(window: Window, begins: Sequence[int], ends: Sequence[int]) -> bool:
    """Whether torch takes this padding: the same at both ends and at most half the kernel."""
    return list(begins) == list(ends) and all(2 * b <= k for b, k in zip(begins, window.kernel, strict=True))


def _tails(window: Window, sizes: Sequence[int], begins: Sequence[int], ends: Sequence[int], ceil: bool) -> list[int]:
    """What to pad at the end of each axis (negative: to cut), so that flooring gives ONNX's output size."""
    tails = []
    for size, begin, end, reach, stride in zip(sizes, begins, ends, window.reach, window.strides, strict=True):
        room = size + begin + end - reach
        steps = -(-room // stride) if ceil else room // stride
        if ceil and steps * stride >= size + begin:
            steps -= 1  # no window starts in the padding at the end
        tails.append(steps * stride + reach - size - begin)
    return tails


def _max_pool(node: Node) -> Converted:
    window, ceil, rank = _window(node), bool(node.get("ceil_mode", 0)), len(node.get("kernel_shape"))
    wants_indices = len(node.outputs) > 1 and bool(node.outputs[1])
    columns = bool(node.get("storage_order", 0))

    def run(x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        values = x if x.is_floating_point() else x.float()  # torch pools no 8-bit integers; exact in float32
        sizes = x.shape[2:]
        begins, ends = window.pads(sizes)
        shift = [0] * rank
        if _is_direct(window, begins, ends):
            arguments = (window.strides, begins, window.dilations, ceil)
        else:
            values = pad_spatial(values, begins, _tails(window, sizes, begins, ends, ceil), -math.inf)
            arguments, shift = (window.strides, [0] * rank, window.dilations, False), list(begins)
        if not wants_indices:
            return _MAX[rank](values, window.kernel, *arguments).to(x.dtype)
        y, flat = _MAX[rank](values, window.kernel, *arguments, return_indices=True)
        return y.to(x.dtype), _onnx_indices(flat, values.shape[2:], sizes, shift, columns)

    return first_input(node, run)


def _onnx_indices(
    flat: Tensor, padded: Sequence[int], sizes: Sequence[int], shift: Sequence[int], columns: bool
) -> Tensor:
    """Torch's indices, within one padded channel, as ONNX's: within the whole unpadded tensor."""
    places = []
    for size, offset in zip(reversed(padded), reversed(shift), strict=True):
        places.append(flat % size - offset)
        flat = flat // size
    places.reverse()
    order = range(len(sizes))
    total = torch.zeros_like(places[0])
    for axis in reversed(order) if columns else order:
        total = total * sizes[axis] + places[axis]
    planes = torch.arange(total.shape[0] * total.shape[1], device=total.device)
    return total + planes.reshape(*total.shape[:2], *(1,) * len(sizes)) * math.prod(sizes)


def _sum_windows(x: Tensor, window: Window) -> Tensor:
    """The sum over each window; x is padded already."""
    rank = len(window.kernel)
    if all(d == 1 for d in window.dilations):
        return _AVERAGE[rank](x, window.kernel, window.strides) * math.prod(window.kernel)
    ones = torch.ones((1, 1, *window.kernel), dtype=x.dtype, device=x.device)
    planes = x.reshape(-1, 1, *x.shape[2:])
    y = _CONV[rank](planes, ones, None, window.strides, 0, window.dilations)
    return y.reshape(*x.shape[:2], *y.shape[2:])


def _average_pool(node: Node) -> Converted:
    window, ceil, rank = _window(node), bool(node.get("ceil_mode", 0)), len(node.get("kernel_shape"))
    with_pads = bool(node.get("count_include_pad", 0))
    plain = all(d == 1 for d in window.dilations)

    def run(x: Tensor) -> Tensor:
        sizes = x.shape[2:]
        begins, ends = window.pads(sizes)
        if plain and _is_direct(window, begins, ends):
            return _AVERAGE[rank](x, window.kernel, window.strides, begins, ceil, with_pads)
        tails = _tails(window, sizes, begins, ends, ceil)
        counted = torch.ones((1, 1, *sizes), dtype=x.dtype, device=x.device)
        if with_pads:  # the declared padding counts, what rounding up adds does not
            counted = pad_spatial(counted, begins, ends, 1.0)
            counted = pad_spatial(counted, [0] * rank, [t - e for t, e in zip(tails, ends, strict=True)])
        else:
            counted = pad_spatial(counted, begins, tails)
        count = _sum_windows(counted, window).clamp(min=1.0)
        return _sum_windows(pad_spatial(x, begins, tails), window) / count

    return first_input(node, run)


def _root(total: Tensor, p: int) -> Tensor:
    """total ** (1 / p), with gradient 0 instead of infinity at 0."""
    empty = total == 0
    return torch.where(empty, torch.zeros_like(total), torch.where(empty, torch.ones_like(total), total) ** (1.0 / p))


def _lp_pool(node: Node) -> Converted:
    window, ceil, p = _window(node), bool(node.get("ceil_mode", 0)), int(node.get("p", 2))

    def run(x: Tensor) -> Tensor:
        begins, ends = window.pads(x.shape[2:])
        tails = _tails(window, x.shape[2:], begins, ends, ceil)
        return _root(_sum_windows(pad_spatial(x.abs() ** p, begins, tails), window), p)

    return first_input(node, run)


def _spatial(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


def _global_lp(node: Node) -> Converted:
    p = int(node.get("p", 2))
    return first_input(node, lambda x: _root((x.abs() ** p).sum(_spatial(x), keepdim=True), p))


def _global_average(x: Tensor) -> Tensor:
    return x.mean(_spatial(x), keepdim=True)


def _global_max(x: Tensor) -> Tensor:
    return x.amax(_spatial(x), keepdim=True)


def _max_unpool(node: Node) -> Converted:
    window, rank = _window(node), len(node.get("kernel_shape"))
    if node.has(2):
        raise node.unsupported("a given output_shape; ONNX and ONNX Runtime place the values differently then")

    def run(x: Tensor, indices: Tensor) -> Tensor:
        sizes = [
            (size - 1) * stride + kernel - begin - end
            for size, stride, kernel, begin, end in zip(
                x.shape[2:], window.strides, window.kernel, window.begins, window.ends, strict=True
            )
        ]
        within = indices % math.prod(sizes)  # ONNX counts through the whole tensor, torch within a channel
        return _UNPOOL[rank](x, within, window.kernel, window.strides, window.begins, sizes)

    return Converted(Function(run), node.inputs[:2])


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "MaxPool"): _max_pool,
    ("", "AveragePool"): _average_pool,
    ("", "LpPool"): _lp_pool,
    ("", "MaxUnpool"): _max_unpool,
    ("", "GlobalAveragePool"): lambda node: first_input(node, _global_average),
    ("", "GlobalMaxPool"): lambda node: first_input(node, _global_max),
    ("", "GlobalLpPool"): _global_lp,
}
