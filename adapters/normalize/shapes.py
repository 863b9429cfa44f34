"""Shapes and types of every tensor at the default image size, by ONNX shape inference on a hollow copy."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...engine.executors.session import import_runtime
from ...errors import RefusedInput, UnsafeFile
from ..onnx.precheck import MAX_RANK
from ..wall.limits import at_a_glance
from .constants import fold_constants
from .draft import Draft, attribute

MAX_ACTIVATION_ELEMENTS = 2**31  # one image's tensor; beyond that no CNN of this world is found
_SHAPED = {"Reshape", "Expand", "ConstantOfShape"}  # to the shape that their last input holds
_LONGEST_SHAPE, _LONGEST_VECTOR = 64, 2**16  # values of a shape, and of what is computed from shapes
_LISTS = {"Unsqueeze": 1, "Squeeze": 1, "Reshape": 1, "Expand": 1, "Tile": 1, "ConstantOfShape": 0}
_WINDOWS = {"HannWindow", "HammingWindow", "BlackmanWindow"}
_SMALL = 1024  # constants up to this many values take part in shape computations


def infer(draft: Draft, size: tuple[int, int]) -> None:
    """Fills ``draft.shapes`` (batch None, other axes concrete where known) and ``draft.types``.

    Raises:
        UnsafeFile: a tensor would be absurdly large.
        RefusedInput: the shapes contradict each other.
    """
    _refuse_ranks(draft)
    _infer_once(draft, size)
    unknown = any(name and name not in draft.shapes for node in draft.nodes for name in node.output)
    if unknown or any(None in shape[1:] for shape in draft.shapes.values()):
        _follow_shape_arithmetic(draft, size)


def _refuse_ranks(draft: Draft) -> None:
    """A list of axes or sides that is a weight says how many dimensions come of it; shape inference may not say."""
    for node in draft.nodes:
        position = _LISTS.get(node.op_type)
        name = node.input[position] if position is not None and position < len(node.input) else ""
        if name in draft.tensors and prod(draft.tensors[name].dims) > MAX_RANK:
            raise UnsafeFile(f"node '{node.name[:60]}' ({node.op_type}) would make more than {MAX_RANK} dimensions")


def _inferred(hollow: onnx.ModelProto) -> onnx.ModelProto:
    """With the values of short vectors followed, where no shape is absurd without them: ONNX would write each out."""
    try:
        plain = onnx.shape_inference.infer_shapes(hollow, data_prop=False)
    except Exception as error:
        raise RefusedInput(f"shape inference failed: {str(error).splitlines()[0][:200]}") from error
    if not _has_short_vectors(hollow.graph):
        return plain
    for info in (*plain.graph.value_info, *plain.graph.output):
        _bounded_shape(info)
    try:
        return onnx.shape_inference.infer_shapes(hollow, data_prop=True)
    except MemoryError as error:
        raise UnsafeFile("following the sizes that it computes takes more memory than is allowed") from error
    except Exception:
        return plain


def _bounded_shape(info: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """A shape as ONNX infers it, None for an open side.

    Raises:
        UnsafeFile: it has too many axes or values.
    """
    dims = info.type.tensor_type.shape.dim
    if len(dims) > MAX_RANK:
        raise UnsafeFile(f"tensor '{info.name[:80]}' would have more than {MAX_RANK} dimensions")
    shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)
    if prod(d or 1 for d in shape) > MAX_ACTIVATION_ELEMENTS or any((d or 0) < 0 for d in shape):
        raise UnsafeFile(f"tensor '{info.name[:80]}' would have the absurd shape {list(shape)[:8]}")
    return shape


def _infer_once(draft: Draft, size: tuple[int, int], rows: int | str = "N") -> None:
    told = _told(draft, size)
    hollow = _hollow(draft, size, rows)
    _hide_ranges(hollow.graph)
    _stand_in(hollow.graph)
    for output in hollow.graph.output:
        if output.name in told:
            output.CopyFrom(told.pop(output.name))
    hollow.graph.value_info.extend(told.values())
    with at_a_glance():
        inferred = _inferred(hollow)
    for info in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output):
        tensor = info.type.tensor_type
        draft.types[info.name] = tensor.elem_type
        if not tensor.HasField("shape"):
            continue
        shape = _bounded_shape(info)
        draft.shapes[info.name] = shape
        if shape and shape[0] is None:
            draft.symbols[info.name] = tensor.shape.dim[0].dim_param
    for name, tensor_proto in draft.tensors.items():
        draft.types[name] = tensor_proto.data_type
        draft.shapes[name] = tuple(tensor_proto.dims)


def _told(draft: Draft, size: tuple[int, int]) -> dict[str, onnx.ValueInfoProto]:
    """Type and shape of what operators make that ONNX's inference does not know: ONNX Runtime has its own for them."""
    foreign = [
        name
        for node in draft.nodes
        if node.domain and not onnx.defs.has(node.op_type, draft.opsets.get(node.domain, 1), node.domain)
        for name in node.output
        if name
    ]
    if any(name not in draft.told for name in foreign):
        _ask_runtime(draft, size, foreign)
    return {name: draft.told[name] for name in foreign if name in draft.told}


