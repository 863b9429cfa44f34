"""Sound and arrays as pictures: WAV files as one row, ``.npy`` and ``.npz`` files as what a model itself reads.

Both come from strangers: sizes are checked against the file before anything is read.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from ...errors import RefusedInput
from .arrays import load_npy, load_npz

WAV = b"RIFF"
NPY = b"\x93NUMPY"
NPZ = b"PK\3\4"
_MOST_BYTES = 2**28  # of a file
_MOST_VALUES = 2**26  # of an array, or samples once channels are averaged: more than an hour at 16 kHz
_MOST_CHUNKS = 10_000
_BLOCK = 2**20  # frames that are converted at a time
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_HALF = {8: 128.0, 16: 2.0**15, 24: 2.0**23, 32: 2.0**31}  # of the range of whole numbers of so many bits
_MOST_DIMENSIONS = 6


def is_wav(start: bytes) -> bool:
    """Whether a file that begins so is a WAV file."""
    return start[:4] == WAV and start[8:12] == b"WAVE"


def read_wav(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """(1, T, 1) float32 pixels in [0, 1], where silence is 0.5, and what was done to the sound.

    PCM of 8, 16, 24 and 32 bits and floating samples of 32 and 64 are read; several channels are averaged. The samples
    stay as they are, at the file's own rate: which one a network takes, no file of a network says.

    Raises:
        RefusedInput: another format, more than 256 MiB, or broken.
    """
    chunks = _chunks(_whole(path), path)
    form, body = (chunks.get(name, memoryview(b"")) for name in (b"fmt ", b"data"))
    if len(form) < 16 or not body:
        raise RefusedInput(f"'{path}' is broken: a WAV file without {'format' if len(form) < 16 else 'samples'}")
    tag, channels, rate, _, width, bits = struct.unpack("<HHIIHH", form[:16])
    if tag == _EXTENSIBLE and len(form) >= 26:
        tag = struct.unpack("<H", form[24:26])[0]
    if tag not in (_PCM, _FLOAT) or not 1 <= channels <= 64 or width != channels * bits // 8 or not width:
        raise RefusedInput(f"'{path}' is a WAV file of a kind that is not read here (tag {tag}, {bits} bits); use PCM")
    if bits not in ((32, 64) if tag == _FLOAT else _HALF):
        raise RefusedInput(f"'{path}' has samples of {bits} bits; use PCM of 16")
    count = len(body) // width
    if count > _MOST_VALUES:
        raise RefusedInput(f"'{path}' has {count:,} samples; at most {_MOST_VALUES:,} are read: cut it")
    pixels = np.empty((1, count, 1), np.float32)
    for start in range(0, count, _BLOCK):  # in double, which the whole would take eight times the room for
        part = body[start * width : min(start + _BLOCK, count) * width]
        samples = _floating(part, bits) if tag == _FLOAT else _whole_numbers(part, bits)
        mono = samples.reshape(-1, channels).mean(axis=1)
        pixels[0, start : start + len(mono), 0] = (mono.clip(-1, 1) + 1) / 2
    if not count or not np.isfinite(pixels).all():
        raise RefusedInput(f"'{path}' is broken: it holds no samples, or some that are no numbers")
    notes = [f"{count:,} samples at {rate:,} Hz, as they are"]
    if channels > 1:
        notes.append(f"its {channels} channels are averaged")
    return pixels, tuple(notes)


def read_array(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(the array as float32, pixels (H, W, C) in [0, 1] that show it: its smallest value black, its largest white).

    Raises:
        RefusedInput: no numbers, more than 256 MiB or six axes, or broken.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise RefusedInput(f"'{path}' has more than {_MOST_BYTES:,} bytes; a picture is smaller")
        with path.open("rb") as file:
            is_archive = file.read(4) == NPZ
        values = load_npz(path, _MOST_BYTES) if is_archive else load_npy(path)
    except RefusedInput:
        raise
    except Exception as error:  # NumPy reads a header with Python's own tokenizer and parser
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise RefusedInput(f"'{path}' is broken: {reason}") from None
    if values.size > _MOST_VALUES:
        raise RefusedInput(f"'{path}' holds {values.size:,} values; at most {_MOST_VALUES:,} are read")
    if values.dtype.kind not in "biuf" or not values.size or not 1 <= values.ndim <= _MOST_DIMENSIONS:
        raise RefusedInput(f"'{path}' holds {values.dtype} of shape {values.shape}, which no model takes for a picture")
    array = np.asarray(values, dtype=np.float32)
    if not np.isfinite(array).all():
        raise RefusedInput(f"'{path}' holds values that are no finite numbers (NaN or infinity)")
    return array, _shown(array)


def _shown(array: np.ndarray) -> np.ndarray:
    """Rows of the last axis, or a picture where the array has its form."""
    low, high = float(array.min()), float(array.max())
    scaled = array - low if high > low else np.full_like(array, 0.5)
    if high > low:
        scaled /= high - low
    while scaled.ndim > 2 and scaled.shape[0] == 1:
        scaled = scaled[0]
    if scaled.ndim == 3 and scaled.shape[0] == 3 and scaled.shape[2] != 3:
        scaled = scaled.transpose(1, 2, 0)
    if scaled.ndim == 3 and scaled.shape[2] in (1, 3):
        return np.ascontiguousarray(scaled)
    return scaled.reshape(-1, scaled.shape[-1])[:, :, None]


def _whole(path: Path) -> bytes:
    if path.stat().st_size > _MOST_BYTES:
        raise RefusedInput(f"'{path}' has more than {_MOST_BYTES:,} bytes of sound; cut it to what the model hears")
    return path.read_bytes()


def _chunks(data: bytes, path: Path) -> dict[bytes, memoryview]:
    """Name -> content of the first chunk of that name; the last may be cut, as by a recorder that was switched off."""
    view, found, at = memoryview(data), dict[bytes, memoryview](), 12
    for _ in range(_MOST_CHUNKS):
        if at + 8 > len(data):
            return found
        name, length = struct.unpack_from("<4sI", data, at)
        found.setdefault(name, view[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    raise RefusedInput(f"'{path}' is a WAV file of more than {_MOST_CHUNKS:,} chunks")


def _floating(body: memoryview, bits: int) -> np.ndarray:
    return np.frombuffer(body, "<f4" if bits == 32 else "<f8").astype(np.float64)


def _whole_numbers(body: memoryview, bits: int) -> np.ndarray:
    """Samples in [-1, 1); those of 8 bits are unsigned, as the format has it."""
    if bits == 8:
        return np.frombuffer(body, np.uint8).astype(np.float64) / _HALF[8] - 1
    if bits == 24:
        parts = np.frombuffer(body, np.uint8).reshape(-1, 3)
        padded = np.concatenate([np.zeros((len(parts), 1), np.uint8), parts], axis=1)
        return padded.copy().view("<i4").reshape(-1) / _HALF[32]
    return np.frombuffer(body, f"<i{bits // 8}") / _HALF[bits]
