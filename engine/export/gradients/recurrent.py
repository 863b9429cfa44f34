"""Gradients of LSTM, GRU and RNN: backpropagation through time, as a Scan over the steps.

The gates of all steps are had at once from the operator's own states; only what a step hands on to the one before it
is walked, so that a file takes sequences of any length. Gates and equations are ONNX's, see
`adapters.twin.converters.recurrent`. Where a sequence ends early (``sequence_lens``), its state passes the steps beyond
its end unchanged, and their outputs are zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..writer import Value
from .base import Gradient, Gradients, Visit

_X, _W, _R, _B, _LENGTHS, _H, _C, _P, _W_STEP, _W_ZERO, _R_STEP, _R_ZERO = range(12)  # the operators' inputs
_QUANTIZED = "DynamicQuantizeLSTM"  # of com.microsoft: weights of 8 bit, values rounded to 8 bit as they come
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
_DEFAULTS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}


@dataclass(frozen=True)
class _Activation:
    """A gate's function, and its slope from its value.

    Attributes:
        alpha, beta: its constants, where it has any and the model gives none.
        value: of (x, alpha, beta).
        slope: of (y, alpha, beta).
    """

    value: Callable[[Value, float, float], Value]
    slope: Callable[[Value, float, float], Value]
    alpha: float | None = None
    beta: float | None = None


_ACTIVATIONS = {
    "Sigmoid": _Activation(lambda x, a, b: x.apply("Sigmoid"), lambda y, a, b: y * (1.0 - y)),
    "Tanh": _Activation(lambda x, a, b: x.apply("Tanh"), lambda y, a, b: 1.0 - y * y),
    "Relu": _Activation(lambda x, a, b: x.apply("Relu"), lambda y, a, b: (y > 0.0).cast()),
    "Softsign": _Activation(
        lambda x, a, b: x.apply("Softsign"), lambda y, a, b: (1.0 - y.apply("Abs")) * (1.0 - y.apply("Abs"))
    ),
    "Softplus": _Activation(lambda x, a, b: x.apply("Softplus"), lambda y, a, b: 1.0 - (-y).exp()),
    "HardSigmoid": _Activation(
        lambda x, a, b: x.apply("HardSigmoid", alpha=a, beta=b),
        lambda y, a, b: (y > 0.0).apply("And", y < 1.0).cast() * a, 0.2, 0.5,
    ),
    "LeakyRelu": _Activation(
        lambda x, a, b: x.apply("LeakyRelu", alpha=a), lambda y, a, b: (y > 0.0).cast() * (1.0 - a) + a, 0.01
    ),
    "Elu": _Activation(
        lambda x, a, b: x.apply("Elu", alpha=a), lambda y, a, b: y.writer.where(y > 0.0, 1.0, y + a), 1.0
    ),
    "Affine": _Activation(lambda x, a, b: x * a + b, lambda y, a, b: y * 0.0 + a, 1.0, 0.0),
    "ScaledTanh": _Activation(
        lambda x, a, b: (x * b).apply("Tanh") * a, lambda y, a, b: (1.0 - (y / a) * (y / a)) * (a * b), 1.0, 1.0
    ),
}  # fmt: skip
_Chosen = tuple[_Activation, float, float]  # with its constants

Rows = Mapping[str, Value]


@dataclass(frozen=True)
class _Walk:
    """What a direction gives: the gradients of the gates (T, N, gates) before the product, and of the first states."""

    gates: Value
    states: tuple[Value, ...]


def _recurrent(v: Visit) -> Gradients:
    turns = _DIRECTIONS.get(str(v.get("direction", "forward")))
    if turns is None:
        raise v.unsupported(f"direction '{str(v.get('direction'))[:20]}'")
    if not v.wanted <= {_X, _H, _C}:
        raise v.unsupported("weights that depend on the image")
    for name in ("layout", "clip", "input_forget"):
        if v.get(name, 0):
            raise v.unsupported(f"{name}={v.get(name):g}")
    activations = _activations(v, len(turns))
    outputs = _outputs(v)
    parts, states = [], []
    for index, turned in enumerate(turns):
        d = _Direction(v, index, turned, activations[index], outputs)
        walk = _WALKS[_kind(v)](d)
        parts.append(walk.gates.apply("MatMul", d.from_input))
        states.append(walk.states)
    found = {_X: parts[0] if len(parts) == 1 else parts[0] + parts[1]}
    for position, of_directions in zip((_H, _C), zip(*states, strict=True), strict=False):
        found[position] = v.w.add("Concat", *(state.unsqueeze([0]) for state in of_directions), axis=0)
    return found


def _activations(v: Visit, directions: int) -> list[tuple[_Chosen, ...]]:
    """Those of each direction; constants are given to those that take any, in order."""
    own = _DEFAULTS[_kind(v)]
    given = [n.decode() if isinstance(n, bytes) else str(n) for n in v.get("activations", ())] or [*own] * directions
    known = {name.lower(): found for name, found in _ACTIVATIONS.items()}
    if unknown := [name for name in given if name.lower() not in known]:
        raise v.unsupported(f"activation '{unknown[0][:30]}'; {', '.join(_ACTIVATIONS)} have one")
    if len(given) != len(own) * directions:
        raise v.unsupported(f"{len(given)} activations for {directions} directions")
    alphas, betas = iter(v.get("activation_alpha") or ()), iter(v.get("activation_beta") or ())
    found: list[_Chosen] = []
    for name in given:
        chosen = known[name.lower()]
        alpha = 0.0 if chosen.alpha is None else float(next(alphas, chosen.alpha))
        beta = 0.0 if chosen.beta is None else float(next(betas, chosen.beta))
        found.append((chosen, alpha, beta))
    return [tuple(found[i * len(own) : (i + 1) * len(own)]) for i in range(directions)]


def _kind(v: Visit) -> str:
    return "LSTM" if v.node.op_type == _QUANTIZED else v.node.op_type


def _weights(v: Visit) -> tuple[Value, Value]:
    """(directions, gates, inputs) and (directions, gates, hidden)."""
    if v.node.op_type != _QUANTIZED:
        return v.x(_W), v.x(_R)
    return _dequantized(v, _W, _W_STEP, _W_ZERO), _dequantized(v, _R, _R_STEP, _R_ZERO)


def _dequantized(v: Visit, weights: int, step: int, zero: int) -> Value:
    """From 8 bit (directions, inputs, gates), with one scale a direction or a gate."""
    count = v.shape(weights)[0]
    values = v.raw(weights).cast()
    if v.has(zero):
        values = values - v.raw(zero).cast().reshape([count, 1, -1])
    return (values * v.raw(step).cast().reshape([count, 1, -1])).transpose([0, 2, 1])


def _outputs(v: Visit) -> Value:
    """(T, directions, N, hidden) the states; computed again where the model keeps the last ones alone."""
    if v.node.output[0]:
        return v.y()
    if v.node.domain:
        raise v.unsupported("the last state alone, without those of the steps")
    inputs = [v.raw(i) if v.has(i) else None for i in range(len(v.node.input))]
    attributes = {a.name: v.get(a.name) for a in v.node.attribute}
    again = v.w.add(v.node.op_type, *inputs, **attributes)
    return again if v.x().name == v.node.input[0] else again.cast()


class _Direction:
    """One direction of a node: weights, states and gradients without the directions' axis.

    Attributes:
        turned: it runs from the end to the beginning.
        hidden: how many values a state has.
        outputs: (T, N, hidden) the states.
        from_input, weights: (gates, inputs) and (gates, hidden) what the gates read of the input and of the state.
    """

    def __init__(self, v: Visit, index: int, turned: bool, activations: tuple[_Chosen, ...], outputs: Value) -> None:
        self.is_rounded = v.node.op_type == _QUANTIZED
        self.w, self.turned, self.hidden = v.w, turned, v.shape(_R)[1 if self.is_rounded else 2]
        self._v, self._index, self._activations = v, v.w.integers(index), activations
        self.outputs = outputs.apply("Gather", self._index, axis=1)
        self.from_input, self.weights = (self.own(weights) for weights in _weights(v))

    def own(self, value: Value) -> Value:
        """Of a tensor whose first axis counts directions."""
        return value.apply("Gather", self._index, axis=0)

    def first(self, position: int) -> Value:
        """(N, hidden) a first state."""
        if self._v.has(position):
            return self.own(self._v.x(position))
        return self.w.zeros(self.w.concat(self._v.raw(_X).shape(1, 2), [self.hidden]))

    def last(self, output: int) -> Value:
        """(N, hidden) the gradient that comes in at a last state."""
        known = self._v.upstream(output) if output < len(self._v.node.output) else None
        return self.w.zeros(self.outputs.shape(1)) if known is None else self.own(known)

    @cached_property
    def incoming(self) -> Value | None:
        """(T, N, hidden) the gradient that comes in at the steps' outputs, None where nothing asks for them."""
        whole = self._v.upstream(0)
        return None if whole is None else self.counted(whole.apply("Gather", self._index, axis=1))

    @cached_property
    def before(self) -> Value:
        """(T, N, hidden) the state that each step starts from."""
        w, first = self.w, self.first(_H).unsqueeze([0])
        if not self.turned:
            return w.add("Concat", first, self.outputs.slice(w.integers([0]), w.integers([-1]), [0]), axis=0)
        behind = self.outputs.slice(w.integers([1]), w.integers([2**62]), [0])
        states = w.add("Concat", behind, first, axis=0)
        follows = self._within(1)
        return states if follows is None else w.where(follows, states, first)

    @property
    def within(self) -> Value | None:
        """(T, N, 1) whether a step lies within its sequence; None where all sequences are whole."""
        return self._within(0)

    def _within(self, ahead: int) -> Value | None:
        if not self._v.has(_LENGTHS):
            return None
        w = self.w
        count, first = self._v.raw(_X).shape(0, 1).squeeze([0]), w.integers(ahead)
        steps = w.add("Range", first, count + first, w.integers(1))
        lengths = self._v.raw(_LENGTHS).cast(np.int64)
        return steps.reshape([-1, 1, 1]) < lengths.reshape([1, -1, 1])

    @property
    def beyond(self) -> Value | None:
        """(T, N, 1) one beyond a sequence's end; None where all are whole."""
        within = self.within
        return None if within is None else within.apply("Not").cast()

    def counted(self, values: Value, beyond: float = 0.0) -> Value:
        """(T, N, ...) with another value beyond a sequence's end."""
        within = self.within
        return values if within is None else self.w.where(within, values, beyond)

    def gates(self) -> tuple[Value, Value]:
        """(T, N, gates) before the activations: what comes from the input, and from the state, each with its bias."""
        size = self.hidden * {"LSTM": 4, "GRU": 3, "RNN": 1}[_kind(self._v)]
        x, before = self._v.x(_X), self.before
        if self.is_rounded:  # the input over the range that it has, the states of each step over their own
            x, before = _rounded(x, [0, 1, 2]), _rounded(before, [1, 2])
        parts = []
        for values, weights, start in ((x, self.from_input, 0), (before, self.weights, size)):
            part = values.apply("MatMul", weights.transpose([1, 0]))
            parts.append(part + self.bias(start, start + size) if self.has_bias else part)
        return parts[0], parts[1]

    @property
    def has_bias(self) -> bool:
        """Whether the node has biases."""
        return self._v.has(_B)

    def bias(self, start: int, end: int) -> Value:
        """A part of the direction's biases."""
        return self.own(self._v.x(_B)).slice(self.w.integers([start]), self.w.integers([end]), [0])

    def parts(self, values: Value, count: int, axis: int = -1) -> list[Value]:
        """An axis cut into as many gates."""
        bounds = [self.w.integers([i * self.hidden]) for i in range(count + 1)]
        return [values.slice(bounds[i], bounds[i + 1], [axis]) for i in range(count)]

    def peepholes(self) -> list[Value]:
        """Three vectors: of the input, output and forget gates; none where the node has none."""
        return self.parts(self.own(self._v.x(_P)), 3) if self._v.has(_P) else []

    def act(self, place: int, values: Value) -> Value:
        """One of the node's activations."""
        chosen, alpha, beta = self._activations[place]
        return chosen.value(values, alpha, beta)

    def slope(self, place: int, value: Value) -> Value:
        """An activation's slope, from its value."""
        chosen, alpha, beta = self._activations[place]
        return chosen.slope(value, alpha, beta)

    def resets_after(self) -> bool:
        """GRU: the reset gate is applied after the product with R."""
        return bool(self._v.get("linear_before_reset", 0))


