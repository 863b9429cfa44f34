"""Company: operators by which the pictures of one batch change one another's results, or that take one alone.

Statistics that are computed from the pictures, a mean over the first axis, a quantizer whose scale is that of the whole
batch; and what an export for a batch of one holds for that one: a class token, the first state of a recurrence. The
batch axis is followed from the image through what moves axes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx

from .einsum import einsum_terms
from .index import Index, attributes, first_output, trains
from .layers import Shape
from .operators import operator

_FARTHEST = 2**31 - 1  # the end of a Slice that goes on to the last


def mixing(index: Index, image: str, shapes: Mapping[str, Shape]) -> tuple[str, ...]:
    """The tensors that depend on all pictures of a batch at once, or that are made of one only, in order.

    Args:
        index: of the graph.
        image: the input with the batch on axis 0.
        shapes: tensor -> shape, as far as known, None for the first axis and for any other that grows with the number
            of pictures.
    """
    return _Walk(index, image, shapes).mixing()


def batch_axes(index: Index, image: str, shapes: Mapping[str, Shape]) -> dict[str, int]:
    """Tensor -> the axis that counts pictures, of those where it is not the first: recurrent networks put time there.

    Args: as for `mixing`.
    """
    followed = _Walk(index, image, shapes).axes()
    found = {}
    for name, shape in shapes.items():
        growing = _growing(shape)
        if len(growing) == 1 and followed.get(name) in (None, growing[0]) and name in followed:
            found[name] = growing[0]
        elif not growing and (axis := followed.get(name)) and axis < len(shape) and shape[axis] == 1:
            found[name] = axis  # of a file for a batch of one
    return found


def out_of_sight(index: Index, image: str, shapes: Mapping[str, Shape]) -> frozenset[str]:
    """The tensors of which it is not known which axis counts pictures, if any does.

    Args: as for `mixing`.
    """
    return frozenset(name for name, axis in _Walk(index, image, shapes).axes().items() if axis is None)


def reason(node: onnx.NodeProto) -> str:
    """What the node whose output `mixing` names does with a batch, for a sentence that begins with that output."""
    row = operator(node)
    if row.batch is None:
        return "may depend on all pictures of a batch"
    if node.op_type == "Reshape":
        return "is shaped for one picture"
    if row.family == "movement" and node.op_type != "Concat":
        return "takes pictures out of their batch, or adds some"
    if node.op_type == "Concat" or (row.family == "recurrent" and row.batch == "by axis"):
        return "holds a value for one picture"
    return "depends on all pictures of a batch"


def _takes_one(index: Index, node: onnx.NodeProto, axis: int) -> bool:
    """Whether a constant beside the pictures is that of a single one; ``axis`` is the batch's.

    A constant that is joined to the pictures must be as long as their batch; so must a first state, on its second axis.
    A Reshape whose first axis is a number has no room for more pictures than it was written for.
    """
    if node.op_type == "Reshape":
        target = index.constant(node.input[1])
        return axis == 0 and target is not None and target.size > 0 and int(target.ravel()[0]) > 0
    if node.op_type == "Concat":
        options, names = attributes(node), list(node.input)
        constants = [value for name in names if (value := index.constant(name)) is not None and axis < value.ndim]
        return any(value.shape[axis] == 1 and int(options["axis"]) % value.ndim != axis for value in constants)
    if operator(node).family != "recurrent":
        return False
    states = [index.constant(name) for name in list(node.input)[5:7] if name]
    return any(value is not None and value.ndim == 3 and value.shape[1] == 1 for value in states)


def _whole(index: Index, node: onnx.NodeProto, place: int, name: str) -> list[int] | None:
    """Whole numbers that are an attribute or a constant; None where they are left out or computed."""
    try:
        found = index.argument(node, place, name)
    except KeyError:
        return None
    return None if found is None or not np.size(found) else [int(v) for v in np.ravel(found)]


def _growing(shape: Shape) -> list[int]:
    """The axes behind the first that grow with the number of pictures."""
    return [axis for axis, size in enumerate(shape) if axis and size is None]


def _of_outputs(node: onnx.NodeProto, axis: int) -> list[int] | None:
    """The batch's axis in each output of a recurrence with time first: (T, D, N, H), (D, N, H) of its last state."""
    if operator(node).family != "recurrent" or attributes(node).get("layout", 0) or axis != 1:
        return None
    return [2, 1, 1][: len(node.output)]


