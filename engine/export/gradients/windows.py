"""Gradients of convolutions and pooling: what a window read is spread over the window again.

A transposed convolution without padding puts every window at its place in the padded image; what padding had added is
cut off. The cut's bounds are computed from the image's own size, so one file is right for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..writer import Value
from .base import Gradient, Gradients, Visit


@dataclass(frozen=True)
class _Window:
    """Kernel, strides, dilations and padding of one node."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]  # all begins, then all ends
    auto: str

    @property
    def rank(self) -> int:
        """Spatial axes."""
        return len(self.kernel)

    @property
    def reach(self) -> tuple[int, ...]:
        """Positions of the image that one window spans."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def is_same(self) -> bool:
        """Whether the padding depends on the image's size."""
        return self.auto.startswith("SAME") and any(s != 1 for s in self.strides)

    @property
    def is_disjoint(self) -> bool:
        """Whether no two windows overlap."""
        return all(s >= r for s, r in zip(self.strides, self.reach, strict=True))


def _window(v: Visit, kernel: Sequence[int]) -> _Window:
    rank = len(kernel)
    strides = tuple(int(n) for n in v.get("strides", [1] * rank))
    dilations = tuple(int(n) for n in v.get("dilations", [1] * rank))
    pads = [int(n) for n in v.get("pads", [0] * 2 * rank)]
    auto = v.get("auto_pad", "NOTSET") or "NOTSET"
    if auto == "VALID":
        pads = [0] * 2 * rank
    elif auto.startswith("SAME"):  # right where the stride is one; else it is worked out when the model runs
        totals = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
        small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
        pads = [*small, *large] if auto == "SAME_UPPER" else [*large, *small]
    if min(pads) < 0:
        raise v.unsupported(f"negative padding {pads}")
    return _Window(tuple(int(k) for k in kernel), strides, dilations, tuple(pads), auto)


def _spread(v: Visit, dy: Value, weight: Value, shape: Sequence[int], window: _Window, group: int) -> Value:
    """The gradient of a convolution with ``weight`` (sizes known, (out, in / group, ...)) for its image X.

    A transposed convolution is a convolution with the weights turned around. Where ONNX Runtime's own kernel for it is
    slow (it takes groups one by one) and where nothing lies between the windows, it is written as one.
    """
    whole_pads = [r - 1 for r in window.reach] * 2
    if all(s == 1 for s in window.strides) and all(p <= w for p, w in zip(window.pads, whole_pads, strict=True)):
        pads = [w - p for p, w in zip(window.pads, whole_pads, strict=True)]
        return dy.apply("Conv", _turned(weight, shape, group), pads=pads, dilations=list(window.dilations), group=group)
    common = {"dilations": list(window.dilations), "group": group}
    extra = [s - 1 for s in window.strides]  # rows at the end that no window reaches, as many as there may be
    if group > 1:
        apart = _apart(v, dy, window)
        whole = apart.apply("Conv", _turned(weight, shape, group), pads=whole_pads, **common)
    else:
        whole = dy.apply("ConvTranspose", weight, strides=list(window.strides), output_padding=extra, **common)
    begin = _begins(v, window)
    return whole.slice(begin, begin + v.raw(0).shape(2), list(range(2, 2 + window.rank)))