def _rounded(x: Value, axes: Sequence[int]) -> Value:
    """To 8 bit over the range that it has along the axes, 0 included, and back, as DynamicQuantizeLinear has it."""
    w = x.writer
    low = x.reduce("ReduceMin", axes).apply("Min", w.number(0.0))
    high = x.reduce("ReduceMax", axes).apply("Max", w.number(0.0))
    step = (high - low) / 255.0
    step = w.where(step.equals(0.0), 1.0, step)
    zero = (-low / step).apply("Round")
    whole = ((x / step).apply("Round") + zero).apply("Clip", w.number(0.0), w.number(255.0))
    return (whole - zero) * step


def _joined(*values: Value) -> Value:
    return values[0].writer.add("Concat", *values, axis=-1)


def _plus(value: Value, other: Value | None) -> Value:
    return value if other is None else value + other


def _rnn(d: _Direction) -> _Walk:
    slopes = d.counted(d.slope(0, d.outputs))

    def step(states: list[Value], rows: Rows) -> tuple[list[Value], list[Value]]:
        dh = _plus(states[0], rows.get("incoming"))
        gates = dh * rows["slopes"]
        back = gates.apply("MatMul", d.weights)
        return [back + dh * rows["beyond"] if "beyond" in rows else back], [gates]

    rows = {"slopes": slopes, "incoming": d.incoming, "beyond": d.beyond}
    states, (gates,) = d.w.scan(step, [d.last(1)], rows, reverse=not d.turned)
    return _Walk(gates, tuple(states))


