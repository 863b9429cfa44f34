"""Whole numbers as people give them: Python's, NumPy's, or a float that is one (`8.0`)."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, TypeGuard

from ..errors import UsageError


def is_whole(value: Any) -> TypeGuard[int | float]:
    """Whether a value is a whole number; truth values and texts are none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return isinstance(value, Integral) or float(value).is_integer()


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


def each(value: Any) -> list[Any]:
    """One thing, or several of them, as a list; a text is one thing."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
