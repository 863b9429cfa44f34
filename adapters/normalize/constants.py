"""Constants: Constant nodes become weights, and what is computed from constants alone is computed once.

Folding runs the model's own operators, so it is bounded: the size of every result is worked out, or bounded
by the operator's nature, before it is computed.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ...engine.graph.index import reads
from ...engine.graph.operators import operator
from ...errors import UnsafeFile
from ..onnx.precheck import item_bits
from .draft import Draft, attribute, dense

MAX_FOLDED_BYTES = 2**28  # weights that are stored as such are not folded results
_EVALUATED_FROM = {"Softmax": 13, "LogSoftmax": 13, "Hardmax": 13, "BatchNormalization": 14}  # as ONNX has it, by opset
_MADE_TYPES = {"to", "dtype", "output_datatype", "output_dtype"}  # of Cast, EyeLike, HannWindow, DequantizeLinear ...
_MOST_PRODUCTS = 2**28  # multiply-adds of one product: a spectral norm takes one per weight
_REFOLDED = 4  # times that all weights together may be folded anew: cast, transposed, reshaped, dequantized


def constants_to_weights(draft: Draft) -> None:
    """Constant nodes become weights under the same name."""
    kept: list[onnx.NodeProto] = []
    for node in draft.nodes:
        if node.op_type != "Constant" or node.domain:
            kept.append(node)
            continue
        value = _constant_value(node)
        if value is None:
            kept.append(node)
        elif isinstance(value, TensorProto):
            value.name = node.output[0]
            draft.tensors[node.output[0]] = value
        else:
            draft.set_constant(node.output[0], value)
    draft.nodes = kept


def fold_constants(draft: Draft) -> None:
    """Computes every node that reads constants alone, and shapes that are known."""
    kept: list[onnx.NodeProto] = []
    outputs = {o.name for o in draft.outputs}
    if draft.fold_budget is None:
        draft.fold_budget = MAX_FOLDED_BYTES + _REFOLDED * sum(_bytes_of(t) for t in draft.tensors.values())
    for node in draft.nodes:
        values = _foldable(draft, node)
        results = None if values is None or outputs & set(node.output) else _evaluate(draft, node, values)
        if results is None:
            kept.append(node)
            continue
        for name, value in zip(node.output, results, strict=False):
            if name:
                draft.set_constant(name, value)
                draft.fold_budget -= value.nbytes
                if not draft.untrained.isdisjoint(node.input):
                    draft.untrained.add(name)
        draft.fold_budget -= _products(node, values or [])
    draft.nodes = kept


def _constant_value(node: onnx.NodeProto) -> np.ndarray | TensorProto | None:
    for entry in node.attribute:
        if entry.name == "value":
            return entry.t
        if entry.name == "sparse_value":
            return dense(entry.sparse_tensor)
        if entry.name in ("value_float", "value_floats"):
            return np.asarray(helper.get_attribute_value(entry), dtype=np.float32)
        if entry.name in ("value_int", "value_ints"):
            return np.asarray(helper.get_attribute_value(entry), dtype=np.int64)
    return None


def _foldable(draft: Draft, node: onnx.NodeProto) -> list[np.ndarray | None] | None:
    """The node's constant inputs, or None where it is not to be folded."""
    if node.domain or operator(node).folds is None:
        return None
    if draft.opset < _EVALUATED_FROM.get(node.op_type, 0) or any(name not in draft.tensors for name in reads(node)):
        return None
    values = [draft.constant(name) if name else None for name in node.input]
    if _products(node, values) > min(_MOST_PRODUCTS, draft.fold_budget or 0):
        return None
    size = _result_size(node, values)
    if size * _item_bytes(node, values) > min(MAX_FOLDED_BYTES, draft.fold_budget or 0):
        if operator(node).folds == "growing":
            raise UnsafeFile(
                f"node '{node.name[:60]}' ({node.op_type}) would make {size:,} values out of constants; "
                f"at most {MAX_FOLDED_BYTES:,} bytes are made"
            )
        return None
    return values


