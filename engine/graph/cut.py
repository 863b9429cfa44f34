"""Cutting the part of a graph that leads from some tensors to others."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import helper

from .index import Index, reads

_LARGE = 2**12  # bytes; what is smaller may be sizes, which ONNX Runtime reads when it prepares the model


def extract(
    model: onnx.ModelProto,
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[str],
    index: Index | None = None,
    *,
    hollow: bool = False,
) -> onnx.ModelProto:
    """A model of its own with those inputs and outputs; weights are copied, unused ones left out.

    Args:
        model: the whole.
        inputs: names of the tensors that the part begins with.
        outputs: names of the tensors that it ends with.
        index: of the model's graph, where it is at hand.
        hollow: leave the values of large weights out, for a session that is given them beside the model.

    Raises:
        UsageError: an output does not follow from the inputs.
    """
    names = [i.name for i in inputs]
    nodes = (index or Index(model.graph)).between(names, outputs)
    used = {n for node in nodes for n in reads(node)} | set(outputs)
    cut = onnx.ModelProto(ir_version=model.ir_version)
    part = cut.graph  # filled in place: a graph of its own would be one more copy of the weights
    part.name = model.graph.name or "graph"
    part.node.extend(nodes)
    part.input.extend(i for i in inputs if i.name in used or i.name in names)
    for weight in model.graph.initializer:
        if weight.name in used:
            part.initializer.append(_stub(weight) if hollow and len(weight.raw_data) >= _LARGE else weight)
    part.output.extend(helper.make_empty_tensor_value_info(name) for name in outputs)
    cut.opset_import.extend(model.opset_import)
    cut.functions.extend(model.functions)
    return cut


def _stub(weight: onnx.TensorProto) -> onnx.TensorProto:
    """The weight without its values, marked as one that is given beside the model."""
    stub = onnx.TensorProto(name=weight.name, data_type=weight.data_type, dims=weight.dims)
    stub.data_location = onnx.TensorProto.EXTERNAL
    stub.external_data.add(key="location", value="held")
    return stub
