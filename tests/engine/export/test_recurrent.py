"""LSTM, GRU and RNN inside an exported file: against finite differences, and against torch's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from torch import nn

import convscope

from ...single_node import model_of
from ...tiny import model as tiny_model
from .one_node import Truth, finite_difference_error, written

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STEPS, ROWS, WIDTH, HIDDEN = 5, 3, 4, 2
PARTS = ("bias", "lengths", "states", "form")  # form: peepholes, or the reset gate after the product
CASES = [(), ("bias", "lengths"), PARTS]


def node(op: str, direction: str, parts: tuple[str, ...], seed: int) -> tuple[list[Any], dict[str, Any]]:
    """Inputs and attributes of one node."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.7, shape).astype(np.float32)

    count, gates = 2 if direction == "bidirectional" else 1, GATES[op] * HIDDEN
    inputs: list[Any] = [normal(STEPS, ROWS, WIDTH), normal(count, gates, WIDTH), normal(count, gates, HIDDEN)]
    inputs.append(normal(count, 2 * gates) if "bias" in parts else None)
    inputs.append(np.array([5, 2, 3], np.int32) if "lengths" in parts else None)
    inputs += [normal(count, ROWS, HIDDEN) if "states" in parts else None for _ in range(2 if op == "LSTM" else 1)]
    attributes: dict[str, Any] = {"direction": direction, "hidden_size": HIDDEN}
    if op == "LSTM":
        inputs.append(normal(count, 3 * HIDDEN) if "form" in parts else None)
    if op == "GRU":
        attributes["linear_before_reset"] = int("form" in parts)
    if op == "RNN" and "form" in parts:
        attributes["activations"] = ["Relu"] * count
    while inputs[-1] is None:
        inputs.pop()
    return inputs, attributes


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("parts", CASES, ids="-".join)
def test_the_gradient_through_time_is_the_derivative(op: str, direction: str, parts: tuple[str, ...]) -> None:
    for seed in range(3):
        inputs, attributes = node(op, direction, parts, seed)
        wanted = ([0, 5, 6] if op == "LSTM" else [0, 5]) if "states" in parts else [0]
        for position in wanted:
            error = finite_difference_error(
                op, inputs, attributes, wanted=position, outputs=3 if op == "LSTM" else 2,
                seeded=1 if seed == 1 else None, opset=17, computed=position > 0, seed=seed,
            )  # fmt: skip
            assert error < 2e-5


@pytest.mark.parametrize(
    ("op", "functions", "alphas", "betas"),
    [
        ("LSTM", ["HardSigmoid", "Softsign", "Elu"], [0.3, 0.7], [0.45]),
        ("LSTM", ["HardSigmoid", "Tanh", "Tanh"], [], []),  # as Keras wrote them until 2.3
        ("GRU", ["Sigmoid", "ScaledTanh"], [1.3], [0.8]),
        ("RNN", ["LeakyRelu"], [0.2], []),
        ("RNN", ["Affine"], [0.2], [0.1]),
        ("RNN", ["Softplus"], [], []),
    ],
    ids=str,
)
def test_other_activations_have_their_own_slopes(
    op: str, functions: list[str], alphas: list[float], betas: list[float]
) -> None:
    inputs, own = node(op, "bidirectional", ("bias", "states"), 0)
    constants = {"activation_alpha": alphas * 2, "activation_beta": betas * 2}
    attributes = {**own, "activations": functions * 2, **{name: value for name, value in constants.items() if value}}
    assert finite_difference_error(op, inputs, attributes, outputs=3 if op == "LSTM" else 2, opset=17) < 2e-5


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_a_quantized_lstm_s_gradient_passes_its_rounding(direction: str) -> None:
    """ONNX Runtime and the twin round its states a little differently, which the gradient shows: 1.5e-3 here."""
    rng, width, hidden = np.random.default_rng(2), 8, 16
    count = 2 if direction == "bidirectional" else 1
    constants: dict[str, Any] = {
        "w": rng.integers(-127, 128, (count, width, 4 * hidden)).astype(np.int8),
        "r": rng.integers(-127, 128, (count, hidden, 4 * hidden)).astype(np.int8),
        "b": rng.normal(0, 0.2, (count, 8 * hidden)).astype(np.float32),
        "ws": np.full(count, 0.006, np.float32), "wz": np.zeros(count, np.int8),
        "rs": np.full(count, 0.004, np.float32), "rz": np.zeros(count, np.int8),
    }  # fmt: skip
    names = ["i0", "w", "r", "b", "", "", "", "", "ws", "wz", "rs", "rz"]
    quantized = helper.make_node(
        "DynamicQuantizeLSTM", names, ["y0"], domain="com.microsoft", hidden_size=hidden, direction=direction
    )
    model = tiny_model([quantized], constants, (6, 3, width), ("y0",), input_name="i0")
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    x = rng.normal(size=(6, 3, width)).astype(np.float32)
    upstream = [rng.normal(size=(6, count, 3, hidden)).astype(np.float32)]
    expected = Truth(model, [x], "i0", upstream).autograd()
    np.testing.assert_allclose(written(model, [x], "i0", upstream), expected, atol=5e-3 * np.abs(expected).max())


