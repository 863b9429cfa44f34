"""Sizes that a model computes: they may come from shapes and weights, never from the values of pixels.

A network whose tensors grow with the brightness of its input is harmless in every check and fatal in use.
"""

from __future__ import annotations

import onnx

from ...errors import UnsafeFile

# operator -> which inputs say how large its result is
_SIZE_INPUTS: dict[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,), "Expand": (1,), "Tile": (1,), "Range": (0, 1, 2), "Pad": (1,), "OneHot": (1,),
    "Resize": (2, 3), "Upsample": (1,), "CenterCropPad": (1,), "EyeLike": (), "AffineGrid": (1,), "Col2Im": (1, 2),
    "MaxUnpool": (2,), "HannWindow": (0,), "HammingWindow": (0,), "BlackmanWindow": (0,), "Loop": (0,),
}  # fmt: skip
_SHAPES = {"Shape", "Size"}  # what they give depends on no value


def check_sizes(graph: onnx.GraphProto, where: str) -> None:
    """Follows the pixels' values through the graph.

    Raises:
        UnsafeFile: an operator takes its result's size from them.
    """
    weights = {t.name for t in graph.initializer}
    valued = {i.name for i in graph.input if i.name not in weights}
    for node in graph.node:
        for position in _SIZE_INPUTS.get(node.op_type, ()) if not node.domain else ():
            if position < len(node.input) and node.input[position] in valued:
                raise UnsafeFile(
                    f"{where}: node '{node.name[:60]}' ({node.op_type[:60]}) computes the size of its result from the "
                    "picture's values, so that any size could come of it"
                )
        if node.op_type not in _SHAPES and (not valued.isdisjoint(node.input) or _reads(node, valued)):
            valued.update(name for name in node.output if name)


def _reads(node: onnx.NodeProto, names: set[str]) -> bool:
    """Whether a subgraph of the node reads any of these."""
    graphs = [g for a in node.attribute for g in ([a.g] if a.type == onnx.AttributeProto.GRAPH else a.graphs)]
    return any(not names.isdisjoint(inner.input) or _reads(inner, names) for graph in graphs for inner in graph.node)
