"""Gradients of one-node models as the export writes them, run in ONNX Runtime, beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from convscope.adapters.twin.build import TwinFactory
from convscope.engine.export.backward import backward
from convscope.engine.export.expand import expanded
from convscope.engine.export.trace import Trace
from convscope.engine.export.writer import Writer

from ...single_node import Inputs, model_of


def written(model: onnx.ModelProto, inputs: Inputs, wanted: str, upstream: Sequence[np.ndarray]) -> np.ndarray:
    """The gradient of sum(upstream * outputs) for the input ``wanted``, by the nodes that the export writes."""
    feeds = {i.name: np.asarray(inputs[int(i.name[1:])]) for i in model.graph.input}
    model = expanded(model, [node.op_type for node in model.graph.node])
    trace = Trace(model, feeds)
    writer = Writer(next(e.version for e in model.opset_import if not e.domain))
    outputs = [o.name for o in model.graph.output][: len(upstream)]
    seeds = {name: writer.value(f"d{name}") for name in outputs}
    found = backward(model.graph.node, writer, trace, wanted, seeds)
    both = onnx.ModelProto()
    both.CopyFrom(model)
    for node in both.graph.node:
        if node.output[0] in found.second_outputs:
            node.output.append(found.second_outputs[node.output[0]])
    both.graph.node.extend(writer.nodes)
    both.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in writer.constants.items())
    both.graph.input.extend(
        helper.make_tensor_value_info(f"d{n}", TensorProto.FLOAT, v.shape)
        for n, v in zip(outputs, upstream, strict=True)
    )
    del both.graph.output[:]
    both.graph.output.append(helper.make_empty_tensor_value_info(found.gradient.name))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(both.SerializeToString(), options, providers=["CPUExecutionProvider"])
    needed = {**feeds, **{f"d{n}": v for n, v in zip(outputs, upstream, strict=True)}}
    return session.run(None, {i.name: needed[i.name] for i in session.get_inputs()})[0]


class Truth:
    """The same sum in float64, by the twin's forward pass alone."""

    def __init__(self, model: onnx.ModelProto, inputs: Inputs, wanted: str, upstream: Sequence[np.ndarray]) -> None:
        names = tuple(i.name for i in model.graph.input)
        self._outputs = tuple(o.name for o in model.graph.output)[: len(upstream)]
        self._twin = TwinFactory(model)(self._outputs, names, dtype=torch.float64)
        self._feeds = {n: _double(np.asarray(inputs[int(n[1:])])) for n in names}
        self._wanted = wanted
        self._upstream = [torch.from_numpy(v.astype(np.float64)) for v in upstream]

    def value(self, x: torch.Tensor) -> torch.Tensor:
        """sum(upstream * outputs) at another value of the input."""
        found = self._twin({**self._feeds, self._wanted: x})
        pairs = zip(self._outputs, self._upstream, strict=True)
        return torch.stack([(found[n] * u).sum() for n, u in pairs]).sum()

    @property
    def x(self) -> torch.Tensor:
        """The input itself."""
        return self._feeds[self._wanted]

    def slope(self, direction: np.ndarray, step: float = 1e-5) -> float:
        """The central difference along a direction."""
        move = torch.from_numpy(direction) * step
        with torch.no_grad():
            return float(self.value(self.x + move) - self.value(self.x - move)) / (2 * step)

    def autograd(self) -> np.ndarray:
        """The gradient that torch gives, for ties and edges where it is a choice."""
        x = self.x.clone().requires_grad_()
        return torch.autograd.grad(self.value(x), x)[0].numpy()


def outputs_of(model: onnx.ModelProto, inputs: Inputs) -> list[np.ndarray]:
    """What the model gives."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {i.name: np.asarray(inputs[int(i.name[1:])]) for i in model.graph.input}))


def finite_difference_error(
    op: str,
    inputs: Inputs,
    attributes: dict[str, Any],
    *,
    wanted: int = 0,
    outputs: int = 1,
    seeded: int | None = None,
    opset: int = 18,
    computed: bool = False,
    seed: int = 0,
) -> float:
    """The largest error of the written gradient along six random directions, relative to the gradient's length.

    Args:
        wanted: which input's gradient.
        outputs: of the node.
        seeded: how many of them are asked for; default all.
        computed: every input is fed; otherwise those after the first are weights.
    """
    rng = np.random.default_rng(seed + 100)  # another stream than the inputs'
    model = model_of(op, inputs, attributes, outputs, opset, computed)
    values = outputs_of(model, inputs)[: seeded or outputs]
    upstream = [rng.normal(size=v.shape).astype(np.float32) for v in values]
    found = written(model, inputs, f"i{wanted}", upstream).astype(np.float64)
    truth = Truth(model, inputs, f"i{wanted}", upstream)
    assert found.shape == tuple(truth.x.shape)
    worst = 0.0
    for _ in range(6):
        direction = rng.normal(size=found.shape)
        slope = truth.slope(direction)
        scale = max(np.linalg.norm(found) * np.linalg.norm(direction) / max(found.size, 1) ** 0.5, 1e-6)
        worst = max(worst, abs(slope - float((found * direction).sum())) / scale)
    return worst


def _double(value: np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(np.array(value))
    return tensor.double() if tensor.is_floating_point() else tensor
