"""Group normalization as torch has it, while a model is traced.

Keras splits the channels where they are, last, and writes the formula out: sixteen operators, around a map of five axes
that no convolution's layout passes. Torch's own is the same sum of squares, with one operator at its middle.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def whole_group_norms(keras: Any) -> Iterator[None]:
    """While it is open, Keras' GroupNormalization is torch's."""
    layer = keras.layers.GroupNormalization
    before = layer.call
    layer.call = _call
    try:
        yield
    finally:
        layer.call = before


def _call(self: Any, inputs: Any) -> Any:
    from keras import ops

    scale, shift = (None if weight is None else ops.convert_to_tensor(weight) for weight in (self.gamma, self.beta))
    axis, axes = self.axis % inputs.ndim, list(range(inputs.ndim))
    axes.insert(1, axes.pop(axis))  # channels first; permute, since of movedim the tracing exporter loses the shape
    single = ops.cast(inputs, "float32").permute(axes)
    found = torch.nn.functional.group_norm(single, self.groups, scale, shift, self.epsilon)
    back = [axes.index(place) for place in range(inputs.ndim)]
    return ops.cast(found.permute(back), self.compute_dtype)
