"""Reading what an earlier run kept: anybody may have written over it since, so nothing of it is taken on trust.

A text is parsed only if its values are few enough to be held, and a number only if it is one that Python, NumPy and
other languages can all hold; what is parsed is held against a form before anything is made of it:

    >>> fits({"unit": 3, "near": [[1, 0.5]]}, {"unit": int, "near": [(int, float)]})
    True
"""

from __future__ import annotations

import io
import json
import math
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

MOST_VALUES = 2**23  # in a text; of the costliest, empty objects, some 600 MB
MOST_NAME = 10_000  # characters, as of a layer's name
MOST_PIXELS = 2**24  # of a picture
_DIGITS = 20  # of a whole number; 2^64 has as many


def from_json(data: bytes | str, most: int = MOST_VALUES) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none, or has more than ``most`` values, numbers that are infinite, NaN or beyond 20 digits,
            or is nested too deeply.
    """
    count = sum(map(data.count, "[{,")) if isinstance(data, str) else sum(map(data.count, (b"[", b"{", b",")))
    if count > most:
        raise ValueError(f"more than {most:,} values")
    try:
        return json.loads(data, parse_float=_finite, parse_int=_whole, parse_constant=_refused)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError("an infinite number")
    return number


def _whole(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError("a whole number without end")
    return int(text)


def _refused(text: str) -> Any:
    raise ValueError(f"{text} is no number")


class Either:
    """A form of a value that may have one of several."""

    def __init__(self, *forms: Any) -> None:
        self.forms = forms


class OneOf:
    """A form of a value that is one of these."""

    def __init__(self, *values: Any) -> None:
        self.values = values


class Count:
    """A form of a whole number from ``least`` to ``most``."""

    def __init__(self, most: int = 2**53, least: int = 0) -> None:
        self.least, self.most = least, most


class Within:
    """A form of a number whose absolute value is at most ``most``."""

    def __init__(self, most: float) -> None:
        self.most = most


class Text:
    """A form of a text of at most ``most`` characters."""

    def __init__(self, most: int) -> None:
        self.most = most


class Rows:
    """A form of a list of so many values of one form."""

    def __init__(self, form: Any, count: int) -> None:
        self.form, self.count = form, count


def fits(value: Any, form: Any) -> bool:
    """Whether a value is of a form.

    Args:
        value: as from `from_json`.
        form: ``int``, ``float`` (a whole number is one too, true and false are none), ``str`` (of at most 10,000
            characters), ``bool``, ``list`` of anything, or None; ``[form]`` is a list, ``(form, form)`` one of this
            length, ``{key: form}`` an object with these keys and any others, ``{str: form}`` one of any keys; or one
            of the classes above.
    """
    if isinstance(form, Either):
        return any(fits(value, one) for one in form.forms)
    if isinstance(form, OneOf):
        return any(type(value) is type(one) and value == one for one in form.values)
    if isinstance(form, Count):
        return type(value) is int and form.least <= value <= form.most
    if isinstance(form, Within):
        return fits(value, float) and abs(value) <= form.most
    if isinstance(form, Text):
        return isinstance(value, str) and len(value) <= form.most
    if isinstance(form, Rows):
        return isinstance(value, list) and len(value) == form.count and all(fits(one, form.form) for one in value)
    if isinstance(form, list):
        return isinstance(value, list) and all(fits(one, form[0]) for one in value)
    if isinstance(form, tuple):
        return isinstance(value, list) and len(value) == len(form) and all(map(fits, value, form))
    if isinstance(form, Mapping):
        if not isinstance(value, dict):
            return False
        if str in form:
            return all(fits(key, str) and fits(one, form[str]) for key, one in value.items())
        return all(key in value and fits(value[key], one) for key, one in form.items())
    if form is None:
        return value is None
    if form is str:
        return isinstance(value, str) and len(value) <= MOST_NAME
    if form is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is form


def check_png(data: bytes, most: int = MOST_PIXELS) -> None:
    """Looks at a PNG's header alone; raises ValueError as `opened_png`, but for damage behind it."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or len(data) < 33:
        raise ValueError("no PNG")
    width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
    if depth != 8 or kind not in (0, 2, 4, 6) or width * height > most:
        raise ValueError(f"a PNG of {width} x {height} pixels, {depth} bits and kind {kind}")


def opened_png(data: bytes, most: int = MOST_PIXELS) -> tuple[np.ndarray, dict[str, str]]:
    """The pixels, uint8 (H, W, 1 to 4), and the texts of a PNG that `artifacts.png_bytes` wrote.

    Raises:
        ValueError: it is none, damaged, of another kind, or has more than ``most`` pixels.
    """
    from PIL import Image

    check_png(data, most)
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
            pixels, texts = np.asarray(picture), {str(k): str(v) for k, v in getattr(picture, "text", {}).items()}
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError, KeyError, TypeError, EOFError) as exc:
        raise ValueError(f"no picture of ours: {exc}") from None
    return (pixels[:, :, None] if pixels.ndim == 2 else pixels), texts


def arrays(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of an .npz that was written without compression, by name; none is larger than the file.

    Raises:
        ValueError: it is damaged, compressed, or holds objects.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
        if any(one.compress_type != zipfile.ZIP_STORED for one in members) or sum(
            one.file_size for one in members
        ) > len(data):
            raise ValueError("more than the file holds")
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        if any(array.size > len(data) for array in found.values()):  # of values without bytes there are any number
            raise ValueError("more values than bytes")
        return found
    except Exception as exc:  # NumPy and zipfile raise many unrelated types for damaged files
        raise ValueError(f"damaged: {str(exc)[:100]}") from None
