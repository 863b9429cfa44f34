"""LSTM, GRU and RNN by ONNX's own equations, step by step: torch's modules lack peepholes, clips and activations.

    LSTM   i = f(x Wi' + h Ri' + Pi c + bi)     o = f(x Wo' + h Ro' + Po c* + bo)     f = f(x Wf' + h Rf' + Pf c + bf)
           c* = f c + i g(x Wc' + h Rc' + bc)   h* = o h(c*)
    GRU    z, r alike                           n = g(x Wh' + (r h) Rh' + bh)         h* = (1 - z) n + z h
    RNN    h* = f(x Wi' + h Ri' + b)

A sequence that is shorter than the longest stops there: its state stays and its output is 0 from then on. In the
reverse direction it starts at its own end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Converted, Converter, Function, Node
from .quantize import fake_quantized_dynamically

Activation = Callable[[Tensor], Tensor]
State = tuple[Tensor, ...]  # (h,) or (h, c), each (N, hidden)
Cell = Callable[[Tensor, State], State]
Product = Callable[[Tensor, Tensor], Tensor]  # (..., in) and (out, in) -> (..., out)

# name -> (alpha, beta) where the model gives none, and the function of (x, alpha, beta)
_ACTIVATIONS: dict[str, tuple[float | None, float | None, Callable[..., Tensor]]] = {
    "relu": (None, None, lambda x, a, b: F.relu(x)),
    "tanh": (None, None, lambda x, a, b: torch.tanh(x)),
    "sigmoid": (None, None, lambda x, a, b: torch.sigmoid(x)),
    "softsign": (None, None, lambda x, a, b: F.softsign(x)),
    "softplus": (None, None, lambda x, a, b: F.softplus(x, threshold=1e9)),
    "leakyrelu": (0.01, None, lambda x, a, b: F.leaky_relu(x, a)),
    "thresholdedrelu": (1.0, None, lambda x, a, b: torch.where(x > a, x, torch.zeros_like(x))),
    "elu": (1.0, None, lambda x, a, b: F.elu(x, a)),
    "affine": (1.0, 0.0, lambda x, a, b: a * x + b),
    "scaledtanh": (1.0, 1.0, lambda x, a, b: a * torch.tanh(b * x)),
    "hardsigmoid": (0.2, 0.5, lambda x, a, b: torch.clamp(a * x + b, 0, 1)),
}
_DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


@dataclass(frozen=True)
class _Form:
    """What a node's attributes say."""

    kind: str
    reversed_: tuple[bool, ...]
    activations: tuple[tuple[Activation, ...], ...]  # per direction
    batch_first: bool
    couples_gates: bool
    resets_after: bool  # GRU: the reset gate is applied after the product with R

    @property
    def states(self) -> int:
        return 2 if self.kind == "LSTM" else 1


def _form(node: Node, kind: str) -> _Form:
    direction = str(node.get("direction", "forward")).lower()
    if direction not in _DIRECTIONS:
        raise node.unsupported(f"direction '{direction[:20]}'")
    turns = _DIRECTIONS[direction]
    return _Form(
        kind=kind,
        reversed_=turns,
        activations=_activations(node, kind, len(turns)),
        batch_first=bool(node.get("layout", 0)),
        couples_gates=bool(node.get("input_forget", 0)),
        resets_after=bool(node.get("linear_before_reset", 0)),
    )


def _activations(node: Node, kind: str, directions: int) -> tuple[tuple[Activation, ...], ...]:
    each = len(_DEFAULTS[kind])
    names = list(node.get("activations") or _DEFAULTS[kind] * directions)
    if len(names) != each * directions:
        raise node.unsupported(f"{len(names)} activations for {directions} directions")
    alphas, betas = iter(node.get("activation_alpha") or ()), iter(node.get("activation_beta") or ())
    limit = float(node.get("clip", 0.0) or 0.0)
    # ONNX Runtime does not clip the input of the last one, which makes an LSTM's state its output
    unclipped = 2 if kind == "LSTM" else each
    found = [
        _activation(node, str(name), alphas, betas, 0.0 if i % each == unclipped else limit)
        for i, name in enumerate(names)
    ]
    return tuple(tuple(found[i * each : (i + 1) * each]) for i in range(directions))


