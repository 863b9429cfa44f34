"""The shipped LeNet, read from each of its five files once per test run."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import numpy as np
import pytest

import convscope
from convscope.engine.graph.graph import Graph
from convscope.models import lenet

FOLDER = Path(lenet.__file__).parent / "lenet"
FORMATS = ("onnx", "pt2", "safetensors", "keras", "h5")
OTHERS = FORMATS[1:]  # held against the ONNX file


@functools.cache
def graph(suffix: str) -> Graph:
    """The graph of one file, with the executors checked against each other; skips where Keras is missing."""
    if suffix in ("keras", "h5") and importlib.util.find_spec("keras") is None:
        pytest.skip(f"lenet.{suffix} needs keras, which is not installed")
    arch = "convscope.models.lenet:LeNet" if suffix == "safetensors" else None
    return convscope.load(FOLDER / f"lenet.{suffix}", arch=arch)


def pictures() -> np.ndarray:
    """(6, 1, 28, 28): strokes and noise in [0, 1]."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:28, :28]
    strokes = [np.exp(-((rows * np.sin(a) + columns * np.cos(a) - 14) ** 2) / 6) for a in (0.0, 0.4, 0.8, 1.2)]
    return np.stack([*strokes, *rng.random((2, 28, 28))])[:, None].astype(np.float32)
