"""What words of a command line mean: sizes, numbers, boxes, parts, times, names with values.

Each takes text and gives a value, or raises UsageError with the flag, the text and how to write it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .output import clean

LARGEST_SIZE = 65536  # pixels; a side that no memory holds, and few enough for the arithmetic of sizes
_LARGEST_INPUT = 16384  # pixels, of the model's own input


def parse_size(text: str | int | tuple[int, int]) -> int | tuple[int, int]:
    """One side for squares, or (height, width), out of ``128``, ``48x320`` or ``48,320``; no text is passed on."""
    if not isinstance(text, str):
        return text
    sides = _whole(text.lower().replace("x", ","), signed=True)
    if sides is None or len(sides) > 2:
        raise _unclear("--size", text, "128 or HEIGHTxWIDTH, like 48x320")
    if max(sides) > LARGEST_SIZE:
        raise UsageError(f"--size {text} is more than any memory holds; at most {LARGEST_SIZE} a side")
    return (sides[0], sides[1]) if len(sides) == 2 else sides[0]


def parse_image_size(text: str | None) -> tuple[int, int] | None:
    """(height, width) of the model's input, out of the same forms."""
    if text is None:
        return None
    sides = _whole(text.lower().replace("x", ","))
    if sides is None or len(sides) > 2 or not all(0 < side <= _LARGEST_INPUT for side in sides):
        raise _unclear("--image-size", text, f"224 or HEIGHT,WIDTH (at most {_LARGEST_INPUT})")
    return sides[0], sides[-1]


def parse_box(flag: str, text: str) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) out of ``40,60,90,120``; not empty."""
    corners = _whole(text)
    if corners is None or len(corners) != 4:
        raise _unclear(flag, text, "top,left,bottom,right in pixels")
    top, left, bottom, right = corners
    if top >= bottom or left >= right:
        raise UsageError(f"{flag} '{text}' is empty; write top,left,bottom,right in pixels")
    return top, left, bottom, right


def parse_boxes(texts: Sequence[str]) -> tuple[int | None, list[tuple[int, int, int, int]]]:
    """What ``--box`` names: the number of the answer that is asked about, and the places of objects."""
    numbers = [int(text) for text in texts if text.isascii() and text.isdigit()]
    if len(numbers) > 1:
        raise UsageError("--box takes one number; --class top:5 explains several")
    places = [parse_box("--box", text) for text in texts if not (text.isascii() and text.isdigit())]
    return (numbers[0] if numbers else None), places


def parse_region(text: str | None) -> tuple[int, int, int, int] | None:
    """The box of ``--region``."""
    return parse_box("--region", text) if isinstance(text, str) else text


def parse_shard(text: Any) -> tuple[int, int] | None:
    """(I, N) out of ``I/N``, I from 1 to N; what is no text is passed on."""
    if not isinstance(text, str):
        return text
    parts = _whole(text, "/")
    if parts is None or len(parts) != 2:
        raise _unclear("--shard", text, "I/N, like 1/4")
    if not 1 <= parts[0] <= parts[1]:
        raise UsageError(f"--shard '{text}': the first number runs from 1 to {parts[1]}")
    return parts[0], parts[1]


def parse_seconds(text: Any) -> float | None:
    """Seconds out of ``90s``, ``30m`` or ``8h``; what is no text is passed on."""
    if not isinstance(text, str):
        return text
    number, unit = (text[:-1], text[-1]) if text[-1:] in ("s", "m", "h") else (text, "s")
    try:
        seconds = float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise _unclear("--budget", text, "a time like 90s, 30m or 8h")
    return seconds


def parse_workers(text: Any) -> int | None:
    """How many processes, None for ``auto``."""
    if text is None or text == "auto":
        return None
    count = _whole(str(text))
    if count is None or len(count) != 1 or not 1 <= count[0] <= 1024:
        raise _unclear("--workers", str(text), "auto or a number of processes")
    return count[0]


def parse_settings(texts: Sequence[str] | None) -> dict[str, Any]:
    """What ``--set NAME=VALUE`` names: numbers as numbers, everything else as text."""
    settings: dict[str, Any] = {}
    for text in texts or ():
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier():
            raise _unclear("--set", text, "NAME=VALUE")
        settings[name] = _number(value)
    return settings


def parse_inputs(texts: Sequence[str] | None) -> dict[str, Any]:
    """Name -> number, numbers, or path of an ``.npy`` or picture file, out of ``--input NAME=VALUE``."""
    inputs: dict[str, Any] = {}
    for text in texts or ():
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise _unclear("--input", text, "NAME=VALUE, NAME=FILE.npy or NAME=PICTURE")
        if _is_file(value):
            inputs[name] = Path(value)
        else:
            try:
                numbers = parse_numbers("--input", value)
            except UsageError:
                form = "numbers with commas, an .npy file of what the input takes for one picture, or a picture file"
                raise _unclear(f"--input {name}:", value, form) from None
            inputs[name] = numbers if len(numbers) > 1 else numbers[0]
    return inputs


def _is_file(text: str) -> bool:
    """Whether a value is the path of an array or a picture, by its end."""
    suffix = Path(text).suffix.lower()
    if not suffix or suffix[1:].isdigit():
        return False
    from ..engine.pictures.read import SUFFIXES

    return suffix == ".npy" or suffix in SUFFIXES


def parse_numbers(flag: str, text: str) -> tuple[float, ...]:
    """Finite numbers with commas between them, at least one."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(map(math.isfinite, values)):
        raise _unclear(flag, text, "numbers with commas, like 0.485,0.456,0.406")
    return values


def parse_positive(flag: str, value: float | None) -> float | None:
    """The number, where it is positive and no larger than a million."""
    if value is not None and not 0 < value <= 10**6:
        raise UsageError(f"{flag} {value:g} is not a positive number up to 1,000,000")
    return value


def parse_start(text: Any) -> Any:
    """The pixels of the picture that an ascent starts from, None for ``noise``."""
    if text is None or text == "noise":
        return None
    from ..engine.pictures.read import read_image

    return read_image(text).pixels


def _unclear(flag: str, text: str, form: str) -> UsageError:
    return UsageError(f"{flag} '{clean(text)[:40]}' is not understood; write {form}")


def _whole(text: str, between: str = ",", *, signed: bool = False) -> list[int] | None:
    """Whole numbers of at most nine digits; None where there is anything else."""
    parts = [part.strip() for part in text.split(between)]
    digits = [part.removeprefix("-") if signed else part for part in parts]
    if not all(part.isascii() and part.isdigit() and len(part) < 10 for part in digits):
        return None
    return [int(part) for part in parts]


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
