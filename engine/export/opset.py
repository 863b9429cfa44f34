"""Raising an old model's operator set, since the backward pass needs operators of opset 16 (ScatterElements that adds).

Most operators only took more data types since; those whose form or meaning changed are rewritten here, one function
each. The exported model's outputs are compared with the old ones afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...errors import UnsupportedOperator

NEEDED = 16
_REDUCTIONS = ("Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")
RAISED = 17  # what older models become: with the same file format version (8) as opset 16


class _Rewriter:
    """One model being raised: nodes in order, and constants that the newer forms take as inputs."""

    def __init__(self, model: onnx.ModelProto, opset: int, ranks: Mapping[str, int]) -> None:
        self.model = model
        self.opset = opset
        self.ranks = ranks
        self.nodes: list[onnx.NodeProto] = []
        self.taken = {t.name for t in model.graph.initializer} | {o for n in model.graph.node for o in n.output}

    def constant(self, stem: str, value: np.ndarray) -> str:
        """The name of a new constant."""
        name = self.fresh(stem)
        self.model.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def integers(self, stem: str, values: list[int]) -> str:
        """The name of a new int64 vector."""
        return self.constant(stem, np.array(values, dtype=np.int64))

    def fresh(self, stem: str) -> str:
        """A name that nothing else has."""
        return unused(f"{stem}/raised", self.taken)


def unused(name: str, taken: set[str]) -> str:
    """The name, with underscores behind it until nothing has it; it is among the taken ones from now on."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def raised(model: onnx.ModelProto, ranks: Mapping[str, int], needed: int = NEEDED) -> onnx.ModelProto:
    """The model at an opset that is new enough; a copy, with the tensors' names kept.

    Args:
        model: the canonical model.
        ranks: of its tensors.
        needed: the oldest opset that will do, up to 18.

    Raises:
        UnsupportedOperator: a node whose meaning changed in a way that is not rewritten.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    opset = next(e for e in copy.opset_import if e.domain in ("", "ai.onnx"))
    if opset.version >= needed:
        return copy
    wanted = max(RAISED, needed)
    rewriter = _Rewriter(copy, opset.version, ranks)
    for node in copy.graph.node:
        if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
            raise _unraised(node, opset.version, "it holds a graph of its own")
        for changed, rewrite in _REWRITES.get(node.op_type, ()) if not node.domain else ():
            if opset.version < changed <= wanted:
                rewrite(rewriter, node)
        rewriter.nodes.append(node)
    nodes = list(rewriter.nodes)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    opset.version = wanted
    copy.ir_version = max(copy.ir_version, helper.find_min_ir_version_for([opset]))
    return copy


def _unraised(node: onnx.NodeProto, opset: int, reason: str) -> UnsupportedOperator:
    return UnsupportedOperator(
        f"operator {node.op_type} of opset {opset} (node '{node.name[:80]}') cannot be raised to opset {RAISED}: "
        f"{reason}; export the model with opset {NEEDED} or newer"
    )


def _taken_attribute(node: onnx.NodeProto, name: str) -> object:
    """The attribute's value, which the node loses; None where it has none."""
    for index, entry in enumerate(node.attribute):
        if entry.name == name:
            value = helper.get_attribute_value(entry)
            del node.attribute[index]
            return value
    return None


def _axes_to_input(r: _Rewriter, node: onnx.NodeProto) -> None:
    axes = _taken_attribute(node, "axes")
    if axes is not None:
        node.input.append(r.integers(node.output[0], list(axes)))  # type: ignore[call-overload]


def _split(r: _Rewriter, node: onnx.NodeProto) -> None:
    sizes = _taken_attribute(node, "split")
    if sizes is not None:
        node.input.append(r.integers(node.output[0], list(sizes)))  # type: ignore[call-overload]


def _split_count(_: _Rewriter, node: onnx.NodeProto) -> None:
    if len(node.input) < 2:
        node.attribute.append(helper.make_attribute("num_outputs", len(node.output)))


def _dropout(_: _Rewriter, node: onnx.NodeProto) -> None:
    _taken_attribute(node, "ratio")


def _batch_norm(r: _Rewriter, node: onnx.NodeProto) -> None:
    if _taken_attribute(node, "spatial") == 0:
        raise _unraised(node, r.opset, "its statistics are per position")


def _clip(r: _Rewriter, node: onnx.NodeProto) -> None:
    for bound in ("min", "max"):
        value = _taken_attribute(node, bound)
        name = "" if value is None else r.constant(f"{node.output[0]}/{bound}", np.array(value, dtype=np.float32))
        node.input.append(name)
    while not node.input[-1]:
        del node.input[-1]


