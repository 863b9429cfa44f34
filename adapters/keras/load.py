"""Keras models (2 and 3) on Keras' torch backend; TensorFlow is never imported.

A plain export loses every Keras layer name. Here each layer's output passes a mark while the model is traced,
nested models too, so that every tensor that ends a layer is known by it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...engine.graph.preprocessing import Preprocessing
from ...errors import ConvscopeError, RefusedInput, UnsafeFile, UsageError
from ..exported import Exported
from ..preprocessing import companion
from ..scratch import scratch
from ..torch.compiler_cache import no_compiler_cache
from ..torch.export import (
    Export,
    at_batch,
    export_dynamo,
    failing,
    fallback_note,
    first_that_agrees,
    flat_outputs,
    trace_marked,
)
from ..torch.marks import Marker
from ..wall.limits import in_worker
from .arguments import plain_arguments
from .definition import as_tensorflow
from .family import family
from .files import KerasFile, inspect
from .groups import whole_group_norms
from .live import examples, given, single_precision
from .recurrent import whole_recurrences
from .safe_load import load_model, weights_into

_OF_NO_USE = ("sklearn", "IPython")  # wrappers around scikit-learn's estimators, and a file editor for notebooks
_MAX_ACTIVATION = 2**28  # elements of one layer's output for one image: 1 GiB


def load_keras_file(
    path: Path,
    found: KerasFile | None = None,
    *,
    arch: str | None = None,
    trust: bool = False,
    size: tuple[int, int] | None = None,
) -> Exported:
    """A Keras file as ONNX.

    Args:
        path: ``.keras``, ``.h5`` or ``.hdf5`` of Keras 2 or 3; files with weights alone need ``arch``.
        found: what `files.inspect` has found in it; default it looks now.
        arch: what builds the network, e.g. ``keras.applications:VGG16``; see `adapters.torch.arch.build`.
        trust: allow Lambda layers and foreign classes, whose loading runs code from the file.
        size: (height, width) where the model leaves its input size open.

    Raises:
        UsageError: ``arch`` is missing or wrong, or Keras runs on another backend.
        UnsafeFile: loading would run code or exhaust the machine. RefusedInput: damaged or unsupported.
    """
    path = Path(path)
    found = found or inspect(path, trust=trust)
    if found.config is None and arch is None:
        raise UsageError(
            f"{path} holds weights alone; name the code that builds the network: arch=keras.applications:VGG16, "
            "or package.module:callable"
        )
    used = arch if found.config is None else None
    _, model = _model_in(path, found, used, trust)
    notes = [] if used is None else [f"weights alone; the network is {used}"]
    with as_tensorflow(found.version):
        exported = export_keras(model, size=size)
    known = companion(path) or exported.preprocessing
    return replace(exported, preprocessing=known, notes=(*notes, *exported.notes), arch=used)


def run_keras_file(
    path: Path, feeds: Mapping[str, np.ndarray], *, arch: str | None = None, trust: bool = False
) -> list[np.ndarray]:
    """What Keras itself makes of one picture, in the file's own layout; ``arch`` and ``trust`` as of `load_keras_file`.

    Raises:
        RefusedInput: the network takes more than the picture.
    """
    found = inspect(path, trust=trust)
    if len(feeds) != 1:
        raise RefusedInput(f"{path} takes inputs beside the picture")
    keras, model = _model_in(path, found, arch if found.config is None else None, trust)
    with as_tensorflow(found.version), single_precision(keras, model):
        return flat_outputs(model(*feeds.values()))  # a model may return a dict


def _model_in(path: Path, found: KerasFile, arch: str | None, trust: bool) -> tuple[Any, Any]:
    """(keras, the model that the file describes, or that ``arch`` builds for its weights)."""
    keras = import_keras(alone=in_worker())
    return keras, load_model(keras, path, found, trust) if arch is None else weights_into(path, found, arch)


def export_keras(model: Any, example_input: Any = None, *, size: tuple[int, int] | None = None) -> Exported:
    """A live Keras model as ONNX, checked against the model itself.

    Args:
        model: one with image input, on the torch backend: functional, sequential, or of a class of its own.
        example_input: an array in the model's own layout, (N, H, W, C), or a tuple of them; needed where the model has
            no Input layer and was never called.
        size: (height, width) where the model leaves its input size open.

    Raises:
        UsageError: Keras runs on another backend. RefusedInput: not built, or not exportable.
    """
    keras = import_keras()
    inputs = examples(model, size) if example_input is None else given(example_input)
    _check_activations(model)
    wrapped = _Inference(model)
    traced, checked = at_batch(inputs, 2), at_batch(inputs, 1)
    attempts = [
        ("tracing exporter", lambda: trace_marked(wrapped, traced, _tracing(keras, model))),
        ("torch.export exporter", lambda: _export_all_outputs(keras, model, traced)),
    ]
    try:
        with single_precision(keras, model) as said:
            export, failures = first_that_agrees(wrapped, checked, attempts)
    except ConvscopeError:
        raise
    except Exception as error:  # the model's own forward pass raises whatever it likes
        raise failing("the model", checked, error) from error
    for node in export.model.graph.node:
        node.ClearField("name")  # the tracer's scopes say "model" at best; the layers name their nodes better
    return Exported(
        model=export.model,
        names=export.names,
        aliases=export.aliases,
        preprocessing=_family(model),
        producer=f"keras {keras.__version__} on torch {torch.__version__} ({export.exporter})",
        notes=(*said, *fallback_note(failures), *export.notes),
    )


def import_keras(*, alone: bool = False) -> Any:
    """Keras on the torch backend.

    Args:
        alone: leave out what Keras takes along for other purposes, a third of its time. For processes in which nobody
            else will ever use it.

    Raises:
        UsageError: it is not installed, or already runs on another backend in this process.
    """
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "torch"
    try:
        with _home_left_alone(), _hidden(_OF_NO_USE if alone else ()), no_compiler_cache():
            import keras
    except ImportError as error:
        raise UsageError(
            f"reading Keras models needs Keras ({error}); install it: pip install convscope[keras]"
        ) from None
    backend = keras.backend.backend()
    if backend != "torch":
        raise UsageError(
            f"Keras already runs on the {backend} backend in this process; set KERAS_BACKEND=torch before importing it"
        )
    return keras


@contextlib.contextmanager
def _home_left_alone() -> Iterator[None]:
    """For the import of Keras: nothing is written into the home, and nothing is read from there.

    Keras would write its settings, and matplotlib, which Keras takes along, a list of all fonts. Settings that somebody
    keeps there, such as another default type, would change what is computed.
    """
    if "keras" in sys.modules:
        yield
        return
    stated = os.environ.get("KERAS_HOME")
    with scratch() as folder, _hidden(["matplotlib"]):
        os.environ["KERAS_HOME"] = stated or str(folder)
        try:
            yield
        finally:
            if stated is None:
                del os.environ["KERAS_HOME"]


@contextlib.contextmanager
def _hidden(packages: Sequence[str]) -> Iterator[None]:
    """While it is open, packages that are not imported yet cannot be; their users take them for not installed."""
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


@contextlib.contextmanager
def _tracing(keras: Any, model: Any) -> Iterator[None]:
    with layer_marks(keras, model), plain_arguments(), whole_group_norms(keras), whole_recurrences():
        yield


@contextlib.contextmanager
def layer_marks(keras: Any, root: Any) -> Iterator[None]:
    """While it is open, every layer's output inside ``root`` is marked ``outer/inner``.

    Operations are marked where a functional model lists them; those that a layer makes for itself while it runs
    (the pad in a ZeroPadding2D) carry a counter's name that the user never saw.
    """
    marker = Marker()
    models = [root, *root._flatten_layers(include_self=False, recursive=True)]
    listed = {id(operation) for model in models for operation in getattr(model, "operations", ())}
    scope: list[str] = []
    plain = keras.Operation.__call__

    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        if self is root or not (isinstance(self, keras.Layer) or id(self) in listed):
            return plain(self, *arguments, **options)
        scope.append(self.name)
        name = "/".join(scope)
        try:
            output = plain(self, *arguments, **options)
        finally:
            scope.pop()
        return marker(output, name)

    keras.Operation.__call__ = call
    try:
        yield
    finally:
        keras.Operation.__call__ = plain


class _Inference(nn.Module):
    """A Keras model as a torch module of several inputs that always runs in inference mode."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Any:
        return self.model(list(inputs) if len(inputs) > 1 else inputs[0], training=False)


