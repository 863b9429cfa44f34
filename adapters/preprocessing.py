"""Preprocessing as a model file or the file beside it states it. Nothing is guessed from a file's name.

Read here: our own metadata, the ONNX standard's image metadata, plain ``mean``/``std`` metadata, the
``pretrained_cfg`` of timm, the ``preprocessor_config.json`` of Hugging Face and the ``inference.yml`` of Paddle. All of
it is text from strangers: every number, length and word is checked, and what does not fit is ignored as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx

from ..engine.graph.preprocessing import Preprocessing
from ..engine.pictures.framing import RESIZES
from ..engine.render.artifacts import read_regular
from .paddle import NAME as PADDLE
from .paddle import as_config, read_yaml

METADATA_KEY = "convscope.preprocessing"
MAX_BYTES = 2**20  # of a companion file or a metadata value
MAX_SIZE = 8192  # pixels; a larger input is a mistake

_COMPANIONS = ("preprocessor_config.json", "config.json", PADDLE)
_ORDERS = ("RGB", "BGR", "GRAY")
_CROP_MODES = {"squash": "squash", "border": "border", "center": "crop"}  # timm's
_INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos")
_LAYOUTS = ("NCHW", "NHWC")
_CONVNEXT_WHOLE, _CONVNEXT_SHARE = 384, 224 / 256  # from this side on ConvNeXT takes the whole picture; below, a share
_LEVIT_SHARE = 224 / 256
_MOST_OF_UNIT = 2.0  # a larger mean or deviation is of pixels of 0..255
_PILLOW_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # PIL.Image.Resampling


class _Unfit(ValueError):
    """A value that does not describe preprocessing."""


def companion(path: Path) -> Preprocessing | None:
    """What ``preprocessor_config.json``, ``config.json`` or ``inference.yml`` in the model's folder says, or None."""
    for name in _COMPANIONS:
        config = _companion_config(path.parent / name)
        if config is not None and (found := from_config(config)) is not None:
            return replace(found, found="companion")
    return None


def unfit_companion(path: Path) -> tuple[str, ...]:
    """A note for the user where a file beside the model cannot be read, or states preprocessing that makes no sense."""
    for name in _COMPANIONS:
        beside = path.parent / name
        if beside.is_file() and (read_yaml(beside) if name == PADDLE else read_json(beside)) is None:
            kind = "YAML mapping" if name == PADDLE else "JSON object"
            return (f"{name} beside the file holds no {kind} that can be read; it was ignored",)
        config = _companion_config(beside) or {}
        inner = config.get("pretrained_cfg", config)
        states = "image_mean" in config or (isinstance(inner, dict) and "mean" in inner and "std" in inner)
        if states and from_config(config) is None:
            return (f"{name} beside the file states preprocessing that makes no sense; it was ignored",)
    return ()


def _companion_config(path: Path) -> dict[str, Any] | None:
    if path.name != PADDLE:
        return read_json(path)
    config = read_yaml(path)
    return None if config is None else as_config(config)


def embedded(model: onnx.ModelProto) -> Preprocessing | None:
    """What the ONNX file's own metadata says, or None."""
    texts = {p.key: p.value for p in model.metadata_props if len(p.value) <= MAX_BYTES}
    readers = (_from_own, _from_image_metadata, _from_plain, _from_ultralytics)
    for reader in readers:
        try:
            found = reader(texts)
        except (_Unfit, ValueError, RecursionError):
            continue
        if found is not None:
            return replace(found, found="embedded")
    return None


def to_metadata(preprocessing: Preprocessing) -> str:
    """The text that `embedded` reads back from the metadata key ``convscope.preprocessing``."""
    return json.dumps(asdict(preprocessing), sort_keys=True)


def from_config(config: Mapping[str, Any]) -> Preprocessing | None:
    """Preprocessing from a timm or Hugging Face configuration, or None where it states none."""
    try:
        if "image_mean" in config or "do_normalize" in config:
            return _from_hugging_face(config)
        inner = config.get("pretrained_cfg", config)
        if isinstance(inner, Mapping) and "mean" in inner and "std" in inner:
            return _from_timm(inner)
    except _Unfit:
        pass
    return None


