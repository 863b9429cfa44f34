"""From any exporter's ONNX to the canonical graph: small passes, ONNX to ONNX, tensor names kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import inliner

from ...engine.graph.graph import DEFAULT_SIZE
from .batch import flatten_reshapes, free_batch, free_input, settle_shape_vectors
from .channels_first import to_channels_first
from .cleanup import remove_idle_nodes
from .constants import constants_to_weights, fold_constants, to_float32
from .control import settle_control_flow
from .draft import Draft
from .flatten import fold_flatten_order
from .fuse import fuse
from .inputs import settle_inputs
from .integers import float_image
from .sequences import split_sequences
from .shapes import image_shape, infer

__all__ = ["Draft", "normalize", "settle_constants"]


def normalize(
    model: onnx.ModelProto,
    *,
    layout: str | None = None,
    size: tuple[int, int] | None = None,
    keep: Iterable[str] = (),
    given: Mapping[str, np.ndarray] | None = None,
) -> tuple[Draft, onnx.ModelProto]:
    """The canonical form of a (prechecked) model.

    Args:
        model: taken over and edited.
        layout: of the image input, "NCHW" or "NHWC"; None tells from the graph.
        size: (height, width) where the file leaves them open.
        keep: tensors that the source names and that must stay taps.
        given: name -> value, for one picture, of inputs beside the picture.

    Returns:
        The draft with shapes, aliases and permutations, and the canonical ModelProto.

    Raises:
        RefusedInput: a cycle, contradicting shapes, no image input. UnsafeFile: absurd sizes.
        UsageError: ``given`` does not fit the model.
    """
    if model.functions:
        model = inliner.inline_local_functions(model)
    draft = Draft.of(model)
    chosen = size or (DEFAULT_SIZE, DEFAULT_SIZE)
    constants_to_weights(draft)
    settle_inputs(draft, given or {}, chosen)
    float_image(draft)
    settle_control_flow(draft, chosen)
    to_float32(draft)
    fold_constants(draft)
    remove_idle_nodes(draft)
    draft.drop_dead()
    infer(draft, chosen)
    while split_sequences(draft):
        infer(draft, chosen)
    remove_idle_nodes(draft)
    to_channels_first(draft, layout, {draft.aliases.get(name, name) for name in keep})
    while free_batch(draft):
        infer(draft, chosen)
    settle_shape_vectors(draft)
    flatten_reshapes(draft)
    fold_constants(draft)
    remove_idle_nodes(draft)
    draft.drop_dead()
    draft.settle_aliases()
    infer(draft, chosen)
    fuse(draft, {draft.aliases.get(name, name) for name in keep})
    fold_flatten_order(draft)
    draft.sort()
    draft.drop_dead()
    draft.settle_aliases()
    _fixed = {i.name: image_shape(i) for i in draft.inputs}
    infer(draft, chosen)
    free_input(draft)
    canonical = draft.build()
    for name, shape in _fixed.items():
        draft.shapes[name] = shape or draft.shapes.get(name, ())
    return draft, canonical


def settle_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with what is computed from constants alone computed; it is taken over, not copied.

    An export as it is written can have ten times the nodes, and ONNX Runtime takes long to prepare those.
    """
    if model.functions:
        return model
    draft = Draft.of(model)
    constants_to_weights(draft)
    fold_constants(draft)
    draft.drop_dead()
    return draft.build()
