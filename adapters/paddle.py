"""Paddle's ``inference.yml``: what PaddleX, PaddleClas, PaddleOCR and PaddleDetection write beside an exported model.

``PreProcess.transform_ops`` is a list of one-entry dictionaries, ``{NormalizeImage: {mean, std, scale}}``;
PaddleDetection writes ``Preprocess`` as a list of dictionaries with a ``type``. Class names are ``label_list``, the
characters of a reader ``character_dict``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..engine.render.artifacts import read_regular

NAME = "inference.yml"
_MAX_BYTES = 2**18  # characters of a reader take 60 kB
_LINES = {"RecResizeImg"}  # scales to -1..1 by itself, as PaddleOCR's readers of lines do
_BYTES = ("1./255.", "1/255", "1.0/255.0", "1/255.")


def read_yaml(path: Path) -> dict[str, Any] | None:
    """A small YAML mapping from a stranger, or None."""
    try:
        return _parsed(read_regular(path, _MAX_BYTES).decode("utf-8"))
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=1)
def _parsed(text: str) -> dict[str, Any] | None:
    """The mapping that a text is, or None; nobody changes it."""
    import yaml

    class Plain(yaml.SafeLoader):  # type: ignore[misc]  # no types
        """Without merge keys: a few lines of them, each of which merges the one before twice, have no end."""

        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
                raise yaml.YAMLError("a merge key")

    try:
        config = yaml.load(text, Plain)
    except Exception:  # its constructors raise whatever Python does for a word that is none of their kind
        return None
    return config if isinstance(config, dict) else None


def as_config(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The transforms in the words of Hugging Face's ``preprocessor_config.json``, or None where none scales pixels."""
    found: dict[str, Any] = {}
    is_ocr = False
    for name, options in _transforms(config):
        if name == "NormalizeImage":
            found |= _normalized(options)
        elif name in _LINES:
            is_ocr = True
            found |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": _sides(options.get("image_shape"))}
        elif name in ("ResizeImage", "Resize"):
            found |= _resized(options)
        elif name == "CropImage" and "size" in options:
            found |= {"crop_size": options["size"], "do_center_crop": True}
        elif name == "DecodeImage":
            is_ocr = is_ocr or options.get("img_mode") == "BGR"
    if "image_mean" not in found:
        return None
    return {**{k: v for k, v in found.items() if v is not None}, "do_flip_channel_order": is_ocr}


def label_list(config: Mapping[str, Any]) -> list[Any] | None:
    """The class names by index, or None."""
    after = config.get("PostProcess")
    places = [config, *(after.values() if isinstance(after, dict) else ())]
    for place in places:
        names = place.get("label_list") if isinstance(place, dict) else None
        if isinstance(names, list):
            return names
    return None


def characters(config: Mapping[str, Any]) -> list[str] | None:
    """The characters of a reader of text, without the blank, or None; YAML takes unquoted digits for numbers."""
    after = config.get("PostProcess")
    names = after.get("character_dict") if isinstance(after, dict) else None
    if not isinstance(names, list) or not names or not all(isinstance(n, str) or type(n) is int for n in names):
        return None
    return [str(n) for n in names]


def _transforms(config: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    before = config.get("PreProcess") or config.get("Preprocess")
    steps = before.get("transform_ops") if isinstance(before, dict) else before
    for step in steps if isinstance(steps, list) else ():
        if isinstance(step, dict) and isinstance(step.get("type"), str):
            yield step["type"], step
        elif isinstance(step, dict) and len(step) == 1:
            ((name, options),) = step.items()
            yield str(name), options if isinstance(options, dict) else {}


def _normalized(options: Mapping[str, Any]) -> dict[str, Any]:
    """``is_scale`` (PaddleDetection) or ``scale``, also as the text ``1./255.``; ``norm_type: none`` only scales."""
    scale = options.get("scale", 1 / 255 if options.get("is_scale", True) else 1.0)
    scale = 1 / 255 if isinstance(scale, str) and scale.replace(" ", "") in _BYTES else scale
    plain = options.get("norm_type") == "none"
    return {
        "rescale_factor": scale,
        "image_mean": [0.0] if plain else options.get("mean", [0.485, 0.456, 0.406]),
        "image_std": [1.0] if plain else options.get("std", [0.229, 0.224, 0.225]),
    }


def _resized(options: Mapping[str, Any]) -> dict[str, Any]:
    short = options.get("resize_short")
    if short is not None:
        return {"size": {"shortest_edge": short}}
    size = options.get("target_size", options.get("size"))
    if isinstance(size, list) and len(size) == 2 and "size" in options:
        size = size[::-1]  # PaddleClas writes (width, height)
    return {"size": _edges(size)}


def _sides(shape: Any) -> dict[str, Any] | None:
    return _edges(shape[1:]) if isinstance(shape, list) and len(shape) == 3 else None


def _edges(size: Any) -> dict[str, Any] | None:
    if isinstance(size, int):
        size = [size, size]
    return {"height": size[0], "width": size[1]} if isinstance(size, list) and len(size) == 2 else None
