"""The layer table: every tap with its channels, shape, receptive field, parameters and multiply-adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx
from onnx import TensorProto

from ...engine.graph.layers import Layer, Shape
from ..normalize.draft import Draft
from ..normalize.shapes import settled_at
from .channels import ChannelAxes
from .counts import FLOATS, counts
from .fields import FieldTracker
from .names import human_names
from .tokens import TokenTracker


def layer_table(
    draft: Draft,
    model: onnx.ModelProto,
    known: Mapping[str, str],
    size: tuple[int, int],
    *,
    counts_statistics: bool = False,
) -> tuple[Layer, ...]:
    """Every floating tensor of rank 2 or more that depends on the image, in order of execution.

    Args:
        draft: with shapes and types at the image size; the image's own may be open.
        model: the canonical graph.
        known: tensor -> layer name, from the source adapter.
        size: (height, width) that the shapes were inferred at, where the image leaves them open.
        counts_statistics: whether the source's framework counts a batch-norm's statistics as parameters.
    """
    nodes = list(model.graph.node)
    image = draft.inputs[0].name
    own = draft.own_input[0] if draft.own_input else image  # the source's own input is no layer
    single = _of_one_picture(draft, size)
    fields = FieldTracker(single, image, size)

    def shape(tensor: str) -> Sequence[int] | None:
        """For one picture: as the fields know it, or with 1 for the only open size."""
        known = fields.shape(tensor) or single.shapes.get(tensor)
        return None if not known or known.count(None) > 1 else [1 if size is None else size for size in known]

    axes = ChannelAxes(single, image, shape)
    parts = {name for name, own in draft.shapes.items() if _is_of_parts(own, single.shapes[name])}
    tokens = TokenTracker(single, axes)
    dependent = {image}
    taps: list[tuple[onnx.NodeProto, str]] = []
    for node in nodes:
        fields.visit(node)
        axes.visit(node)
        tokens.visit(node)
        if not dependent.intersection(node.input) or node.op_type in ("Shape", "Size"):
            continue
        dependent.update(n for n in node.output if n)
        for name in node.output:
            rank = len(draft.shapes.get(name, (None,) * 4))
            if name and name != own and draft.types.get(name, TensorProto.FLOAT) in FLOATS and rank >= 2:
                taps.append((node, name))
    tensors = [name for _, name in taps]
    names = human_names(nodes, tensors, known)
    former = human_names(nodes, tensors, known, as_before=True)
    draft.former_names.update((former[t], t) for t in tensors if former[t] != names[t])
    counted = counts(draft, nodes, image, set(tensors), statistics=counts_statistics)
    layers = tuple(
        _layer(index, node, name, names[name], draft, fields, axes, tokens, counted.get(name, (0, 0)), name in parts)
        for index, (node, name) in enumerate(taps)
    )
    if fields.unknown:
        operators = ", ".join(fields.unknown)
        draft.notes.append(
            "which part of the picture a place of a feature map sees cannot be followed through "
            f"{operators}: behind it, top and atlas show the whole picture where they would show that part"
        )
    return layers


def _of_one_picture(draft: Draft, size: tuple[int, int]) -> Draft:
    """The draft with the shapes that a single picture has, where pictures are not counted on the first axis alone."""
    if all(None not in shape[1:] for shape in draft.shapes.values()):
        return draft
    sides = draft.shapes.get(draft.inputs[0].name, ())[2:4]
    own_size = (sides[0] or size[0], sides[1] or size[1]) if len(sides) == 2 else size
    one = settled_at(draft, own_size, 1)
    if one is None:
        return draft
    known = {
        name: (None if shape[0] is None and own[0] == 1 else own[0], *own[1:])
        for name, shape in draft.shapes.items()
        if (own := one.shapes.get(name)) and len(own) == len(shape)
    }
    return replace(draft, shapes={**draft.shapes, **known})


def _is_of_parts(shape: Shape, single: Shape) -> bool:
    """Whether a map of this shape has several rows for a picture, as windows are, and pictures on no other axis."""
    if len(shape) < 3 or shape[0] is not None or single[0] is None:
        return False
    return not any(side is None and own == 1 for side, own in zip(shape[1:], single[1:], strict=True))


def _layer(
    index: int,
    node: onnx.NodeProto,
    tensor: str,
    name: str,
    draft: Draft,
    fields: FieldTracker,
    axes: ChannelAxes,
    tokens: TokenTracker,
    counted: tuple[int, int],
    is_part: bool,
) -> Layer:
    """One row of the table; a map of parts of pictures has no units."""
    shape: Shape = draft.shapes.get(tensor, ())
    if shape:
        shape = (None, *shape[1:])
    axis = None if is_part else axes.axis(tensor)
    channels = shape[axis] if axis is not None and axis < len(shape) else None
    grid = None if is_part else tokens.tokens(tensor)
    is_laid = draft.own_input is not None and axis == 1 and len(shape) in (3, 5)  # a signal's map, or a volume's
    return Layer(
        index=index,
        name=name,
        tensor=tensor,
        node=node.name,
        op=node.op_type,
        channels=channels,
        shape=shape,
        channel_axis=axis if channels is not None else None,
        receptive_field=fields.field(tensor, axis, grid if is_laid else None),
        parameters=counted[0],
        macs=counted[1],
        tokens=grid,
    )
