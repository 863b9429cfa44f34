"""Channels-last exports become channels-first: the Transpose pairs around their convolutions cancel.

The pass walks the nodes in order and carries Transposes along instead of emitting them. A tensor that the
source computes channels-last is then computed channels-first *under the same name*, and recorded in
``draft.permuted`` with the axes that lead from the source's tensor to ours, so that both can be compared.
Where an operator cannot work on the moved axes (Reshape, MatMul, LayerNormalization) the Transpose is
emitted in front of it, so the result never holds more of them than the source.

Writing: ``perm`` always is the permutation with source = transpose(ours, perm).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

import numpy as np
import onnx
from onnx import helper

from ...engine.graph import operators
from .draft import Draft, attribute, copy_zeros, node_axes, set_attribute
from .shapes import image_shape

Perm = tuple[int, ...]


def to_channels_first(draft: Draft, layout: str | None = None, keep: Set[str] = frozenset()) -> None:
    """Rewrites the draft in place; ``draft.shapes`` must be filled.

    Args:
        draft: the model.
        layout: the image input's layout, "NCHW" or "NHWC", or None to tell from the graph.
        keep: tensors that the source names; the name goes to the channels-first tensor, also where an
            operator further on needs the channels-last one.
    """
    if _is_channels_last(draft, layout):
        _Pass(draft, keep).run(flip_input=True)
    elif any(n.op_type == "Transpose" for n in draft.nodes):
        _Pass(draft, keep).run(flip_input=False)


def last_perm(rank: int) -> Perm:
    """The permutation from channels-first to channels-last: (0, 2, ..., rank - 1, 1)."""
    return (0, *range(2, rank), 1)


def _is_channels_last(draft: Draft, layout: str | None) -> bool:
    image = draft.inputs[0]
    shape = draft.shapes.get(image.name)
    if shape is None or len(shape) != 4:
        return False
    if layout is not None:
        return layout == "NHWC"
    readers = [n for n in draft.nodes if image.name in n.input]
    if readers and all(n.op_type == "Transpose" and tuple(attribute(n, "perm", ())) == (0, 3, 1, 2) for n in readers):
        return True
    return shape[3] in (1, 3) and shape[1] not in (1, 3) and not any(n.op_type == "Conv" for n in readers)


def _inverse(perm: Sequence[int]) -> Perm:
    return tuple(int(i) for i in np.argsort(perm))


def _as_reshape(shape: Sequence[int | None], perm: Perm) -> list[int] | None:
    """The target of a Reshape that does the transposition, where all moved axes but one have length 1; else None."""
    moving = [i for i in perm if shape[i] != 1]
    target = [0 if axis == i else 1 if shape[i] == 1 else -1 for axis, i in enumerate(perm)]
    return target if perm[0] == 0 and moving == sorted(moving) and target.count(-1) <= 1 else None


class _Pass:
    """One walk over the nodes. ``moved[t] = (physical, perm)``: t = transpose(physical, perm)."""

    def __init__(self, draft: Draft, keep: Set[str]) -> None:
        self.draft = draft
        self.keep = keep
        self.moved: dict[str, tuple[str, Perm]] = {}
        self.emitted: dict[str, str] = {}
        self.nodes: list[onnx.NodeProto] = []

    def run(self, flip_input: bool) -> None:
        if flip_input:
            self._flip_input()
        for node in self.draft.nodes:
            handler = _HANDLERS.get(node.op_type) if not node.domain else None
            if node.op_type == "Transpose" and not node.domain:
                self._transpose(node)
            elif self._one_pixel(node):
                continue
            elif handler is None or not self._carries(node) or not handler(self, node):
                self._emit_as_is(node)
        self._settle_outputs()
        self.draft.nodes = self.nodes
        for name, (physical, _) in self.moved.items():
            if name != physical:
                self.draft.aliases[name] = physical

    def rank(self, name: str) -> int | None:
        shape = self.draft.shapes.get(name)
        return None if shape is None else len(shape)

    def has_batch_first(self, shape: Sequence[int | None]) -> bool:
        """Whether an axis of length one is no number of pictures: that is first, or is not one in this file.

        Recurrent networks put time first; exported for one picture they have its batch as a length of one elsewhere.
        """
        exported = (image_shape(self.draft.inputs[0]) or (None,))[0]
        return exported != 1 or not shape or shape[0] in (None, 1)

    def set_moved(self, node: onnx.NodeProto, output: str, perm: Perm) -> None:
        """``output`` is now computed channels-first under its own name; one that is left out has none."""
        if not output:
            return
        self.moved[output] = (output, perm)
        shape = self.draft.shapes.get(output)
        if shape is not None and len(shape) == len(perm):
            self.draft.shapes[output] = tuple(shape[i] for i in _inverse(perm))
        self.draft.permuted[output] = _inverse(perm)

    def emit_transpose(self, source: str, perm: Perm, result: str) -> None:
        """result = transpose(source, perm); a Reshape where only axes of length one move."""
        shape = self.draft.shapes.get(source)
        target = _as_reshape(shape, perm) if shape is not None and self.has_batch_first(shape) else None
        if target is not None:
            name = self.draft.fresh(f"{result}/shape")
            self.draft.set_constant(name, np.array(target, dtype=np.int64))
            self.nodes.append(helper.make_node("Reshape", [source, name], [result], name=result))
        else:
            self.nodes.append(helper.make_node("Transpose", [source], [result], name=result, perm=perm))
        if shape is not None:
            self.draft.shapes[result] = tuple(shape[i] for i in perm)
        if perm[0] == 0:
            self.draft.symbols[result] = self.draft.symbol(source)
        self.draft.types[result] = self.draft.types.get(source, 1)

    def materialize(self, name: str) -> str:
        """A tensor that holds what the source calls ``name``, emitting the Transpose at most once."""
        if name not in self.moved:
            return name
        if name not in self.emitted:
            physical, perm = self.moved[name]
            own = name == physical or (name in self.keep and perm == last_perm(len(perm)))
            result = self.draft.fresh(f"{name}/channels_last") if own else name
            self.emit_transpose(physical, perm, result)
            self.emitted[name] = result
        return self.emitted[name]

    def operand(self, name: str, perm: Perm) -> str | None:
        """``name`` in the channels-first order of ``perm``, or None where that cannot be had."""
        if not name:
            return name
        if name in self.moved:
            physical, own = self.moved[name]
            return physical if own == perm else None
        value = self.draft.constant(name)
        rank = len(perm)
        if value is not None:
            if value.size == 1:
                return name
            if value.ndim > rank:
                return None
            ours = value.reshape((1,) * (rank - value.ndim) + value.shape).transpose(_inverse(perm))
            moved = self.draft.fresh(f"{name}/channels_first")
            self.draft.set_constant(moved, np.ascontiguousarray(ours))
            return moved
        shape = self.draft.shapes.get(name)
        if shape is None or len(shape) not in (0, rank):
            return None
        if len(shape) == 0:
            return name
        result = self.draft.fresh(f"{name}/channels_first")
        self.emit_transpose(name, _inverse(perm), result)
        return result

    def perm_of(self, node: onnx.NodeProto) -> Perm | None:
        """The one channels-last permutation of the node's moved inputs, or None."""
        perms = {self.moved[n][1] for n in node.input if n in self.moved}
        perm = perms.pop() if len(perms) == 1 else None
        return perm if perm is not None and perm == last_perm(len(perm)) else None

    def emit(self, node: onnx.NodeProto, inputs: Sequence[str]) -> None:
        del node.input[:]
        node.input.extend(inputs)
        self.nodes.append(node)

    def _carries(self, node: onnx.NodeProto) -> bool:
        return any(n in self.moved for n in node.input)

    def _flip_input(self) -> None:
        image = self.draft.inputs[0]
        dims = image.type.tensor_type.shape.dim
        ordered = [onnx.TensorShapeProto.Dimension() for _ in dims]
        for ours, theirs in zip(ordered, (0, 3, 1, 2), strict=True):
            ours.CopyFrom(dims[theirs])
        del dims[:]
        dims.extend(ordered)
        self.set_moved(onnx.NodeProto(), image.name, last_perm(4))

    def _one_pixel(self, node: onnx.NodeProto) -> bool:
        """(N, C) to (N, 1, 1, C), squeeze-and-excitation in Keras: channels-first where it is read so."""
        if node.op_type != "Reshape" or node.domain or self._carries(node):
            return False
        result, shape = node.output[0], self.draft.shapes.get(node.output[0])
        readers = [n for n in self.draft.nodes if result in n.input] if shape is not None and len(shape) == 4 else []
        turned = any(n.op_type == "Transpose" and tuple(attribute(n, "perm", ())) == (0, 3, 1, 2) for n in readers)
        if not turned or shape is None or shape[1:3] != (1, 1) or shape[3] is None or self.rank(node.input[0]) != 2:
            return False
        target = self.draft.fresh(f"{result}/shape")
        self.draft.set_constant(target, np.array([0, shape[3], 1, 1], dtype=np.int64))
        copy_zeros(node)
        self.emit(node, [node.input[0], target])
        self.set_moved(node, result, last_perm(4))
        return True

    def _transpose(self, node: onnx.NodeProto) -> None:
        source, result = node.input[0], node.output[0]
        rank = self.rank(source) or len(attribute(node, "perm", ()))
        perm = tuple(attribute(node, "perm") or range(rank - 1, -1, -1))
        physical, before = self.moved.get(source, (source, tuple(range(len(perm)))))
        total = tuple(before[i] for i in perm)
        self.moved[result] = (physical, total)

    def _emit_as_is(self, node: onnx.NodeProto) -> None:
        self.emit(node, [self._source_order(n) for n in node.input])
        for entry in node.attribute:  # subgraphs read from outside under the source's names
            graphs = [entry.g] if entry.type == onnx.AttributeProto.GRAPH else list(entry.graphs)
            for name in {n for g in graphs for inner in g.node for n in inner.input if n in self.moved}:
                settled = self.materialize(name)
                if settled != name:
                    self.nodes.insert(-1, helper.make_node("Identity", [settled], [name]))

    def _source_order(self, name: str) -> str:
        if name not in self.moved:
            return name
        physical, perm = self.moved[name]
        if perm == tuple(range(len(perm))):
            return physical
        return self.materialize(name)

    def _settle_outputs(self) -> None:
        for output in self.draft.outputs:
            if output.name not in self.moved:
                continue
            physical, perm = self.moved[output.name]
            if physical == output.name:
                continue  # a feature map as output: channels-first, recorded in ``permuted``
            if any(output.name in node.output for node in self.nodes):
                continue  # in the source's order already, since an operator without a rule reads it
            if perm == last_perm(len(perm)):
                self._rename(physical, output.name, _inverse(perm))
            else:
                self.materialize(output.name)

    def _rename(self, physical: str, name: str, axes: Perm) -> None:
        """The graph output keeps its name, in channels-first order."""
        if physical in {o.name for o in self.draft.outputs} | {i.name for i in self.draft.inputs}:
            self.materialize(name)
            return
        for node in self.nodes:
            for names in (node.input, node.output):
                for i, other in enumerate(names):
                    if other == physical:
                        names[i] = name
        for other, (source, perm) in list(self.moved.items()):
            if source == physical:
                self.moved[other] = (name, perm)
        self.draft.shapes[name] = self.draft.shapes.get(physical, self.draft.shapes.get(name, ()))
        self.draft.permuted[name] = axes
        self.draft.aliases[physical] = name


