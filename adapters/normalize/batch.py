"""The batch axis becomes dynamic, and height and width too: a truncated graph runs at any size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from ...engine.graph.operators import operator
from .draft import Draft, attribute, copy_zeros, set_attribute
from .shapes import image_shape, settled_at

OTHER = ""  # an axis that is computed
Vector = Sequence[int | str]  # a string is the symbol of some tensor's first axis, see `Draft.symbol`


def free_batch(draft: Draft, size: tuple[int, int]) -> bool:
    """Reshape targets that spell out the exported batch copy it from their input instead (0).

    Where the input's first axis is another free one, as that of all windows of all pictures, the batch is what is left
    (-1), and the other axes are as long as for one picture.

    Args:
        draft: the model, with its shapes.
        size: (height, width) of the image.

    Returns:
        Whether something changed: shapes are then to be inferred anew, and more targets may follow.
    """
    changed = False
    batch = (image_shape(draft.inputs[0]) or (None,))[0]
    static = {s[0] for s in (image_shape(i) for i in draft.inputs) if s}
    if batch is None or len(static) != 1:
        return False
    single: Draft | None = None
    for node in draft.nodes:
        if node.op_type != "Reshape" or node.domain:
            continue
        target, source = draft.constant(node.input[1]), draft.shapes.get(node.input[0])
        if target is None or target.size == 0 or target[0] != batch or not source or source[0] is not None:
            continue
        alike = draft.symbol(node.input[0]) == draft.symbol(draft.inputs[0].name)
        is_told = alike or -1 not in target.tolist()
        freed = [0, *target[1:]] if is_told and _same_rest(source[1:], target[1:]) else None
        if freed is None and batch == 1 and target.size > 2:
            single = single or settled_at(draft, size, 1)
            made = single.shapes.get(node.output[0], ()) if single is not None else ()
            freed = [-1, *made[1:]] if len(made) == target.size and None not in made else None
        if freed is not None:
            name = draft.fresh(f"{node.output[0]}/shape")
            draft.set_constant(name, np.array(freed, dtype=np.int64))
            node.input[1] = name
            copy_zeros(node)
            changed = True
    return changed


def one_row(draft: Draft) -> bool:
    """What a file for a batch of k holds k times, alike, beside the pictures of the batch is held once.

    A class token that is joined to them, an embedding that is added, the first state of a recurrence, the lengths of an
    Expand.

    Returns:
        Whether something changed.
    """
    batch = (image_shape(draft.inputs[0]) or (None,))[0]
    if batch is None or batch < 2:
        return False
    picture = draft.symbol(draft.inputs[0].name)
    changed = False
    for node in draft.nodes:
        if node.domain or not any(_counts_pictures(draft, name, picture) for name in node.input):
            continue
        if node.op_type == "Expand" and (target := draft.constant(node.input[1])) is not None:
            value: np.ndarray | None = np.array([1, *target[1:]]) if target.size and target[0] == batch else None
            pairs = [(1, value)] if len(draft.shapes[node.input[0]]) == target.size else []
        else:
            pairs = [(place, _first_row(draft, node, place, batch)) for place in range(len(node.input))]
        for place, value in pairs:
            if value is not None:
                name = draft.fresh(f"{node.input[place]}/one")
                draft.set_constant(name, value)
                node.input[place] = name
                changed = True
    return changed


def _counts_pictures(draft: Draft, name: str, picture: str) -> bool:
    """Whether a tensor has one row for each picture, or its pictures on the second axis (recurrent networks)."""
    shape = draft.shapes.get(name, ())
    return name not in draft.tensors and None in shape[:2] and (shape[0] is not None or draft.symbol(name) == picture)


def _first_row(draft: Draft, node: onnx.NodeProto, place: int, batch: int) -> np.ndarray | None:
    """The first of the rows of a constant input that are all alike, one for each picture; None for any other input."""
    value, row = draft.constant(node.input[place]), operator(node)
    if value is None:
        return None
    if row.family == "recurrent":
        axis = 1 if place in (5, 6) else None
    else:
        joined = node.op_type == "Concat" and attribute(node, "axis") % max(value.ndim, 1) != 0
        ranks = {len(draft.shapes.get(name, ())) for name in node.input}
        axis = 0 if (joined or row.broadcasts) and ranks == {value.ndim} else None
    if axis is None or value.ndim <= axis or value.shape[axis] != batch:
        return None
    first = value.take([0], axis)
    return first if np.array_equal(np.broadcast_to(first, value.shape), value) else None


def settle_shape_vectors(draft: Draft) -> None:
    """Reshape targets computed as (first axis of x, constants ...) become the constant (0 or -1, constants ...).

    Exports with a dynamic batch spell this as Shape, Gather, Unsqueeze and Concat. Only targets that read no
    other axis than the first are settled, so the graph stays free of the image size.
    """
    vectors: dict[str, Vector] = {}
    for node in draft.nodes:
        if node.op_type == "Reshape" and len(node.input) > 1 and node.input[1] in vectors:
            target = vectors[node.input[1]]
            rest = [v for v in target[1:] if isinstance(v, int) and v != 0]
            settled = target and isinstance(target[0], str) and target[0] != OTHER and len(rest) == len(target) - 1
            copied = settled and target[0] == draft.symbol(node.input[0])
            if copied or (settled and -1 not in rest):  # windows of attention are (windows * batch, ...)
                name = draft.fresh(f"{node.output[0]}/shape")
                draft.set_constant(name, np.array([0 if copied else -1, *rest], dtype=np.int64))
                node.input[1] = name
                copy_zeros(node)
            continue
        value = _shape_vector(draft, node, vectors)
        if value is not None:
            vectors[node.output[0]] = value


def flatten_reshapes(draft: Draft) -> None:
    """A Reshape to (batch, all the rest) is a Flatten: torch's exporters write either for the same call."""
    for node in draft.nodes:
        target = draft.constant(node.input[1]) if node.op_type == "Reshape" and len(node.input) > 1 else None
        if target is None or target.size != 2 or target[0] not in (0, -1):
            continue
        rest = (draft.shapes.get(node.input[0]) or ())[1:]
        known = bool(rest) and all(d is not None for d in rest)
        copied = target[0] == 0 and target[1] == -1 and not attribute(node, "allowzero")
        if copied or (known and int(np.prod([d or 0 for d in rest])) == target[1]):
            node.op_type = "Flatten"
            del node.attribute[:], node.input[1:]
            set_attribute(node, "axis", 1)