def _from_timm(config: Mapping[str, Any]) -> Preprocessing:
    """Mean and deviation, by their size of pixels in 0..1, as timm has them, or in 0..255 (123.675, 58.395)."""
    size = config.get("input_size")
    if size is not None and (not isinstance(size, (list, tuple)) or len(size) != 3):
        raise _Unfit("input_size")
    mean, std = _numbers(config["mean"]), _numbers(config["std"], positive=True)
    return Preprocessing(
        high=255.0 if max(*mean, *std) > _MOST_OF_UNIT else 1.0,
        mean=mean,
        std=std,
        order="GRAY" if size is not None and size[0] == 1 else "RGB",
        size=_size(size[1:]) if size is not None else None,
        resize=_CROP_MODES.get(str(config.get("crop_mode", "center")), "crop"),
        crop=_fraction(config.get("crop_pct", 0.875)),
        interpolation=_word(config.get("interpolation", "bilinear"), _INTERPOLATIONS, "bilinear"),
        preset="custom",
        found="companion",
    )


def _from_hugging_face(config: Mapping[str, Any]) -> Preprocessing:
    """As the image processors of transformers do it (``image_processing_*.py``), each with what is its own."""
    normalized = config.get("do_normalize", True) is not False
    factor = _number(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
    if not factor:
        raise _Unfit("every picture would be black")
    low = -1.0 if config.get("do_rescale", True) and config.get("rescale_offset") is True else 0.0
    mean = _numbers(config["image_mean"]) if normalized and "image_mean" in config else (0.0,)
    std = _numbers(config["image_std"], positive=True) if "image_std" in config else (1.0,)
    divisions = int(normalized) + (config.get("include_top") is True)  # EfficientNet's divides once more
    size, resize, crop = _framing(config)
    return Preprocessing(
        low=low,
        high=low + 255 * factor,
        mean=mean,
        std=tuple(s**divisions for s in std),
        order="BGR" if config.get("do_flip_channel_order") is True else "RGB",
        size=size,
        resize=resize,
        crop=crop,
        interpolation=_PILLOW_FILTERS.get(_whole(config.get("resample", 2)), "bilinear"),
        preset="custom",
        found="companion",
    )


def _framing(config: Mapping[str, Any]) -> tuple[tuple[int, int] | None, str, float]:
    """(size, resize, crop) of a Hugging Face configuration."""
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    crop_size = config.get("crop_size") if config.get("do_center_crop") else None
    resized = _edge(config.get("size"))
    cropped = _edge(crop_size) if crop_size is not None else None
    share = _fraction(config.get("crop_pct") or 1.0)
    if cropped and resized:  # PoolFormer's share and LeViT's enlarge what is cropped
        share *= _LEVIT_SHARE if kind.lower().startswith("levit") and _is_shortest(config) else 1.0
        return cropped, "crop", min(share * cropped[0] / resized[0], 1.0)
    if cropped:
        return cropped, "crop", share
    if kind.lower().startswith("convnext") and not config.get("crop_pct"):
        share = _CONVNEXT_SHARE
    if resized and share < 1 and min(resized) < _CONVNEXT_WHOLE:
        return resized, "crop", share
    return resized, "squash", 1.0


def _is_shortest(config: Mapping[str, Any]) -> bool:
    size = config.get("size")
    return isinstance(size, int) or (isinstance(size, Mapping) and "shortest_edge" in size)


def _from_own(texts: Mapping[str, str]) -> Preprocessing | None:
    if METADATA_KEY not in texts:
        return None
    config = json.loads(texts[METADATA_KEY])
    if not isinstance(config, dict):
        raise _Unfit("not an object")
    size = config.get("size")
    return Preprocessing(
        low=_number(config.get("low", 0.0)),
        high=_number(config.get("high", 1.0)),
        mean=_numbers(config.get("mean", [0.0])),
        std=_numbers(config.get("std", [1.0]), positive=True),
        order=_word(config.get("order", "RGB"), _ORDERS),
        size=_size(size) if size is not None else None,
        resize=_word(config.get("resize", "squash"), RESIZES),
        crop=_fraction(config.get("crop", 1.0)),
        interpolation=_word(config.get("interpolation", "bilinear"), _INTERPOLATIONS),
        layout=_word(config.get("layout", "NCHW"), _LAYOUTS),
        whole=config.get("whole") is True,
        preset=_word(config.get("preset", "custom"), ("caffe", "tf", "torch", "unit", "raw"), "custom"),
    )


def _from_image_metadata(texts: Mapping[str, str]) -> Preprocessing | None:
    """The image properties of the ONNX standard (docs/MetadataProps.md)."""
    pixels, span = texts.get("Image.BitmapPixelFormat"), texts.get("Image.NominalPixelRange")
    if span is None:
        return None
    ranges = {"NominalRange_0_255": (0.0, 255.0), "Normalized_0_1": (0.0, 1.0), "Normalized_1_1": (-1.0, 1.0)}
    if span not in ranges:
        raise _Unfit(span)
    orders = {"Gray8": "GRAY", "Rgb8": "RGB", "Bgr8": "BGR", "Rgba8": "RGB", "Bgra8": "BGR"}
    low, high = ranges[span]
    return Preprocessing(low, high, order=orders.get(pixels or "Rgb8", "RGB"), preset="custom")


def _from_plain(texts: Mapping[str, str]) -> Preprocessing | None:
    """``mean`` and ``std`` as JSON lists, or a whole timm ``pretrained_cfg``."""
    if "pretrained_cfg" in texts:
        config = json.loads(texts["pretrained_cfg"])
        return from_config(config) if isinstance(config, dict) else None
    if "mean" not in texts or "std" not in texts:
        return None
    config = {key: json.loads(texts[key]) for key in ("mean", "std", "input_size") if key in texts}
    return replace(_from_timm(config), resize="squash", crop=1.0)


def _from_ultralytics(texts: Mapping[str, str]) -> Preprocessing | None:
    """What ultralytics writes beside each export: pictures are RGB in [0, 1] of the size ``imgsz``, (height, width).

    Its classifiers take the centre of the picture; its detectors pad it to the size, keeping its proportions.
    """
    if not {"imgsz", "stride", "task", "names"} <= texts.keys():
        return None
    sides = json.loads(texts["imgsz"].replace("(", "[").replace(")", "]"))
    fitted = "crop" if texts["task"] == "classify" else "letterbox"
    return Preprocessing(size=_size(sides), resize=fitted, preset="unit")


def read_json(path: Path) -> dict[str, Any] | None:
    """A small JSON object from a stranger, or None."""
    try:
        config = json.loads(read_regular(path, MAX_BYTES).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return config if isinstance(config, dict) else None


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _Unfit("not a number")
    if not abs(value) <= 1e6:  # NaN too, and whole numbers that no float can hold
        raise _Unfit("out of range")
    return float(value)


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise _Unfit("not a whole number")
    return value


def _numbers(value: Any, positive: bool = False) -> tuple[float, ...]:
    values = value if isinstance(value, (list, tuple)) else [value]
    if not 1 <= len(values) <= 16:
        raise _Unfit("not one number per channel")
    numbers = tuple(_number(v) for v in values)
    if positive and min(numbers) < 1e-9:
        raise _Unfit("not positive")
    return numbers


def _size(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        value = [value, value]
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise _Unfit("not (height, width)")
    if not all(type(v) is int and 1 <= v <= MAX_SIZE for v in value):
        raise _Unfit("out of range")
    return value[0], value[1]


def _edge(value: Any) -> tuple[int, int] | None:
    """Hugging Face's sizes: an int, {"shortest_edge"}, or {"height", "width"}."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        side = value.get("shortest_edge")
        value = [side, side] if side is not None else [value.get("height"), value.get("width")]
    return _size(value)


def _fraction(value: Any) -> float:
    number = _number(value)
    if not 0 < number <= 1:
        raise _Unfit("not a share")
    return number


def _word(value: Any, allowed: tuple[str, ...], fallback: str | None = None) -> str:
    if value in allowed:
        return str(value)
    if fallback is None:
        raise _Unfit("unknown word")
    return fallback
