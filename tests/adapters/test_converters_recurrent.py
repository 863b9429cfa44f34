"""LSTM, GRU and RNN in every form that ONNX has, the twin against ONNX Runtime; gradients against arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from convscope.adapters.twin.build import TwinFactory
from convscope.adapters.twin.converters.quantize import fake_quantized_dynamically, without_rounding
from tests.single_node import difference

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FUNCTIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}
# ONNX Runtime's own defaults differ for some where the constants are left out, so both are given
NAMES = ["Sigmoid", "Tanh", "Relu", "HardSigmoid", "LeakyRelu", "Elu", "Softsign", "Affine", "ScaledTanh"]
ALPHA = {"HardSigmoid": 0.25, "LeakyRelu": 0.2, "Elu": 0.7, "Affine": 0.5, "ScaledTanh": 1.2}
BETA = {"HardSigmoid": 0.4, "Affine": 0.1, "ScaledTanh": 0.6}


@st.composite
def recurrences(draw: st.DrawFn) -> tuple[str, list[np.ndarray | None], dict[str, Any]]:
    op = draw(st.sampled_from(sorted(GATES)))
    direction = draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    count = 2 if direction == "bidirectional" else 1
    steps, rows, width, hidden = (draw(st.integers(1, 4)) for _ in range(4))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.7, shape).astype(np.float32)

    gates = GATES[op] * hidden
    inputs: list[np.ndarray | None] = [normal(steps, rows, width), normal(count, gates, width)]
    inputs.append(normal(count, gates, hidden))
    inputs.append(normal(count, 2 * gates) if draw(st.booleans()) else None)
    inputs.append(rng.integers(1, steps + 1, rows).astype(np.int32) if draw(st.booleans()) else None)
    inputs.append(normal(count, rows, hidden) if draw(st.booleans()) else None)
    attributes: dict[str, Any] = {"direction": direction, "hidden_size": hidden}
    if op == "LSTM":
        inputs.append(normal(count, rows, hidden) if draw(st.booleans()) else None)
        inputs.append(normal(count, 3 * hidden) if draw(st.booleans()) else None)
        attributes["input_forget"] = draw(st.integers(0, 1))
    if op == "GRU":
        attributes["linear_before_reset"] = draw(st.integers(0, 1))
    if draw(st.booleans()):
        names = [draw(st.sampled_from(NAMES)) for _ in range(FUNCTIONS[op] * count)]
        attributes["activations"] = names
        attributes["activation_alpha"] = [ALPHA[n] for n in names if n in ALPHA]
        attributes["activation_beta"] = [BETA[n] for n in names if n in BETA]
    if draw(st.booleans()):
        attributes["clip"] = 0.9
    return op, inputs, {k: v for k, v in attributes.items() if v != []}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(recurrences(), st.booleans())
def test_every_form_computes_what_onnx_runtime_computes(
    case: tuple[str, list[np.ndarray | None], dict[str, Any]], computed: bool
) -> None:
    op, inputs, attributes = case
    assert difference(op, inputs, attributes, outputs=3 if op == "LSTM" else 2, opset=14, computed=computed) == ""


@pytest.mark.parametrize("op", sorted(GATES))
def test_the_gradient_through_time_is_that_of_arithmetic(op: str) -> None:
    rng = np.random.default_rng(1)
    weights = [rng.normal(0, 0.5, (1, GATES[op] * 3, n)).astype(np.float32) for n in (2, 3)]
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node(op, ["x", "w", "r"], ["y"], hidden_size=3)],
            "g",
            [helper.make_tensor_value_info("x", 1, [4, 1, 2])],
            [helper.make_empty_tensor_value_info("y")],
            [numpy_helper.from_array(v, n) for n, v in zip("wr", weights, strict=True)],
        ),
        opset_imports=[helper.make_opsetid("", 14)],
    )
    twin = TwinFactory(model)(("y",), ("x",), dtype=torch.float64)
    x = torch.tensor(rng.normal(size=(4, 1, 2)), requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: twin(v)["y"], (x,))


def test_the_quantized_lstm_stays_within_the_quantizers_steps() -> None:
    rng = np.random.default_rng(2)
    width, hidden = 8, 16
    constants: dict[str, np.ndarray] = {
        "w": rng.integers(-127, 128, (1, width, 4 * hidden)).astype(np.int8),
        "r": rng.integers(-127, 128, (1, hidden, 4 * hidden)).astype(np.int8),
        "b": rng.normal(0, 0.2, (1, 8 * hidden)).astype(np.float32),
        "ws": np.array([0.006], np.float32),
        "wz": np.array([0], np.int8),
        "rs": np.array([0.004], np.float32),
        "rz": np.array([0], np.int8),
    }
    names = ["x", "w", "r", "b", "", "", "", "", "ws", "wz", "rs", "rz"]
    node = helper.make_node("DynamicQuantizeLSTM", names, ["y"], domain="com.microsoft", hidden_size=hidden)
    model = helper.make_model(
        helper.make_graph(
            [node],
            "g",
            [helper.make_tensor_value_info("x", 1, [6, 1, width])],
            [helper.make_empty_tensor_value_info("y")],
            [numpy_helper.from_array(v, n) for n, v in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 14), helper.make_opsetid("com.microsoft", 1)],
        ir_version=8,
    )
    x = rng.normal(size=(6, 1, width)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": x})
    found = TwinFactory(model)(("y",), ("x",))(torch.from_numpy(x))["y"].numpy()
    plain = _without_rounding(constants, x)
    assert np.abs(found - expected).max() < 2e-3  # one step of the states is 1/127 of their range
    assert np.abs(found - expected).max() < 0.3 * np.abs(plain - expected).max()


def _without_rounding(c: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """The LSTM of the dequantized weights on unrounded values, by its equations."""
    w, r = c["w"][0] * c["ws"], c["r"][0] * c["rs"]
    half = c["b"].shape[1] // 2
    bias = c["b"][0, :half] + c["b"][0, half:]
    h = cell = np.zeros((1, r.shape[0]))
    states = []
    for step in x:
        i, o, f, g = np.split(step @ w + h @ r + bias, 4, axis=1)
        i, o, f = (1 / (1 + np.exp(-v)) for v in (i, o, f))
        cell = f * cell + i * np.tanh(g)
        h = o * np.tanh(cell)
        states.append(h)
    return np.stack(states)[:, None]


def test_what_is_quantized_on_the_way_has_without_its_rounding_the_gradient_of_its_numbers() -> None:
    """A zero point is a rounded number, and clips the end of the range: of that the gradient knew nothing."""
    x = torch.tensor([-1.001, 0.3, 2.0], dtype=torch.float64, requires_grad=True)
    with without_rounding():
        (slope,) = torch.autograd.grad(fake_quantized_dynamically(x).sum(), x)
        steps = 1e-6 * torch.eye(3, dtype=torch.float64)
        ahead, behind = ([float(fake_quantized_dynamically(x.detach() + s * h).sum()) for h in steps] for s in (1, -1))
    assert np.allclose(slope, (np.array(ahead) - behind) / 2e-6, atol=1e-6)
