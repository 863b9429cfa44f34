"""What quantization leaves of a network's numbers: the steps of its weights, and where values on the way are rounded.

Three ways of writing it are known: QuantizeLinear and DequantizeLinear around float operators (QDQ), weights alone
behind a DequantizeLinear, and products of whole numbers (ConvInteger, MatMulInteger) that are scaled afterwards, as
ONNX Runtime's dynamic quantization writes them. Onnx's operator documents say how each computes.
"""

from __future__ import annotations

import numpy as np
import onnx

from ..graph.index import Index
from ..graph.quantized import Quantized, scaled

ROUNDING = ("QuantizeLinear", "DequantizeLinear")
PRODUCTS = ("ConvInteger", "MatMulInteger")
_UNBOUNDED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "BatchNormalization")  # they give values below zero


def scaled_product(index: Index, node: onnx.NodeProto) -> tuple[Quantized, str, list[onnx.NodeProto]] | None:
    """A product of whole numbers with what makes it floats again.

    Returns:
        Its weights, the tensor of floats that was quantized for it, and the nodes behind it up to the scaled product;
        None where the node is no such product.
    """
    if node.op_type not in PRODUCTS:
        return None
    quantizer = index.producer.get(node.input[0])
    stored = index.constant(node.input[1])
    zero = index.constant(node.input[3]) if len(node.input) > 3 and node.input[3] else None
    cast = _only(index, node.output[0], "Cast")
    product = None if cast is None else _only(index, cast.output[0], "Mul")
    if quantizer is None or quantizer.op_type != "DynamicQuantizeLinear" or stored is None or product is None:
        return None
    assert cast is not None
    both = index.producer.get(next(n for n in product.input if n != cast.output[0]))
    scales = [] if both is None or both.op_type != "Mul" else [index.constant(n) for n in both.input]
    scale = next((s for s in scales if s is not None), None)
    if scale is None:
        return None
    axis = 0 if node.op_type == "ConvInteger" else stored.ndim - 1
    return scaled(stored, scale, zero, axis), quantizer.input[0], [cast, product]


def rectifies(index: Index, node: onnx.NodeProto) -> bool:
    """Whether a DequantizeLinear ends a quantizer that cuts what is below zero off, where a ReLU stood."""
    before = index.producer.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
    if before is None or before.op_type != "QuantizeLinear" or len(before.input) < 3:
        return False
    zero, source = index.constant(before.input[2]), index.producer.get(before.input[0])
    lowest = zero is not None and zero.dtype.kind in "iu" and np.all(zero == np.iinfo(zero.dtype).min)
    return bool(lowest) and source is not None and source.op_type in _UNBOUNDED


def rounded_to(index: Index, tensor: str) -> str:
    """The kind of whole numbers that a tensor on the way is rounded to ("uint8"), or ""."""
    node = index.producer.get(tensor)
    if node is None or node.op_type != "DequantizeLinear" or index.constant(node.input[0]) is not None:
        return ""
    zero = index.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    return "uint8" if zero is None else zero.dtype.name


def _only(index: Index, tensor: str, operator: str) -> onnx.NodeProto | None:
    readers = index.readers.get(tensor, ())
    return readers[0] if len(readers) == 1 and readers[0].op_type == operator else None
