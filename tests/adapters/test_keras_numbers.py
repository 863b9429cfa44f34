"""A Keras file means what TensorFlow makes of it: numbers of TensorFlow 2.21, by ``benchmarks.keras_numbers``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from benchmarks.keras_numbers import CASES, KEPT, LARGEST, TABLE, difference

if importlib.util.find_spec("keras") is None:
    pytest.skip("keras is not installed", allow_module_level=True)

NAMES = [f"{module}/{name}" for module, names in CASES.items() for name in names]


@pytest.mark.parametrize("name", NAMES)
def test_a_keras_file_computes_tensorflow_s_numbers(name: str, tmp_path: Path) -> None:
    with np.load(KEPT) as kept:
        path = tmp_path / Path(name).name
        path.write_bytes(kept[name].tobytes())
        rel = difference(path, kept[f"{name}/x"], kept[f"{name}/y"])
    assert rel <= (TABLE if "bicubic" in name else LARGEST)