def _lstm(d: _Direction) -> _Walk:
    """Gates in ONNX's order: input, output, forget, cell."""
    from_input, from_state = d.gates()
    i, o, f, g = d.parts(from_input + from_state, 4)
    g = d.act(1, g)
    peepholes = d.peepholes()

    def opened(gate: Value, cell: Value, place: int) -> Value:
        return d.act(0, gate + cell * peepholes[place] if peepholes else gate)

    def forward(states: list[Value], rows: Rows) -> tuple[list[Value], list[Value]]:
        (before,) = states
        after = opened(rows["f"], before, 2) * before + opened(rows["i"], before, 0) * rows["g"]
        if "beyond" in rows:
            after = after.writer.where(rows["beyond"] > 0.0, before, after)
        return [after], [before, after]

    rows = {"i": i, "f": f, "g": g, "beyond": d.beyond}
    _, (before, after) = d.w.scan(forward, [d.first(_C)], rows, reverse=d.turned)
    i, o, f = opened(i, before, 0), opened(o, after, 1), opened(f, before, 2)
    t = d.act(2, after)
    slopes = _joined(g * d.slope(0, i), t * d.slope(0, o), before * d.slope(0, f), i * d.slope(1, g))

    def step(states: list[Value], rows: Rows) -> tuple[list[Value], list[Value]]:
        dh = _plus(states[0], rows.get("incoming"))
        dc = states[1] + dh * rows["to_cell"]
        if peepholes:
            dc = dc + dh * d.parts(rows["slopes"], 4)[1] * peepholes[1]
        gates = _joined(dc, dh, dc, dc) * rows["slopes"]
        back, back_cell = gates.apply("MatMul", d.weights), dc * rows["f"]
        if peepholes:
            of_input, _, of_forget, _ = d.parts(gates, 4)
            back_cell = back_cell + of_input * peepholes[0] + of_forget * peepholes[2]
        return [back + dh * rows["beyond"] if "beyond" in rows else back, back_cell], [gates]

    rows = {
        "slopes": d.counted(slopes), "to_cell": d.counted(o * d.slope(2, t)), "f": d.counted(f, 1.0),
        "incoming": d.incoming, "beyond": d.beyond,
    }  # fmt: skip
    states, (gates,) = d.w.scan(step, [d.last(1), d.last(2)], rows, reverse=not d.turned)
    return _Walk(gates, tuple(states))


