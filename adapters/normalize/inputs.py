"""One input remains, a picture (N, C, H, W): the others are given values, and one of another rank is seen as one.

An explanation is of a picture. What else a network takes (the state of a recurrent layer, a sample rate, a mask, the
size of the original picture) is a constant of the question: it becomes part of the graph, and the notes say so.

A signal (N, T) is seen as a picture of one row, a spectrum (N, T, F) as a picture of one channel, channels of a signal
(N, C, T) as channels of one row, and a volume (N, C, D, H, W) as its slices one below the other. Each is a Reshape in
front, so that the file's own tensors keep their names and values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod

import numpy as np
import onnx
from onnx import TensorProto, helper

from ...engine.graph.index import reads
from ...errors import RefusedInput, UsageError
from .draft import Draft, attribute
from .shapes import image_shape

Axes = tuple[int | None, ...]

MAX_GIVEN = 2**26  # values of an input beside the picture
_DEPTH = 32  # slices of a volume whose depth the file leaves open
_CHANNELS = (1, 3, 4)
_STATE = re.compile(r"(^|[^a-z])(h|c|hn|cn|h_?0|c_?0|state|states|hidden|cell|cache|mem|memory)([^a-z]|$)", re.I)
_ONES = re.compile(r"mask|scale|keep_prob", re.I)
_PICTURE_SIZE = re.compile(r"im(age|g)?_?(shape|size)|orig(inal)?_?(target_)?sizes?|target_sizes?", re.I)
_LENGTH = re.compile(r"(^|[^a-z])(len|lens|lengths?|widths?)([^a-z]|$)", re.I)  # how much of a padded input counts
_SIGNAL_OPS = ("Conv", "ConvTranspose", "BatchNormalization", "InstanceNormalization", "MaxPool", "AveragePool")
_SAME_AXES = ("Slice", "Pad", "Concat", "Cast", "Identity", "Mul", "Add", "Sub", "Div", "Clip", "Relu", "Dropout")
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)


def settle_inputs(draft: Draft, given: Mapping[str, np.ndarray], size: tuple[int, int]) -> None:
    """Rewrites the draft so that it has one input, of rank 4, the picture.

    Args:
        draft: with constants as weights.
        given: input name -> value for one picture; for other inputs the default is taken and noted.
        size: (height, width) of the picture where the file leaves them open.

    Raises:
        RefusedInput: no input that can be a picture. UsageError: ``given`` names no input, or does not fit it.
    """
    if not draft.inputs:
        raise RefusedInput("the graph has no input to feed an image to")
    names = [i.name for i in draft.inputs]
    for name in given:
        if name not in names:
            raise UsageError(f"inputs['{name}']: the model has no such input; it has {', '.join(names)[:300]}")
    _drop_unread(draft)
    picture = _picture(draft, given)
    for info in draft.inputs:
        _refuse_text(info)
    for info in [i for i in draft.inputs if i is not picture]:
        _bind(draft, info, picture, given.get(info.name), size)
    draft.inputs = [picture]
    _as_picture(draft, picture)


def _drop_unread(draft: Draft) -> None:
    used = {name for node in draft.nodes for name in reads(node)} | {o.name for o in draft.outputs}
    unread = [i.name for i in draft.inputs if i.name not in used]
    if unread and len(unread) < len(draft.inputs):
        draft.inputs = [i for i in draft.inputs if i.name in used]
        draft.notes.append(f"nothing reads the input {_quoted(unread)}; it is left out")


def _refuse_text(info: onnx.ValueInfoProto) -> None:
    if info.type.tensor_type.elem_type == TensorProto.STRING:
        raise RefusedInput(
            f"the input '{info.name[:80]}' takes text (a tensor of strings); only inputs of numbers are "
            "read: export the model without what turns text into numbers"
        )


def _picture(draft: Draft, given: Mapping[str, np.ndarray]) -> onnx.ValueInfoProto:
    """The input that most looks like what the network is about; of equals the first."""
    candidates = [i for i in draft.inputs if i.name not in given]
    if not candidates:
        raise UsageError("inputs= names every input of the model; leave out the one that takes the picture")
    return max(candidates, key=_likeness)


def _likeness(info: onnx.ValueInfoProto) -> tuple[int, ...]:
    """By what an input is told from the others: rank 4 with channels of a picture, no state, open sizes, large."""
    shape = image_shape(info)
    if shape is None:
        return (1, 1, 0, 0, 0)
    rank = len(shape)
    channels = rank == 4 and (shape[1] in _CHANNELS or shape[3] in _CHANNELS)
    own = 1 if not (_STATE.search(info.name) or _ONES.search(info.name) or _PICTURE_SIZE.search(info.name)) else 0
    floating = info.type.tensor_type.elem_type in (*_FLOATS, TensorProto.UINT8)
    open_axes = sum(d is None for d in shape[1:])
    return (int(rank >= 2), own, 2 * (rank == 4) + channels, int(floating), open_axes, prod(d or 1 for d in shape[1:]))


def _bind(
    draft: Draft,
    info: onnx.ValueInfoProto,
    picture: onnx.ValueInfoProto,
    value: np.ndarray | None,
    size: tuple[int, int],
) -> None:
    """The input becomes a constant, repeated for each picture where it has a batch axis."""
    kind = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type or TensorProto.FLOAT)
    shape = image_shape(info) or ()
    links = _links(info, picture)
    axis = None if value is not None else _measured(draft, info, shape, picture)
    if axis is not None:
        _bind_length(draft, info, picture, axis, size)
        return
    if value is None:
        value, said = _default(draft, info, shape, picture, size)
        sides = ("N", "C", "H", "W")  # of the picture, where an axis is as long as one of its own
        shown = "x".join(sides[links[a]] if links.get(a, 4) < 4 else str(d or 1) for a, d in enumerate(shape))
        shown = shown or "a number"
        draft.notes.append(
            f"the input '{info.name[:80]}' ({shown}) is taken as {said}; give another with "
            f"inputs['{info.name[:80]}']=VALUE, FILE.npy or PICTURE"
        )
    value = _fitted(info.name, np.asarray(value), shape, links).astype(kind)
    draft.given[info.name] = value
    repeated = {axis: of for axis, of in links.items() if value.shape[axis] == 1}
    if not repeated:
        draft.set_constant(info.name, value)
        draft.untrained.add(info.name)
        return
    once, sizes, target = (draft.fresh(f"{info.name}/{what}") for what in ("value", "sizes", "shape"))
    draft.set_constant(once, value)
    draft.untrained.add(once)
    whole = draft.fresh(f"{picture.name}/shape")
    parts = []
    for axis, length in enumerate(value.shape):
        part = draft.fresh(f"{target}/{axis}")
        if axis in repeated:
            place = draft.fresh(f"{part}/axis")
            draft.set_constant(place, np.array([repeated[axis]], dtype=np.int64))
            draft.nodes.insert(0, helper.make_node("Gather", [whole, place], [part], name=part))
        else:
            draft.set_constant(part, np.array([length], dtype=np.int64))
        parts.append(part)
    front = [helper.make_node("Shape", [picture.name], [whole], name=whole)]
    rear = [
        helper.make_node("Concat", parts, [sizes], name=sizes, axis=0),
        helper.make_node("Expand", [once, sizes], [info.name], name=info.name),
    ]
    gathers = draft.nodes[: len(repeated)]
    draft.nodes = [*front, *gathers, *rear, *draft.nodes[len(repeated) :]]


def _measured(draft: Draft, info: onnx.ValueInfoProto, shape: Axes, picture: onnx.ValueInfoProto) -> int | None:
    """The picture's own axis that an input counts: the length of a line or of a signal; None where it counts none."""
    whole = info.type.tensor_type.elem_type in (TensorProto.INT64, TensorProto.INT32)
    seen, sides = image_shape(picture) or (), _sides(draft, picture)
    if not (whole and sides and _LENGTH.search(info.name) and prod(d or 1 for d in shape) == 1):
        return None
    return next((axis for axis in reversed(list(sides)) if seen[axis] is None), list(sides)[-1])


