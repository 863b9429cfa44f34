"""What a person writes for a target, in parts: ``top:3``, ``all:0.5``, a class by name or number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ...errors import UsageError
from ..graph.graph import Graph
from ..graph.labels import find_class
from ..whole import is_whole

_TOP = re.compile(r"top:(\d+)")
_ALL = re.compile(r"all(?::(0?\.\d+|[01](?:\.0*)?))?")
_NUMBER = re.compile(r"[+-]?\d+")
_FORMS = {  # by how the text begins
    "top": "like top:3",
    "all": "all, or like all:0.5, a probability from 0 to 1",
    "unit": "unit:LAYER:UNIT, or unit:LAYER:UNIT@ROW,COLUMN for one place",
    "output": "output:NAME:INDEX",
}


def top_count(spec: Any) -> int | None:
    """K of ``top:K``, or None for anything else.

    Raises:
        UsageError: K is 0.
    """
    match = _TOP.fullmatch(spec.strip()) if isinstance(spec, str) else None
    if match is None:
        return None
    if int(match[1]) < 1:
        raise UsageError(f"top:{match[1]} asks for no class; use top:1 or more")
    return int(match[1])


def check_form(spec: str, labels: Sequence[str]) -> None:
    """Raises UsageError for a text that begins as a target of a kind and is none; a class may be called so."""
    kind, colon, _ = spec.strip().partition(":")
    if colon and kind in _FORMS and spec not in labels and top_count(spec) is None and least_probability(spec) is None:
        raise UsageError(f"target='{spec}' is not understood; write {_FORMS[kind]}")


def least_probability(spec: Any) -> float | None:
    """P of ``all:P`` (0.5 for ``all`` alone), or None for anything else."""
    match = _ALL.fullmatch(spec.strip()) if isinstance(spec, str) else None
    return None if match is None else float(match[1] or 0.5)


def is_all(spec: Any) -> bool:
    """Whether ``all`` is asked for without a probability."""
    return isinstance(spec, str) and spec.strip() == "all"


def check_no_probability(spec: Any, things: str) -> None:
    """Raises UsageError for ``all:P`` where what is there has no probability; ``things`` says what that is."""
    if least_probability(spec) is not None and not is_all(spec):
        raise UsageError(f"target={spec} asks for a probability, and {things} have none; use all, or top:K")


def class_index(graph: Graph, spec: Any, classes: int | None) -> int:
    """The class that is meant by a number or a name.

    Raises:
        UsageError: it is neither, or there is no such class.
    """
    if is_whole(spec):
        index = int(spec)
    elif not isinstance(spec, str):
        raise UsageError(f"target {spec!r} is neither a class nor a `Target`; give an index, a name or unit:LAYER:UNIT")
    elif _NUMBER.fullmatch(spec.strip()):
        index = int(spec)
    else:
        index = find_class(graph, spec)
    if index < 0 or (classes is not None and index >= classes):
        known = "" if classes is None else f": {graph.name} has {classes} classes, 0 to {classes - 1}"
        raise UsageError(f"class {index} is out of range{known}")
    return index
