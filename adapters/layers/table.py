"""The layer table: every tap with its channels, shape, receptive field, parameters and multiply-adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import onnx
from onnx import TensorProto

from ...engine.graph.index import first_output
from ...engine.graph.layers import Layer, Shape
from ..normalize.draft import Draft, attribute
from .channels import ChannelAxes
from .fields import FieldTracker
from .names import human_names
from .tokens import TokenTracker

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.UNDEFINED)
_STATISTICS = {"BatchNormalization": (3, 4)}  # mean and variance: Keras counts them as parameters, torch as buffers
_UNTRAINED = {"Resize": (1, 2, 3), "Upsample": (1,)}  # regions, scales and sizes are settings


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
    fields = FieldTracker(draft, image, size)

    def shape(tensor: str) -> Sequence[int] | None:
        """For one picture: as the fields know it, or with 1 for the only open size."""
        known = fields.shape(tensor) or draft.shapes.get(tensor)
        return None if not known or known.count(None) > 1 else [1 if size is None else size for size in known]

    axes = ChannelAxes(draft, image, shape)
    tokens = TokenTracker(draft, axes)
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
            if name and name != own and draft.types.get(name, TensorProto.FLOAT) in _FLOATS and rank >= 2:
                taps.append((node, name))
    if fields.unknown:
        operators = ", ".join(fields.unknown)
        draft.notes.append(
            "which part of the picture a place of a feature map sees cannot be followed through "
            f"{operators}: behind it, top and atlas show the whole picture where they would show that part"
        )
    tensors = [name for _, name in taps]
    names = human_names(nodes, tensors, known)
    former = human_names(nodes, tensors, known, as_before=True)
    draft.former_names.update((former[t], t) for t in tensors if former[t] != names[t])
    untrained = _UNTRAINED if counts_statistics else {**_UNTRAINED, **_STATISTICS}
    counted: set[str] = set()
    parameters = {
        id(node): _parameters(node, draft, untrained, counted) for node, name in taps if name == first_output(node)
    }
    return tuple(
        _layer(index, node, name, names[name], draft, fields, axes, tokens, parameters.get(id(node), 0))
        for index, (node, name) in enumerate(taps)
    )


def _layer(
    index: int,
    node: onnx.NodeProto,
    tensor: str,
    name: str,
    draft: Draft,
    fields: FieldTracker,
    axes: ChannelAxes,
    tokens: TokenTracker,
    parameters: int,
) -> Layer:
    shape: Shape = draft.shapes.get(tensor, ())
    if shape:
        shape = (None, *shape[1:])
    axis = axes.axis(tensor)
    channels = shape[axis] if axis is not None and axis < len(shape) else None
    grid = tokens.tokens(tensor)
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
        parameters=parameters if tensor == first_output(node) else 0,
        macs=_macs(node, draft, shape) if tensor == first_output(node) else 0,
        tokens=grid,
    )


def _parameters(node: onnx.NodeProto, draft: Draft, untrained: Mapping[str, Sequence[int]], counted: set[str]) -> int:
    """Values of the node's floating weights with more than one value; a shared weight counts once.

    ``untrained`` has the places of inputs that are no weights, by operator.
    """
    total = 0
    for place, name in enumerate(node.input):
        tensor = draft.tensors.get(name)
        if tensor is None or name in counted or place in untrained.get(node.op_type, ()):
            continue
        quantized = node.op_type.startswith(("QLinear", "DequantizeLinear")) and len(tensor.dims) > 0
        if (tensor.data_type in _FLOATS or quantized) and prod(tensor.dims) > 1:
            counted.add(name)
            total += prod(tensor.dims)
    return total


def _macs(node: onnx.NodeProto, draft: Draft, shape: Shape) -> int:
    if not shape or any(s is None for s in shape[1:]):
        return 0
    places = prod(s for s in shape[1:] if s is not None)
    weights = draft.shapes.get(node.input[1], ()) if len(node.input) > 1 else ()
    if node.op_type in ("Conv", "QLinearConv", "ConvInteger"):
        kernel = draft.shapes.get(node.input[3 if node.op_type == "QLinearConv" else 1], ())
        return places * prod(k or 1 for k in kernel[1:]) if kernel else 0
    if node.op_type == "ConvTranspose":
        source = draft.shapes.get(node.input[0], ())
        inputs = prod(s or 1 for s in source[1:])
        return inputs * prod(w or 1 for w in weights[1:])
    if node.op_type in ("Gemm", "MatMul"):
        source = draft.shapes.get(node.input[0], ())
        inner = source[0 if attribute(node, "transA", 0) else -1] if source else None
        return places * (inner or 0)
    return 0