@pytest.mark.parametrize("op", GATES)
def test_a_node_that_keeps_its_last_state_alone_has_the_same_gradient(op: str) -> None:
    inputs, attributes = node(op, "bidirectional", PARTS, 0)
    model = model_of(op, inputs, attributes, 2, 17)
    model.graph.node[0].output[0] = ""
    del model.graph.output[0]
    upstream = [np.random.default_rng(1).normal(size=(2, ROWS, HIDDEN)).astype(np.float32)]
    expected = Truth(model, inputs, "i0", upstream).autograd()
    np.testing.assert_allclose(written(model, inputs, "i0", upstream), expected, atol=1e-5 * np.abs(expected).max())


class Line(nn.Module):
    """Reads a line: a convolution, two recurrent layers in both directions, (N, T, 7)."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=(4, 2), padding=1)
        self.memory = kind(6 * 4, 5, num_layers=2, bidirectional=True)
        self.head = nn.Linear(10, 7)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).relu()

    def read(self, maps: torch.Tensor) -> torch.Tensor:
        return self.head(self.memory(maps.flatten(1, 2).permute(2, 0, 1))[0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.read(self.features(x))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN], ids=lambda kind: kind.__name__)
def test_a_reader_s_file_of_any_width_gives_the_gradient_that_torch_gives(kind: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Line(kind).eval()
    with torch.no_grad():
        net.head.bias[[0, -1]] = -10.0  # neither can be a blank, so that every step is read
    graph = convscope.load(net, example_input=torch.rand(2, 3, 16, 32), check=False)
    done = convscope.export(graph, tmp_path / "out.onnx", layer="Relu")
    assert (done.method, done.inputs) == ("hirescam", ("character",))
    assert {n.domain for n in onnx.load(done.path).graph.node} == {""}
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    for x in (torch.rand(1, 3, 16, 32), torch.rand(3, 3, 16, 50) * 2):
        maps = net.features(x).detach().requires_grad_()
        first, second = net.read(maps).topk(2, dim=2).values.unbind(2)
        (gradient,) = torch.autograd.grad((first - second).sum(), maps)
        expected = (gradient * maps).sum(1).relu().detach().numpy()
        (found,) = session.run(["heatmap"], {session.get_inputs()[0].name: x.numpy()})
        np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        (
            {"activations": ["Sigmoid", "ThresholdedRelu", "Tanh"]},
            "activation 'ThresholdedRelu'; Sigmoid, Tanh, Relu, ",
        ),
        ({"clip": 0.5}, "clip=0.5"),
        ({"input_forget": 1}, "input_forget=1"),
    ],
    ids=["activation", "clip", "coupled gates"],
)
def test_a_form_without_a_gradient_is_refused_by_name(attributes: dict[str, Any], said: str) -> None:
    inputs, own = node("LSTM", "forward", (), 0)
    model = model_of("LSTM", inputs, {**own, **attributes}, 3, 17)
    upstream = [np.ones((STEPS, 1, ROWS, HIDDEN), np.float32)]
    with pytest.raises(convscope.UnsupportedOperator, match=f"operator LSTM .*: {said}"):
        written(model, inputs, "i0", upstream)
