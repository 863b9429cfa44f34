"""The exported file's inputs and outputs in the form that the source file had: a drop-in for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..graph.graph import Graph
from ..graph.index import reads
from .opset import unused
from .writer import PREFIX

_FEW = 64  # values; a smaller weight is left as it is


def as_source(model: onnx.ModelProto, graph: Graph) -> None:
    """Gives the image and the outputs the source file's own shape, order of axes and types, where the graph has others.

    Edits the model: Cast, Reshape and Transpose after the input, before each such output; all tensors' other names are
    kept. Weights that float16 holds exactly are stored as such, where the source's values were float16. A file that
    takes pictures as they are keeps that input.
    """
    name, names = graph.inputs[0].name, _Names(model)
    if any(given.name == name for given in model.graph.input):
        _as_source_input(model, names, name, source_axes(graph), own_type(graph, name))
        _as_own_input(model, names, graph)
    for output in model.graph.output:
        permuted = graph.permuted.get(output.name)
        axes = None if permuted is None or list(permuted) == sorted(permuted) else permuted
        _as_source_output(model, names, output, axes, own_type(graph, output.name))
    if "float16" in graph.own_types.values():
        _narrow_weights(model, names)


class _Names:
    """The names of a model's tensors and nodes, and new ones."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = model.graph
        self._taken = {n for node in graph.node for n in (*node.input, *node.output, node.name)}
        self._taken |= {t.name for t in graph.initializer} | {i.name for i in (*graph.input, *graph.output)}

    def fresh(self, stem: str) -> str:
        """A name under ``heatmap/`` that nothing else has."""
        return unused(f"{PREFIX}{stem}", self._taken)


def own_type(graph: Graph, name: str) -> np.dtype[Any] | None:
    """The source's data type of an input or output, where it is another and NumPy has it."""
    kind = graph.own_types.get(name)
    if kind is None and graph.own_input is not None and name == graph.inputs[0].name:
        kind = graph.own_types.get(graph.own_input[0])
    return None if kind is None or kind == "bfloat16" else np.dtype(kind)


def source_axes(graph: Graph) -> tuple[int, ...] | None:
    """The canonical input is the source's transposed by these axes; None where both are the same."""
    axes = graph.permuted.get(graph.inputs[0].name)
    return None if axes is None or list(axes) == sorted(axes) else axes


def as_fed(graph: Graph, model: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    """Canonical model input (N, C, H, W) as the exported file ``model`` takes it."""
    name, axes = graph.inputs[0].name, source_axes(graph)
    value = x if axes is None else x.transpose(np.argsort(axes))
    kinds = {i.name: i.type.tensor_type.elem_type for i in model.graph.input}
    if name not in kinds and graph.own_input is not None:
        name = graph.own_input[0]
        value = value.reshape([len(value), *(side or -1 for side in graph.own_input[1][1:])])
    kind = kinds[name]
    return {name: np.ascontiguousarray(value.astype(helper.tensor_dtype_to_np_dtype(kind)))}


def as_canonical(graph: Graph, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The exported file's outputs with the canonical order of axes, floating ones in float32."""
    found = {}
    for name, value in outputs.items():
        axes = graph.permuted.get(name)
        value = value.transpose(axes) if axes and len(axes) == value.ndim else value
        found[name] = value.astype(np.float32) if value.dtype.kind == "f" else value
    return found


def _as_source_input(
    model: onnx.ModelProto, names: _Names, name: str, axes: Sequence[int] | None, kind: np.dtype[Any] | None
) -> None:
    if axes is None and kind is None:
        return
    inner = names.fresh(name)
    _rename(model.graph, name, inner)
    info = next(i for i in model.graph.input if i.name == name)
    nodes, last = [], name
    if kind is not None:
        last = inner if axes is None else names.fresh(f"{name}/cast")
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


def _as_own_input(model: onnx.ModelProto, names: _Names, graph: Graph) -> None:
    """A signal's, a plane's or a volume's own shape, which the graph sees as a picture.

    The Reshape by which the graph begins goes; where the picture is read besides, it is made of the own shape.
    """
    picture = next(i for i in model.graph.input if i.name == graph.inputs[0].name)
    name, (_, *own) = graph.own_input or (picture.name, (None, None))
    first = [node for node in model.graph.node if list(node.output) == [name] and node.op_type == "Reshape"]
    if not first or None in own or first[0].input[0] != picture.name:
        return
    model.graph.node.remove(first[0])
    if any(picture.name in reads(node) for node in model.graph.node):
        target = names.fresh(f"{name}/shape")
        shape = np.array([0, graph.channels, *graph.image_size], dtype=np.int64)
        model.graph.initializer.append(numpy_helper.from_array(shape, target))
        model.graph.node.insert(0, helper.make_node("Reshape", [name, target], [picture.name], names.fresh("seen")))
    for info in [info for info in model.graph.value_info if info.name == name]:
        model.graph.value_info.remove(info)
    tensor = picture.type.tensor_type
    count = onnx.TensorShapeProto.Dimension()
    count.CopyFrom(tensor.shape.dim[0])
    picture.CopyFrom(helper.make_tensor_value_info(name, tensor.elem_type, [None, *own]))
    picture.type.tensor_type.shape.dim[0].CopyFrom(count)


def _as_source_output(
    model: onnx.ModelProto, names: _Names, output: onnx.ValueInfoProto, axes: Sequence[int] | None,
    kind: np.dtype[Any] | None,
) -> None:  # fmt: skip
    if axes is None and kind is None:
        return
    inner = names.fresh(output.name)
    _rename(model.graph, output.name, inner)
    last = inner
    if axes is not None:
        last = output.name if kind is None else names.fresh(f"{output.name}/transposed")
        back = [int(a) for a in np.argsort(axes)]
        model.graph.node.append(helper.make_node("Transpose", [inner], [last], last, perm=back))
    if kind is not None:
        wanted = helper.np_dtype_to_tensor_dtype(kind)
        model.graph.node.append(helper.make_node("Cast", [last], [output.name], output.name, to=wanted))
        output.type.tensor_type.elem_type = wanted


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Of a tensor, wherever nodes make or read it, also within graphs of their own."""
    for node in graph.node:
        for values in (node.input, node.output):
            values[:] = [new if name == old else name for name in values]
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                _rename(inner, old, new)
                for output in inner.output:
                    output.name = new if output.name == old else output.name


def _narrow_weights(model: onnx.ModelProto, names: _Names) -> None:
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
            tensor.CopyFrom(numpy_helper.from_array(narrow, names.fresh(f"{name}/float16")))
            casts.append(helper.make_node("Cast", [tensor.name], [name], name, to=onnx.TensorProto.FLOAT))
    for node in reversed(casts):
        model.graph.node.insert(0, node)