def _terms(node: onnx.NodeProto, ranks: Sequence[int]) -> tuple[list[str], str]:
    """A product or a sum as Einsum has it: a letter for each axis of each operand, and those of the result.

    Axes that broadcasting lays upon one another share a letter. No terms where that cannot be told.
    """
    if node.op_type == "Einsum":
        return einsum_terms(str(attributes(node)["equation"]), ranks)
    first, second = [*ranks, 0, 0][:2]
    if node.op_type == "Gemm":
        turned = attributes(node)
        return ["ki" if turned.get("transA", 0) else "ik", "jk" if turned.get("transB", 0) else "kj"], "ij"
    if node.op_type == "MatMul" and min(first, second) >= 2:
        lead = [_leading(rank - 2) for rank in (first, second)]
        return [lead[0] + "ik", lead[1] + "kj"], max(lead, key=len) + "ij"
    if operator(node).family in ("arithmetic", "logic") and first == second:
        return [_leading(first)] * 2, _leading(first)
    return [], ""


def _leading(count: int) -> str:
    """Letters of as many leading axes, which broadcasting aligns at their end; products' own are small."""
    return "".join(chr(ord("Z") - i) for i in range(min(count, 26)))[::-1]


class _Walk:
    def __init__(self, index: Index, image: str, shapes: Mapping[str, Shape]) -> None:
        self._index, self._shapes = index, shapes
        self._batch: dict[str, int | None] = {image: 0}  # None where the axis is lost sight of

    def axes(self) -> dict[str, int | None]:
        """Of each tensor that depends on the image the axis that counts pictures, None where it is lost sight of."""
        self._walk()
        return self._batch

    def mixing(self) -> tuple[str, ...]:
        """See `mixing`."""
        return tuple(self._walk())

    def _walk(self) -> list[str]:
        found = []
        for node in self._index.nodes:
            read = [name for name in node.input if name in self._batch]
            if not read or operator(node).family == "size":
                continue
            source = next((name for name in read if self._batch[name] is not None), None)
            after: Sequence[int | None] = [None] * len(node.output)
            if source is not None:
                axis, rank = self._batch[source] or 0, self._rank(source)
                if self._mixes(node, axis, rank) or _takes_one(self._index, node, axis):
                    found.append(first_output(node))
                after = _of_outputs(node, axis) or [self._after(node, axis, rank)] * len(node.output)
            self._batch.update((name, place) for name, place in zip(node.output, after, strict=True) if name)
        return found

    def _mixes(self, node: onnx.NodeProto, axis: int, rank: int) -> bool:
        row, options = operator(node), attributes(node)
        if row.family in ("dense", "arithmetic", "logic") and self._pairs(node):
            return True
        if row.batch != "by axis":
            return row.batch != "separate"  # of what is not known the careful thing is believed
        if self._takes_out(node, axis, rank):
            return True
        if node.op_type == "BatchNormalization":
            return trains(node)
        if node.op_type == "MeanVarianceNormalization":
            return axis in _counted(options.get("axes", [0, 2, 3]), rank)
        if node.op_type in ("LayerNormalization", "RMSNormalization"):
            return axis >= _counted([options.get("axis", -1)], rank)[0]
        if row.family in ("softmax", "selection") or node.op_type == "LpNormalization":
            default = 0 if node.op_type.startswith("Arg") else -1
            return self._among(axis, [options.get("axis", default)], rank)
        if row.family in ("reduction", "scan") and node.op_type != "Det":
            axes = self._axes(node)
            if axes is None:
                return not options.get("noop_with_empty_axes")
            return self._among(axis, axes, rank)
        return False  # what moves pictures side by side does not change them

    def _among(self, axis: int, axes: Sequence[int], rank: int) -> bool:
        """Whether the batch's axis is among these; of a tensor whose rank is not known the last may be it."""
        return axis in _counted(axes, rank) or (not rank and min(axes, default=0) < 0)

    def _takes_out(self, node: onnx.NodeProto, axis: int, rank: int) -> bool:
        """Whether an operator that moves values takes some of the pictures, turns their order or adds to them.

        ``x[0]`` and ``x.squeeze(0)`` are how exports for one picture lose the batch.
        """
        options, op = attributes(node), node.op_type
        if node.input[0] not in self._batch:
            return False
        if op == "Flatten":
            return int(options.get("axis", 1)) == 0 and axis == 0
        if op == "Reshape":  # all values of all pictures in one row, whose shape is not among those of maps
            rest = self._shapes.get(node.input[0], ())[1:]
            return axis == 0 and node.output[0] not in self._shapes and any(side != 1 for side in rest)
        if op == "GatherND":
            return axis >= int(options.get("batch_dims", 0))
        if op in ("Gather", "Split"):
            return self._among(axis, [int(options.get("axis", 0))], rank)
        if op == "Squeeze":
            return axis in _counted(self._axes(node) or [], rank)
        if op == "Slice":
            return self._cuts(node, axis, rank)
        if op in ("Pad", "Tile"):
            return self._grows(node, axis)
        return False

    def _cuts(self, node: onnx.NodeProto, axis: int, rank: int) -> bool:
        """Whether a Slice leaves out or turns pictures."""
        try:
            starts, ends, axes, steps = (
                self._index.argument(node, place, name)
                for place, name in enumerate(("starts", "ends", "axes", "steps"), 1)
            )
        except KeyError:  # bounds that are computed are sizes of a map, unless it is the pictures alone that they bound
            return _counted(_whole(self._index, node, 3, "axes") or [], rank) == [axis]
        along = _counted(range(np.size(starts)) if axes is None else np.ravel(axes), rank)
        if axis not in along:
            return False
        start, end, step = (
            int(np.ravel(value)[along.index(axis)]) if value is not None else 1 for value in (starts, ends, steps)
        )
        return start != 0 or end < _FARTHEST or step != 1

    def _grows(self, node: onnx.NodeProto, axis: int) -> bool:
        """Whether a Pad or a Tile makes more pictures."""
        try:
            amounts = self._index.argument(node, 1, "pads")
        except KeyError:
            return False
        if amounts is None or len(node.input) > 3:  # with axes of its own; the batch is never one
            return False
        flat = np.ravel(amounts)
        if node.op_type == "Tile":
            return axis < flat.size and int(flat[axis]) != 1
        return axis < flat.size // 2 and bool(flat[axis] or flat[axis + flat.size // 2])

    def _after_einsum(self, node: onnx.NodeProto) -> int | None:
        terms, right = _terms(node, [self._rank(name) for name in node.input])
        for term, name in zip(terms, node.input, strict=False):
            axis = self._batch.get(name)
            if axis is not None and axis < len(term) and term[axis] in right:
                return right.index(term[axis])
        return None

    def _pairs(self, node: onnx.NodeProto) -> bool:
        """Whether values of one picture meet those of another: in a sum over the pictures, or each with each.

        So do products of the pictures' own vectors, where they attend to one another or are compared.
        """
        terms, right = _terms(node, [self._rank(name) for name in node.input])
        met = {term[axis] for term, name in zip(terms, node.input, strict=False)
               if (axis := self._batch.get(name)) is not None and axis < len(term)}  # fmt: skip
        return len(met) > 1 or not met <= set(right)

    def _rank(self, name: str) -> int:
        """The number of axes, 0 where it is not known."""
        return len(self._shapes.get(name, ()))

    def _axes(self, node: onnx.NodeProto) -> list[int] | None:
        """Axes that are an attribute or a constant; None where they are left out or computed."""
        return _whole(self._index, node, 1, "axes")

    def _after(self, node: onnx.NodeProto, axis: int, rank: int) -> int | None:
        options = attributes(node)
        if node.op_type == "Einsum":
            return self._after_einsum(node)
        if node.op_type == "Transpose":
            order = list(options.get("perm", range(rank - 1, -1, -1)))
            return order.index(axis) if axis in order else None
        if node.op_type == "Flatten":
            return 0 if axis == 0 and options.get("axis", 1) != 0 else None
        if node.op_type == "Reshape":
            target = self._index.constant(node.input[1])
            first = -1 if target is None or not target.size else int(target.ravel()[0])
            if axis and target is not None and len(target) > axis and not np.any(target[: axis + 1]):
                return axis  # zeros keep the lengths of the axes up to it
            if len(growing := _growing(self._shapes.get(node.output[0], ()))) == 1:
                return growing[0]  # as many values as pictures times a number: but one axis can grow with them
            return 0 if axis == 0 and first in (0, -1) else None
        if node.op_type == "Gather":
            along, places = _counted([options.get("axis", 0)], rank)[0], self._index.constant(node.input[1])
            more = places.ndim - 1 if places is not None else 0
            return None if along == axis else axis + more if along < axis else axis
        if node.op_type not in ("Squeeze", "Unsqueeze") and operator(node).family != "reduction":
            return axis
        axes = self._axes(node)
        if node.op_type == "Unsqueeze" and axes is not None:
            gained = _counted(axes, rank + len(axes))
            return [a for a in range(rank + len(axes)) if a not in gained][axis] if rank else None
        dropped = node.op_type == "Squeeze" or (operator(node).family == "reduction" and not options.get("keepdims", 1))
        if dropped:
            gone = _counted(axes, rank) if axes is not None else []
            return axis - sum(a < axis for a in gone) if axis not in gone else None
        return axis


def _counted(axes: Iterable[int], rank: int) -> list[int]:
    """Axes counted from 0."""
    return [int(a) + rank if int(a) < 0 else int(a) for a in axes]
