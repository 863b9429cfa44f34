"""Handing a checked Keras file to Keras, with its safe mode on and its appetite bounded."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from ..engine.session import first_line
from ..errors import RefusedInput, UnsafeFile, UsageError
from .arch import build
from .keras_files import KerasFile

_SPARE_WEIGHTS = 2**26  # bytes that a network may declare beyond what its file holds (seeds, counters, casts)


def load_model(keras: Any, path: Path, found: KerasFile, trust: bool) -> Any:
    """The model in a checked Keras file; no layer may declare more weights than the file holds.

    Raises:
        UnsafeFile: it needs code from the file, or absurd weights. RefusedInput: Keras cannot load it.
    """
    suffix = ".keras" if found.style == "keras" else ".h5"
    try:
        with _with_suffix(path, suffix) as file, _bounded_weights(keras, path, found.weight_bytes):
            return keras.saving.load_model(file, compile=False, safe_mode=not trust)
    except RefusedInput:
        raise
    except Exception as error:  # Keras raises many unrelated types
        raise _refusal(path, error) from None


def _refusal(path: Path, error: Exception) -> RefusedInput:
    text = first_line(error, 200)
    if "Lambda" in str(error) or "safe_mode" in str(error) or "unsafe" in str(error).lower():
        return UnsafeFile(f"{path} needs code from the file to load ({text}); pass --trust if you made it yourself")
    if "custom_objects" in str(error) or "Could not locate" in str(error) or "Unknown layer" in str(error):
        return RefusedInput(
            f"{path} uses a layer that is not Keras' own ({text}); load it in your code and pass it to convscope.load"
        )
    return RefusedInput(f"Keras cannot load {path}: {text}")


def weights_into(path: Path, found: KerasFile, arch: str) -> Any:
    """The network that ``arch`` builds, with the file's weights.

    Raises:
        UsageError: ``arch`` builds no Keras model. RefusedInput: the weights do not fit it.
    """
    reasons = []
    for wanted in ({}, {"include_top": False}):
        model = build(arch, **wanted)
        if not hasattr(model, "load_weights"):
            raise UsageError(f"--arch {arch} returns a {type(model).__name__}, not a Keras model")
        try:
            with _with_suffix(path, ".weights.h5" if found.style == "weights" else ".h5") as file:
                model.load_weights(file)
            return model
        except Exception as error:
            reasons.append(first_line(error, 200))
        if not arch.startswith("keras.applications"):
            break
    raise RefusedInput(f"the weights in {path} do not fit --arch {arch}: {reasons[0]}")


@contextlib.contextmanager
def _bounded_weights(keras: Any, path: Path, stored: int) -> Iterator[None]:
    """While it is open, layers cannot declare more weights than the file holds: they are refused unallocated."""
    plain = keras.layers.Layer.add_weight
    declared = 0

    def add_weight(self: Any, shape: Any = None, *arguments: Any, **options: Any) -> Any:
        nonlocal declared
        sizes = (shape,) if isinstance(shape, int) else tuple(shape or ())
        declared += 4 * prod(int(n) for n in sizes)
        if declared > 2 * stored + _SPARE_WEIGHTS:
            raise UnsafeFile(
                f"{path}: layer '{str(self.name)[:60]}' declares weights of shape {sizes}, but the file holds only "
                f"{stored:,} bytes"
            )
        return plain(self, shape, *arguments, **options)

    keras.layers.Layer.add_weight = add_weight
    try:
        yield
    finally:
        keras.layers.Layer.add_weight = plain


@contextlib.contextmanager
def _with_suffix(path: Path, suffix: str) -> Iterator[str]:
    """The file under a name that ends as Keras demands: Keras decides by name, we by content."""
    if path.name.endswith(suffix):
        yield str(path)
        return
    with tempfile.TemporaryDirectory(prefix="convscope-") as folder:
        link = Path(folder) / f"model{suffix}"
        link.symlink_to(path.absolute())
        yield str(link)
