"""Whole numbers as people give them."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any

from ..errors import UsageError


def whole(value: Any, name: str, least: int | None = None) -> int:
    """The number as an int: Python's, NumPy's, or a float that is one (`8.0`).

    Args:
        value: as given.
        name: what it is called, for the message.
        least: the least that is allowed.

    Raises:
        UsageError: anything else, truth values and texts among them; a smaller one.
    """
    is_whole = isinstance(value, (int, Integral)) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not is_whole:
        raise UsageError(f"{name} {value!r} is not a whole number")
    number = int(value)
    if least is not None and number < least:
        raise UsageError(f"{name} {number} is less than {least}")
    return number


def each(value: Any) -> list[Any]:
    """One thing, or several of them, as a list; a text is one thing."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
