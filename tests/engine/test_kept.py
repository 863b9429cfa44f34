"""What is read again of earlier runs: texts, forms, pictures and arrays that anybody may have written."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convscope.engine import kept
from convscope.engine.kept import Count, Either, OneOf, Rows, Text, Within, fits
from convscope.engine.render.artifacts import npz_bytes, png_bytes, to_json

NUMBERS = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(PLAIN)
def test_what_is_written_is_read_again(value: Any) -> None:
    text = to_json(value, indent=None)
    assert kept.from_json(text) == kept.from_json(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[1,]", "NaN", "[Infinity]", "1e400", "-1e400", "9" * 21, "[" * 100_000, '{"a":' * 50_000, b"\xff",
        b"\xff\xfe[\x00", b"\0" * 100,
    ],
)  # fmt: skip
def test_what_is_no_number_too_deep_or_no_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        kept.from_json(text)


def test_more_values_than_can_be_held_are_refused_before_they_are_made() -> None:
    assert len(kept.from_json("[" + "1," * 98 + "1]", most=100)) == 99
    with pytest.raises(ValueError, match="more than 100 values"):
        kept.from_json("[" + "[]," * 100 + "1]", most=100)


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        (int, [0, -5], [True, 1.0, "1", None]),
        (float, [0, 0.5, -3], [True, float("nan"), float("inf"), "1", [1]]),
        (str, ["", "a" * 10_000], ["a" * 10_001, 1, None]),
        (bool, [True], [1, "true"]),
        (None, [None], [0, "", []]),
        ([int], [[], [1, 2]], [[1, "2"], 1, {}, "12"]),
        ((int, str), [[1, "a"]], [[1], [1, "a", 2], ["a", 1], None]),
        ({"a": int}, [{"a": 1}, {"a": 1, "b": []}], [{}, {"a": "1"}, [], None]),
        ({str: int}, [{}, {"x": 1}], [{"x": "1"}, {"y" * 10_001: 1}]),
        (Either(None, int), [None, 3], ["3", 0.5]),
        (OneOf("map", 1), ["map", 1], ["maps", True, 1.0, ["map"]]),
        (Count(5, 1), [1, 5], [0, 6, 1.0, True, 10**400]),
        (Within(5), [-5, 5, 0.5], [5.1, "5"]),
        (Text(3), ["abc"], ["abcd", 3]),
        (Rows(int, 2), [[1, 2]], [[1], [1, 2, 3], [1, "2"]]),
    ],
)  # fmt: skip
def test_a_form_takes_what_is_of_it_and_nothing_else(form: Any, good: list[Any], bad: list[Any]) -> None:
    assert all(fits(value, form) for value in good)
    assert not any(fits(value, form) for value in bad)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_picture_of_ours_is_read_with_its_texts() -> None:
    pixels = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    found, texts = kept.opened_png(png_bytes(pixels, {"layer": "conv\u00e9"}))
    assert np.array_equal(found, pixels)
    assert texts["layer"] == "conv\u00e9"
    assert kept.opened_png(png_bytes(pixels[:, :, 0]))[0].shape == (4, 5, 1)


_HUGE = bytearray(_png(Image.new("L", (1, 1))))
_HUGE[16:24] = (20_000).to_bytes(4, "big") * 2


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x89PNG\r\n\x1a\n", b"<svg>", bytes(_HUGE), _png(Image.new("P", (4, 4))), _png(Image.new("1", (4, 4))),
        _png(Image.fromarray(np.zeros((4, 4), np.uint16))), _png(Image.effect_noise((40, 40), 50))[:500],
    ],
)  # fmt: skip
def test_a_picture_that_is_none_of_ours_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        kept.opened_png(data)


def _saved(how: Callable[..., None], **arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    how(buffer, **arrays)
    return buffer.getvalue()


def test_arrays_of_ours_are_read_and_bombs_and_objects_are_not() -> None:
    values = np.arange(6.0).reshape(2, 3)
    assert np.array_equal(kept.arrays(npz_bytes({"a": values}))["a"], values)
    hollow = io.BytesIO()
    np.lib.format.write_array_header_1_0(hollow, {"descr": "|V0", "fortran_order": False, "shape": (2**40,)})
    without_bytes = npz_bytes({"a": np.zeros(1)})
    for data in (
        b"", b"PK\x03\x04", without_bytes[:-30], _saved(np.savez_compressed, a=np.zeros(10**6)),
        _saved(np.savez, a=np.array([{}], dtype=object)), hollow.getvalue(),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"."):
            kept.arrays(data)