def _sides(draft: Draft, picture: onnx.ValueInfoProto) -> dict[int, str]:
    """The picture's own axes along which it may be padded -> what they are called once it is seen as a picture."""
    seen = image_shape(picture) or ()
    if len(seen) == 4:
        is_last = seen[1] not in _CHANNELS and seen[3] in _CHANNELS
        return {1: "height", 2: "width"} if is_last else {2: "height", 3: "width"}
    if len(seen) == 3:
        return {2: "width"} if _is_signal(draft, picture.name) else {1: "height"}
    return {1: "width"} if len(seen) == 2 else {}


def _bind_length(
    draft: Draft, info: onnx.ValueInfoProto, picture: onnx.ValueInfoProto, axis: int, size: tuple[int, int]
) -> None:
    """The input becomes the length of one of the picture's axes, whatever that is: all of the picture counts."""
    side = _sides(draft, picture)[axis]
    length = (image_shape(picture) or ())[axis] or size[side == "width"]
    rank = len(image_shape(info) or ())
    kind = info.type.tensor_type.elem_type
    draft.given[info.name] = np.full([1] * rank, length, helper.tensor_dtype_to_np_dtype(kind))
    draft.notes.append(
        f"the input '{info.name[:80]}' is taken as the picture's {side}, {length}; give another with "
        f"inputs['{info.name[:80]}']=VALUE"
    )
    whole, place, one, count, sizes = (
        draft.fresh(f"{info.name}/{what}") for what in ("whole", "axis", "length", "number", "sizes")
    )
    draft.set_constant(place, np.array([axis], np.int64))
    nodes = [
        helper.make_node("Shape", [picture.name], [whole], name=whole),
        helper.make_node("Gather", [whole, place], [one], name=one, axis=0),
        helper.make_node("Cast", [one], [count], name=count, to=kind),
    ]
    if 0 in _links(info, picture).values():
        first, batch, ones = (draft.fresh(f"{info.name}/{what}") for what in ("first", "pictures", "ones"))
        draft.set_constant(first, np.array([0], np.int64))
        draft.set_constant(ones, np.ones(rank - 1, np.int64))
        nodes += [
            helper.make_node("Gather", [whole, first], [batch], name=batch, axis=0),
            helper.make_node("Concat", [batch, ones], [sizes], name=sizes, axis=0),
            helper.make_node("Expand", [count, sizes], [info.name], name=info.name),
        ]
    else:
        draft.set_constant(sizes, np.ones(rank, np.int64))
        nodes.append(helper.make_node("Reshape", [count, sizes], [info.name], name=info.name))
    draft.nodes = [*nodes, *draft.nodes]


