"""Per-unit reductions inside the graph: a 512 x 28 x 28 tensor never leaves the session when 512 maxima will do.

For every layer these are appended to the submodel as ONNX nodes and become its outputs, each (N, C): mean,
variance, min, max, the flat position of the max in the plane, and the share of zeros. ONNX Runtime's ReduceMax
and ReduceMin lose a NaN that is not the first value, and its mean never does: min and max are NaN where the mean
is. The variance is that of the values minus their mean: a mean of squares would leave nothing but rounding of a
unit that varies little about a large mean. ONNX Runtime adds up a whole plane in float32, one value after the other, so
that the mean of a large map is some 1e-5 off; the mean of what is left when it is subtracted mends both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..executors.session import Session
from ..graph.graph import Graph
from ..graph.layers import Layer

STATISTICS = ("mean", "variance", "min", "max", "argmax", "zeros")
_PREFIX = "convscope"


def reduced_session(
    graph: Graph, layers: Sequence[Layer], *, statistics: Sequence[str] = STATISTICS, device: str = "auto"
) -> Session:
    """A session whose outputs are ``output_name(layer, statistic)`` for every layer and statistic."""
    model = with_reductions(graph, layers, statistics)
    return Session(model, device, alone=graph.runs_alone([layer.tensor for layer in layers]))


def output_name(layer: Layer, statistic: str) -> str:
    """The name of a reduction's output."""
    return f"{_PREFIX}/{layer.index}/{statistic}"


def reduced_layer(graph: Graph, name: str) -> Layer | None:
    """The layer of an output's name: that of a reduction, or the layer's own tensor."""
    prefix, _, index = name.rpartition("/")[0].rpartition("/")
    if prefix == _PREFIX and index.isdigit():
        return next((layer for layer in graph.layers if layer.index == int(index)), None)
    return next((layer for layer in graph.layers if layer.tensor == name), None)


def with_reductions(graph: Graph, layers: Sequence[Layer], statistics: Sequence[str] = STATISTICS) -> onnx.ModelProto:
    """The model cut at the layers, with the reductions in place of the layers as its outputs."""
    model = graph.submodel(list(dict.fromkeys(layer.tensor for layer in layers)))
    opset = next(e.version for e in model.opset_import if e.domain in ("", "ai.onnx"))
    del model.graph.output[:]
    for layer in layers:
        _Planes(model.graph, layer, opset, graph.batch_axes.get(layer.tensor, 0)).reduce(statistics)
        for statistic in statistics:
            kind = TensorProto.INT64 if statistic == "argmax" else TensorProto.FLOAT
            model.graph.output.append(helper.make_tensor_value_info(output_name(layer, statistic), kind, None))
    return model


class _Planes:
    """Appends a layer's reductions to a graph; ``flat`` is the layer as (N, C, places), float32.

    Args:
        graph: is changed.
        layer: one of its tensors; rank 2 layers have one place, tokens those of their grid.
        opset: of the model: reductions take their axes as an input from 18 on.
        batch: the axis that counts pictures.
    """

    def __init__(self, graph: onnx.GraphProto, layer: Layer, opset: int, batch: int = 0) -> None:
        self.graph, self.opset = graph, opset
        self.prefix = f"{_PREFIX}/{layer.index}"
        source, rank, axis = layer.tensor, len(layer.shape), layer.channel_axis or 1
        order = [batch, axis, *(a for a in range(rank) if a not in (batch, axis))]
        if order != list(range(rank)):
            source = self.add("Transpose", [source], "channels_first", perm=order)
        if (grid := layer.tokens) is not None:
            ends = [np.array([at]) for at in (grid.prefix, grid.end, 2)]
            settings = [self.constant(f"grid_{n}", at) for n, at in zip(("starts", "ends", "axes"), ends, strict=True)]
            source = self.add("Slice", [source, *settings], "grid")
        source = self.add("Cast", [source], "float", to=TensorProto.FLOAT)
        self.flat = self.add("Reshape", [source, self.constant("flat_shape", np.array([0, 0, -1]))], "flat")

    def reduce(self, statistics: Sequence[str]) -> None:
        """Appends the nodes of these statistics."""
        mean = self.over_places("ReduceMean", self.flat, "first_mean")
        if "min" in statistics or "max" in statistics:
            one_or_nan = self.one_or_nan(mean)
        for name, op in (("min", "ReduceMin"), ("max", "ReduceMax")):
            if name in statistics:
                found = self.over_places(op, self.flat, f"{name}_of_numbers")
                self.add("Mul", [found, one_or_nan], name)
        if "argmax" in statistics:
            self.add("ArgMax", [self.flat], "argmax", axis=2, keepdims=0)
        if "zeros" in statistics:
            other = self.add("Cast", [self.flat], "is_other", to=TensorProto.BOOL)
            zero = self.add("Not", [other], "is_zero")
            share = self.add("Cast", [zero], "is_zero_float", to=TensorProto.FLOAT)
            self.over_places("ReduceMean", share, "zeros")
        if "mean" in statistics or "variance" in statistics:
            middle = self.add("Reshape", [mean, self.constant("mean_shape", np.array([0, 0, 1]))], "mean_per_plane")
            centred = self.add("Sub", [self.flat, middle], "centred")
            rest = self.over_places("ReduceMean", centred, "rest")  # what the sum of a whole plane has lost
            self.add("Add", [mean, rest], "mean")
        if "variance" in statistics:
            about = self.over_places("ReduceMean", self.add("Mul", [centred, centred], "squares"), "mean_of_squares")
            variance = self.add("Sub", [about, self.add("Mul", [rest, rest], "rest_squared")], "about_the_mean")
            self.add("Relu", [variance], "variance")  # of a unit that does not vary rounding may be below zero

    def one_or_nan(self, source: str) -> str:
        """NaN where the source is, else 1; without IsNaN, Where and Equal of floats, which opsets 7 to 10 lack."""
        below = self.add("Less", [source, self.constant("one", np.array(1, np.float32))], "below_one")
        above = self.add("Greater", [source, self.constant("zero", np.array(0, np.float32))], "above_zero")
        number = self.add("Or", [below, above], "is_number")
        known = self.add("Cast", [number], "is_number_float", to=TensorProto.FLOAT)
        return self.add("Div", [known, known], "one_or_nan")

    def over_places(self, op: str, source: str, result: str) -> str:
        """A reduction over the last axis."""
        if self.opset >= 18:
            axes = self.constant(f"axes_{result}", np.array([2]))
            return self.add(op, [source, axes], result, keepdims=0)
        return self.add(op, [source], result, axes=[2], keepdims=0)

    def constant(self, name: str, value: np.ndarray) -> str:
        """A new weight."""
        self.graph.initializer.append(numpy_helper.from_array(value, f"{self.prefix}/{name}"))
        return f"{self.prefix}/{name}"

    def add(self, op: str, inputs: list[str], result: str, **attributes: Any) -> str:
        """A new node; returns its output's full name."""
        name = f"{self.prefix}/{result}"
        self.graph.node.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name
