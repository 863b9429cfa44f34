"""Class names and layer names that an ONNX file states about itself, in convscope's own metadata keys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

LABELS_KEY = "convscope.labels"
NAMES_KEY = "convscope.names"
ALIASES_KEY = "convscope.aliases"
_MAX = 2**24


def stated_labels(metadata: Mapping[str, str]) -> tuple[str, ...] | None:
    """Class names by index, or None where the file states none that make sense."""
    value = _parsed(metadata, LABELS_KEY)
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        return tuple(value)
    return None


def stated_names(metadata: Mapping[str, str], key: str = NAMES_KEY) -> dict[str, str]:
    """Tensor -> layer name; with ``ALIASES_KEY`` a further name -> tensor."""
    value = _parsed(metadata, key)
    if isinstance(value, dict) and all(isinstance(v, str) and v for v in value.values()):
        return value
    return {}


def _parsed(metadata: Mapping[str, str], key: str) -> Any:
    text = metadata.get(key, "")
    try:
        return json.loads(text) if text and len(text) <= _MAX else None
    except (ValueError, RecursionError):
        return None