def _ask_runtime(draft: Draft, size: tuple[int, int], unknown: Sequence[str]) -> None:
    """Fills ``draft.told``. ONNX Runtime prepares the model without the weights' values and runs nothing.

    What it refuses stays unknown.
    """
    hollow = _hollow(draft, size, "N")
    _hide_ranges(hollow.graph)
    del hollow.graph.output[:]
    hollow.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in unknown)
    ort = import_runtime()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        found = ort.InferenceSession(hollow.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # ONNX Runtime raises many unrelated types
        return
    for info in found.get_outputs():
        kind = _RUNTIME_TYPES.get(info.type)
        if kind is not None:
            draft.told[info.name] = helper.make_tensor_value_info(info.name, kind, info.shape)


_RUNTIME_TYPES = {
    "tensor(float)": onnx.TensorProto.FLOAT, "tensor(float16)": onnx.TensorProto.FLOAT16,
    "tensor(double)": onnx.TensorProto.DOUBLE, "tensor(int64)": onnx.TensorProto.INT64,
    "tensor(int32)": onnx.TensorProto.INT32, "tensor(uint8)": onnx.TensorProto.UINT8,
    "tensor(int8)": onnx.TensorProto.INT8, "tensor(bool)": onnx.TensorProto.BOOL,
}  # fmt: skip


def _hide_ranges(graph: onnx.GraphProto) -> None:
    """Lets every Range read its numbers through an Abs, of which inference knows the type and not the values.

    Inference would list all numbers of a Range, 2^40 of them too, and in a branch that never runs.
    """
    nodes: list[onnx.NodeProto] = []
    for index, node in enumerate(graph.node):
        for inner in (g for a in node.attribute for g in (a.g, *a.graphs)):
            _hide_ranges(inner)
        if node.op_type == "Range" and not node.domain:
            for position, name in enumerate(node.input):
                hidden = f"{name}__hidden_{index}_{position}"
                nodes.append(helper.make_node("Abs", [name], [hidden]))
                node.input[position] = hidden
        nodes.append(node)
    if len(nodes) > len(graph.node):
        kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(kept)


def _stand_in(graph: onnx.GraphProto) -> None:
    """Lets Identity stand for GroupNormalization, of which inference (onnx 1.23) knows neither shape nor type."""
    for node in graph.node:
        if node.op_type == "GroupNormalization" and not node.domain:
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]


def _has_short_vectors(graph: onnx.GraphProto) -> bool:
    """Whether the vectors of sizes, whose values inference computes, stay short: 40 Concats can make 2^40 of them."""
    lengths = {t.name: prod(t.dims) for t in graph.initializer if len(t.dims) <= 1}
    numbers = {t.name: t for t in graph.initializer if not prod(t.dims) - 1}
    sizes = {t.name: t for t in graph.initializer if len(t.dims) == 1 and t.data_type == onnx.TensorProto.INT64}
    for node in graph.node:
        if node.op_type in _WINDOWS:  # of which inference lists the places as those of a Range
            size = numbers.get(node.input[0])
            if size is None or numpy_helper.to_array(size).max() > _LONGEST_VECTOR:
                return False
        known = [lengths.get(name, 0) for name in node.input]
        length = sum(known) if node.op_type == "Concat" else max(known, default=0)
        if node.op_type == "Shape":
            length = _LONGEST_SHAPE
        if node.op_type in _SHAPED and (target := sizes.get(node.input[-1])) is not None:
            length = max(length, prod(max(int(side), 1) for side in numpy_helper.to_array(target).ravel()))
        if length > _LONGEST_VECTOR:
            return False
        lengths.update(dict.fromkeys(node.output, length))
    return True


