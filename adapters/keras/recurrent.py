"""Keras' LSTM and GRU as torch's own while a model is traced: one operator each, whatever the number of steps.

Keras' torch backend goes through the steps in Python, and the tracing exporter writes every one of them out: a signal
of 500 samples made 25,000 operators, in minutes. Torch's own have the same gates (LSTM: i, f, g, o as Keras; GRU: r, z,
n for Keras' z, r, h with ``reset_after``) and are written as one operator of ONNX.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor


@contextlib.contextmanager
def whole_recurrences() -> Iterator[None]:
    """While it is open, Keras' layers LSTM and GRU of the usual activations are torch's."""
    from keras.src import backend

    before = {"lstm": backend.lstm, "gru": backend.gru}
    backend.lstm, backend.gru = _lstm(backend.lstm), _gru(backend.gru)
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(backend, name, function)


def _lstm(steps: Callable[..., Any]) -> Callable[..., Any]:
    """As Keras' own function, which takes what torch's does not know: masks, other activations, no bias."""

    def lstm(inputs: Any, state: Any, cell: Any, mask: Any, **options: Any) -> Any:
        bias = options["bias"]
        if mask is not None or bias is None or not _are_usual(options) or not options.get("batch_first", True):
            return steps(inputs, state, cell, mask, **options)
        x, kernel, recurrent, offset = _tensors(inputs, options)
        weights = [kernel.T.contiguous(), recurrent.T.contiguous(), offset, torch.zeros_like(offset)]
        hidden = [_state(s, kernel) for s in (state, cell)]
        found, last, memory = torch.lstm(x, hidden, weights, True, 1, 0.0, False, False, True)
        return last[0], found if options["return_sequences"] else last[0][:, None], [last[0], memory[0]]

    return lstm


def _gru(steps: Callable[..., Any]) -> Callable[..., Any]:
    """As Keras' own function; torch's resets behind the product with the recurrent weights, as Keras' default."""

    def gru(inputs: Any, state: Any, mask: Any, **options: Any) -> Any:
        usual = _are_usual(options) and options.get("reset_after", True)
        if mask is not None or options["bias"] is None or not usual:
            return steps(inputs, state, mask, **options)
        x, kernel, recurrent, offset = _tensors(inputs, options)
        turned = [torch.cat([r, z, h], dim=-1) for z, r, h in (t.chunk(3, dim=-1) for t in (kernel, recurrent, offset))]
        weights = [turned[0].T.contiguous(), turned[1].T.contiguous(), turned[2][0], turned[2][1]]
        found, last = torch.gru(x, _state(state, kernel), weights, True, 1, 0.0, False, False, True)
        return last[0], found if options["return_sequences"] else last[0][:, None], [last[0]]

    return gru


def _are_usual(options: dict[str, Any]) -> bool:
    from keras import activations

    usual = {"activation": activations.tanh, "recurrent_activation": activations.sigmoid}
    return all(options[name] is function for name, function in usual.items())


def _tensors(inputs: Any, options: dict[str, Any]) -> list[Tensor]:
    """The sequence (N, T, C), from its end where the layer goes backwards, and the weights."""
    from keras import ops

    kernel, *rest = (ops.convert_to_tensor(options[name]) for name in ("kernel", "recurrent_kernel", "bias"))
    x = ops.convert_to_tensor(inputs).to(kernel.dtype)
    return [x.flip(1) if options["go_backwards"] else x, kernel, *rest]


def _state(state: Any, like: Tensor) -> Tensor:
    """(1, N, units) of (N, units)."""
    from keras import ops

    return ops.convert_to_tensor(state).to(like.dtype)[None]
