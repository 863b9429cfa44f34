"""Keras means TensorFlow: what Keras' torch backend computes otherwise, computed as TensorFlow does.

A Keras file was trained on TensorFlow nearly always, and on its torch backend some layers give other values: averages
under an uneven "same" padding, bicubic resizing, Lanczos resizing (which that backend lacks), and the "hard_sigmoid" of
Keras 2, whose slope Keras 3 has changed. TensorFlow itself is never imported; tests/adapters/keras_numbers.npz has its
values.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from math import ceil, floor, pi
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..twin.geometry import AxisRule, axis_weights

_CUBIC = AxisRule(mode="cubic", transform="half_pixel", cubic=-0.5, exclude_outside=True)
_RADIUS = {"lanczos3": 3, "lanczos5": 5}
Pads = tuple[tuple[int, int], ...]


@contextlib.contextmanager
def as_tensorflow(keras_version: str = "") -> Iterator[None]:
    """While it is open, Keras' torch backend computes what TensorFlow does.

    Args:
        keras_version: of the file; what changed with Keras 3 is computed as the file's own Keras did.
    """
    from keras.src.backend.torch import image, nn

    replaced: dict[tuple[Any, str], Callable[..., Any]] = {
        (nn, "average_pool"): _average_pool(nn.average_pool),
        (image, "resize"): _resize(image.resize),
    }
    if keras_version.split(".")[0] in ("1", "2"):
        replaced[nn, "hard_sigmoid"] = _HardSigmoid.apply
    plain = {(module, name): getattr(module, name) for module, name in replaced}
    for (module, name), function in replaced.items():
        setattr(module, name, function)
    try:
        yield
    finally:
        for (module, name), function in plain.items():
            setattr(module, name, function)


class _HardSigmoid(torch.autograd.Function):
    """max(0, min(1, 0.2 x + 0.5)), as Keras 1 and 2 have it; Keras 3 has x / 6."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (0.2 * torch.as_tensor(x) + 0.5).clamp(0, 1)

    @staticmethod
    def symbolic(g: Any, x: Any) -> Any:
        return g.op("HardSigmoid", x, alpha_f=0.2, beta_f=0.5).setType(x.type())


