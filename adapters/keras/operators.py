"""TensorFlow's operators as layers: what Keras 2 writes where a functional model calls them (`preprocess_input`).

Such a layer (TFOpLambda, SlicingOpLambda) holds no code, but the name of an operator, and its call the arguments. Those
operators that networks for pictures use are computed here by Keras' own; another is refused by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

CLASSES = ("TFOpLambda", "SlicingOpLambda")
PLACE = "tensor"  # key of what stands for a tensor among a call's arguments: its number
_LARGEST = 2**26  # values of a result for which a number in the file decides

Operator = Callable[..., Any]


def operator_layers(keras: Any) -> dict[str, Any]:
    """The layers' classes by name, for Keras to load a file with."""
    table = _operators(keras.ops)

    class TensorFlowOperator(keras.layers.Layer):  # type: ignore[misc]
        """One operator, by TensorFlow's name and with TensorFlow's arguments."""

        def __init__(self, function: str, calls: Sequence[str], **options: Any) -> None:
            super().__init__(**{key: value for key, value in options.items() if key in ("name", "dtype", "trainable")})
            if function not in table:
                raise ValueError(f"the operator tf.{str(function)[:60]}, which the model calls, is not read")
            if len(calls) != 1 or (arguments := json.loads(calls[0])) is None:
                raise ValueError(f"how the model calls the operator tf.{str(function)[:60]} is not read")
            self._operator, (self._first, self._options) = table[function], arguments
            self.built = True

        def call(self, *tensors: Any) -> Any:
            return self._operator(_filled(self._first, tensors), **_filled(self._options, tensors))

    return dict.fromkeys(CLASSES, TensorFlowOperator)


def _filled(value: Any, tensors: Sequence[Any]) -> Any:
    """Arguments with tensors in their places."""
    if isinstance(value, list):
        return [_filled(part, tensors) for part in value]
    if not isinstance(value, dict):
        return value
    return tensors[value[PLACE]] if value.keys() == {PLACE} else {k: _filled(v, tensors) for k, v in value.items()}


def _operators(o: Any) -> dict[str, Operator]:
    """By TensorFlow's name; parameters are called as TensorFlow calls them."""
    binary = {
        "math.add": o.add, "__operators__.add": o.add, "math.subtract": o.subtract, "math.multiply": o.multiply,
        "math.truediv": o.true_divide, "math.divide": o.true_divide, "realdiv": o.true_divide, "math.pow": o.power,
        "math.maximum": o.maximum, "math.minimum": o.minimum, "math.divide_no_nan": o.divide_no_nan,
        "math.squared_difference": lambda a, b: o.square(o.subtract(a, b)),
    }  # fmt: skip
    unary = {
        "math.negative": o.negative, "math.abs": o.absolute, "math.square": o.square, "math.sqrt": o.sqrt,
        "math.rsqrt": o.rsqrt, "math.exp": o.exp, "math.log": o.log, "math.log1p": o.log1p, "math.tanh": o.tanh,
        "math.sin": o.sin, "math.cos": o.cos, "math.floor": o.floor, "math.erf": o.erf, "math.sign": o.sign,
        "math.reciprocal": lambda x: o.true_divide(1.0, x), "identity": lambda x: x, "stop_gradient": lambda x: x,
    }  # fmt: skip
    activations = {
        "math.sigmoid": o.sigmoid, "math.softplus": o.softplus, "nn.relu": o.relu, "nn.relu6": o.relu6,
        "nn.silu": o.silu, "nn.elu": o.elu, "nn.selu": o.selu,
    }  # fmt: skip
    reductions = {
        "math.reduce_mean": o.mean, "math.reduce_sum": o.sum, "math.reduce_max": o.max, "math.reduce_min": o.min,
        "math.reduce_std": o.std, "math.reduce_variance": o.var, "math.reduce_prod": o.prod,
    }  # fmt: skip
    return {
        **{name: _binary(run) for name, run in binary.items()},
        **{name: _unary(run) for name, run in (unary | activations).items()},
        **{name: _reduction(run) for name, run in reductions.items()},
        **_shapes(o),
        **_pictures(o),
        "nn.leaky_relu": lambda features, alpha=0.2: o.leaky_relu(features, alpha),
        "nn.gelu": lambda features, approximate=False: o.gelu(features, approximate),
        "nn.softmax": lambda logits, axis=-1: o.softmax(logits, axis),
        "nn.log_softmax": lambda logits, axis=-1: o.log_softmax(logits, axis),
        "math.l2_normalize": lambda x, axis=None, epsilon=1e-12: _unit_length(o, x, axis, epsilon),
        "clip_by_value": lambda t, clip_value_min, clip_value_max: o.clip(t, clip_value_min, clip_value_max),
        "linalg.matmul": lambda a, b, transpose_a=False, transpose_b=False: o.matmul(
            o.swapaxes(a, -1, -2) if transpose_a else a, o.swapaxes(b, -1, -2) if transpose_b else b
        ),
        "nn.bias_add": lambda value, bias, data_format=None: o.add(
            value, bias if data_format != "NCHW" else o.reshape(bias, (-1, 1, 1))
        ),
    }


def _binary(run: Operator) -> Operator:
    return lambda x, y: run(x, y)


def _unary(run: Operator) -> Operator:
    def call(x: Any = None, features: Any = None) -> Any:
        return run(features if x is None else x)

    return call


def _reduction(run: Operator) -> Operator:
    def call(input_tensor: Any, axis: Any = None, keepdims: bool = False) -> Any:
        return run(input_tensor, axis=tuple(axis) if isinstance(axis, list) else axis, keepdims=bool(keepdims))

    return call


