"""Live Keras models: what they are called with, and in which precision they compute."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...engine.executors.session import first_line
from ...engine.graph.graph import DEFAULT_SIZE
from ...errors import RefusedInput, UnsafeFile, UsageError
from .files import MAX_PIXELS


@contextlib.contextmanager
def single_precision(keras: Any, model: Any) -> Iterator[tuple[str, ...]]:
    """While it is open, layers with weights in float32 compute so, whatever their policy (mixed_bfloat16).

    Gives what is to be said of it. ONNX Runtime has no kernels for bfloat16 on a processor; the weights lose nothing.
    """
    layers = list(model._flatten_layers(include_self=True, recursive=True))
    mixed = [
        layer for layer in layers if str(getattr(getattr(layer, "dtype_policy", None), "name", "")).startswith("mixed_")
    ]
    policies = [layer.dtype_policy for layer in mixed]
    try:
        for layer in mixed:
            layer.dtype_policy = keras.DTypePolicy("float32")
        names = sorted({policy.name for policy in policies})
        yield (f"what the model computes in {' and '.join(names)} is computed in float32",) if names else ()
    finally:
        for layer, policy in zip(mixed, policies, strict=True):
            layer.dtype_policy = policy


def given(example_input: Any) -> tuple[Tensor, ...]:
    """Example inputs as tensors.

    Raises:
        UsageError: they are none.
    """
    inputs = example_input if isinstance(example_input, tuple) else (example_input,)
    try:
        return tuple(torch.as_tensor(np.asarray(x), dtype=torch.float32) for x in inputs)
    except (TypeError, ValueError) as error:
        raise UsageError(f"example_input is no array and no tuple of arrays: {first_line(error, 120)}") from error


def examples(model: Any, size: tuple[int, int] | None) -> tuple[Tensor, ...]:
    """Random inputs of batch 1 in the model's own layout."""
    shapes = _shapes(model)
    if not shapes:
        raise RefusedInput(
            f"the Keras model '{getattr(model, 'name', '')}' has no fixed inputs; call it once on an image, build it "
            "with an Input layer, or give load(example_input=)"
        )
    generator = torch.Generator().manual_seed(0)
    examples = []
    for name, sides in shapes:
        height, width = size or (DEFAULT_SIZE, DEFAULT_SIZE)
        open_sides = iter((height, width))
        shape = [1, *(d if d is not None else next(open_sides, 3) for d in sides[1:])]
        if prod(shape) > MAX_PIXELS * 4:
            raise UnsafeFile(f"the input '{name}' has the absurd shape {tuple(sides)}")
        examples.append(torch.rand(shape, generator=generator))
    return tuple(examples)


def _shapes(model: Any) -> list[tuple[str, Sequence[int | None]]]:
    """Name and shape of each input: of the Input layers, or of what a model without them was called on."""
    if specs := getattr(model, "inputs", None):
        return [(spec.name, spec.shape) for spec in specs]
    built = getattr(model, "_build_shapes_dict", None) or {}
    return [(name, sides) for name, sides in built.items() if isinstance(sides, (tuple, list)) and len(sides) > 1]
