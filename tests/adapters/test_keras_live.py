"""Live Keras models as people hold them: of a class of their own, never called, in mixed precision."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if importlib.util.find_spec("keras") is None:
    pytest.skip("keras is not installed", allow_module_level=True)

import convscope
from convscope.adapters.keras.load import import_keras

keras = import_keras()
IMAGE = np.random.default_rng(0).random((1, 24, 20, 3), dtype=np.float32)


class Own(keras.Model):  # type: ignore[misc, name-defined]
    """A network of a class of its own, which gives a dictionary."""

    def __init__(self) -> None:
        super().__init__(name="own")
        self.stem = keras.layers.Conv2D(4, 3, activation="relu", name="stem")
        self.pool = keras.layers.GlobalAveragePooling2D(name="pool")
        self.head = keras.layers.Dense(3, name="head")

    def call(self, x: Any) -> Any:
        features = self.pool(self.stem(x))
        return {"logits": self.head(features), "features": features}


def sequential(**options: Any) -> Any:
    layers = [keras.layers.Conv2D(4, 3, **options), keras.layers.BatchNormalization(**options)]
    return keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(**options), keras.layers.Dense(3, **options)])


def output(graph: convscope.Graph, name: str) -> np.ndarray:
    return graph.session([name], device="cpu").run(IMAGE.transpose(0, 3, 1, 2))[name]


def test_a_model_of_a_class_of_its_own_loads_once_it_was_called() -> None:
    model = Own()
    with pytest.raises(convscope.RefusedInput, match="call it once on an image"):
        convscope.load(model)
    expected = model(IMAGE)["logits"].detach().numpy()
    graph = convscope.load(model)
    assert graph.image_size == (24, 20)
    assert {"stem", "pool", "head"} <= {layer.name for layer in graph.layers}
    np.testing.assert_allclose(output(graph, "logits"), expected, atol=1e-5)


def test_a_model_that_was_never_called_loads_with_an_example() -> None:
    model = sequential()
    graph = convscope.load(model, example_input=IMAGE)
    np.testing.assert_allclose(output(graph, graph.outputs[0].name), model(IMAGE).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_computed_in_single_and_said(policy: str, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((24, 20, 3)), *sequential(dtype=policy).layers])
    plain = keras.Sequential([keras.Input((24, 20, 3)), *sequential().layers])
    plain.set_weights(model.get_weights())
    model.save(tmp_path / "mixed.keras")
    for source in (model, tmp_path / "mixed.keras"):
        graph = convscope.load(source)
        np.testing.assert_allclose(output(graph, graph.outputs[0].name), plain(IMAGE).detach().numpy(), atol=1e-5)
        assert any(policy in note for note in graph.source.notes)
    assert {layer.dtype_policy.name for layer in model.layers} == {policy}


def test_an_example_that_is_no_array_is_refused() -> None:
    with pytest.raises(convscope.UsageError, match="example_input is no array"):
        convscope.load(sequential(), example_input="picture")
