"""Gradients of operators that move, join, cut and repeat values: every value's gradient goes back to where it was.

Where an operator only selects values, its own gradient can be had from itself: applied to the positions 0, 1, 2, ... of
its input it tells where each output came from, and the gradients are added up there. Exact for every form of it.
"""

from __future__ import annotations

import numpy as np

from ..writer import Value
from .base import Gradient, Gradients, Visit


def _as_input(v: Visit) -> Gradients:
    return {0: v.dy.like(v.raw(0))}


def _transpose(v: Visit) -> Gradients:
    axes = [int(a) for a in v.get("perm", range(v.rank() - 1, -1, -1))]
    return {0: v.dy.transpose([axes.index(a) for a in range(len(axes))])}


def _expand(v: Visit) -> Gradients:
    return {0: v.fit(v.dy, 0)}


def _concat(v: Visit) -> Gradients:
    axis = int(v.get("axis", 1)) % v.rank()
    sizes = v.w.concat(*(v.raw(i).shape(axis, axis + 1) for i in range(len(v.node.input))))
    if len(v.node.input) == 1:
        return {0: v.dy}
    parts = v.w.add_many("Split", v.dy, sizes, outputs=len(v.node.input), axis=axis)
    return {i: parts[i] for i in v.wanted}


def _split(v: Visit) -> Gradients:
    axis, parts = int(v.get("axis", 0)), []
    for i, name in enumerate(v.node.output):
        if not name:
            raise v.unsupported("an output that is left out")
        parts.append(v.upstream(i) or v.w.zeros(v.w.value(name).shape()))
    return {0: v.w.add("Concat", *parts, axis=axis)}


def _slice(v: Visit) -> Gradients:
    """Zeros around the gradient; steps and computed bounds go by positions."""
    starts = v.get("starts") or v.integers(1)
    axes = v.get("axes") or (v.integers(3) if v.has(3) else range(len(starts or [])))
    steps = v.integers(4) if v.has(4) else [1]
    if starts is None or axes is None or steps is None or any(s != 1 for s in steps):
        return _selected(v)
    w, begin, from_end = v.w, [0] * v.rank(), [0] * v.rank()
    for start, axis in zip(starts, axes, strict=True):
        begin[axis % v.rank()] = int(start)
        from_end[axis % v.rank()] = int(start < 0)
    begins = w.integers(begin)
    if any(from_end):
        begins = (begins + v.raw(0).shape() * w.integers(from_end)).apply("Max", w.integers([0] * v.rank()))
    ends = v.raw(0).shape() - begins - w.value(v.node.output[0]).shape()
    return {0: v.dy.apply("Pad", w.concat(begins, ends))}


def _positions(v: Visit) -> Value:
    """0, 1, 2, ... in the shape of the input."""
    w, x = v.w, v.raw(0)
    numbers = w.add("Range", w.integers(0), x.count(), w.integers(1))
    return numbers.like(x)


def _selected(v: Visit) -> Gradients:
    """Of any operator whose result consists of values of its first input."""
    if v.wanted != {0}:
        raise v.unsupported("an index that depends on the image")
    rest = [v.w.value(name) if name else None for name in v.node.input[1:]]
    attributes = {a.name: v.get(a.name) for a in v.node.attribute}
    places = _positions(v).apply(v.node.op_type, *rest, **attributes)
    flat = v.w.zeros(v.raw(0).reshape([-1]).shape())
    added = flat.apply("ScatterElements", places.reshape([-1]), v.dy.reshape([-1]), axis=0, reduction="add")
    return {0: added.like(v.raw(0))}


def _gather(v: Visit) -> Gradients:
    """Of one index that is known: its place along the axis, zero elsewhere."""
    index = v.constant(1)
    if index is None or index.ndim:
        return _selected(v)
    axis = int(v.get("axis", 0)) % v.rank()
    size, ends = v.raw(0).shape(axis, axis + 1), v.w.constant(np.array([0, 1], dtype=v.w.kind))
    mark = v.w.integers([int(index)]).apply("OneHot", size, ends)
    return {0: v.dy.unsqueeze([axis]) * mark.reshape([-1 if a == axis else 1 for a in range(v.rank())])}


def _pad(v: Visit) -> Gradients:
    """The cut that undoes the padding, which ONNX writes as padding by less than nothing."""
    if v.get("mode", "constant") != "constant":
        return _selected(v)
    pads = v.get("pads")
    amounts = v.w.integers([int(p) for p in pads]) if pads is not None else v.raw(1)
    return {0: v.dy.apply("Pad", -amounts, None, v.raw(3) if v.has(3) else None)}


def _depth_to_space(v: Visit) -> Gradients:
    block = int(v.get("blocksize"))
    if v.get("mode", "DCR") == "DCR":
        return {0: v.dy.apply("SpaceToDepth", blocksize=block)}
    channels, x = v.shape()[1] // block**2, v.raw(0)
    shape = v.w.concat([0, channels], x.shape(2, 3), [block], x.shape(3, 4), [block])
    return {0: v.dy.reshape(shape).transpose([0, 1, 3, 5, 2, 4]).like(x)}


def _space_to_depth(v: Visit) -> Gradients:
    return {0: v.dy.apply("DepthToSpace", blocksize=int(v.get("blocksize")), mode=v.get("mode", "DCR"))}


