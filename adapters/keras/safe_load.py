"""Handing a checked Keras file to Keras, with its safe mode on and its appetite bounded."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from ...engine.executors.session import first_line
from ...errors import RefusedInput, UnsafeFile, UsageError
from ..scratch import scratch
from ..torch.arch import build
from .files import KerasFile
from .local import local_layers
from .modern import modern
from .operators import operator_layers

_SPARE_WEIGHTS = 2**26  # bytes that a network may declare beyond what its file holds (seeds, counters, casts)


def load_model(keras: Any, path: Path, found: KerasFile, trust: bool) -> Any:
    """The model in a checked Keras file; no layer may declare more weights than the file holds.

    Raises:
        UnsafeFile: it needs code from the file, or absurd weights. RefusedInput: Keras cannot load it.
    """
    suffix = ".keras" if found.style == "keras" else ".h5"
    try:
        with (
            _as_keras_wants(path, suffix, found) as file,
            _bounded_weights(keras, path, found.weight_bytes),
            keras.saving.custom_object_scope(local_layers(keras) | operator_layers(keras)),
        ):
            return keras.saving.load_model(file, compile=False, safe_mode=not trust)
    except RefusedInput:
        raise
    except Exception as error:  # Keras raises many unrelated types
        raise _refusal(path, error) from None


def _refusal(path: Path, error: Exception) -> RefusedInput:
    text = _reason(error)
    if "is not read" in text or "are absurd" in text:
        return RefusedInput(f"{path}: {text}")
    if "Lambda" in str(error) or "safe_mode" in str(error) or "unsafe" in str(error).lower():
        return UnsafeFile(f"{path} needs code from the file to load ({text}); pass trust=True if you made it yourself")
    if "custom_objects" in str(error) or "Could not locate" in str(error) or "Unknown layer" in str(error):
        return RefusedInput(
            f"{path} uses a layer that is not Keras' own ({text}); load it in your code and pass it to convscope.load"
        )
    return RefusedInput(f"Keras cannot load {path}: {text}")


def _reason(error: Exception) -> str:
    """Keras wraps an error in its general words, each time with what it was doing; the last of them is the cause."""
    plain = re.sub(r"\x1b\[\d*m", "", str(error))
    inner = re.split(r"(?:Exception|Error) encountered(?:: | when calling \S+\s+|:\s+)", plain)[-1]
    return first_line(ValueError(inner), 200) if inner.strip() else first_line(error, 200)


def weights_into(path: Path, found: KerasFile, arch: str) -> Any:
    """The network that ``arch`` builds, with the file's weights.

    Raises:
        UsageError: ``arch`` builds no Keras model. RefusedInput: the weights do not fit it.
    """
    reasons = []
    for wanted in ({}, {"include_top": False}):
        model = build(arch, **wanted)
        if not hasattr(model, "load_weights"):
            raise UsageError(f"arch={arch} returns a {type(model).__name__}, not a Keras model")
        try:
            with _with_suffix(path, ".weights.h5" if found.style == "weights" else ".h5") as file:
                model.load_weights(file)
            return model
        except Exception as error:
            reasons.append(first_line(error, 200))
        if not arch.startswith("keras.applications"):
            break
    raise RefusedInput(f"the weights in {path} do not fit arch={arch}: {reasons[0]}")


@contextlib.contextmanager
def _bounded_weights(keras: Any, path: Path, stored: int) -> Iterator[None]:
    """While it is open, layers cannot declare more weights than the file holds: they are refused unallocated."""
    plain = keras.layers.Layer.add_weight
    i = keras.initializers
    drawn = (i.VarianceScaling, i.RandomNormal, i.RandomUniform, i.TruncatedNormal, i.Orthogonal)
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
        if isinstance(keras.initializers.get(options.get("initializer")), drawn):
            options["initializer"] = "zeros"  # the file's values come in their place; drawing them takes long
        return plain(self, shape, *arguments, **options)

    keras.layers.Layer.add_weight = add_weight
    try:
        yield
    finally:
        keras.layers.Layer.add_weight = plain


@contextlib.contextmanager
def _as_keras_wants(path: Path, suffix: str, found: KerasFile) -> Iterator[str]:
    """The file under a fitting name; a copy where its description is one of Keras 2 that Keras 3 does not take."""
    described = modern(found.config)
    if described == found.config:
        with _with_suffix(path, suffix) as file:
            yield file
        return
    with scratch() as folder:
        copy = folder / f"model{suffix}"
        if found.style == "h5":
            import h5py

            shutil.copyfile(path, copy)
            with h5py.File(copy, "a") as opened:
                del opened.attrs["model_config"]
                opened.attrs["model_config"] = json.dumps(described)
        else:
            with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, "w") as target:
                for member in source.infolist():
                    is_config = member.filename == "config.json"
                    target.writestr(member, json.dumps(described) if is_config else source.read(member))
        yield str(copy)


@contextlib.contextmanager
def _with_suffix(path: Path, suffix: str) -> Iterator[str]:
    """The file under a name that ends as Keras demands: Keras decides by name, we by content."""
    if path.name.endswith(suffix):
        yield str(path)
        return
    with scratch() as folder:
        link = folder / f"model{suffix}"
        link.symlink_to(path.absolute())
        yield str(link)