def _follow_shape_arithmetic(draft: Draft, size: tuple[int, int]) -> None:
    """Fills in sizes that the model computes while it runs (padding "same" as arithmetic on Shape)."""
    copy = _settled(draft, size, 1)
    pair = settled_at(draft, size, 2)
    small = (name for name in copy.tensors.keys() - draft.tensors.keys() if prod(copy.tensors[name].dims) <= _SMALL)
    draft.settled.update((name, value) for name in small if (value := copy.constant(name)) is not None)
    for name, found in copy.shapes.items():
        shape = _apart_from_rows(found, pair.shapes.get(name) if pair is not None else None)
        known = draft.shapes.get(name)
        if known is None and shape and name not in copy.tensors:
            draft.shapes[name] = (None, *shape[1:])
        elif known and len(known) == len(shape):
            draft.shapes[name] = (
                known[0],
                *(k if k is not None else s for k, s in zip(known[1:], shape[1:], strict=True)),
            )


def _apart_from_rows(one: tuple[int | None, ...], two: tuple[int | None, ...] | None) -> tuple[int | None, ...]:
    """A tensor's shape without the axes that grow with the number of pictures: recurrent networks put time first."""
    if two is None or len(one) != len(two):
        return one
    return tuple(a if axis == 0 or a == b else None for axis, (a, b) in enumerate(zip(one, two, strict=True)))


def settled_at(draft: Draft, size: tuple[int, int], rows: int) -> Draft | None:
    """A copy in which all that follows from the shapes of ``rows`` pictures of a size is constant.

    Returns:
        The copy, its ``shapes`` filled; None where the network takes no such pictures.
    """
    try:
        return _settled(draft, size, rows)
    except RefusedInput:
        return None


def _settled(draft: Draft, size: tuple[int, int], rows: int) -> Draft:
    """The copy gets the shapes as constants, folds what follows from them, and infers again.

    Its batch is ``rows``, and not that for all first axes: the windows of an attention are many rows of one image.
    """
    copy = Draft(
        nodes=list(draft.nodes),
        inputs=draft.inputs,
        outputs=draft.outputs,
        opset=draft.opset,
        opsets=draft.opsets,
        ir_version=draft.ir_version,
        graph_name=draft.graph_name,
        tensors=dict(draft.tensors),
        told=dict(draft.told),
    )
    fold_constants(copy)  # what hangs on constants alone is known without any shape
    _infer_once(copy, size, rows)
    while True:
        shapes = [n for n in copy.nodes if n.op_type == "Shape" and _is_known(copy.shapes.get(n.input[0]))]
        for node in shapes:
            whole = [d or 0 for d in copy.shapes[node.input[0]]]
            part = slice(attribute(node, "start", 0), attribute(node, "end"))
            copy.set_constant(node.output[0], np.array(whole[part], dtype=np.int64))
        if not shapes:
            break
        settled = {id(n) for n in shapes}
        copy.nodes = [n for n in copy.nodes if id(n) not in settled]
        fold_constants(copy)
        _infer_once(copy, size, rows)
    return copy


def _is_known(shape: tuple[int | None, ...] | None) -> bool:
    return shape is not None and all(d is not None for d in shape)


def image_shape(info: onnx.ValueInfoProto) -> tuple[int | None, ...] | None:
    """The declared shape of an input, None per dynamic axis; None where no rank is declared."""
    tensor = info.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim)


def _hollow(draft: Draft, size: tuple[int, int], rows: int | str) -> onnx.ModelProto:
    """A copy without the weights' values (they become inputs with a shape), with a concrete image."""
    graph = onnx.GraphProto(name="hollow")
    graph.node.extend(draft.nodes)
    for position, info in enumerate(draft.inputs):
        declared = image_shape(info)
        if declared is None:
            graph.input.append(info)
            continue
        rest = list(declared[1:])
        if position == 0 and len(declared) == 4:
            rest = [rest[0], rest[1] or size[0], rest[2] or size[1]]
        shape: list[str | int | None] = [rows, *rest] if declared else []
        graph.input.append(helper.make_tensor_value_info(info.name, info.type.tensor_type.elem_type, shape))
    for name, tensor in draft.tensors.items():
        if prod(tensor.dims) <= _SMALL:
            graph.initializer.append(tensor)
        else:
            graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))
    for output in draft.outputs:
        hollow = helper.make_empty_tensor_value_info(output.name)
        hollow.type.tensor_type.elem_type = output.type.tensor_type.elem_type or 1
        graph.output.append(hollow)
    model = onnx.ModelProto(ir_version=max(draft.ir_version, 4))
    model.opset_import.extend(helper.make_opsetid(d, v) for d, v in draft.opsets.items())
    model.graph.CopyFrom(graph)
    return model