def _links(info: onnx.ValueInfoProto, picture: onnx.ValueInfoProto) -> dict[int, int]:
    """Axis of an input -> axis of the picture that has as many, told by the names of open axes, and for the batch.

    An axis that says nothing at all is the batch where it is the only one.
    """
    if not info.type.tensor_type.HasField("shape"):
        return {}
    theirs = {d.dim_param: a for a, d in reversed(list(enumerate(picture.type.tensor_type.shape.dim))) if d.dim_param}
    dims = list(info.type.tensor_type.shape.dim)
    found = {a: theirs[d.dim_param] for a, d in enumerate(dims) if d.dim_param in theirs}
    open_axes = [a for a, d in enumerate(dims) if d.dim_value <= 0 and a not in found]
    if 0 not in found.values() and open_axes:
        found[open_axes[0]] = 0
    batch = (image_shape(picture) or (None,))[0]
    if 0 not in found.values() and dims and batch is not None and dims[0].dim_value == batch and len(dims) > 1:
        found[0] = 0
    return found


def _default(
    draft: Draft, info: onnx.ValueInfoProto, shape: Axes, picture: onnx.ValueInfoProto, size: tuple[int, int]
) -> tuple[np.ndarray, str]:
    """(value, in words) where the user gives none."""
    sides = [d or 1 for d in shape]
    if (compared := _compared(draft, info.name)) is not None and prod(sides) == 1:
        return np.full(sides, compared), f"{compared}, which the graph compares it with"
    if _PICTURE_SIZE.search(info.name) and sides and sides[-1] == 2:
        seen = image_shape(picture) or ()
        height, width = (*(seen[2:4] if len(seen) == 4 else ()), None, None)[:2]
        whole = (height or size[0], width or size[1])
        return np.broadcast_to(np.array(whole), sides), f"the picture's size {whole[0]}x{whole[1]}"
    if _ONES.search(info.name):
        return np.ones(sides), "ones"
    return np.zeros(sides), "zeros"


def _compared(draft: Draft, name: str) -> int | float | None:
    """The number that the graph compares an input with, if any (a sample rate that decides between two networks)."""
    names = {name}
    for node in draft.nodes:
        if node.op_type in ("Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Gather") and node.input[0] in names:
            names.add(node.output[0])
        if node.op_type == "Equal" and names.intersection(node.input):
            for other in node.input:
                value = draft.constant(other)
                if value is not None and value.size == 1:
                    return value.reshape(-1)[0].item()
    return None


def _fitted(name: str, value: np.ndarray, shape: Axes, links: Mapping[int, int]) -> np.ndarray:
    """The value in the input's own shape, one picture's worth; a single number fills it, a plain list goes row by row.

    Raises:
        UsageError: another shape, or absurdly many values.
    """
    expected = tuple(d if d is not None and a not in links else 1 for a, d in enumerate(shape))
    if prod(expected) > MAX_GIVEN or value.size > MAX_GIVEN:
        raise RefusedInput(f"input '{name[:80]}' has more than {MAX_GIVEN:,} values")
    if value.size == 1:
        return np.broadcast_to(value.reshape(()), expected).copy()
    lacks_batch = 0 in links and value.shape == expected[1:]
    if (value.ndim == 1 or lacks_batch) and value.size == prod(expected):
        return value.reshape(expected)
    fits = value.ndim == len(shape) and all(
        d is None or v == d or a in links for a, (d, v) in enumerate(zip(shape, value.shape, strict=True))
    )
    if not fits:
        shown = "x".join("?" if d is None else str(d) for d in shape)
        raise UsageError(f"inputs['{name}']: a value of shape {value.shape} does not fit the input's {shown}")
    return value


