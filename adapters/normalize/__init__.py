"""From any exporter's ONNX to the canonical graph: small passes, ONNX to ONNX, tensor names kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, inliner

from ...engine.executors.session import first_line
from ...engine.graph.graph import DEFAULT_SIZE
from ...errors import RefusedInput
from ..onnx.precheck import subgraphs
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
        model = _without_functions(model)
    draft = Draft.of(model)
    chosen = size or (DEFAULT_SIZE, DEFAULT_SIZE)
    run_passes(draft, Request(chosen, layout, frozenset(keep), given or {}), check)
    return draft, draft.build()


def _without_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its own functions written out, of another operator set than its own too.

    A function whose operators are the same in both sets just takes the model's; others are converted.

    Raises:
        RefusedInput: one cannot be.
    """
    own = next(entry.version for entry in model.opset_import if not entry.domain)
    foreign = ""
    for function in model.functions:
        for entry in function.opset_import:
            if entry.domain or entry.version == own:
                continue
            if _are_the_same(function.node, entry.version, own):
                entry.version = own
            else:
                foreign = f"'{function.name[:60]}', written for opset {entry.version}, where the model is for {own}"
    try:
        return inliner.inline_local_functions(model, convert_version=bool(foreign))
    except Exception as error:  # onnx raises its own types, and RuntimeError
        what = f"its function {foreign} cannot be converted" if foreign else "its functions cannot be written out"
        raise RefusedInput(f"{what} ({first_line(error, 120)}); export the model with one opset") from error


def _are_the_same(nodes: Iterable[onnx.NodeProto], one: int, other: int) -> bool:
    """Whether ONNX's operators among the nodes are of the same version in two operator sets."""
    for node in nodes:
        if not all(_are_the_same(graph.node, one, other) for graph in subgraphs(node)):
            return False
        if node.domain or not all(onnx.defs.has(node.op_type, version) for version in (one, other)):
            continue
        first, second = (onnx.defs.get_schema(node.op_type, version) for version in (one, other))
        if first.since_version != second.since_version:
            return False
    return True


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
