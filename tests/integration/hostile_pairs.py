"""A hostile file and its harmless twin of the same kind, and how a family of them is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .hostile_onnx import Build


@dataclass(frozen=True)
class Pair:
    """Two files to build.

    Attributes:
        hostile: is refused.
        harmless: loads.
        options: of the command line, which the file needs to be read at all.
        is_long: takes seconds to make or to refuse, and is left to the benchmark.
    """

    hostile: Build
    harmless: Build
    options: tuple[str, ...] = ()
    is_long: bool = False


Pairs = dict[str, Pair]


def family(title: str, make: Callable[[Any], Build], values: Mapping[str, Any], harmless: Any, *options: str) -> Pairs:
    """One maker at several hostile values and a harmless one.

    Args:
        title: with the name of a value, the name of a file.
        make: a value -> what builds the file.
        values: name -> hostile value.
        harmless: the value of the twins.
        options: as of `Pair`.
    """
    return {f"{title} {name}": Pair(make(value), make(harmless), options) for name, value in values.items()}
