"""The description of a Keras 1 or 2 model as Keras 3 takes it: the same network, in the words of today.

Keras 3 knows neither the bare list of layers of Keras 2.0 to 2.2 nor an input shape on the first of them, refuses
settings that layers of Keras 2 wrote down without having them, looks for classes where they no longer are, and does not
see a tensor that was given to a call by the name of its argument.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from .operators import CLASSES as OPERATORS
from .operators import PLACE

_UNUSED = dict.fromkeys(("kernel_initializer", "kernel_regularizer", "kernel_constraint"), ...)  # of the parts' own
# class -> setting that Keras 2 wrote -> the value that means nothing (... for any): Keras 3 takes none of them
_GONE: dict[str, dict[str, Any]] = {
    **{
        name: {"time_major": False}
        for name in ("LSTM", "GRU", "SimpleRNN", "RNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
    },
    **{name: {"groups": 1} for name in ("DepthwiseConv1D", "DepthwiseConv2D")},
    **{name: {"groups": 1, **_UNUSED} for name in ("SeparableConv1D", "SeparableConv2D")},
    **{name: {"groups": 1} for name in ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")},
    "MultiHeadAttention": dict.fromkeys(("query_shape", "key_shape", "value_shape", "softmax_robust_masking"), ...),
    "Attention": {"score_mode": "dot"},  # the default, which Keras 3 takes for the name of a function
    **{f"SpatialDropout{rank}D": {"trainable": ..., "noise_shape": ...} for rank in (1, 2, 3)},
    "Discretization": {"trainable": ..., "vocabulary_size": ...},
}
# layers that do nothing but while training; their settings, some of them gone, do not matter
_AUGMENTATIONS = frozenset({
    "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter", "RandomContrast", "RandomElasticTransform",
    "RandomErasing", "RandomFlip", "RandomGaussianBlur", "RandomGrayscale", "RandomHeight", "RandomHue", "RandomInvert",
    "RandomPerspective", "RandomPosterization", "RandomRotation", "RandomSaturation", "RandomSharpness", "RandomShear",
    "RandomTranslation", "RandomWidth", "RandomZoom",
})  # fmt: skip
_KEPT = ("name", "dtype", "batch_input_shape")  # of a layer that becomes another
_DROPPED = frozenset({"LocallyConnected1D", "LocallyConnected2D", *OPERATORS})  # our own, found by their names alone
_MODELS = {"Functional": "keras.src.models.functional", "Model": "keras", "Sequential": "keras"}


def modern(config: Any) -> Any:
    """A model's description, or any part of it, with what Keras 3 does not take put into its words."""
    return _without_shapes(_modern(config))


def _without_shapes(config: Any) -> Any:
    """Input shapes away from layers that come behind an InputLayer, where Keras 2 writes them too."""
    if isinstance(config, list):
        return [_without_shapes(value) for value in config]
    if not isinstance(config, dict):
        return config
    config = {key: _without_shapes(value) for key, value in config.items()}
    inner = config.get("config")
    if isinstance(inner, dict) and config.get("class_name") != "InputLayer":
        config["config"] = {key: value for key, value in inner.items() if key != "batch_input_shape"}
    return config


def _modern(config: Any) -> Any:
    if isinstance(config, list):
        return [_modern(value) for value in config]
    if not isinstance(config, dict):
        return config
    config = {key: _modern(value) for key, value in _recounted(config).items()}
    name, module = str(config.get("class_name")), config.get("module")
    if isinstance(module, str):
        config["module"] = _place(name, module)
        if name in _DROPPED:
            config |= {"module": None, "registered_name": name}
    inner = config.get("config")
    if isinstance(inner, dict):
        if name in _AUGMENTATIONS and module in (None, "keras.layers", "tf_keras.layers"):
            inner = {key: inner[key] for key in (*_KEPT, "batch_shape") if key in inner}
            config["class_name"] = "Identity"
        if (
            name == "RandomCrop" and "data_format" not in inner
        ):  # Keras 2, while not training: cut to the aspect, resized
            inner = {key: inner[key] for key in (*_KEPT, "height", "width") if key in inner}
            inner["crop_to_aspect_ratio"] = True
            config["class_name"] = "Resizing"
        if name in ("BatchNormalization", "SyncBatchNormalization") and isinstance(inner.get("axis"), list):
            inner = {**inner, "axis": inner["axis"][0] if len(inner["axis"]) == 1 else inner["axis"]}
        if name == "ThresholdedReLU":
            inner = {**{key: inner[key] for key in _KEPT if key in inner}, "threshold": inner.get("theta", 1.0)}
            config["class_name"] = "ReLU"
        if name == "MultiHeadAttention":  # one shape, where Keras 3 wants those of the queries and the values
            config.pop("build_config", None)
        gone = _GONE.get(name, {})
        config["config"] = inner = {k: v for k, v in inner.items() if k not in gone or gone[k] not in (v, ...)}
    if isinstance(config.get("inbound_nodes"), list):
        if name in OPERATORS and isinstance(inner, dict):
            calls = [_operator_call(node) for node in config["inbound_nodes"]]
            config["config"] = {**config["config"], "calls": sorted({json.dumps(arguments) for arguments, _ in calls})}
            config["inbound_nodes"] = [{"args": tensors, "kwargs": {}} for _, tensors in calls]
        else:
            config["inbound_nodes"] = [_call(node) for node in config["inbound_nodes"]]
    if name != "Sequential" or "module" in config:
        return config
    if isinstance(inner, list):
        config["config"] = inner = {"name": str(config.get("name", "sequential")), "layers": inner}
    if isinstance(inner, dict) and isinstance(inner.get("layers"), list):
        inner["layers"] = _with_input_layer(inner["layers"])
    return config


