"""Sizes that a model computes: they may come from shapes and weights, never from the values of pixels.

A network whose tensors grow with the brightness of its input is harmless in every check and fatal in use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

import onnx

from ...errors import UnsafeFile

# operator, of whatever domain -> which inputs say how large its result is
_SIZE_INPUTS: dict[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,), "Expand": (1,), "Tile": (1,), "Range": (0, 1, 2), "Pad": (1,), "OneHot": (1,),
    "Resize": (2, 3), "Upsample": (1,), "CenterCropPad": (1,), "EyeLike": (), "AffineGrid": (1,), "Col2Im": (1, 2),
    "MaxUnpool": (2,), "HannWindow": (0,), "HammingWindow": (0,), "BlackmanWindow": (0,), "Loop": (0,),
    "DFT": (1,), "STFT": (1, 3), "MelWeightMatrix": (0, 1), "CropAndResize": (3,),
}  # fmt: skip
_SHAPES = {"Shape", "Size"}  # what they give depends on no value

Functions = Mapping[tuple[str, str, str], onnx.FunctionProto]


def check_sizes(
    nodes: Iterable[onnx.NodeProto], valued: Iterable[str], where: str, functions: Iterable[onnx.FunctionProto] = ()
) -> None:
    """Follows the pixels' values through the nodes, into subgraphs and functions too.

    Args:
        nodes: in order.
        valued: the inputs that take pixels.
        where: the file, for the message.
        functions: the model's own, not nested without end.

    Raises:
        UnsafeFile: an operator takes its result's size from pixels.
    """
    known = {(_plain(f.domain), f.name, f.overload): f for f in functions}
    _follow(nodes, set(valued), where, known)


def _follow(nodes: Iterable[onnx.NodeProto], valued: set[str], where: str, functions: Functions) -> None:
    """Adds to ``valued`` all that follows from it."""
    for node in nodes:
        own = functions.get((_plain(node.domain), node.op_type, node.overload))
        if own is not None:
            valued.update(_called(node, own, valued, where, functions))
            continue
        for position in _SIZE_INPUTS.get(node.op_type, ()):
            if position < len(node.input) and node.input[position] in valued:
                raise UnsafeFile(
                    f"{where}: node '{node.name[:60]}' ({node.op_type[:60]}) computes the size of its result from the "
                    "picture's values, so that any size could come of it"
                )
        inner = [_inside(node, entry, valued, where, functions) for entry in node.attribute]
        if node.op_type not in _SHAPES and (not valued.isdisjoint(node.input) or any(inner)):
            valued.update(name for name in node.output if name)


def _called(
    node: onnx.NodeProto, function: onnx.FunctionProto, valued: Set[str], where: str, functions: Functions
) -> list[str]:
    """The outputs of a call that follow from pixels."""
    inside = {own for own, given in zip(function.input, node.input, strict=False) if given in valued}
    _follow(function.node, inside, where, functions)
    return [given for own, given in zip(function.output, node.output, strict=False) if given and own in inside]


def _inside(
    node: onnx.NodeProto, entry: onnx.AttributeProto, valued: Set[str], where: str, functions: Functions
) -> bool:
    """Whether anything in a node's subgraphs follows from pixels.

    What a round of a loop carries to the next may follow from pixels only from the second round on: where one thing
    begins to, all that is carried counts as if it did.
    """
    found = False
    for graph in [entry.g] if entry.type == onnx.AttributeProto.GRAPH else entry.graphs:
        own = {o for n in graph.node for o in n.output} | {t.name for t in graph.initializer}
        outer = set(valued) - own - {i.name for i in graph.input}
        given = node.input[max(len(node.input) - len(graph.input), 0) :] if node.op_type == "Scan" else node.input
        taken = {i.name for i, name in zip(graph.input, given, strict=False) if name in valued}
        while True:
            inside = outer | taken
            _follow(graph.node, inside, where, functions)
            carried = _carried(node, graph)
            if not any(after in inside and before not in taken for before, after in carried):
                break
            taken.update(before for before, _ in carried)
        found = found or inside != outer or not inside.isdisjoint(o.name for o in graph.output)
    return found


def _carried(node: onnx.NodeProto, body: onnx.GraphProto) -> list[tuple[str, str]]:
    """(input, output) of a loop's body for each value that goes from round to round."""
    inputs, outputs = [i.name for i in body.input], [o.name for o in body.output]
    if node.op_type == "Loop":
        return list(zip(inputs[2:], outputs[1:], strict=False))
    return list(zip(inputs, outputs, strict=False)) if node.op_type == "Scan" else []


def _plain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain
