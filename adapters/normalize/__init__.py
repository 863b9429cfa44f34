"""From any exporter's ONNX to the canonical graph: small passes, ONNX to ONNX, tensor names kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, inliner

from ...engine.graph.graph import DEFAULT_SIZE
from .constants import constants_to_weights, fold_constants, to_float32
from .draft import Draft
from .passes import Request, run_passes

__all__ = ["Draft", "normalize", "settle_constants", "without_double"]


def normalize(
    model: onnx.ModelProto,
    *,
    layout: str | None = None,
    size: tuple[int, int] | None = None,
    keep: Iterable[str] = (),
    given: Mapping[str, np.ndarray] | None = None,
    check: bool = False,
) -> tuple[Draft, onnx.ModelProto]:
    """The canonical form of a (prechecked) model.

    Args:
        model: taken over and edited.
        layout: of the image input, "NCHW" or "NHWC"; None tells from the graph.
        size: (height, width) where the file leaves them open.
        keep: tensors that the source names and that must stay taps.
        given: name -> value, for one picture, of inputs beside the picture.
        check: look between the passes whether what they rely on holds (`passes`); slow, for tests.

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
    run_passes(draft, Request(chosen, layout, frozenset(keep), given or {}), check)
    return draft, draft.build()


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


def without_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that computes in float32 what the model computes in double, for which ONNX Runtime has no convolution.

    The model itself where nothing in it is double.
    """
    tensors, inputs = model.graph.initializer, model.graph.input
    kinds = {t.data_type for t in tensors} | {i.type.tensor_type.elem_type for i in inputs}
    if TensorProto.DOUBLE not in kinds or model.functions:
        return model
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    draft = Draft.of(copied)
    constants_to_weights(draft)
    to_float32(draft)
    return draft.build()