def _place(name: str, module: str) -> str:
    """Where Keras 3 has a class of Keras 2, which calls itself tf_keras since Keras 3 has its name."""
    parts = module.split(".")
    if parts[0] not in ("keras", "tf_keras"):
        return module
    is_engine = parts[1:2] == ["engine"] or parts[1:3] == ["src", "engine"]
    if name in _MODELS and (is_engine or parts[0] == "tf_keras"):
        return _MODELS[name]
    return ".".join(["keras", *parts[1:]])


def _recounted(config: dict[str, Any]) -> dict[str, Any]:
    """A model's description with the calls of the models in it counted from 0, and without lists of one tensor.

    Keras 2 takes the making of a model for its first call; Keras 3 does so only where it names a model's outputs, and
    only if these are those of a functional model. And it gives a list of one where it is told one.
    """
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else None
    layers = [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []
    nodes = [layer.get("inbound_nodes") for layer in layers]
    if not isinstance(inner, dict) or not layers or not all(_is_list_of_lists(node) for node in nodes):
        return config
    last: dict[str, int] = {}
    for name, call, *_ in _tensors([nodes, inner.get("output_layers")]):
        last[name] = max(call, last.get(name, 0))
    models = {str(layer.get("name")): layer for layer in layers if str(layer.get("class_name")) in _MODELS}
    late = {name for name, layer in models.items() if last.get(name) == len(layer["inbound_nodes"])}
    kept = {name for name, layer in models.items() if layer["class_name"] != "Sequential"}
    layers = [{**layer, "inbound_nodes": _earlier(layer["inbound_nodes"], late)} for layer in layers]
    ends = {
        "input_layers": inner.get("input_layers"),
        "output_layers": _earlier(inner.get("output_layers"), late - kept),
    }
    ends = {key: end[0] if isinstance(end, list) and len(end) == 1 else end for key, end in ends.items()}
    return {**config, "config": {**inner, "layers": layers, **ends}}


def _is_list_of_lists(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, list) for part in value)


def _tensors(value: Any) -> Iterator[list[Any]]:
    """Every [layer, call, output, ...] in a description of calls."""
    if _names_tensor(value):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _tensors(part)


def _earlier(value: Any, layers: Collection[str]) -> Any:
    """A description of calls with those of some layers counted from one less."""
    if isinstance(value, dict):
        return {key: _earlier(part, layers) for key, part in value.items()}
    if not isinstance(value, list):
        return value
    rest = [_earlier(part, layers) for part in value]
    return [rest[0], rest[1] - 1, *rest[2:]] if _names_tensor(value) and value[0] in layers else rest


def _names_tensor(value: Any) -> bool:
    return isinstance(value, list) and len(value) in (3, 4) and isinstance(value[0], str) and type(value[1]) is int


def _call(node: Any) -> Any:
    """One call of a layer, in Keras 3's form where a tensor is given by the name of its argument."""
    entries = node if isinstance(node, list) and node and all(isinstance(entry, list) for entry in node) else []
    named = [entry[3] for entry in entries if len(entry) == 4 and isinstance(entry[3], dict)]
    if not any(_is_tensor(value) for options in named for value in options.values()):
        return node
    tensors = [_tensor(entry) for entry in entries]
    options = {key: _tensor(value) if _is_tensor(value) else value for key, value in named[0].items()}
    return {"args": [tensors if len(tensors) > 1 else tensors[0]], "kwargs": options}


def _operator_call(node: Any) -> tuple[Any, list[dict[str, Any]]]:
    """One call of an operator: [first argument, the others by name], with places for tensors; and the tensors.

    First comes a tensor, a list of them, or a constant.
    """
    tensors: list[dict[str, Any]] = []

    def placed(value: Any) -> Any:
        if _is_tensor(value):
            tensors.append(_tensor(value))
            return {PLACE: len(tensors) - 1}
        return [placed(part) for part in value] if isinstance(value, list) else value

    entries = [node] if isinstance(node, list) and node and isinstance(node[0], str) else node
    if not isinstance(entries, list) or not all(isinstance(e, list) and len(e) == 4 for e in entries) or not entries:
        return None, tensors
    first = [entry[2] if entry[0] == "_CONSTANT_VALUE" else placed(entry[:3]) for entry in entries]
    options = entries[0][3] if isinstance(entries[0][3], dict) else {}
    arguments = {key: placed(value) for key, value in options.items() if key != "name"}
    return [first[0] if entries[0] is node else first, arguments], tensors


def _is_tensor(value: Any) -> bool:
    """Whether it is [layer, call, output]."""
    return _names_tensor(value) and len(value) == 3


def _tensor(entry: list[Any]) -> dict[str, Any]:
    """Keras 3's name of a tensor; only where it comes from counts."""
    history = {"shape": [None], "dtype": "float32", "keras_history": entry[:3]}
    return {"class_name": "__keras_tensor__", "config": history}


def _with_input_layer(layers: list[Any]) -> list[Any]:
    """The first layer's ``batch_input_shape`` as an InputLayer; Keras 3 takes its batch for an axis."""
    first = layers[0] if layers and isinstance(layers[0], dict) else {}
    inner = first.get("config")
    if not isinstance(inner, dict) or first.get("class_name") == "InputLayer" or "batch_input_shape" not in inner:
        return layers
    rest = {key: value for key, value in inner.items() if key != "batch_input_shape"}
    source = {"name": f"{inner.get('name', 'model')}_input", "batch_input_shape": inner["batch_input_shape"]}
    return [{"class_name": "InputLayer", "config": source}, {**first, "config": rest}, *layers[1:]]
