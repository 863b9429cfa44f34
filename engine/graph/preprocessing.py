"""From a picture to the model's input and back: one affine map per channel.

A picture is RGB in [0, 1]. With ``order`` the channels are permuted, with ``low`` and ``high`` the values
are scaled, then ``mean`` is subtracted and the result divided by ``std``:

    x[c] = (low + (high - low) * image[order(c)] - mean[c]) / std[c]

``mean`` and ``std`` are in the scaled range and in the model's channel order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np

from ...errors import UsageError

Array = TypeVar("Array", bound=Any)  # numpy.ndarray or torch.Tensor


@dataclass(frozen=True)
class Preprocessing:
    """How a picture in [0, 1] becomes the model's input, and where that knowledge comes from.

    Attributes:
        low, high: what 0 and 1 of the picture become before mean and std.
        mean, std: one number, or one per channel, in the scaled range and the model's channel order.
        order: "RGB", "BGR" or "GRAY"; the model's channel order.
        size: (height, width) that the model is meant for, or None where any size will do.
        resize: "squash" (both sides), "crop" (the short side, then the centre), "border" (the long side, the mean
            around it) or "letterbox" (the long side, gray 114 around it, as YOLO); see `pictures.framing`.
        crop: share of the resized picture that the centre crop keeps, in (0, 1].
        interpolation: "bilinear", "bicubic", "nearest" or "lanczos".
        layout: the source file's own input layout, "NCHW" or "NHWC"; the normalized graph is always NCHW.
        preset: the preset's name, or "custom".
        found: how it is known: "embedded", "companion", "family", "preset", "flag", "type" (of the input),
            "operators" (the network's first ones tell the range), "weights" (their statistics fit no other of the usual
            ones) or "assumed".
        whole: the file takes whole numbers, so that pictures are resized in 8 bits, and model input is rounded (in
            torch with the gradient passed on).
    """

    low: float = 0.0
    high: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    order: str = "RGB"
    size: tuple[int, int] | None = None
    resize: str = "squash"
    crop: float = 1.0
    interpolation: str = "bilinear"
    layout: str = "NCHW"
    preset: str = "unit"
    found: str = "assumed"
    whole: bool = False

    def normalize(self, image: Array) -> Array:
        """Model input from pictures.

        Args:
            image: (N, C, H, W) in [0, 1], RGB order for three channels; numpy or torch (differentiable).

        Returns:
            The same kind of array, (N, C, H, W), in the model's range and channel order.
        """
        scale, bias = self._affine(image.shape[1])
        x = self._reorder(image) * _as_like(scale, image) + _as_like(bias, image)
        return cast("Array", _rounded(x)) if self.whole else x

    def denormalize(self, x: Array) -> Array:
        """The inverse of `normalize`: pictures in [0, 1] (not clipped) from model input (N, C, H, W)."""
        scale, bias = self._affine(x.shape[1])
        return self._reorder((x - _as_like(bias, x)) / _as_like(scale, x))

    def bounds(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
        """The model input's smallest and largest value of each channel, two (C,) float64 arrays."""
        scale, bias = self._affine(channels)
        ends = np.stack([bias, scale + bias])
        return ends.min(axis=0), ends.max(axis=0)

    def changed(
        self,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        range: Sequence[float] | None = None,
        order: str | None = None,
        size: tuple[int, int] | None = None,
    ) -> Preprocessing:
        """This preprocessing with what a user states over it; the same where nothing is stated.

        Args:
            mean: subtracted, one number or one per channel.
            std: divided by, one number or one per channel.
            range: (low, high), what 0 and 1 of a picture become before mean and std.
            order: "RGB", "BGR" or "GRAY".
            size: (height, width); alone it leaves the preset's name.

        Raises:
            UsageError: a range of other than two values, an order that is none, or a std of zero.
        """
        if range is not None and len(range) != 2:
            raise UsageError(f"range='{_listed(range)}' has {len(range)} values; write LOW,HIGH")
        if order is not None and order.upper() not in ("RGB", "BGR", "GRAY"):
            raise UsageError(f"order='{order}' is unknown; choose RGB, BGR or GRAY")
        if std is not None and 0.0 in std:
            raise UsageError(f"std='{_listed(std)}' divides by zero")
        stated: dict[str, Any] = {
            "mean": mean and tuple(mean),
            "std": std and tuple(std),
            "order": order and order.upper(),
        }
        stated |= {"low": range[0], "high": range[1]} if range is not None else {}
        stated = {name: value for name, value in stated.items() if value is not None}
        if stated:
            stated |= {"preset": "custom", "found": "flag"}
        if size is not None:
            stated["size"] = size
        return replace(self, **stated) if stated else self

    def in_words(self) -> str:
        """For instance ``range 0..255, minus 103.9,116.8,123.7, BGR (preset caffe, embedded)``."""
        parts = [f"range {self.low:g}..{self.high:g}"]
        if any(self.mean):
            parts.append("minus " + ",".join(f"{m:.4g}" for m in self.mean))
        if any(s != 1 for s in self.std):
            parts.append("divided by " + ",".join(f"{s:.4g}" for s in self.std))
        parts.append(self.order)
        if self.size is not None:
            parts.append(f"{self.size[0]}x{self.size[1]} {self.resize}")
        return ", ".join(parts) + f" (preset {self.preset}, {self.found})"

    def to_json(self) -> dict[str, Any]:
        """A plain dict for ``--json``; ``whole`` only where it says something."""
        return {name: value for name, value in asdict(self).items() if name != "whole" or value}

    def _affine(self, channels: int) -> tuple[np.ndarray, np.ndarray]:
        mean, std = _per_channel("mean", self.mean, channels), _per_channel("std", self.std, channels)
        return (self.high - self.low) / std, (self.low - mean) / std

    def _reorder(self, image: Array) -> Array:
        if self.order == "BGR" and image.shape[1] == 3:
            return image[:, [2, 1, 0]]
        return image


