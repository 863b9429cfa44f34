"""Handing a checked Keras file to Keras, with its safe mode on and its appetite bounded."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from ...engine.executors.session import first_line
from ...errors import RefusedInput, UnsafeFile, UsageError
from ..torch.arch import build
from .files import KerasFile

_SPARE_WEIGHTS = 2**26  # bytes that a network may declare beyond what its file holds (seeds, counters, casts)


def load_model(keras: Any, path: Path, found: KerasFile, trust: bool) -> Any:
    """The model in a checked Keras file; no layer may declare more weights than the file holds.

    Raises:
        UnsafeFile: it needs code from the file, or absurd weights. RefusedInput: Keras cannot load it.
    """
    suffix = ".keras" if found.style == "keras" else ".h5"
    try:
        with _as_keras_wants(path, suffix, found) as file, _bounded_weights(keras, path, found.weight_bytes):
            return keras.saving.load_model(file, compile=False, safe_mode=not trust)
    except RefusedInput:
        raise
    except Exception as error:  # Keras raises many unrelated types
        raise _refusal(path, error) from None


def _refusal(path: Path, error: Exception) -> RefusedInput:
    text = _reason(error)
    if "Lambda" in str(error) or "safe_mode" in str(error) or "unsafe" in str(error).lower():
        return UnsafeFile(f"{path} needs code from the file to load ({text}); pass trust=True if you made it yourself")
    if "custom_objects" in str(error) or "Could not locate" in str(error) or "Unknown layer" in str(error):
        return RefusedInput(
            f"{path} uses a layer that is not Keras' own ({text}); load it in your code and pass it to convscope.load"
        )
    return RefusedInput(f"Keras cannot load {path}: {text}")


def _reason(error: Exception) -> str:
    """Keras wraps an error in its general words, each time with what it was doing; the last of them is the cause."""
    inner = re.split(r"Exception encountered: ", str(error))[-1]
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
    """The file under a fitting name; a copy where its description is one of Keras 2 that Keras 3 does not take.

    Keras 3 knows neither the bare list of layers of Keras 2.0 to 2.2 nor an input shape on the first of them, and
    refuses settings that layers of Keras 2 wrote down without having them.
    """
    modern = _modern(found.config)
    if modern == found.config:
        with _with_suffix(path, suffix) as file:
            yield file
        return
    with tempfile.TemporaryDirectory(prefix="convscope-") as folder:
        copy = Path(folder) / f"model{suffix}"
        if found.style == "h5":
            import h5py

            shutil.copyfile(path, copy)
            with h5py.File(copy, "a") as opened:
                del opened.attrs["model_config"]
                opened.attrs["model_config"] = json.dumps(modern)
        else:
            with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, "w") as target:
                for member in source.infolist():
                    is_config = member.filename == "config.json"
                    target.writestr(member, json.dumps(modern) if is_config else source.read(member))
        yield str(copy)


_UNUSED = dict.fromkeys(("kernel_initializer", "kernel_regularizer", "kernel_constraint"), ...)  # of the parts' own
# class -> setting that Keras 2 wrote -> the value that means nothing (... for any): Keras 3 takes none of them
_GONE: dict[str, dict[str, Any]] = {
    **{name: {"time_major": False} for name in ("LSTM", "GRU", "SimpleRNN", "RNN", "ConvLSTM1D", "ConvLSTM2D")},
    **{name: {"groups": 1} for name in ("DepthwiseConv1D", "DepthwiseConv2D")},
    **{name: {"groups": 1, **_UNUSED} for name in ("SeparableConv1D", "SeparableConv2D")},
    **{name: {"groups": 1} for name in ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")},
    "MultiHeadAttention": dict.fromkeys(("query_shape", "key_shape", "value_shape", "softmax_robust_masking"), ...),
    "Attention": {"score_mode": "dot"},  # the default, which Keras 3 takes for the name of a function
}


def _modern(config: Any) -> Any:
    """The config without settings that mean nothing, and with every Sequential a dictionary whose input is a layer."""
    if isinstance(config, list):
        return [_modern(value) for value in config]
    if not isinstance(config, dict):
        return config
    config = {key: _modern(value) for key, value in config.items()}
    inner = config.get("config")
    if isinstance(inner, dict):
        gone = _GONE.get(str(config.get("class_name")), {})
        config["config"] = inner = {k: v for k, v in inner.items() if k not in gone or gone[k] not in (v, ...)}
    if config.get("class_name") != "Sequential" or "module" in config:
        return config
    if isinstance(inner, list):
        config["config"] = inner = {"name": str(config.get("name", "sequential")), "layers": inner}
    if isinstance(inner, dict) and isinstance(inner.get("layers"), list):
        inner["layers"] = _with_input_layer(inner["layers"])
    return config


def _with_input_layer(layers: list[Any]) -> list[Any]:
    """The first layer's ``batch_input_shape`` as an InputLayer; Keras 3 takes its batch for an axis."""
    first = layers[0] if layers and isinstance(layers[0], dict) else {}
    inner = first.get("config")
    if not isinstance(inner, dict) or first.get("class_name") == "InputLayer" or "batch_input_shape" not in inner:
        return layers
    rest = {key: value for key, value in inner.items() if key != "batch_input_shape"}
    source = {"name": f"{inner.get('name', 'model')}_input", "batch_input_shape": inner["batch_input_shape"]}
    return [{"class_name": "InputLayer", "config": source}, {**first, "config": rest}, *layers[1:]]


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