def _elementwise(walk: _Pass, node: onnx.NodeProto) -> bool:
    perm = walk.perm_of(node)
    if perm is None or any((walk.rank(n) or 0) > len(perm) for n in node.input if n):
        return False
    inputs = [walk.operand(n, perm) for n in node.input]
    if any(n is None for n in inputs):
        return False
    walk.emit(node, [n for n in inputs if n is not None])
    for output in node.output:
        walk.set_moved(node, output, perm)
    return True


def _unary(walk: _Pass, node: onnx.NodeProto) -> bool:
    """Operators of one tensor whose other inputs (bounds, slopes' scalars, types) have no axes."""
    perm = walk.perm_of(node)
    if perm is None or node.input[0] not in walk.moved:
        return False
    walk.emit(node, [walk.moved[node.input[0]][0], *node.input[1:]])
    for output in node.output:
        walk.set_moved(node, output, perm)
    return True


def _along_axis(default: int | None) -> Callable[[_Pass, onnx.NodeProto], bool]:
    def handle(walk: _Pass, node: onnx.NodeProto) -> bool:
        perm = walk.perm_of(node)
        axis = attribute(node, "axis", default)
        flattens = node.op_type.endswith("ax") and walk.draft.opset < 13
        if perm is None or axis is None or flattens:
            return False
        many = node.op_type == "Concat"
        inputs = [walk.operand(n, perm) for n in (node.input if many else node.input[:1])]
        if any(n is None for n in inputs):
            return False
        set_attribute(node, "axis", int(perm[axis % len(perm)]))
        walk.emit(node, [*(n for n in inputs if n is not None), *([] if many else node.input[1:])])
        for output in node.output:
            walk.set_moved(node, output, perm)
        return True

    return handle