def _turned(weight: Value, shape: Sequence[int], group: int) -> Value:
    """The weights of the convolution that undoes one with (out, in / group, ...): (in, out / group, ...), reversed.

    Computed from the model's own weights by nodes that ONNX Runtime computes once, when it loads the file.
    """
    out, inner, *kernel = shape
    rank = len(kernel)
    if group == 1:
        turned = weight.transpose([1, 0, *range(2, 2 + rank)])
    elif inner == 1 and out == group:
        turned = weight
    else:
        split = weight.reshape([group, out // group, inner, *kernel])
        turned = split.transpose([0, 2, 1, *range(3, 3 + rank)]).reshape([group * inner, out // group, *kernel])
    w, axes = weight.writer, [2 + a for a, k in enumerate(kernel) if k > 1]
    if not axes:
        return turned
    ends = w.integers([-(2**62)] * len(axes))
    return turned.apply("Slice", w.integers([-1] * len(axes)), ends, w.integers(axes), w.integers([-1] * len(axes)))


def _apart(v: Visit, dy: Value, window: _Window) -> Value:
    """The gradient with stride - 1 zeros after each of its positions."""
    rank, w = window.rank, v.w
    single = dy.unsqueeze([2 * a + 3 for a in range(rank)])
    ends = [0, 0, *(n for s in window.strides for n in (0, s - 1))]
    padded = single.apply("Pad", w.integers([0] * (2 + 2 * rank) + ends))
    return padded.reshape(w.concat([0, 0], dy.shape(2) * w.integers(list(window.strides))))


def _begins(v: Visit, window: _Window) -> Value:
    """The padding before the image, an int64 vector."""
    w, rank = v.w, window.rank
    if not window.is_same:
        return w.integers(list(window.pads[:rank]))
    spans = (v.dy.shape(2) - w.integers(1)) * w.integers(list(window.strides))
    lacking = spans + w.integers(list(window.reach)) - v.raw(0).shape(2)
    missing = lacking.apply("Max", w.integers([0] * rank))
    half = missing / w.integers(2)
    return half if window.auto == "SAME_UPPER" else missing - half


def _conv(v: Visit) -> Gradients:
    if v.wanted != {0}:
        raise v.unsupported("weights that depend on the image")
    return {0: spread_convolution(v, v.dy, v.x(1), v.shape(1))}


def spread_convolution(v: Visit, dy: Value, weight: Value, shape: Sequence[int]) -> Value:
    """The gradient for the image of a convolution's node, with weights of ``shape`` (out, in / group, ...)."""
    return _spread(v, dy, weight, shape, _window(v, shape[2:]), int(v.get("group", 1)))


def _conv_transpose(v: Visit) -> Gradients:
    """A convolution of the gradient, padded to what the transposed convolution had before its own padding."""
    if v.wanted != {0}:
        raise v.unsupported("weights that depend on the image")
    w, window = v.w, _window(v, v.shape(1)[2:])
    rank, group = window.rank, int(v.get("group", 1))
    common = {"strides": list(window.strides), "dilations": list(window.dilations), "group": group}
    extra = [int(n) for n in v.get("output_padding", [0] * rank)]
    if any(e >= s for e, s in zip(extra, window.strides, strict=True)):
        raise v.unsupported(f"output_padding {extra} beyond the strides {list(window.strides)}")
    if v.get("output_shape") is None and not window.auto.startswith("SAME"):
        return {0: v.dy.apply("Conv", v.x(1), pads=list(window.pads), **common)}
    spans = w.integers([r + e for r, e in zip(window.reach, extra, strict=True)])
    full = (v.raw(0).shape(2) - w.integers(1)) * w.integers(list(window.strides)) + spans
    lacking = full - v.dy.shape(2)
    cut = lacking.apply("Max", w.integers([0] * rank))
    half = cut / w.integers(2)
    begin = half if window.auto == "SAME_UPPER" else cut - half
    pads = w.concat([0, 0], begin, [0, 0], lacking - begin)
    return {0: v.dy.apply("Pad", pads).apply("Conv", v.x(1), **common)}


def _max_pool(v: Visit) -> Gradients:
    """To the winners, whose places the second output gives, flat over the whole tensor."""
    window = _window(v, v.get("kernel_shape"))
    if len(v.node.output) > 1 and v.node.output[1] and int(v.get("storage_order", 0)):
        raise v.unsupported("indices in column-major order")
    places = v.second_output("Indices").reshape([-1])
    flat = v.w.zeros(v.raw(0).reshape([-1]).shape())
    reduction = None if window.is_disjoint else "add"
    routed = flat.apply("ScatterElements", places, v.dy.reshape([-1]), axis=0, reduction=reduction)
    return {0: routed.like(v.raw(0))}


def _average_pool(v: Visit) -> Gradients:
    """dY divided by the windows' counts, spread evenly; channel by channel, as one channel of many images."""
    window = _window(v, v.get("kernel_shape"))
    ones = v.w.constant(np.ones((1, 1, *window.kernel), dtype=v.w.kind))
    counts_pads = bool(v.get("count_include_pad", 0))
    is_even = not int(v.get("ceil_mode", 0)) and not window.is_same and (counts_pads or not any(window.pads))
    share = v.dy / (float(np.prod(window.kernel)) if is_even else _counts(v, window, ones))
    planes = share.reshape(v.w.concat([-1, 1], share.shape(2)))
    return {0: _spread(v, planes, ones, (1, 1, *window.kernel), window, 1).like(v.raw(0))}


def _counts(v: Visit, window: _Window, ones: Value) -> Value:
    """By what each window's sum was divided, (1, 1, h, w).

    The declared padding counts where the node says so; what rounding the number of windows up adds never does.
    """
    w, rank = v.w, window.rank
    sizes, begin = v.raw(0).shape(2), _begins(v, window)
    span = (v.dy.shape(2) - w.integers(1)) * w.integers(list(window.strides)) + w.integers(list(window.reach))
    image = w.filled(w.concat([1, 1], sizes), 1.0)
    beyond = (span - sizes - begin).apply("Max", w.integers([0] * rank))
    if v.get("count_include_pad", 0):
        end = w.integers(list(window.pads[rank:])) if not window.is_same else beyond
        image = image.apply("Pad", w.concat([0, 0], begin, [0, 0], end), w.number(1.0))
        beyond = (beyond - end).apply("Max", w.integers([0] * rank))
        begin = w.integers([0] * rank)
    padded = image.apply("Pad", w.concat([0, 0], begin, [0, 0], beyond))
    return padded.apply("Conv", ones, strides=list(window.strides), dilations=list(window.dilations))


def _lp_pool(v: Visit) -> Gradients:
    """y = (sum |x|^p)^(1/p) of each window: dX = sign(x) |x|^(p - 1) times the spread dY / y^(p - 1)."""
    window, p = _window(v, v.get("kernel_shape")), int(v.get("p", 2))
    ones = v.w.constant(np.ones((1, 1, *window.kernel), dtype=v.w.kind))
    share = _by_length(v, p)
    planes = share.reshape(v.w.concat([-1, 1], share.shape(2)))
    spread = _spread(v, planes, ones, (1, 1, *window.kernel), window, 1).like(v.raw(0))
    return {0: spread * _raised(v.x(), p)}


def _global_lp_pool(v: Visit) -> Gradients:
    p = int(v.get("p", 2))
    return {0: _by_length(v, p) * _raised(v.x(), p)}


def _by_length(v: Visit, p: int) -> Value:
    """dY / y^(p - 1), zero where y is."""
    empty = v.y().equals(0.0)
    lengths = v.w.where(empty, 1.0, v.y())
    return v.w.where(empty, 0.0, v.dy / lengths.apply("Pow", v.w.number(p - 1)))


def _raised(x: Value, p: int) -> Value:
    """sign(x) |x|^(p - 1)."""
    return x if p == 2 else x.apply("Sign") * x.apply("Abs").apply("Pow", x.writer.number(p - 1))


def _global_average(v: Visit) -> Gradients:
    count = v.raw(0).shape(2).apply("ReduceProd", keepdims=0).cast()
    return {0: (v.dy / count).expand(v.raw(0).shape())}


def _global_max(v: Visit) -> Gradients:
    """Equal shares to all that are the largest, as torch's amax."""
    axes = list(range(2, v.rank()))
    winners = v.x().equals(v.y()).cast()
    return {0: winners * (v.dy / winners.sum(axes))}


def _unpool(v: Visit) -> Gradients:
    """Every value's gradient is where it was put: places are flat over the whole result."""
    if v.wanted != {0}:
        raise v.unsupported("places that depend on the image")
    return {0: v.dy.reshape([-1]).apply("Gather", v.raw(1), axis=0)}


def _columns_to_image(v: Visit) -> Gradients:
    """The image's windows as columns again: a convolution with one kernel a place of the window, one there alone."""
    block = v.integers(2)
    if block is None:
        raise v.unsupported("a window whose size is computed while the model runs")
    ones = np.eye(int(np.prod(block)), dtype=v.w.kind).reshape(-1, 1, *block)
    attributes = {name: v.get(name) for name in ("pads", "strides", "dilations")}
    planes = v.dy.reshape(v.w.concat([-1, 1], v.dy.shape(2)))
    return {0: planes.apply("Conv", v.w.constant(ones), **attributes).like(v.raw(0))}


WINDOWS: dict[str, Gradient] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "LpPool": _lp_pool,
    "GlobalAveragePool": _global_average,
    "GlobalMaxPool": _global_max,
    "GlobalLpPool": _global_lp_pool,
    "MaxUnpool": _unpool,
    "Col2Im": _columns_to_image,
}