def _triangle(v: Visit) -> Gradients:
    return {0: v.dy.apply("Trilu", v.raw(1) if v.has(1) else None, upper=int(v.get("upper", 1)))}


def _reverse_sequence(v: Visit) -> Gradients:
    """Turned around again."""
    turned = {name: v.get(name) for name in ("batch_axis", "time_axis")}
    return {0: v.dy.apply("ReverseSequence", v.raw(1), **turned)}


def _scatter_elements(v: Visit) -> Gradients:
    """Into the updates what stands at their places, into the rest what was not overwritten."""
    axis, places = int(v.get("axis", 0)), v.raw(1)
    how = v.get("reduction", "none")
    if how not in ("none", "add"):
        raise v.unsupported(f"reduction '{how}'")
    found = {}
    if 0 in v.wanted:
        nothing = v.w.zeros(places.shape())
        found[0] = v.dy if how == "add" else v.dy.apply("ScatterElements", places, nothing, axis=axis)
    if 2 in v.wanted:
        found[2] = v.dy.apply("GatherElements", places, axis=axis)
    return found


def _top_k(v: Visit) -> Gradients:
    """Back to the places that the values were taken from."""
    x = v.raw(0)
    places = v.second_output("TopK")
    nothing = v.w.zeros(x.shape())
    return {0: nothing.apply("ScatterElements", places, v.dy, axis=int(v.get("axis", -1)))}


def _scatter_nd(v: Visit) -> Gradients:
    how = v.get("reduction", "none")
    if how not in ("none", "add"):
        raise v.unsupported(f"reduction '{how}'")
    found = {}
    if 0 in v.wanted:
        nothing = v.w.zeros(v.raw(2).shape())
        found[0] = v.dy if how == "add" else v.dy.apply("ScatterND", v.raw(1), nothing)
    if 2 in v.wanted:
        found[2] = v.dy.apply("GatherND", v.raw(1))
    return found


def _resize(v: Visit) -> Gradients:
    """dX = R^T dY, axis by axis: resizing is linear and separable. R is what the axis's identity matrix becomes."""
    if v.get("coordinate_transformation_mode") == "tf_crop_and_resize" or v.wanted != {0}:
        raise v.unsupported("a region of interest")
    if v.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise v.unsupported(f"policy '{v.get('keep_aspect_ratio_policy')}'")
    axes = _resized_axes(v)
    if 0 in axes:
        raise v.unsupported("pictures that are resized along the batch")
    gradient, last = v.dy, v.rank() - 1
    for axis in reversed(axes):
        matrix = _resize_matrix(v, axis)
        if axis == last - 1:
            gradient = matrix.transpose([1, 0]).apply("MatMul", gradient)
        else:
            turned = [*(a for a in range(last + 1) if a != axis), axis]
            back = [turned.index(a) for a in range(last + 1)]
            gradient = gradient.transpose(turned).apply("MatMul", matrix).transpose(back)
    return {0: gradient}


def _resized_axes(v: Visit) -> list[int]:
    """The axes that may get another size: those with another scale than one; of stated sizes all spatial ones too."""
    listed = v.get("axes")
    chosen = sorted(int(a) % v.rank() for a in listed) if listed is not None else list(range(v.rank()))
    scales = v.constant(2)
    if scales is not None and scales.size:
        return [a for a in chosen if float(scales[_place(v, a)]) != 1.0]
    return [a for a in chosen if a > 1 or v.shape()[a] != v.result_shape()[a]]


def _place(v: Visit, axis: int) -> int:
    """Where an axis stands among those that scales or sizes are given for."""
    listed = v.get("axes")
    return axis if listed is None else [int(a) % v.rank() for a in listed].index(axis)


def _resize_matrix(v: Visit, axis: int) -> Value:
    """(output size, input size) of one axis."""
    w = v.w
    size, wanted = v.raw(0).shape(axis, axis + 1), w.value(v.node.output[0]).shape(axis, axis + 1)
    identity = w.zeros(w.concat(size, size)).apply("EyeLike").reshape(w.concat([1, 1], size, size))
    attributes = {k: v.get(k) for k in _RESIZE_ATTRIBUTES}
    known = v.constant(2)
    if v.has(2) and (known is None or known.size):
        one, place = w.constant(np.ones(1, dtype=np.float32)), _place(v, axis)
        scale = v.raw(2).slice(w.integers([place]), w.integers([place + 1]), [0])
        matrix = identity.apply("Resize", None, w.add("Concat", one, one, scale, one, axis=0), **attributes)
    else:
        matrix = identity.apply("Resize", None, None, w.concat([1, 1], wanted, size), **attributes)
    return matrix.reshape(w.concat(wanted, size))


_RESIZE_ATTRIBUTES = (
    "mode", "coordinate_transformation_mode", "nearest_mode", "cubic_coeff_a", "exclude_outside", "antialias",
)  # fmt: skip

SHAPES: dict[str, Gradient] = {
    "Reshape": _as_input,
    "Flatten": _as_input,
    "Squeeze": _as_input,
    "Unsqueeze": _as_input,
    "Transpose": _transpose,
    "Expand": _expand,
    "Tile": _selected,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "GatherElements": _selected,
    "GatherND": _selected,
    "Compress": _selected,
    "Pad": _pad,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Trilu": _triangle,
    "ReverseSequence": _reverse_sequence,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "TopK": _top_k,
    "Resize": _resize,
}