def _set_axes(walk: _Pass, node: onnx.NodeProto, axes: Sequence[int], position: int) -> list[str]:
    """Writes the axes where this opset keeps them; returns the node's inputs after the first."""
    rest = list(node.input[1:])
    if attribute(node, "axes") is not None or len(node.input) <= position:
        set_attribute(node, "axes", list(axes))
        return rest
    name = walk.draft.fresh(f"{node.output[0]}/axes")
    walk.draft.set_constant(name, np.array(axes, dtype=np.int64))
    rest[position - 1] = name
    return rest


def _reduce(walk: _Pass, node: onnx.NodeProto) -> bool:
    perm = walk.perm_of(node)
    try:
        axes = node_axes(walk.draft, node)
    except KeyError:
        return False
    if perm is None or not axes:
        return False
    keep = node.op_type != "Squeeze" and bool(attribute(node, "keepdims", 1))
    ours = sorted(int(perm[a % len(perm)]) for a in axes)
    left = [i for i in perm if i not in ours]
    if not keep and left != sorted(left):
        return False  # the result would still be in another order
    walk.emit(node, [walk.moved[node.input[0]][0], *_set_axes(walk, node, ours, 1)])
    if keep:
        walk.set_moved(node, node.output[0], perm)
    return True


def _pad(walk: _Pass, node: onnx.NodeProto) -> bool:
    perm = walk.perm_of(node)
    if perm is None or (len(node.input) > 3 and node.input[3]):
        return False
    old = attribute(node, "pads")
    value = np.array(old) if old is not None else walk.draft.constant(node.input[1])
    if value is None:
        return False
    rank, inverse = len(perm), list(_inverse(perm))
    ours = np.concatenate([value[:rank][inverse], value[rank:][inverse]]).astype(np.int64)
    rest = list(node.input[1:])
    if old is not None:
        set_attribute(node, "pads", ours.tolist())
    else:
        rest[0] = walk.draft.fresh(f"{node.output[0]}/pads")
        walk.draft.set_constant(rest[0], ours)
    walk.emit(node, [walk.moved[node.input[0]][0], *rest])
    walk.set_moved(node, node.output[0], perm)
    return True


