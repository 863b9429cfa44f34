"""The gradient of the Fourier transform: it is linear, and its transpose is the transform the other way around."""

from __future__ import annotations

from ..writer import Value
from .base import Gradient, Gradients, Visit


def _dft(v: Visit) -> Gradients:
    """(..., 1 or 2) -> (..., 2) along one axis: dX = sum over k of dY_k exp(2 pi i k n / size).

    Of real numbers it is the real part.
    """
    w, is_inverse, is_onesided = v.w, bool(v.get("inverse", 0)), bool(v.get("onesided", 0))
    if is_inverse and is_onesided:
        raise v.unsupported("an inverse of half a spectrum")
    axis = _axis(v)
    before = v.raw(0).shape(axis, axis + 1)
    size = v.raw(1).reshape([1]) if v.has(1) else before
    whole = _resized(v.dy, axis, size) if is_onesided else v.dy
    by_attribute = w.opset < 20
    turned = whole.apply(
        "DFT", None, None if by_attribute else w.integers(axis), inverse=int(not is_inverse),
        axis=axis if by_attribute else None,
    )  # fmt: skip
    count = size.cast()
    found = _resized(turned / count if is_inverse else turned * count, axis, before)
    return {0: found if v.shape()[-1] == 2 else found.slice(w.integers([0]), w.integers([1]), [v.rank() - 1])}


def _axis(v: Visit) -> int:
    if v.w.opset < 20:
        return int(v.get("axis", 1)) % v.rank()
    given = v.integers(2) if v.has(2) else [-2]
    if given is None:
        raise v.unsupported("an axis that is computed while the model runs")
    return given[0] % v.rank()


def _resized(value: Value, axis: int, size: Value) -> Value:
    """Cut or filled with zeros at an axis's end to ``size`` (int64 vector of one value)."""
    w = value.writer
    amount = size - value.shape(axis, axis + 1)
    return (
        value.apply("Pad", w.concat([0], amount), None, w.integers([axis]))
        if w.opset >= 18
        else _padded(value, axis, amount)
    )


def _padded(value: Value, axis: int, amount: Value) -> Value:
    """Until opset 17 padding is said for every axis: by a picture of one axis, the rest flat before and behind it."""
    w = value.writer
    lead = value.shape(0, axis).apply("ReduceProd", keepdims=1) if axis else w.integers([1])
    flat = value.reshape(w.concat(lead, value.shape(axis, axis + 1), [-1]))
    padded = flat.apply("Pad", w.concat([0, 0, 0, 0], amount, [0]))
    return padded.reshape(w.concat(value.shape(0, axis), padded.shape(1, 2), value.shape(axis + 1)))


SPECTRA: dict[str, Gradient] = {"DFT": _dft}
