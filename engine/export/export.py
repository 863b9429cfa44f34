"""`export`: builds the model with its explanation, proves it, and only then writes it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from ...errors import ConvscopeError, RefusedInput, UsageError
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..outputs.target import Target
from ..render.artifacts import check_folder, write_bytes
from .build import INTEGRATED, METHODS, Request, build
from .metadata import describe
from .pictures import picture_difference
from .verification import BOUND, PICTURES, Question, Verification, verify

DEFAULT_STEPS = 20
PATH_PICTURES = 2  # to compare where every map takes many passes
MOST_GREY_LEVELS = 1.0
MAX_BYTES = 2**31 - 1  # of one protobuf message


@dataclass(frozen=True)
class Exported:
    """A written file and the proof of it.

    Attributes:
        path: the file.
        method: what its ``heatmap`` is.
        layer: name of the layer where the map is, None for methods that attribute to the picture.
        target: the target's name, None where the class is an input of the file.
        nodes: of the plain model.
        added: nodes that were added.
        verification: how far it is from the twin, and its time beside the plain model.
        preprocessing_difference: where the file takes pictures: how far what it makes of them is from what Python
            makes of them, in grey levels of 1 / 255.
    """

    path: Path
    method: str
    layer: str | None
    target: str | None
    nodes: int
    added: int
    verification: Verification
    preprocessing_difference: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dict for ``--json``."""
        check = self.verification
        return {
            "path": str(self.path),
            "method": self.method,
            "layer": self.layer,
            "target": self.target,
            "nodes": self.nodes,
            "added_nodes": self.added,
            "difference": check.difference,
            "maps_at_kinks": check.at_kinks,
            "kink_difference": check.kink_difference,
            "output_difference": check.output_difference,
            "pictures": check.pictures,
            "classes": check.classes,
            "time_ratio": check.time_ratio,
            "preprocessing_grey_levels": self.preprocessing_difference,
        }


def export(
    graph: Graph,
    path: str | os.PathLike[str],
    method: str = "gradcam",
    layer: str | int | Layer | None = None,
    *,
    target: Target | str | int | None = None,
    class_input: bool = False,
    resize: str | None = None,
    normalize: bool = False,
    steps: int | None = None,
    preprocessing: str | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Exported:
    """Writes the model with its own explanation inside, as standard ONNX nodes.

    The new file has the graph's inputs and outputs, and beside them

    - ``class``, int64 (N,) or (1,): the class to explain in each picture; negative numbers, the default, are the
      predicted class. Left out where ``target`` is given;
    - ``heatmap``, float32 (N, h, w), 0 or more: the evidence for it, in the method's own unit.

    Args:
        graph: from `convscope.load`.
        path: the new file.
        method: one of `build.METHODS`.
        layer: where the map is; default the last layer with spatial extent.
        target: explain always this: a class index or name, ``unit:LAYER:UNIT[@ROW,COLUMN]``, ``output:NAME:INDEX``.
        class_input: make ``class`` an input that has to be given, for runtimes without optional inputs.
        resize: "input" for a map of the picture's height and width (bilinear), None for the layer's.
        normalize: divide each map by its largest value.
        steps: of Integrated Gradients, 20 by default; the file holds so many pictures in memory at once.
        preprocessing: "inside" for a file that takes pictures as they are: its input is ``picture``, uint8
            (N, height, width, 3) RGB of any size, and the graph's preprocessing comes first.
        progress: called with the name of each stage as it starts.

    Returns:
        What was written, with the verification against the twin.

    Raises:
        UsageError: unknown method, layer or target. UnsupportedOperator: no gradient for an operator on the way, by
        name. RefusedInput: the model has those names already, or is too large for one file. ConvscopeError: the file's
        map is not the twin's; nothing is written.
    """
    if method not in METHODS:
        raise UsageError(f"method '{method}' cannot be exported; choose one of {', '.join(METHODS)}")
    if resize not in (None, "input"):
        raise UsageError(f"resize '{resize}' is unknown; use input, or leave it out for the layer's own size")
    if preprocessing not in (None, "inside"):
        raise UsageError(f"preprocessing '{preprocessing}' is unknown; use inside, or leave it out")
    if steps is not None and (method != INTEGRATED or steps < 1):
        raise UsageError(f"steps {steps}: {INTEGRATED} alone takes steps, 1 or more")
    if class_input and target is not None:
        raise UsageError("a target is given, so the file takes no class; leave one of the two out")
    check_folder(Path(path).absolute().parent)
    chosen = layer if isinstance(layer, Layer) or layer is None else graph.layer(layer)
    count = (steps or DEFAULT_STEPS) if method == INTEGRATED else None
    request = Request(
        method, chosen, target, class_input, resize == "input", normalize, count or 0, preprocessing == "inside"
    )
    progress("writing the backward pass")
    built = build(graph, request)
    progress("comparing with the twin")
    spec = "" if target is None else target.name if isinstance(target, Target) else str(target)
    question = Question(method, built.layer, built.target, spec, request.resize, request.normalize, count)
    check = verify(graph, built.model, question, pictures=PICTURES if count is None else PATH_PICTURES)
    if not check.ok:
        raise ConvscopeError(
            f"the map of {method} in the file is {check.difference:.2g} from the twin's (outputs "
            f"{check.output_difference:.2g}), more than {BOUND:g} of its maximum; nothing was written"
        )
    off = None
    if built.pictures is not None:
        progress("comparing the preprocessing with Python's")
        off = picture_difference(graph, built.pictures)
        if not off <= MOST_GREY_LEVELS:
            raise ConvscopeError(
                f"the preprocessing in the file is {off:.2g} grey levels from Python's, more than "
                f"{MOST_GREY_LEVELS:g}; nothing was written"
            )
    written = built.model if built.pictures is None else built.pictures
    describe(written, graph, question, check)
    write_bytes(path, serialized(written))
    return Exported(
        path=Path(path),
        method=method,
        layer=built.layer.name if built.layer else None,
        target=built.target.name if built.target else None,
        nodes=len(graph.model.graph.node),
        added=built.added,
        verification=check,
        preprocessing_difference=off,
    )


def serialized(model: onnx.ModelProto) -> bytes:
    """The file's bytes, checked.

    Raises:
        RefusedInput: more than two gigabytes. ConvscopeError: ONNX's own checker refuses the model.
    """
    if model.ByteSize() > MAX_BYTES:
        raise RefusedInput(f"the exported model has {model.ByteSize():,} bytes; one file holds {MAX_BYTES:,}")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConvscopeError(f"the exported model is not valid: {str(error).splitlines()[0][:200]}") from error
    return model.SerializeToString(deterministic=True)