def _shape_vector(draft: Draft, node: onnx.NodeProto, vectors: dict[str, Vector]) -> Vector | None:
    """The node's output as a list of integers, symbols of first axes and OTHER, or None."""
    if node.op_type == "Shape":
        shape = draft.shapes.get(node.input[0])
        first = draft.symbol(node.input[0])
        whole: list[int | str] = [first if i == 0 and s is None else OTHER for i, s in enumerate(shape or ())]
        return whole[attribute(node, "start", 0) : attribute(node, "end")] if shape else None
    if node.op_type == "Concat" and attribute(node, "axis") == 0 and any(n in vectors for n in node.input):
        parts = [vectors.get(n) or _integers(draft, n) for n in node.input]
        return None if any(p is None for p in parts) else [v for p in parts if p is not None for v in p]
    source = vectors.get(node.input[0]) if node.input else None
    if source is None:
        return None
    if node.op_type in ("Unsqueeze", "Squeeze", "Cast", "Identity"):
        return source
    if node.op_type == "Reshape":  # of a scalar to a vector of one, as the dynamo exporter writes it
        return source if _integers(draft, node.input[1]) in ([-1], [len(source)]) else None
    if node.op_type == "Gather":
        places = _integers(draft, node.input[1])
        fits = places is not None and all(-len(source) <= i < len(source) for i in places)
        return [source[i] for i in places] if places is not None and fits else None
    if node.op_type == "Slice":
        bounds = [_integers(draft, n) for n in node.input[1:3]]
        if len(bounds) == 2 and len(node.input) < 5 and all(b is not None and len(b) == 1 for b in bounds):
            return source[slice(*(b[0] for b in bounds if b is not None))]
    return None


def _integers(draft: Draft, name: str) -> list[int] | None:
    value = draft.constant(name)
    if value is None or value.ndim > 1 or value.dtype.kind != "i":
        return None
    return [int(v) for v in value.ravel()]


def free_input(draft: Draft) -> None:
    """Clears the batch, height and width of the image input's declared shape, and of every output's."""
    for position, info in enumerate(draft.inputs):
        dims = info.type.tensor_type.shape.dim
        for axis, dim in enumerate(dims):
            if axis == 0 or (position == 0 and len(dims) == 4 and axis > 1):
                dim.Clear()
                dim.dim_param = ("N", "C", "H", "W")[axis] if position == 0 and len(dims) == 4 else "N"
    for info in draft.outputs:
        if info.type.tensor_type.HasField("shape"):
            info.type.tensor_type.ClearField("shape")


def _same_rest(source: tuple[int | None, ...], target: np.ndarray) -> bool:
    """Whether the axes after the batch hold the same number of values before and after."""
    if -1 in target.tolist():
        return True
    if any(s is None for s in source):
        return False
    wanted = [s if t == 0 and i < len(source) else int(t) for i, (s, t) in enumerate(_pairs(source, target))]
    return int(np.prod([w or 1 for w in wanted])) == int(np.prod([s or 1 for s in source]))


def _pairs(source: tuple[int | None, ...], target: np.ndarray) -> list[tuple[int | None, int]]:
    padded = list(source) + [None] * max(0, len(target) - len(source))
    return [(padded[i], int(t)) for i, t in enumerate(target)]