def _export_all_outputs(keras: Any, model: Any, inputs: tuple[Tensor, ...]) -> Export:
    """By the torch.export exporter, which takes no marks: every layer's output becomes a graph output for once."""
    names: list[str] = []
    tensors: list[Any] = []
    for operation in _operations(model):
        output = getattr(operation, "output", None)
        if output is not None and "float" in str(getattr(output, "dtype", "")):
            names.append(operation.name)
            tensors.append(output)
    own = list(model.outputs)
    every = keras.Model(model.inputs, [*own, *tensors])
    batch = torch.export.Dim("batch")
    export = export_dynamo(_Inference(every), inputs, dynamic_shapes=(tuple({0: batch} for _ in inputs),))
    outputs = [o.name for o in export.model.graph.output]
    layers = dict(zip(names, outputs[len(own) :], strict=True))
    del export.model.graph.output[len(own) :]
    return _named(export, layers)


def _named(export: Export, layers: dict[str, str]) -> Export:
    """Layer name -> tensor turned around; Identity nodes lead to the tensor that they repeat."""
    source = {n.output[0]: n.input[0] for n in export.model.graph.node if n.op_type == "Identity"}
    given = {i.name for i in export.model.graph.input}
    kept = {o.name for o in export.model.graph.output}
    names: dict[str, str] = {}
    aliases: dict[str, str] = {}
    for layer, tensor in layers.items():
        while tensor in source and tensor not in kept:
            tensor = source[tensor]
        if tensor in names:
            aliases[layer] = tensor
        elif tensor not in given:
            names[tensor] = layer
    return Export(export.model, names, aliases, export.exporter)


def _check_activations(model: Any) -> None:
    for operation in _operations(model):
        shape = getattr(getattr(operation, "output", None), "shape", None)
        if shape is not None and prod(d or 1 for d in shape[1:]) > _MAX_ACTIVATION:
            raise UnsafeFile(f"layer '{operation.name[:60]}' has the absurd output shape {tuple(shape)}")


def _operations(model: Any) -> list[Any]:
    """Layers and plain operations, in order; a Sequential lists its layers only."""
    operations: Any = getattr(model, "operations", None)
    return list(operations if operations is not None else model.layers)


def _family(model: Any) -> Preprocessing | None:
    layers = list(model._flatten_layers(include_self=False, recursive=True))
    scales = any(type(layer).__name__ in ("Rescaling", "Normalization") for layer in layers)
    known = family({layer.name for layer in layers}, scales)
    return known[1] if known else None