def _activation(node: Node, name: str, alphas: Iterator[float], betas: Iterator[float], limit: float) -> Activation:
    """One gate's function; it takes the next of the node's constants where it has any, and clips first."""
    if name.lower() not in _ACTIVATIONS:
        raise node.unsupported(f"activation '{name[:30]}'")
    alpha, beta, function = _ACTIVATIONS[name.lower()]
    alpha = next(alphas, alpha) if alpha is not None else None
    beta = next(betas, beta) if beta is not None else None
    if not limit:
        return lambda x: function(x, alpha, beta)
    return lambda x: function(torch.clamp(x, -limit, limit), alpha, beta)


def _recurrent(node: Node) -> Converted:
    form = _form(node, node.op)

    def run(x: Tensor, w: Tensor, r: Tensor, *more: Tensor | None) -> Any:
        b, lengths, h, c, peepholes = _filled(more, 5)
        return _sequence(form, x, w, r, F.linear, b, lengths, [h, c][: form.states], peepholes)

    return Converted(Function(run), node.inputs)


def _quantized_lstm(node: Node) -> Converted:
    """com.microsoft's DynamicQuantizeLSTM: 8-bit weights, inputs and states rounded to 8 bit as they come.

    The rounding of the states spans all sequences of the batch. Gradients pass it straight through.
    """
    form = _form(node, "LSTM")

    def run(x: Tensor, w: Tensor, r: Tensor, *more: Tensor | None) -> Any:
        b, lengths, h, c, peepholes, w_scale, w_zero, r_scale, r_zero = _filled(more, 9)
        assert w_scale is not None and r_scale is not None  # the operator requires them
        w, r = _dequantized(w, w_scale, w_zero, x.dtype), _dequantized(r, r_scale, r_zero, x.dtype)
        return _sequence(form, x, w, r, _rounded_product, b, lengths, [h, c], peepholes)

    return Converted(Function(run), node.inputs)


def _filled(inputs: Sequence[Tensor | None], count: int) -> list[Tensor | None]:
    """The optional inputs, None for those that are left out at the end."""
    return [*inputs, *[None] * (count - len(inputs))]


def _rounded_product(values: Tensor, weight: Tensor) -> Tensor:
    return F.linear(fake_quantized_dynamically(values), weight)


def _dequantized(values: Tensor, scale: Tensor, zero: Tensor | None, dtype: torch.dtype) -> Tensor:
    """(directions, gates, inputs) from 8-bit (directions, inputs, gates), with one scale a direction or a gate."""
    count = values.shape[0]
    shift = 0.0 if zero is None else zero.to(dtype).reshape(count, 1, -1)
    return ((values.to(dtype) - shift) * scale.to(dtype).reshape(count, 1, -1)).transpose(1, 2)


def _sequence(
    form: _Form,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    product: Product,
    b: Tensor | None,
    lengths: Tensor | None,
    initial: Sequence[Tensor | None],
    peepholes: Tensor | None,
) -> tuple[Tensor, ...]:
    """(Y, Y_h[, Y_c]); ``w`` is (directions, gates, inputs) and ``r`` (directions, gates, hidden)."""
    x = x.transpose(0, 1) if form.batch_first else x
    rows, hidden = x.shape[1], r.shape[-1]
    outputs, finals = [], []
    for d, is_reversed in enumerate(form.reversed_):
        start = tuple(_initial(form, state, d, rows, hidden, x) for state in initial)
        bias = None if b is None else b[d].chunk(2)
        cell = _cell(form, d, product, r[d], bias, None if peepholes is None else peepholes[d])
        states, final = _steps(product(x, w[d]), start, cell, lengths, is_reversed)
        outputs.append(states)
        finals.append(final)
    y = torch.stack(outputs, dim=1)  # (T, directions, N, hidden)
    last = [torch.stack([final[s] for final in finals]) for s in range(form.states)]
    if form.batch_first:
        return (y.permute(2, 0, 1, 3), *(state.transpose(0, 1) for state in last))
    return (y, *last)