def _gru(d: _Direction) -> _Walk:
    """Gates in ONNX's order: update, reset, hidden."""
    h, w = d.hidden, d.w
    from_input, from_state = d.gates()
    own, recalled = d.parts(from_input, 3), d.parts(from_state, 3)
    z, r = d.act(0, own[0] + recalled[0]), d.act(0, own[1] + recalled[1])
    of_update, of_reset, of_hidden = d.parts(d.weights, 3, axis=0)
    of_gates = w.add("Concat", of_update, of_reset, axis=0)
    after = d.resets_after()
    again = recalled[2] if after else (r * d.before).apply("MatMul", of_hidden.transpose([1, 0]))
    if d.has_bias and not after:
        again = again + d.bias(5 * h, 6 * h)
    n = d.act(1, own[2] + (r * again if after else again))
    to_hidden = d.counted((1.0 - z) * d.slope(1, n))
    to_update = d.counted((d.before - n) * d.slope(0, z))
    to_reset = d.counted((again if after else d.before) * d.slope(0, r))

    def step(states: list[Value], rows: Rows) -> tuple[list[Value], list[Value]]:
        dh = _plus(states[0], rows.get("incoming"))
        dn = dh * rows["to_hidden"]
        inner = dn * rows["r"] if after else dn
        through = inner.apply("MatMul", of_hidden)
        reset = (dn if after else through) * rows["to_reset"]
        gates = _joined(dh * rows["to_update"], reset)
        back = dh * rows["z"] + gates.apply("MatMul", of_gates) + (through if after else through * rows["r"])
        return [back], [_joined(gates, dn)]

    rows = {
        "to_hidden": to_hidden, "to_update": to_update, "to_reset": to_reset, "r": r, "z": d.counted(z, 1.0),
        "incoming": d.incoming,
    }  # fmt: skip
    states, (gates,) = w.scan(step, [d.last(1)], rows, reverse=not d.turned)
    return _Walk(gates, tuple(states))


_WALKS: dict[str, Callable[[_Direction], _Walk]] = {"RNN": _rnn, "LSTM": _lstm, "GRU": _gru}

RECURRENT: dict[str, Gradient] = dict.fromkeys((*_WALKS, _QUANTIZED), _recurrent)