def _item_bytes(node: onnx.NodeProto, values: list[np.ndarray | None]) -> int:
    """Bytes of one value of the node's result."""
    if node.op_type in ("Shape", "Size", "ArgMax", "ArgMin"):
        return 8
    if node.op_type == "Cast":
        return max(1, item_bits(int(attribute(node, "to", TensorProto.FLOAT))) // 8)
    if node.op_type == "ConstantOfShape":
        value = attribute(node, "value")
        return 4 if value is None else max(1, item_bits(value.data_type) // 8)
    return max((v.itemsize for v in values if v is not None), default=8)


def _products(node: onnx.NodeProto, values: list[np.ndarray | None]) -> int:
    """Multiply-adds of a product of matrices, which are counted against the budget too; 0 for other operators."""
    if node.op_type != "MatMul" or len(values) != 2 or values[0] is None or values[1] is None:
        return 0
    return _product_size(values[0].shape, values[1].shape) * (values[0].shape or (1,))[-1]


def _product_size(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """Values of a product of matrices; of shapes that do not fit, none are made."""
    try:
        rows = prod(np.broadcast_shapes(left[:-2], right[:-2]))
    except ValueError:
        return 0
    return rows * (left[-2] if len(left) > 1 else 1) * (right[-1] if len(right) > 1 else 1)


def _bytes_of(tensor: TensorProto) -> int:
    return prod(tensor.dims) * item_bits(tensor.data_type) // 8


def _result_size(node: onnx.NodeProto, values: list[np.ndarray | None]) -> int:
    """An upper bound of the number of values that the node makes."""
    first = values[0] if values else None
    if node.op_type == "ConstantOfShape" and first is not None:
        return _count(first)
    if node.op_type == "Expand" and values[1] is not None and first is not None:
        try:
            return prod(np.broadcast_shapes(first.shape, tuple(int(n) for n in values[1].ravel())))
        except ValueError:  # of sizes that do not fit, or below zero
            return max(first.size, 1) * _count(values[1])
    if node.op_type == "Tile" and values[1] is not None and first is not None:
        return first.size * _count(values[1])
    if node.op_type == "Range":
        start, limit, delta = (float(np.ravel(v)[0]) for v in values if v is not None)
        return int(min(max((limit - start) / delta, 0), 2**62)) if delta else 2**62
    if node.op_type == "Gather" and values[1] is not None and first is not None:
        axis = attribute(node, "axis", 0)
        rows = first.shape[axis] if -first.ndim <= axis < first.ndim else 1
        return values[1].size * (first.size // max(rows, 1))
    shapes = [v.shape for v in values if v is not None]
    if node.op_type == "MatMul" and len(shapes) == 2:
        return _product_size(shapes[0], shapes[1])
    try:
        return max(prod(np.broadcast_shapes(*shapes)), sum(prod(s) for s in shapes))
    except ValueError:
        return sum(prod(s) for s in shapes)


def _count(dims: np.ndarray) -> int:
    """The number of values of a shape, as a python integer that cannot overflow."""
    return prod(max(int(n), 0) for n in dims.ravel().tolist())


def _evaluate(draft: Draft, node: onnx.NodeProto, values: list[np.ndarray | None]) -> list[np.ndarray] | None:
    """The node's outputs by the reference evaluator, or None where it cannot compute them."""
    names = [name for name in dict.fromkeys(node.input) if name]
    feeds = {n: v for n, v in zip(node.input, values, strict=True) if n}
    infos = [helper.make_tensor_value_info(n, draft.tensors[n].data_type, feeds[n].shape) for n in names]  # type: ignore[union-attr]
    outs = [helper.make_empty_tensor_value_info(n) for n in node.output if n]
    model = helper.make_model(
        helper.make_graph([node], "fold", infos, outs),
        opset_imports=[helper.make_opsetid("", draft.opset)],
        ir_version=draft.ir_version,
    )
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(None, feeds)
    except Exception:  # an operator the evaluator lacks is left to the executors
        return None
    found = iter(results)
    return [np.asarray(next(found)) if n else np.empty(0) for n in node.output]


_PLAIN_TYPES = frozenset(
    {
        TensorProto.FLOAT,
        TensorProto.DOUBLE,
        TensorProto.FLOAT16,
        TensorProto.BFLOAT16,
        TensorProto.BOOL,
        TensorProto.INT8,
        TensorProto.INT16,
        TensorProto.INT32,
        TensorProto.INT64,
        TensorProto.UINT8,
        TensorProto.UINT16,
        TensorProto.UINT32,
        TensorProto.UINT64,
    }
)


def name_cast_types(draft: Draft) -> None:
    """A CastLike whose type inference knows is a Cast to it, which the other passes drop or compute.

    torch.onnx casts constants so (a group normalization's scale is one), which would make them depend on the picture.
    What nobody computes here, floats of eight bits for one, stays what the file calls it, and is refused as that.
    """
    for node in draft.nodes:
        kind = draft.types.get(node.input[1], 0) if node.op_type == "CastLike" and not node.domain else 0
        if kind in _PLAIN_TYPES:
            node.op_type = "Cast"
            node.attribute.append(helper.make_attribute("to", kind))
            del node.input[1:]


def to_float32(draft: Draft) -> None:
    """Float16, bfloat16 and double models are run in float32 by both executors."""
    wide = {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
    found = {t.data_type for t in draft.tensors.values()} | {
        i.type.tensor_type.elem_type for i in (*draft.inputs, *draft.outputs)
    }
    found |= {entry.i for n in draft.nodes for entry in n.attribute if entry.name in _MADE_TYPES}
    if not found & wide:
        return
    for name, tensor in list(draft.tensors.items()):
        if tensor.data_type in wide:
            draft.set_constant(name, numpy_helper.to_array(tensor).astype(np.float32))
    for info in (*draft.inputs, *draft.outputs):
        if info.type.tensor_type.elem_type in wide:
            own = TensorProto.DataType.Name(info.type.tensor_type.elem_type).lower()
            draft.own_types[info.name] = "float64" if own == "double" else own
            info.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in draft.nodes:
        for entry in node.attribute:
            if entry.name in _MADE_TYPES and entry.i in wide:
                entry.i = TensorProto.FLOAT
            elif node.op_type == "ConstantOfShape" and entry.name == "value" and entry.t.data_type in wide:
                entry.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(entry.t).astype(np.float32)))
    names = ", ".join(sorted(TensorProto.DataType.Name(t).lower() for t in found & wide))
    draft.notes.append(f"the model's {names} values are computed in float32")