def whole_numbers(dtype: str) -> Preprocessing:
    """The full range of a type of whole numbers: 0..255 for uint8, and for types wider than pictures ever need."""
    info = np.iinfo(dtype)
    if info.bits > 16:
        return Preprocessing(0, 255, preset="raw", found="type", whole=True)
    name = "raw" if (info.min, info.max) == (0, 255) else "custom"
    return Preprocessing(float(info.min), float(info.max), preset=name, found="type", whole=True)


def _listed(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def _rounded(x: Any) -> Any:
    return np.rint(x) if isinstance(x, np.ndarray) else x + (x.round() - x).detach()


def _per_channel(name: str, values: Sequence[float], channels: int) -> np.ndarray:
    if len(values) not in (1, channels):
        raise UsageError(
            f"preprocessing: {name} has {len(values)} values, but the model's input has {channels} channels; "
            f"give 1{f' or {channels}' if channels > 1 else ''}"
        )
    return np.broadcast_to(np.asarray(values, dtype=np.float64), (channels,))


def _as_like(values: np.ndarray, like: Any) -> Any:
    """The per-channel values as (1, C, 1, 1) of the same library, dtype and device as ``like``."""
    shaped = values.reshape(1, -1, 1, 1)
    if isinstance(like, np.ndarray):
        return shaped.astype(like.dtype)
    import torch

    return torch.as_tensor(shaped, dtype=like.dtype, device=like.device)


# Sources: keras.applications.imagenet_utils modes "caffe", "tf" and "torch" (the ImageNet means of Caffe in
# BGR, and of torchvision in RGB); "raw" is the range of the file's own bytes.
PREPROCESSINGS: dict[str, Preprocessing] = {
    "caffe": Preprocessing(0, 255, (103.939, 116.779, 123.68), (1.0,), "BGR", preset="caffe", found="preset"),
    "tf": Preprocessing(-1, 1, preset="tf", found="preset"),
    "torch": Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), preset="torch", found="preset"),
    "unit": Preprocessing(preset="unit", found="preset"),
    "raw": Preprocessing(0, 255, preset="raw", found="preset"),
}


def preprocessing_of(name: str) -> Preprocessing:
    """The named preset; raises UsageError with the list of names."""
    if name not in PREPROCESSINGS:
        raise UsageError(f"preprocessing preset '{name}' is unknown; choose one of {', '.join(PREPROCESSINGS)}")
    return replace(PREPROCESSINGS[name])
