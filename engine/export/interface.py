"""The exported file's inputs and outputs in the form that the source file had: a drop-in for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper

from ..graph.graph import Graph
from .writer import PREFIX


def as_source(model: onnx.ModelProto, graph: Graph) -> None:
    """Gives the image and the outputs the source file's own order of axes, where the canonical graph has another.

    Edits the model: a Transpose after the input, one before each such output, all tensors' other names kept.
    """
    name = graph.inputs[0].name
    if (axes := source_axes(graph)) is not None:
        _transposed_input(model, name, axes)
    for output in model.graph.output:
        permuted = graph.permuted.get(output.name)
        if permuted is not None and list(permuted) != sorted(permuted):
            _transposed_output(model, output, permuted)


def source_axes(graph: Graph) -> tuple[int, ...] | None:
    """The canonical input is the source's transposed by these axes; None where both are the same."""
    axes = graph.permuted.get(graph.inputs[0].name)
    return None if axes is None or list(axes) == sorted(axes) else axes


def as_fed(graph: Graph, model: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    """Canonical model input (N, C, H, W) as the exported file ``model`` takes it."""
    name, axes = graph.inputs[0].name, source_axes(graph)
    value = x if axes is None else x.transpose(np.argsort(axes))
    kind = next(i.type.tensor_type.elem_type for i in model.graph.input if i.name == name)
    return {name: np.ascontiguousarray(value.astype(helper.tensor_dtype_to_np_dtype(kind)))}


def as_canonical(graph: Graph, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The exported file's outputs with the canonical order of axes, floating ones in float32."""
    found = {}
    for name, value in outputs.items():
        axes = graph.permuted.get(name)
        value = value.transpose(axes) if axes and len(axes) == value.ndim else value
        found[name] = value.astype(np.float32) if value.dtype.kind == "f" else value
    return found


def _transposed_input(model: onnx.ModelProto, name: str, axes: Sequence[int]) -> None:
    inner = f"{PREFIX}{name}"
    for node in model.graph.node:
        for i, read in enumerate(node.input):
            if read == name:
                node.input[i] = inner
    model.graph.node.insert(0, helper.make_node("Transpose", [name], [inner], inner, perm=list(axes)))
    info = next(i for i in model.graph.input if i.name == name)
    dims = info.type.tensor_type.shape.dim
    canonical = [onnx.TensorShapeProto.Dimension() for _ in dims]
    for place, dim in zip(canonical, dims, strict=True):
        place.CopyFrom(dim)
    for source, place in enumerate(np.argsort(axes)):
        dims[source].CopyFrom(canonical[place])


def _transposed_output(model: onnx.ModelProto, output: onnx.ValueInfoProto, axes: Sequence[int]) -> None:
    inner = f"{PREFIX}{output.name}"
    for node in model.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == output.name:
                    names[i] = inner
    back = [int(a) for a in np.argsort(axes)]
    model.graph.node.append(helper.make_node("Transpose", [inner], [output.name], output.name, perm=back))