def _slice(walk: _Pass, node: onnx.NodeProto) -> bool:
    perm = walk.perm_of(node)
    try:
        axes = node_axes(walk.draft, node, 3)
    except KeyError:
        return False
    if perm is None:
        return False
    if axes is None:
        if attribute(node, "starts") is None:
            return False
        axes = list(range(len(attribute(node, "starts"))))
    ours = [int(perm[a % len(perm)]) for a in axes]
    walk.emit(node, [walk.moved[node.input[0]][0], *_set_axes(walk, node, ours, 3)])
    walk.set_moved(node, node.output[0], perm)
    return True


def _resize(walk: _Pass, node: onnx.NodeProto) -> bool:
    perm = walk.perm_of(node)
    if perm is None or attribute(node, "axes") is not None:
        return False
    rest: list[str] = []
    for name in node.input[1:]:
        value = walk.draft.constant(name) if name else None
        if name and value is None:
            return False
        if value is None or value.size == 0:
            rest.append(name)
        elif value.size == len(perm):
            rest.append(walk.draft.fresh(f"{name}/channels_first"))
            walk.draft.set_constant(rest[-1], value[list(_inverse(perm))])
        else:
            return False
    scales = attribute(node, "scales")
    if scales is not None:
        set_attribute(node, "scales", [float(scales[i]) for i in _inverse(perm)])
    walk.emit(node, [walk.moved[node.input[0]][0], *rest])
    walk.set_moved(node, node.output[0], perm)
    return True


