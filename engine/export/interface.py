"""The exported file's inputs and outputs in the form that the source file had: a drop-in for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..graph.graph import Graph
from .writer import PREFIX

_FEW = 64  # values; a smaller weight is left as it is


def as_source(model: onnx.ModelProto, graph: Graph) -> None:
    """Gives the image and the outputs the source file's own order of axes and data types, where the graph has others.

    Edits the model: Cast and Transpose after the input, before each such output; all tensors' other names are kept.
    Weights that float16 holds exactly are stored as such, where the source's values were float16.
    """
    name = graph.inputs[0].name
    _as_source_input(model, name, source_axes(graph), own_type(graph, name))
    for output in model.graph.output:
        permuted = graph.permuted.get(output.name)
        axes = None if permuted is None or list(permuted) == sorted(permuted) else permuted
        _as_source_output(model, output, axes, own_type(graph, output.name))
    if "float16" in graph.own_types.values():
        _narrow_weights(model)


def own_type(graph: Graph, name: str) -> np.dtype[Any] | None:
    """The source's data type of an input or output, where it is another and NumPy has it."""
    kind = graph.own_types.get(name)
    return None if kind is None or kind == "bfloat16" else np.dtype(kind)


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


def _as_source_input(model: onnx.ModelProto, name: str, axes: Sequence[int] | None, kind: np.dtype[Any] | None) -> None:
    if axes is None and kind is None:
        return
    inner = f"{PREFIX}{name}"
    for node in model.graph.node:
        for i, read in enumerate(node.input):
            if read == name:
                node.input[i] = inner
    info = next(i for i in model.graph.input if i.name == name)
    nodes, last = [], name
    if kind is not None:
        last = inner if axes is None else f"{inner}/cast"
        nodes.append(helper.make_node("Cast", [name], [last], last, to=info.type.tensor_type.elem_type))
        info.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(kind)
    if axes is not None:
        nodes.append(helper.make_node("Transpose", [last], [inner], inner, perm=list(axes)))
        dims = info.type.tensor_type.shape.dim
        canonical = [onnx.TensorShapeProto.Dimension() for _ in dims]
        for place, dim in zip(canonical, dims, strict=True):
            place.CopyFrom(dim)
        for source, place in enumerate(np.argsort(axes)):
            dims[source].CopyFrom(canonical[place])
    for node in reversed(nodes):
        model.graph.node.insert(0, node)


def _as_source_output(
    model: onnx.ModelProto, output: onnx.ValueInfoProto, axes: Sequence[int] | None, kind: np.dtype[Any] | None
) -> None:
    if axes is None and kind is None:
        return
    inner = f"{PREFIX}{output.name}"
    for node in model.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                if name == output.name:
                    names[i] = inner
    last = inner
    if axes is not None:
        last = output.name if kind is None else f"{inner}/transposed"
        back = [int(a) for a in np.argsort(axes)]
        model.graph.node.append(helper.make_node("Transpose", [inner], [last], last, perm=back))
    if kind is not None:
        wanted = helper.np_dtype_to_tensor_dtype(kind)
        model.graph.node.append(helper.make_node("Cast", [last], [output.name], output.name, to=wanted))
        output.type.tensor_type.elem_type = wanted


def _narrow_weights(model: onnx.ModelProto) -> None:
    """Stores weights as float16 where that loses nothing, and casts them to float32 where the file begins."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT or int(np.prod(tensor.dims)) < _FEW:
            continue
        wide = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            narrow = wide.astype(np.float16)
        if np.array_equal(narrow.astype(np.float32), wide):
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(narrow, f"{PREFIX}{name}/float16"))
            casts.append(helper.make_node("Cast", [tensor.name], [name], name, to=onnx.TensorProto.FLOAT))
    for node in reversed(casts):
        model.graph.node.insert(0, node)