def _pad(r: _Rewriter, node: onnx.NodeProto) -> None:
    pads, value = _taken_attribute(node, "pads"), _taken_attribute(node, "value")
    node.input.append(r.integers(node.output[0], list(pads)))  # type: ignore[call-overload]
    if value:
        node.input.append(r.constant(node.output[0], np.array(value, dtype=np.float32)))


def _slice(r: _Rewriter, node: onnx.NodeProto) -> None:
    for name in ("starts", "ends", "axes"):
        values = _taken_attribute(node, name)
        if values is not None:
            node.input.append(r.integers(f"{node.output[0]}/{name}", list(values)))  # type: ignore[call-overload]


def _top_k(r: _Rewriter, node: onnx.NodeProto) -> None:
    node.input.append(r.integers(node.output[0], [int(_taken_attribute(node, "k"))]))  # type: ignore[call-overload]


def _softmax(r: _Rewriter, node: onnx.NodeProto) -> None:
    """Until opset 13 it went over all axes from ``axis`` on, taken as one."""
    given = _taken_attribute(node, "axis")
    rank = r.ranks[node.input[0]]
    axis = int(1 if given is None else given) % rank  # type: ignore[call-overload]
    node.attribute.append(helper.make_attribute("axis", -1))
    if axis == rank - 1:
        return
    flat, shape, y = (r.fresh(f"{node.output[0]}/{part}") for part in ("flat", "shape", "y"))
    r.nodes.append(helper.make_node("Flatten", [node.input[0]], [flat], flat, axis=axis))
    r.nodes.append(helper.make_node("Shape", [node.input[0]], [shape], shape))
    inner = helper.make_node(node.op_type, [flat], [y], y, axis=-1)
    r.nodes.append(inner)
    node.CopyFrom(helper.make_node("Reshape", [y, shape], list(node.output), node.name))


def _resize(r: _Rewriter, node: onnx.NodeProto) -> None:
    """Upsample, and Resize before opset 11: positions are divided by the scale; nearest rounds down when growing."""
    scales = _taken_attribute(node, "scales")
    if scales is not None:
        node.input.append(r.constant(node.output[0], np.array(scales, dtype=np.float32)))
    source, factors = node.input
    known = next((t for t in r.model.graph.initializer if t.name == factors), None)
    if known is None:
        raise _unraised(node, r.opset, "its scales are computed while the model runs")
    rounding = "ceil" if numpy_helper.to_array(known).min() < 1 else "floor"
    mode = next((helper.get_attribute_value(a).decode() for a in node.attribute if a.name == "mode"), "nearest")
    new = helper.make_node(
        "Resize", [source, "", factors], list(node.output), node.name, mode="linear" if "linear" in mode else mode,
        coordinate_transformation_mode="asymmetric", nearest_mode=rounding,
    )  # fmt: skip
    node.CopyFrom(new)


def _scatter(_: _Rewriter, node: onnx.NodeProto) -> None:
    node.op_type = "ScatterElements"


def _roi_align(_: _Rewriter, node: onnx.NodeProto) -> None:
    node.attribute.append(helper.make_attribute("coordinate_transformation_mode", "output_half_pixel"))


# operator -> (the opset at which its form changed, how the older form is rewritten), oldest first
_REWRITES: dict[str, tuple[tuple[int, Callable[[_Rewriter, onnx.NodeProto], None]], ...]] = {
    "Squeeze": ((13, _axes_to_input),),
    "Unsqueeze": ((13, _axes_to_input),),
    "ReduceSum": ((13, _axes_to_input),),
    **{f"Reduce{name}": ((18, _axes_to_input),) for name in _REDUCTIONS},
    "Split": ((13, _split), (18, _split_count)),
    "Dropout": ((12, _dropout),),
    "BatchNormalization": ((9, _batch_norm),),
    "Clip": ((11, _clip),),
    "Pad": ((11, _pad),),
    "Slice": ((10, _slice),),
    "TopK": ((10, _top_k),),
    "Softmax": ((13, _softmax),),
    "LogSoftmax": ((13, _softmax),),
    "Hardmax": ((13, _softmax),),
    "Upsample": ((10, _resize),),
    "Resize": ((11, _resize),),
    "Scatter": ((11, _scatter),),
    "RoiAlign": ((16, _roi_align),),
}
