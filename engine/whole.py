"""Numbers as people give them: Python's, NumPy's; whole ones also as a float that is one (`8.0`)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, TypeGuard

from ..errors import UsageError


def is_whole(value: Any) -> TypeGuard[int | float]:
    """Whether a value is a whole number; truth values and texts are none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return isinstance(value, Integral) or float(value).is_integer()


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a finite number; truth values and texts are none."""
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def whole(value: Any, name: str, least: int | None = None) -> int:
    """The number as an int.

    Args:
        value: as given.
        name: what it is called, for the message.
        least: the least that is allowed.

    Raises:
        UsageError: no whole number, or a smaller one.
    """
    if not is_whole(value):
        raise UsageError(f"{name} {value!r} is not a whole number")
    number = int(value)
    if least is not None and number < least:
        raise UsageError(f"{name} {number} is less than {least}")
    return number


def keep_whole(holder: Any, **least: int) -> None:
    """Makes attributes of a frozen dataclass whole numbers: ``8.0`` is kept as 8. None stays.

    Args:
        holder: the dataclass.
        **least: name of an attribute -> the least that is allowed.

    Raises:
        UsageError: as `whole`, by the attribute's name.
    """
    for name, smallest in least.items():
        if (value := getattr(holder, name)) is not None:
            object.__setattr__(holder, name, whole(value, name, smallest))


def check_part(shard: Any) -> None:
    """Raises UsageError where (i, n) is no part of n, counted from 1; None is the whole."""
    if shard is None:
        return
    if not isinstance(shard, tuple | list) or len(shard) != 2 or not all(map(is_whole, shard)):
        raise UsageError(f"shard={shard!r} is not two whole numbers (i, n), i from 1 to n")
    if not 1 <= shard[0] <= shard[1]:
        raise UsageError(f"shard {shard[0]}/{shard[1]}: the first number runs from 1 to the second")


def each(value: Any) -> list[Any]:
    """One thing, or several of them, as a list; a text is one thing."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