def _shape(walk: _Pass, node: onnx.NodeProto) -> bool:
    physical, perm = walk.moved[node.input[0]]
    if attribute(node, "start") is not None or attribute(node, "end") is not None:
        return False
    ours, order = walk.draft.fresh(f"{node.output[0]}/ours"), walk.draft.fresh(f"{node.output[0]}/order")
    walk.draft.set_constant(order, np.array(perm, dtype=np.int64))
    walk.nodes.append(helper.make_node("Shape", [physical], [ours], name=ours))
    walk.nodes.append(helper.make_node("Gather", [ours, order], [node.output[0]], name=node.name))
    return True


def _reshape(walk: _Pass, node: onnx.NodeProto) -> bool:
    """Only where the values' order in memory is the same both ways: all moved axes but one have length 1."""
    if node.input[0] not in walk.moved:
        return False
    physical, perm = walk.moved[node.input[0]]
    if node.op_type == "Flatten" and attribute(node, "axis", 1) not in (1, 1 - len(perm)):
        return False
    shape = walk.draft.shapes.get(physical)
    if shape is None or perm[0] != 0 or any(s is None for s in shape[1:]) or not walk.has_batch_first(shape):
        return False
    moving = [i for i in perm[1:] if shape[i] != 1]
    target = walk.draft.constant(node.input[1]) if len(node.input) > 1 else None
    if moving != sorted(moving) or (target is not None and 0 in target[1:].tolist()):
        return False
    walk.emit(node, [physical, *node.input[1:]])
    return True


_HANDLERS: dict[str, Callable[[_Pass, onnx.NodeProto], bool]] = {
    **dict.fromkeys(operators.names(lambda row: row.elementwise and not row.broadcasts), _unary),
    **dict.fromkeys(operators.names(lambda row: row.elementwise and row.broadcasts), _elementwise),
    **dict.fromkeys((*operators.names(lambda row: row.family == "reduction" and row.numbers), "Squeeze"), _reduce),
    "Concat": _along_axis(None),
    "Split": _along_axis(0),
    "Softmax": _along_axis(-1),
    "LogSoftmax": _along_axis(-1),
    "Pad": _pad,
    "Slice": _slice,
    "Resize": _resize,
    "Upsample": _resize,
    "Shape": _shape,
    "Reshape": _reshape,
    "Flatten": _reshape,
}