def _average_pool(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Averages over what of a window lies inside the picture, also where "same" pads one side more than the other."""

    def average_pool(
        inputs: Tensor, pool_size: Any, strides: Any = None, padding: str = "valid", data_format: str | None = None
    ) -> Any:
        import keras

        rank = inputs.ndim - 2
        last = (data_format or keras.config.image_data_format()) == "channels_last"
        window = _each(pool_size, rank)
        steps = _each(strides, rank) if strides is not None else window
        sizes = inputs.shape[1:-1] if last else inputs.shape[2:]
        pads = tuple(_same(size, k, s) for size, k, s in zip(sizes, window, steps, strict=True))
        if padding != "same" or all(a == b for a, b in pads):
            return plain(inputs, pool_size, strides, padding, data_format)
        x = inputs.movedim(-1, 1) if last else inputs
        found = _AveragePool.apply(x, window, steps, pads)
        return found.movedim(1, -1) if last else found

    return average_pool


def _each(value: Any, rank: int) -> tuple[int, ...]:
    return (int(value),) * rank if isinstance(value, int) else tuple(int(v) for v in value)


def _same(size: int, window: int, step: int) -> tuple[int, int]:
    """(before, after): what TensorFlow pads so that the result has ceil(size / step) places."""
    total = max((ceil(size / step) - 1) * step + window - size, 0)
    return total // 2, total - total // 2


class _AveragePool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, window: tuple[int, ...], steps: tuple[int, ...], pads: Pads) -> Tensor:
        pool = (torch.nn.functional.avg_pool1d, torch.nn.functional.avg_pool2d, torch.nn.functional.avg_pool3d)
        around = [side for pair in reversed(pads) for side in pair]
        total, share = (
            pool[len(window) - 1](torch.nn.functional.pad(values, around), window, steps)
            for values in (x, torch.ones_like(x[:1, :1]))
        )
        return total / share

    @staticmethod
    def symbolic(g: Any, x: Any, window: tuple[int, ...], steps: tuple[int, ...], pads: Pads) -> Any:
        around = [a for a, _ in pads] + [b for _, b in pads]
        found = g.op("AveragePool", x, kernel_shape_i=list(window), strides_i=list(steps), pads_i=around)
        sizes = x.type().sizes()
        places = [
            (size + a + b - k) // s + 1 for size, k, s, (a, b) in zip(sizes[2:], window, steps, pads, strict=True)
        ]
        return found.setType(x.type().with_sizes([*sizes[:2], *places]))


def _resize(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Cubic weights with a = -0.5 that leave out what lies outside, and Lanczos weights."""

    def resize(images: Any, size: Sequence[int], interpolation: str = "bilinear", **options: Any) -> Any:
        import keras

        if interpolation not in ("bicubic", *_RADIUS) or options.get("antialias"):
            return plain(images, size, interpolation, **options)
        last = (options.get("data_format") or keras.config.image_data_format()) == "channels_last"
        height, width = (int(side) for side in size)
        wanted = _region(tuple(images.shape[-3:-1] if last else images.shape[-2:]), (height, width), options)
        if wanted is not None:  # cropping or padding to the aspect is the same in both: a resize to no other size
            images = plain(images, wanted, "nearest", **options)
        x = torch.as_tensor(images)
        kept = x.dtype
        x = (x if x.ndim == 4 else x[None]).to(torch.float32)
        x = x.movedim(-1, 1) if last else x
        if interpolation == "bicubic":
            found = _Cubic.apply(x, height, width)
        else:
            down, across = (
                torch.from_numpy(_lanczos(before, after, _RADIUS[interpolation]))
                for before, after in zip(x.shape[2:], (height, width), strict=True)
            )
            found = torch.matmul(torch.matmul(down, x), across.T)
        found = found.movedim(1, -1) if last else found
        found = found if images.ndim == 4 else found[0]
        return found if kept.is_floating_point else found.round().clamp(0, 255).to(kept)

    return resize


def _region(sides: tuple[int, ...], size: tuple[int, int], options: dict[str, Any]) -> tuple[int, int] | None:
    """(height, width) of the picture once it is cropped or padded to the aspect of ``size``; None where it stays."""
    height, width = sides
    across, down = int(float(width * size[0]) / size[1]), int(float(height * size[1]) / size[0])
    if options.get("crop_to_aspect_ratio"):
        return max(min(height, across), 1), max(min(width, down), 1)
    if options.get("pad_to_aspect_ratio"):
        return max(height, across), max(width, down)
    return None


class _Cubic(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, height: int, width: int) -> Tensor:
        down, across = (
            torch.from_numpy(axis_weights(before, after, after / before, _CUBIC)[0]).to(x.dtype)
            for before, after in zip(x.shape[2:], (height, width), strict=True)
        )
        return torch.matmul(torch.matmul(down, x), across.T)

    @staticmethod
    def symbolic(g: Any, x: Any, height: int, width: int) -> Any:
        sizes = x.type().sizes()
        batch = g.op("Slice", g.op("Shape", x), *(g.op("Constant", value_t=torch.tensor([v])) for v in (0, 2)))
        target = g.op("Concat", batch, g.op("Constant", value_t=torch.tensor([height, width])), axis_i=0)
        nothing = g.op("Constant", value_t=torch.tensor([], dtype=torch.float32))
        found = g.op(
            "Resize", x, nothing, nothing, target, mode_s="cubic", cubic_coeff_a_f=-0.5, exclude_outside_i=1,
            coordinate_transformation_mode_s="half_pixel",
        )  # fmt: skip
        return found.setType(x.type().with_sizes([*sizes[:2], height, width]))


def _lanczos(before: int, after: int, radius: int) -> np.ndarray:
    """(after, before) float32 weights of a windowed sinc, each row's sum 1 (TensorFlow's ScaleAndTranslate)."""
    weights = np.zeros((after, before), np.float32)
    for row in range(after):
        centre = (row + 0.5) * before / after
        first, last = max(ceil(centre - radius - 0.5), 0), min(floor(centre + radius - 0.5), before - 1)
        places = np.arange(first, last + 1)
        x = np.abs(places + 0.5 - centre)
        values = np.where(
            x < 1e-3, 1.0, radius * np.sin(pi * x) * np.sin(pi * x / radius) / (pi * np.maximum(x, 1e-9)) ** 2
        )
        values = np.where(x > radius, 0.0, values)
        weights[row, first : last + 1] = values / values.sum()
    return weights
