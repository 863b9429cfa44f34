"""What words of a command line mean: sizes, numbers, boxes, parts, times, names with values.

Each function takes text and gives a value, or raises ValueError where the text is of another form; `reader` says that
with the flag and how to write it. What a value may be beyond its form is for the engine to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError

Box = tuple[int, int, int, int]
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def reader(flag: str, reads: Callable[[str], Any], form: str) -> Callable[[Any], Any]:
    """What typer calls with the text of a flag; it calls it with the default too, which is passed on if it is no text.

    Args:
        flag: its name.
        reads: a function of this module.
        form: how to write it.
    """

    def parse(value: Any) -> Any:
        try:
            return reads(value) if isinstance(value, str) else value
        except ValueError:
            raise UsageError(f"{flag} '{value[:40]}' is not understood; write {form}") from None

    return parse


def sides(text: str) -> int | tuple[int, int]:
    """One side, or (height, width), out of ``128``, ``48x320`` or ``48,320``."""
    found = _whole(text.lower().replace("x", ","))
    if len(found) > 2:
        raise ValueError
    return found[0] if len(found) == 1 else (found[0], found[1])


def numbers(text: str) -> tuple[float, ...]:
    """Finite numbers with commas between them, at least one."""
    found = tuple(map(float, text.split(",")))
    if not all(map(math.isfinite, found)):
        raise ValueError
    return found


def box(text: str) -> Box:
    """(top, left, bottom, right) out of ``40,60,90,120``; not empty."""
    top, left, bottom, right = _whole(text)
    if min(top, left) < 0 or top >= bottom or left >= right:
        raise ValueError
    return top, left, bottom, right


def box_or_number(text: str) -> Box | int:
    """The number of an answer, or a box."""
    return box(text) if "," in text else _whole(text)[0]


def separated(found: Sequence[Box | int]) -> tuple[int | None, list[Box]]:
    """What ``--box`` names: the number of the answer that is asked about, and the places of objects."""
    asked = [one for one in found if isinstance(one, int)]
    if len(asked) > 1:
        raise UsageError("--box takes one number; --class top:5 explains several")
    return (asked[0] if asked else None), [one for one in found if not isinstance(one, int)]


def part(text: str) -> tuple[int, int]:
    """(I, N) out of ``I/N``, I from 1 to N."""
    one, parts = _whole(text, "/")
    if not 1 <= one <= parts:
        raise ValueError
    return one, parts


def seconds(text: str) -> float:
    """Seconds out of ``90s``, ``30m`` or ``8h``."""
    unit = _SECONDS.get(text[-1:])
    found = float(text[:-1]) * unit if unit else float(text)
    if not 0 <= found < 1e9:
        raise ValueError
    return found


def processes(text: str) -> int | None:
    """How many, None for ``auto``."""
    count = None if text == "auto" else int(text)
    if count is not None and not 1 <= count <= 1024:
        raise ValueError
    return count


def start(text: str) -> Path | None:
    """The picture that an ascent starts from, None for ``noise``."""
    return None if text == "noise" else Path(text)


def setting(text: str) -> tuple[str, Any]:
    """A name and its value out of ``NAME=VALUE``: a number, or else text."""
    name, sign, value = text.partition("=")
    if not sign or not name.isidentifier():
        raise ValueError
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def given(text: str) -> tuple[str, Any]:
    """An input of the model and its value out of ``NAME=VALUE``: numbers, or the path of an array or a picture."""
    from ..engine.pictures.read import SUFFIXES

    name, _, value = text.partition("=")
    if not name or not value:
        raise ValueError
    if Path(value).suffix.lower() in {".npy", *SUFFIXES}:
        return name, Path(value)
    found = numbers(value)
    return name, found if len(found) > 1 else found[0]


def inside(text: str | None) -> tuple[str | None, str | None]:
    """The preset of ``--preprocessing PRESET,inside``, and ``inside`` where it is said; None for what is not."""
    words = [word for word in (text or "").split(",") if word]
    return ",".join(word for word in words if word != "inside") or None, "inside" if "inside" in words else None


def _whole(text: str, between: str = ",") -> list[int]:
    """Whole numbers of at most nine digits."""
    parts = [word.strip() for word in text.split(between)]
    if not all(word.isascii() and word.removeprefix("-").isdigit() and len(word) < 10 for word in parts):
        raise ValueError
    return [int(word) for word in parts]
