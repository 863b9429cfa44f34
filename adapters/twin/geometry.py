"""Where operators that move positions take them from, in whole numbers; free of torch.

The converters compute by it, and the receptive fields are told by it (`adapters.layers.fields`): windows and their
padding, padding modes, transposed convolutions, and ONNX Resize along one axis as a matrix, output = weights @ input,
exactly as the specification says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import Any, Protocol

import numpy as np


class Options(Protocol):
    """A node's attributes: a dict, or what has a dict's `get`."""

    def get(self, name: str, default: Any = None, /) -> Any:
        """An attribute's value."""


def same_pads(
    sizes: Sequence[int], window: Sequence[int], strides: Sequence[int], upper: bool
) -> tuple[list[int], list[int]]:
    """(begins, ends) of auto_pad SAME: output size = ceil(input size / stride); ``window`` counts dilation."""
    begins, ends = [], []
    for size, width, stride in zip(sizes, window, strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + width - size, 0)
        begin = total // 2 if upper else total - total // 2
        begins.append(begin)
        ends.append(total - begin)
    return begins, ends


class Window:
    """Kernel size, strides, dilations and padding of one node, for ``rank`` spatial axes.

    Args:
        options: the node's attributes.
        kernel: its size.
        pools: of a pool, whose padding "same" ONNX Runtime works out without the dilation.
    """

    def __init__(self, options: Options, kernel: Sequence[int], *, pools: bool = False) -> None:
        rank = len(kernel)
        self.kernel = [int(k) for k in kernel]
        self.strides = [int(s) for s in options.get("strides", [1] * rank)]
        self.dilations = [int(d) for d in options.get("dilations", [1] * rank)]
        self._padded = self.kernel if pools else self.reach
        pads = [int(p) for p in options.get("pads", [0] * 2 * rank)]
        self.begins, self.ends = pads[:rank], pads[rank:]
        self.auto = str(options.get("auto_pad", "NOTSET") or "NOTSET")
        if self.auto == "VALID":
            self.begins, self.ends = [0] * rank, [0] * rank

    @property
    def reach(self) -> list[int]:
        """Input positions that one output position spans."""
        return [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]

    def pads(self, sizes: Sequence[int]) -> tuple[list[int], list[int]]:
        """(begins, ends) for an image of these sizes."""
        if self.auto in ("SAME_UPPER", "SAME_LOWER"):
            return same_pads(sizes, self._padded, self.strides, self.auto == "SAME_UPPER")
        return self.begins, self.ends

    def transposed_pads(self, sizes: Sequence[int], options: Options) -> tuple[list[int], list[int]]:
        """(begins, ends) that a transposed convolution of an input of these sizes takes away; negative: adds."""
        wanted, rank = options.get("output_shape"), len(self.kernel)
        if wanted is None and not self.auto.startswith("SAME"):
            return self.begins, self.ends
        extra = [int(p) for p in options.get("output_padding", [0] * rank)]
        full = [(s - 1) * t + r for s, t, r in zip(sizes, self.strides, self.reach, strict=True)]
        asked = wanted[-rank:] if wanted is not None else [s * t for s, t in zip(sizes, self.strides, strict=True)]
        totals = [f + e - int(w) for f, e, w in zip(full, extra, asked, strict=True)]
        if wanted is None:  # a kernel narrower than its stride: ONNX Runtime adds nothing to reach input x stride
            totals = [max(t, 0) for t in totals]
        halves = [max(t, 0) // 2 for t in totals]
        upper = self.auto == "SAME_UPPER"
        begins = halves if upper else [max(t, 0) - h for t, h in zip(totals, halves, strict=True)]
        return begins, [t - b for t, b in zip(totals, begins, strict=True)]  # output_shape's rest is added at the end


def pad_places(size: int, begin: int, end: int, mode: str) -> np.ndarray:
    """Which source position each padded position shows; of the constant mode -1 or ``size`` and beyond are none."""
    wanted = np.arange(-begin, size + end)
    if mode == "constant":
        return wanted
    if mode == "edge":
        return wanted.clip(0, size - 1)
    if mode == "wrap":
        return wanted % size
    period = max(2 * (size - 1), 1)
    folded = np.abs(wanted) % period
    return np.where(folded >= size, period - folded, folded)


def centred(size: int, target: int) -> tuple[int, int]:
    """(begin, end) by which CenterCropPad pads an axis, negative where it cuts; what is odd is at the end."""
    more = target - size
    half = more // 2 if more > 0 else -(-more // 2)
    return half, more - half


@dataclass(frozen=True)
class AxisRule:
    """The attributes of Resize that matter along one axis, in ONNX's own words.

    ``nearest`` may also be "simple", ONNX Runtime's rounding where the operator has no attribute for it (Upsample, and
    Resize before opset 11, whose text leaves it open): up where the image shrinks, down otherwise.
    """

    mode: str
    transform: str
    nearest: str = "round_prefer_floor"
    cubic: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False


def resize_rule(op: str, opset: int, options: Options) -> AxisRule:
    """The rule of a Resize or Upsample node."""
    mode = str(options.get("mode", "nearest"))
    if op == "Upsample" or opset < 11:
        return AxisRule(mode=mode, transform="asymmetric", nearest="simple")
    return AxisRule(
        mode=mode,
        transform=str(options.get("coordinate_transformation_mode", "half_pixel")),
        nearest=str(options.get("nearest_mode", "round_prefer_floor")),
        cubic=float(options.get("cubic_coeff_a", -0.75)),
        exclude_outside=bool(options.get("exclude_outside", 0)),
        antialias=bool(options.get("antialias", 0)),
    )


def output_sizes(
    before: Sequence[int], scales: Sequence[float] | None, sizes: Sequence[int] | None, policy: str
) -> tuple[list[float], list[int]]:
    """(scale, size) of every resized axis."""
    if sizes:
        ratios = [t / b for t, b in zip(sizes, before, strict=True)]
        if policy == "stretch":
            return ratios, list(sizes)
        one = min(ratios) if policy == "not_larger" else max(ratios)
        return [one] * len(ratios), [floor(one * b + 0.5) for b in before]
    factors = list(scales or [1.0] * len(before))
    # in float32, as ONNX Runtime: 10 * 0.7 is 7 there, and 6.99999988 in float64
    return factors, [floor(np.float32(b) * np.float32(f)) for b, f in zip(before, factors, strict=True)]


def axis_weights(
    before: int, after: int, scale: float, rule: AxisRule, roi: tuple[float, float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The matrix (after, before), float64, and which outputs lie beyond the region of interest (after,)."""
    places = _source_places(before, after, scale, rule.transform, roi)
    matrix = np.zeros((after, before))
    if rule.mode == "nearest":
        how = ("ceil" if scale < 1 else "floor") if rule.nearest == "simple" else rule.nearest
        matrix[np.arange(after), _nearest(places, how).clip(0, before - 1)] = 1.0
    else:
        stretch = min(scale, 1.0) if rule.antialias else 1.0
        reach = (1 if rule.mode != "cubic" else 2) / stretch
        for row, place in enumerate(places.astype(np.float64)):
            columns = np.arange(floor(place - reach) + 1, floor(place + reach) + 1)
            values = _kernel((columns - place) * stretch, rule)
            inside = (columns >= 0) & (columns < before)
            if rule.exclude_outside:
                values = np.where(inside, values, 0.0)
            total = values.sum()
            if (rule.exclude_outside or rule.antialias) and total:
                values = values / total
            np.add.at(matrix[row], columns.clip(0, before - 1), values)
    beyond = (places < 0) | (places > before - 1) if rule.transform == "tf_crop_and_resize" else np.zeros(after, bool)
    return matrix, beyond


def _source_places(
    before: int, after: int, scale: float, transform: str, roi: tuple[float, float] | None
) -> np.ndarray:
    """Where each output position lies on the input axis; in float32, as ONNX Runtime, whose rounding decides ties."""
    x, factor, half = np.arange(after, dtype=np.float32), np.float32(scale), np.float32(0.5)
    last = np.float32(before - 1)
    if transform == "align_corners":
        return x * last / np.float32(after - 1) if after > 1 else np.zeros_like(x)
    if transform == "asymmetric":
        exact = factor == np.float32(after / before)  # the scale comes from a whole size
        return x * np.float32(before / after) if exact else x * (np.float32(1) / factor)
    if transform == "pytorch_half_pixel":
        return (x + half) / factor - half if after > 1 else np.zeros_like(x)
    if transform == "tf_half_pixel_for_nn":
        return (x + half) / factor
    if transform == "tf_crop_and_resize":
        start, end = (np.float32(bound) for bound in roi or (0.0, 1.0))
        if after > 1:
            return start * last + x * (end - start) * last / np.float32(after - 1)
        return np.full(after, half * (start + end) * last)
    if transform == "half_pixel_symmetric":
        adjustment = np.float32(after) / (factor * np.float32(before))
        return np.float32(before) / 2 * (1 - adjustment) + (x + half) / factor - half
    return (x + half) / factor - half  # half_pixel


def _nearest(places: np.ndarray, how: str) -> np.ndarray:
    rounded = {
        "round_prefer_floor": np.ceil(places - 0.5),
        "round_prefer_ceil": np.floor(places + 0.5),
        "floor": np.floor(places),
        "ceil": np.ceil(places),
    }[how]
    return rounded.astype(np.int64)


def _kernel(distance: np.ndarray, rule: AxisRule) -> np.ndarray:
    d = np.abs(distance)
    if rule.mode != "cubic":
        return np.clip(1 - d, 0, None)
    a = rule.cubic
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
