"""TensorFlow's operators in a functional model of Keras 2 are read: TensorFlow 2.21's numbers, and no code."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

if importlib.util.find_spec("keras") is None:
    pytest.skip("keras is not installed", allow_module_level=True)

import h5py

import convscope
from benchmarks.keras_operators import KEPT
from convscope.adapters.keras.load import import_keras, load_keras_file
from convscope.adapters.keras.operators import operator_layers
from convscope.engine.executors.session import Session


@pytest.fixture(scope="module")
def kept() -> dict[str, np.ndarray]:
    with np.load(KEPT) as found:
        return dict(found)


@pytest.mark.parametrize("suffix", ["h5", "keras"])
def test_every_operator_gives_tensorflow_s_numbers(kept: dict[str, np.ndarray], suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(kept[suffix].tobytes())
    session = Session(load_keras_file(path).model, device="cpu")
    found = list(session.run({session.input_names[0]: kept["x"]}).values())
    expected = [kept[f"y{i}"] for i in range(len(found))]
    assert f"y{len(found)}" not in kept
    for i, (got, want) in enumerate(zip(found, expected, strict=True)):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5, err_msg=str(i))


def changed(kept: dict[str, np.ndarray], path: Path, change: Any) -> Path:
    """The file with another description of its first operator."""
    path.write_bytes(kept["h5"].tobytes())
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        change(next(layer for layer in config["config"]["layers"] if layer["class_name"] == "TFOpLambda"))
        del file.attrs["model_config"]
        file.attrs["model_config"] = json.dumps(config)
    return path


def another(layer: dict[str, Any]) -> None:
    layer["config"]["function"] = "io.read_file"


def called_otherwise(layer: dict[str, Any]) -> None:
    layer["inbound_nodes"] = [["input_1", 0, 0, {"y": {"class_name": "function", "config": "system"}}]]


def with_a_foreign_argument(layer: dict[str, Any]) -> None:
    layer["inbound_nodes"][0][3]["file"] = "/etc/passwd"


def without_end(layer: dict[str, Any]) -> None:
    layer["config"]["function"] = "tile"
    layer["inbound_nodes"][0][3] = {"multiples": [1, 2**20, 2**20, 1]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (another, r"the operator tf\.io\.read_file, which the model calls, is not read"),
        (called_otherwise, "Keras cannot load"),
        (with_a_foreign_argument, "unexpected keyword argument 'file'"),
        (without_end, "are absurd"),
    ],
)
def test_what_is_no_operator_of_a_picture_is_refused(
    kept: dict[str, np.ndarray], change: Any, words: str, tmp_path: Path
) -> None:
    with pytest.raises(convscope.ConvscopeError, match=words) as refused:
        load_keras_file(changed(kept, tmp_path / "model.h5", change))
    assert "\n" not in str(refused.value)


def test_the_layers_hold_names_alone() -> None:
    made = operator_layers(import_keras())["TFOpLambda"]
    with pytest.raises(ValueError, match="is not read"):
        made(function="__import__('os').system", calls=['[{"tensor": 0}, {}]'])