def _shapes(o: Any) -> dict[str, Operator]:
    """What only moves values."""

    def transpose(a: Any, perm: Any = None, **_: Any) -> Any:
        return o.transpose(a, perm)

    def pad(tensor: Any, paddings: Any, mode: str = "CONSTANT", constant_values: float = 0) -> Any:
        _check([side for pair in paddings for side in pair])
        kind = str(mode).lower()
        return o.pad(tensor, paddings, kind, constant_values) if kind == "constant" else o.pad(tensor, paddings, kind)

    def split(value: Any, num_or_size_splits: Any, axis: int = 0, **_: Any) -> Any:
        if isinstance(num_or_size_splits, list):  # sizes, where Keras wants the places between
            ends = [sum(num_or_size_splits[: i + 1]) for i in range(len(num_or_size_splits) - 1)]
            return o.split(value, ends, axis)
        return o.split(value, num_or_size_splits, axis)

    def tile(input: Any, multiples: Sequence[int]) -> Any:  # TensorFlow's own name
        _check(multiples)
        return o.tile(input, multiples)

    def squeeze(input: Any, axis: Any = None, **_: Any) -> Any:
        return o.squeeze(input, tuple(axis) if isinstance(axis, list) else axis)

    return {
        "concat": lambda values, axis: o.concatenate(values, axis),
        "stack": lambda values, axis=0: o.stack(values, axis),
        "reshape": lambda tensor, shape: o.reshape(tensor, tuple(shape)),
        "expand_dims": lambda input, axis: o.expand_dims(input, axis),
        "squeeze": squeeze,
        "compat.v1.squeeze": squeeze,
        "transpose": transpose,
        "compat.v1.transpose": transpose,
        "split": split,
        "tile": tile,
        "pad": pad,
        "compat.v1.pad": pad,
        "reverse": lambda tensor, axis: o.flip(tensor, tuple(axis)),
        "cast": lambda x, dtype: o.cast(x, dtype),
        "__operators__.getitem": lambda tensor, slice_spec: _cut(o, tensor, [_piece(one) for one in slice_spec]),
    }


def _piece(one: Any) -> Any:
    """One of an index's parts as Keras 2 writes them: a slice is a dictionary, an ellipsis a class."""
    if isinstance(one, dict) and {"start", "stop", "step"} <= one.keys():
        return slice(one["start"], one["stop"], one["step"])
    if one == "Ellipsis" or (isinstance(one, dict) and one.get("class_name") == "__ellipsis__"):
        return ...
    return one


def _cut(o: Any, tensor: Any, spec: list[Any]) -> Any:
    """``tensor[spec]``; torch takes no steps back, so what is turned around whole is flipped before."""
    if ... in spec:
        at = spec.index(...)
        rest = len(tensor.shape) - sum(one is not None and one is not ... for one in spec)
        spec = [*spec[:at], *[slice(None)] * rest, *spec[at + 1 :]]
    axes = [one for one in spec if one is not None]
    turned = [i for i, one in enumerate(axes) if isinstance(one, slice) and (one.step or 1) < 0]
    if any(axes[i] != slice(None, None, -1) for i in turned):
        raise ValueError("an index with steps back is not read, but where it turns an axis around")
    if turned:
        tensor = o.flip(tensor, tuple(turned))
    return tensor[tuple(slice(None) if one == slice(None, None, -1) else one for one in spec)]


def _pictures(o: Any) -> dict[str, Operator]:
    def resize(
        images: Any, size: Sequence[int], method: str = "bilinear", preserve_aspect_ratio: bool = False,
        antialias: bool = False,
    ) -> Any:  # fmt: skip
        if preserve_aspect_ratio:
            raise ValueError("tf.image.resize with preserve_aspect_ratio is not read")
        _check(size)
        return o.image.resize(images, tuple(size), method, antialias, data_format="channels_last")

    def depth_to_space(input: Any, block_size: int) -> Any:
        _, height, width, channels = input.shape
        depth = channels // block_size**2
        pieces = o.reshape(input, (-1, height, width, block_size, block_size, depth))
        whole = (-1, height * block_size, width * block_size, depth)
        return o.reshape(o.transpose(pieces, (0, 1, 3, 2, 4, 5)), whole)

    def space_to_depth(input: Any, block_size: int) -> Any:
        _, height, width, channels = input.shape
        rows, columns = height // block_size, width // block_size
        pieces = o.reshape(input, (-1, rows, block_size, columns, block_size, channels))
        return o.reshape(o.transpose(pieces, (0, 1, 3, 2, 4, 5)), (-1, rows, columns, channels * block_size**2))

    def gray(images: Any) -> Any:
        return o.sum(o.multiply(images, [0.2989, 0.587, 0.114]), axis=-1, keepdims=True)

    return {
        "image.resize": resize,
        "nn.depth_to_space": depth_to_space,
        "nn.space_to_depth": space_to_depth,
        "image.rgb_to_grayscale": gray,
        "image.grayscale_to_rgb": lambda images: o.concatenate([images, images, images], -1),
    }


def _unit_length(o: Any, x: Any, axis: Any, epsilon: float) -> Any:
    squares = o.sum(o.square(x), axis=tuple(axis) if isinstance(axis, list) else axis, keepdims=True)
    return o.multiply(x, o.rsqrt(o.maximum(squares, epsilon)))


def _check(sizes: Sequence[Any]) -> None:
    """Raises ValueError where sizes that a file states make more values than any picture has."""
    count = 1
    for size in sizes:
        count *= max(int(size), 1)
    if count > _LARGEST:
        raise ValueError(f"an operator's sizes {str(list(sizes))[:60]} are absurd")
