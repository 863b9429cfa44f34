"""Class names and layer names: in convscope's own metadata keys of an ONNX file, or in the file beside the model."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...engine.graph.labels import LONGEST_NAME, MOST_NAMES
from ..paddle import NAME as PADDLE
from ..paddle import characters, label_list, read_yaml
from ..preprocessing import read_json

LABELS_KEY = "convscope.labels"
NAMES_KEY = "convscope.names"
ALIASES_KEY = "convscope.aliases"
READS_TEXT = "character"  # PaddleOCR's recognizers: the characters, one a line
_MAX = 2**24
_MAX_LITERAL = 2**18  # characters of a Python literal: it takes some hundred times as many bytes


def stated_labels(metadata: Mapping[str, str], classes: int | None = None) -> tuple[str, ...] | None:
    """Class names by index, or None where the file states none that make sense.

    Beside our own key: ultralytics' ``names`` (a dictionary by index, as Python or JSON writes it), and PaddleOCR's
    ``character``, one a line, where there is one for each of the model's ``classes``.
    """
    own = _parsed(metadata, LABELS_KEY)
    if _are_names(own, may_be_empty=True):
        return tuple(own)
    if named := _ultralytics_names(metadata.get("names", "")):
        return named
    lines = metadata.get(READS_TEXT, "").splitlines()
    return tuple(lines) if len(lines) == classes and _are_names(lines, may_be_empty=True) else None


def _are_names(value: Any, may_be_empty: bool = False) -> bool:
    """Whether it is a list of texts, neither many nor long beyond reason."""
    return (
        isinstance(value, list)
        and 0 < len(value) <= MOST_NAMES
        and all(isinstance(v, str) and len(v) <= LONGEST_NAME and (v or may_be_empty) for v in value)
    )


def _ultralytics_names(text: str) -> tuple[str, ...] | None:
    """``{0: 'person', 1: 'bicycle'}`` or a list, every index from 0 on there."""
    if not text or len(text) > _MAX_LITERAL:
        return None
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None
    names = _by_index(value)
    return tuple(names) if _are_names(names) else None


def companion_labels(path: Path, classes: int | None) -> tuple[str, ...] | None:
    """Class names that ``config.json`` or ``inference.yml`` in the model's folder states, or None.

    Read are timm's ``label_names``, Hugging Face's ``id2label`` and Paddle's ``label_list``. A list that does not have
    one name for each of the model's ``classes`` belongs to another model and is ignored.
    """
    config = read_json(path.parent / "config.json") or {}
    inner = config.get("pretrained_cfg")
    names = config.get("label_names") or (inner.get("label_names") if isinstance(inner, dict) else None)
    if names is None and isinstance(config.get("id2label"), dict):
        names = config["id2label"]
    if names is None:
        names = label_list(read_yaml(path.parent / PADDLE) or {})
    found = class_names(names)
    return found if found is not None and len(found) == classes else None


def class_names(table: Any) -> tuple[str, ...] | None:
    """Names in a list, or in a dictionary by index (a number or its digits); None for anything else.

    Nor are Hugging Face's placeholders names: LABEL_0, LABEL_1 and so on.
    """
    names = _by_index(table)
    if not _are_names(names) or all(name == f"LABEL_{i}" for i, name in enumerate(names)):
        return None
    return tuple(names)


def _by_index(table: Any) -> Any:
    """A dictionary by index as a list; anything else as it is."""
    if not isinstance(table, Mapping):
        return table
    return [table.get(i, table.get(str(i))) for i in range(len(table))]


def companion_characters(path: Path) -> str | None:
    """A reader's characters, as ``READS_TEXT`` has them, that ``inference.yml`` beside the model lists, or None."""
    found = characters(read_yaml(path.parent / PADDLE) or {})
    return "\n".join(found) if found and all(len(one.splitlines()) == 1 for one in found) else None


def stated_names(metadata: Mapping[str, str], key: str = NAMES_KEY) -> dict[str, str]:
    """Tensor -> layer name; with ``ALIASES_KEY`` a further name -> tensor."""
    value = _parsed(metadata, key)
    if isinstance(value, dict) and all(isinstance(v, str) and 0 < len(v) <= LONGEST_NAME for v in value.values()):
        return value
    return {}


def _parsed(metadata: Mapping[str, str], key: str) -> Any:
    text = metadata.get(key, "")
    try:
        return json.loads(text) if text and len(text) <= _MAX else None
    except (ValueError, RecursionError):
        return None
