"""Numbers that Keras reads from a tensor's shape, as numbers.

While a model is traced they are tensors of the trace, and the tracing exporter takes none for a padding, a number of
groups or a normalized shape. ConvNeXt and Xception were left to the other exporter for that, three times slower.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

# The functions of torch.nn.functional through which Keras' torch backend convolves, pools and normalizes.
_FUNCTIONS = (
    *(f"{name}{rank}d" for name in ("conv", "conv_transpose", "avg_pool", "max_pool") for rank in (1, 2, 3)),
    "layer_norm",
)


@contextlib.contextmanager
def plain_arguments() -> Iterator[None]:
    """While it is open, torch's layer functions get integers where Keras gives them tensors of the trace."""
    from keras.src.backend.torch import nn

    functional: Any = torch.nn.functional
    before = {name: getattr(functional, name) for name in _FUNCTIONS}
    for name, function in before.items():
        setattr(functional, name, _with_numbers(function))
    largest = torch.max
    torch.max = _of_numbers(largest)
    layout = getattr(nn, "_maybe_convert_to_channels_last", None)
    if layout is not None:  # of volumes the tracing exporter cannot write it, and it changes no value
        nn._maybe_convert_to_channels_last = lambda tensor: tensor
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(functional, name, function)
        torch.max = largest
        if layout is not None:
            nn._maybe_convert_to_channels_last = layout


def _with_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        return function(*map(_number, arguments), **{key: _number(value) for key, value in options.items()})

    return call


def _of_numbers(largest: Callable[..., Any]) -> Callable[..., Any]:
    """The largest of one number, the length of a sequence, is that number; ONNX has no reduction without axes."""

    def call(value: Any, *arguments: Any, **options: Any) -> Any:
        return value if isinstance(value, Tensor) and not value.ndim else largest(value, *arguments, **options)

    return call


def _number(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value if value.ndim or value.is_floating_point() else int(value)
    return [_number(item) for item in value] if isinstance(value, (list, tuple)) else value