def _initial(form: _Form, state: Tensor | None, direction: int, rows: int, hidden: int, like: Tensor) -> Tensor:
    if state is None:
        return like.new_zeros(rows, hidden)
    return (state[:, direction] if form.batch_first else state[direction]).to(like.dtype)


def _steps(gates: Tensor, state: State, cell: Cell, lengths: Tensor | None, is_reversed: bool) -> tuple[Tensor, State]:
    """The states (T, N, hidden) that each step gives out, and the last state; ``gates`` is (T, N, gates)."""
    times = range(gates.shape[0])
    outputs: list[Tensor] = []
    for t in reversed(times) if is_reversed else times:
        after = cell(gates[t], state)
        given = after[0]
        if lengths is not None:
            goes_on = (lengths > t).reshape(-1, 1)
            after = tuple(torch.where(goes_on, new, old) for new, old in zip(after, state, strict=True))
            given = torch.where(goes_on, given, torch.zeros_like(given))
        state = after
        outputs.append(given)
    if not outputs:
        return gates.new_zeros(0, *state[0].shape), state
    return torch.stack(outputs[::-1] if is_reversed else outputs), state


def _cell(
    form: _Form, direction: int, product: Product, r: Tensor, bias: tuple[Tensor, ...] | None, p: Tensor | None
) -> Cell:
    """One step of one direction."""
    functions = form.activations[direction]
    if form.kind == "GRU":
        return partial(_gru_cell, form.resets_after, functions, product, r, bias)
    total = None if bias is None else bias[0] + bias[1]
    if form.kind == "LSTM":
        return partial(_lstm_cell, form.couples_gates, functions, product, r, total, p)
    return lambda x, state: (functions[0](_plus(x + product(state[0], r), total)),)


def _lstm_cell(
    couples_gates: bool,
    functions: Sequence[Activation],
    product: Product,
    r: Tensor,
    bias: Tensor | None,
    peepholes: Tensor | None,
    x: Tensor,
    state: State,
) -> State:
    gate, candidate, output = functions
    h, c = state
    i, o, f, g = _plus(x + product(h, r), bias).chunk(4, dim=-1)
    pi, po, pf = peepholes.chunk(3) if peepholes is not None else (None, None, None)
    i = gate(i if pi is None else i + pi * c)
    f = 1 - i if couples_gates else gate(f if pf is None else f + pf * c)
    c = f * c + i * candidate(g)
    o = gate(o if po is None else o + po * c)
    return o * output(c), c


def _gru_cell(
    resets_after: bool,
    functions: Sequence[Activation],
    product: Product,
    r: Tensor,
    bias: tuple[Tensor, ...] | None,
    x: Tensor,
    state: State,
) -> State:
    gate, candidate = functions
    (h,) = state
    size = h.shape[-1]
    from_input = _plus(x, None if bias is None else bias[0])
    of_state = _plus(product(h, r[: 2 * size]), None if bias is None else bias[1][: 2 * size])
    z, reset = gate(from_input[..., : 2 * size] + of_state).chunk(2, dim=-1)
    last, last_bias = r[2 * size :], None if bias is None else bias[1][2 * size :]
    recalled = (
        reset * _plus(product(h, last), last_bias) if resets_after else _plus(product(reset * h, last), last_bias)
    )
    return ((1 - z) * candidate(from_input[..., 2 * size :] + recalled) + z * h,)


def _plus(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x + bias


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "LSTM"): _recurrent,
    ("", "GRU"): _recurrent,
    ("", "RNN"): _recurrent,
    ("com.microsoft", "DynamicQuantizeLSTM"): _quantized_lstm,
}