def _as_picture(draft: Draft, info: onnx.ValueInfoProto) -> None:
    """An input of another rank becomes the Reshape of a picture under a name of its own."""
    shape = image_shape(info)
    if shape is None or len(shape) == 4:
        return
    seen = _seen_as(draft, info.name, shape)
    if seen is None:
        raise RefusedInput(
            f"input '{info.name[:80]}' of shape {list(shape)[:8]} is neither a picture, a signal, a spectrum "
            "nor a volume of a stated size"
        )
    sides, own, words = seen
    inner = draft.fresh(f"{info.name}/picture")
    kind = info.type.tensor_type.elem_type
    batch = info.type.tensor_type.shape.dim[0]
    dims: list[int | str] = [batch.dim_value or batch.dim_param or "N", *(d or f"side{a}" for a, d in enumerate(sides))]
    target = draft.fresh(f"{info.name}/shape")
    draft.set_constant(target, np.array(own, dtype=np.int64))
    draft.nodes.insert(0, helper.make_node("Reshape", [inner, target], [info.name], name=info.name))
    viewed = helper.make_tensor_value_info(inner, kind, dims)
    for axis, side in enumerate(sides):
        if side is None:
            viewed.type.tensor_type.shape.dim[axis + 1].Clear()
    draft.inputs = [viewed]
    draft.own_input = (info.name, (None, *(None if side == -1 else side for side in own[1:])))
    picture = "x".join("?" if s is None else str(s) for s in sides)
    draft.notes.append(
        f"the input '{info.name[:80]}' is {words}; it is seen as a picture of {picture} (channels x height x width)"
    )


def _seen_as(draft: Draft, name: str, shape: Axes) -> tuple[Axes, list[int], str] | None:
    """((C, H, W), target of the Reshape back, in words), or None."""
    if len(shape) == 2:
        return (1, 1, shape[1]), [0, shape[1] or -1], f"a signal of {shape[1] or 'any number of'} values"
    if len(shape) == 3 and shape[2] == 1:
        return (1, 1, shape[1]), [0, shape[1] or -1, 1], f"a signal of {shape[1] or 'any number of'} values"
    if len(shape) == 3:
        rest = [0, shape[1] or -1, shape[2] or -1]
        if rest.count(-1) > 1:
            rest[1] = 0 if _is_signal(draft, name) else -1
            if rest[1] == -1:
                return None
        if _is_signal(draft, name):
            channels = "one channel" if shape[1] == 1 else f"{shape[1] or 'several'} channels"
            return (shape[1], 1, shape[2]), rest, f"a signal of {channels}"
        return (1, shape[1], shape[2]), rest, "a plane, as of a spectrum"
    if len(shape) == 5 and depth_axis(shape) == 2:
        c, d, h, w = shape[1:]
        depth = d or _DEPTH
        rows = None if h is None else depth * h
        own = [0, c or 1, depth, h or -1, w or -1]
        return ((c or 1, rows, w), own, "a volume, its slices one below the other") if own.count(-1) < 2 else None
    if len(shape) >= 5 and all(shape[1:]):
        own = [side or 1 for side in shape[1:]]
        what = "a volume, its slices" if len(own) == 4 else f"an array of {len(own)} axes, its planes"
        return (1, prod(own[:-2]), own[-2] * own[-1]), [0, *own], f"{what} one below the other"
    return None


def depth_axis(own: Axes) -> int:
    """The axis of a volume's own shape that counts its slices: channels come first where the last axis is no colour."""
    return 2 if own[4] not in _CHANNELS else 1


def _is_signal(draft: Draft, name: str) -> bool:
    """Whether (N, C, T) is read by operators that take axis 1 for channels."""
    names = {name}
    for node in draft.nodes:
        if not names.intersection(node.input):
            continue
        if node.op_type in _SIGNAL_OPS:
            return True
        if node.op_type == "Transpose" and list(attribute(node, "perm", ())) == [0, 2, 1]:
            return False
        if node.op_type in _SAME_AXES:
            names.update(node.output)
    return False


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name[:80]}'" for name in names)
