"""Operators that ONNX itself defines by simpler ones, written out so that the gradients of those do.

The standard gives attention, rotary positions and cropping to a size as functions: their definitions, nodes of the
standard itself, take the place of the operator in a model whose backward pass goes through it. The tensors that others
read keep their names.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper, inliner, numpy_helper, shape_inference

EXPANDED = frozenset({"Attention", "RotaryEmbedding", "CenterCropPad"})


def expanded(model: onnx.ModelProto, operators: Iterable[str]) -> onnx.ModelProto:
    """The model with these operators, those of them in `EXPANDED`, written out; itself where it has none."""
    wanted = EXPANDED.intersection(operators, (node.op_type for node in model.graph.node if not node.domain))
    if not wanted:
        return model
    typed = shape_inference.infer_shapes(model)  # a definition depends on the data types
    typed.graph.value_info.extend(
        helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.graph.initializer
    )
    identifiers = [("", name) for name in sorted(wanted)]
    try:
        plain = inliner.inline_selected_functions(typed, identifiers, inline_schema_functions=True)
    except RuntimeError:  # a data type that is not known
        return model
    plain = shape_inference.infer_shapes(plain)
    constants = [node for node in plain.graph.node if node.op_type == "Constant" and not node.domain]
    for node in constants:
        plain.graph.node.remove(node)
        plain.graph.initializer.append(_stored(node))
    return plain


def _stored(node: onnx.NodeProto) -> onnx.TensorProto:
    """A Constant's value under its output's name."""
    (attribute,) = node.attribute
    value = helper.get_attribute_value(attribute)
    if attribute.name == "value":
        stored = onnx.TensorProto()
        stored.CopyFrom(value)
        stored.name = node.output[0]
        return stored
    kind = "float32" if "float" in attribute.name else "int64"
    return numpy_helper.from_array(np.array(value, dtype=kind), node.output[0])
