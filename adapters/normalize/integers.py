"""Pictures of whole numbers: an input of uint8 becomes one of float32 that holds the same values.

Cast from whole numbers is where such a file begins, and a cast has no gradient. In float32 the cast falls away, and the
gradient passes; `Preprocessing.whole` rounds the pictures, so that the values are those that the file was made for.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from ...engine.graph.index import attributes
from ...engine.graph.operators import operator
from .draft import Draft

_WHOLE = {
    TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64,
}  # fmt: skip
_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}


def float_image(draft: Draft) -> None:
    """Lets the image input, if it takes whole numbers, take them as float32; ``draft.whole`` is then its type.

    What only moves values moves float32 values instead. Before any other operator on whole numbers (a quantized one,
    say) they are cast back; there is no gradient through that.
    """
    image = draft.inputs[0]
    tensor = image.type.tensor_type
    if tensor.elem_type not in _WHOLE or len(tensor.shape.dim) != 4:
        return
    kind = tensor.elem_type
    draft.whole = np.dtype(helper.tensor_dtype_to_np_dtype(kind)).name
    draft.own_types[image.name] = draft.whole
    tensor.elem_type = TensorProto.FLOAT
    moved = {image.name}
    nodes = []
    for node in draft.nodes:
        read = [name for name in node.input if name in moved]
        if not read or (node.op_type == "Cast" and not node.domain and attributes(node).get("to") in _FLOATS):
            pass
        elif operator(node).family == "movement" and node.op_type != "Cast" and _moves_alone(node, moved):
            moved.update(node.output)
        else:
            for name in read:
                back = draft.fresh(f"{name}/whole")
                nodes.append(helper.make_node("Cast", [name], [back], back, to=kind))
                for place, other in enumerate(node.input):
                    if other == name:
                        node.input[place] = back
        nodes.append(node)
    draft.nodes = nodes
    for output in draft.outputs:
        if output.name in moved:
            output.type.tensor_type.elem_type = TensorProto.FLOAT


def _moves_alone(node: onnx.NodeProto, moved: set[str]) -> bool:
    """Whether the values that move are all of the picture; constants of whole numbers may be joined or padded."""
    if node.op_type in ("Concat", "Pad", "Where", "CastLike"):
        return node.op_type == "Concat" and all(name in moved for name in node.input)
    return node.input[0] in moved and not moved.intersection(node.input[1:])
