"""Random numbers that belong to one picture, whatever else is computed beside it.

Every picture draws its start noise and its transforms from a stream of its own, keyed by unit, preset, size and seed.
Batch-mates, batch size and order of work cannot change it, and neither can the file's format: one network's ONNX and
Keras files begin alike, so that their pictures can be compared. Philox is counter-based and gives the same numbers on
every platform.
"""

from __future__ import annotations

import hashlib

import numpy as np


def stream(*key: object) -> np.random.Generator:
    """The random stream of a key; equal keys give equal numbers."""
    text = "\x1f".join(str(part) for part in key)
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
