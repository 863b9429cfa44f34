"""Keras' recurrent layers: one operator each, whatever the number of steps, equal to what Keras itself computes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

if importlib.util.find_spec("keras") is None:
    pytest.skip("keras is not installed", allow_module_level=True)

from convscope.adapters.keras.load import import_keras
from convscope.adapters.load import load_here

keras = import_keras()
L = keras.layers


def loaded(layers: list[Any], steps: int) -> tuple[Any, Any, np.ndarray]:
    """(graph, what ONNX Runtime computes, what Keras computes) of three signals of three channels."""
    model = keras.Sequential([keras.Input((steps, 3)), *layers, L.Dense(2)])
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    x = rng.normal(size=(3, steps, 3)).astype(np.float32)
    graph = load_here(model, check=False)
    (output,) = [spec.name for spec in graph.outputs]
    found = graph.session([output], device="cpu").run({graph.inputs[0].name: x[:, None]})[output]
    return graph, found, np.asarray(model(x, training=False).detach())


@pytest.mark.parametrize(
    ("make", "ops"),
    [
        (lambda: [L.LSTM(6, return_sequences=True), L.LSTM(4)], {"LSTM": 2}),
        (lambda: [L.LSTM(5, go_backwards=True, return_sequences=True), L.Flatten()], {"LSTM": 1}),
        (lambda: [L.GRU(6, return_sequences=True), L.GRU(4)], {"GRU": 2}),
        (lambda: [L.Bidirectional(L.GRU(5))], {"GRU": 2}),
        (lambda: [L.Bidirectional(L.LSTM(5, return_sequences=True)), L.LSTM(3)], {"LSTM": 3}),
    ],
    ids=["lstm", "lstm backwards", "gru", "gru both ways", "lstm both ways"],
)
def test_the_steps_of_a_recurrent_layer_are_not_written_out(make: Callable[[], list[Any]], ops: dict[str, int]) -> None:
    """A signal of 500 samples through two layers made 25,000 operators, and was not imported within minutes."""
    graph, found, expected = loaded(make(), 40)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    written = [node.op_type for node in graph.index.nodes]
    assert len(written) < 60 and {op: written.count(op) for op in ops} == ops


@pytest.mark.parametrize(
    "make",
    [
        lambda: L.LSTM(4, recurrent_activation="hard_sigmoid"),
        lambda: L.LSTM(4, activation="relu", use_bias=False),
        lambda: L.GRU(4, reset_after=False),
        lambda: L.GRU(4, use_bias=False),
    ],
    ids=["hard sigmoid", "relu without bias", "reset before", "gru without bias"],
)
def test_what_torch_s_own_recurrences_do_not_know_is_imported_as_before(make: Callable[[], Any]) -> None:
    _, found, expected = loaded([make()], 4)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
