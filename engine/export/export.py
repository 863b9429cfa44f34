"""`export`: builds the model with its explanation, proves it, and only then writes it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from ...errors import ConvscopeError, RefusedInput, UsageError
from ..attribution.registry import default_cam
from ..graph.graph import Graph
from ..graph.layers import Layer
from ..outputs.reading import Question as Asked
from ..outputs.target import Target
from ..render.artifacts import check_folder, sweep, write_bytes
from .build import INTEGRATED, METHODS, Request, build, layers_for
from .metadata import Stated, describe
from .pictures import picture_difference
from .scores import Score, one_question, score_of
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
        layer: name of the layer where the map is (several with commas), None for methods that attribute to the picture.
        target: the target's name, None where the file's inputs or the picture say what is explained.
        inputs: of the file that ask: ``class``, ``box``, ``character``.
        constants: the source's inputs beside the picture, whose values the file holds.
        reading: what the outputs were taken for, None where that was not asked.
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
    inputs: tuple[str, ...]
    constants: tuple[str, ...]
    reading: str | None
    nodes: int
    added: int
    verification: Verification
    preprocessing_difference: float | None = None

    @property
    def lines(self) -> list[str]:
        """What the file is, and how it was proven, for people."""
        check = self.verification
        jumps = f", {check.at_kinks} maps at kinks up to {check.kink_difference:.2g}" if check.at_kinks else ""
        if check.zeros:
            jumps += f"; {check.zeros} maps zero in both: nothing there is for or against what is asked"
        where = f"at '{self.layer}'" if self.layer else "of the picture"
        read = f"outputs: {self.reading}; " if self.reading else ""
        asks = f"; it is asked by {', '.join(self.inputs)}" if self.inputs else ""
        found = [
            f"{read}{self.method} {where}: {check.difference:.2g} of the maximum from the twin "
            f"({check.compared}{jumps}); {self.added} nodes added to {self.nodes}; "
            f"{check.time_ratio:.2f} times the plain model's time{asks}"
        ]
        if self.constants:
            found.append(f"inputs beside the picture are constants of the file: {', '.join(self.constants)}")
        if self.preprocessing_difference is not None:
            far = f"{self.preprocessing_difference:.2g} grey levels from Python's at most"
            found.append(f"preprocessing inside: {far}")
        return found

    def to_json(self) -> dict[str, Any]:
        """A plain dict for ``--json``."""
        check = self.verification
        return {
            "path": str(self.path),
            "method": self.method,
            "layer": self.layer,
            "target": self.target,
            "inputs": list(self.inputs),
            "constants": list(self.constants),
            "outputs_read_as": self.reading,
            "nodes": self.nodes,
            "added_nodes": self.added,
            "difference": check.difference,
            "maps_at_kinks": check.at_kinks,
            "kink_difference": check.kink_difference,
            "zero_maps": check.zeros,
            "output_difference": check.output_difference,
            "pictures": check.pictures,
            "classes": check.classes,
            "time_ratio": check.time_ratio,
            "preprocessing_grey_levels": self.preprocessing_difference,
        }


def check_request(method: str | None, resize: str | None, preprocessing: str | None, steps: int | None) -> None:
    """Refuses what no model's file can have; arguments as for `export`.

    Raises:
        UsageError: a method whose map cannot be written into a file, or another word or number that is none.
    """
    if method is not None and method not in METHODS:
        raise UsageError(f"method '{method}' cannot be exported; choose one of {', '.join(METHODS)}")
    if resize not in (None, "input"):
        raise UsageError(f"resize '{resize}' is unknown; use input, or leave it out for the layer's own size")
    if preprocessing not in (None, "inside"):
        raise UsageError(f"preprocessing '{preprocessing}' is unknown; use inside, or leave it out")
    if steps is not None and (method != INTEGRATED or steps < 1):
        raise UsageError(f"steps {steps}: {INTEGRATED} alone takes steps, 1 or more")


def _chosen(
    graph: Graph, method: str | None, layer: str | int | Layer | None, score: Score
) -> tuple[str, tuple[Layer, ...]]:
    """The method and the layers of its map; where neither is named and there is no map, one that needs none."""
    wanted = method or default_cam(score.reading.form if score.reading is not None else "")
    try:
        return wanted, layers_for(graph, wanted, layer, score)
    except UsageError:
        if method is not None or layer is not None:
            raise
        return "saliency", ()


def export(
    graph: Graph,
    path: str | os.PathLike[str],
    method: str | None = None,
    layer: str | int | Layer | None = None,
    *,
    target: Target | Asked | str | int | None = None,
    class_input: bool = False,
    resize: str | None = None,
    normalize: bool = False,
    steps: int | None = None,
    preprocessing: str | None = None,
    decoder: str | None = None,
    output: str | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Exported:
    """Writes the model with its own explanation inside, as standard ONNX nodes.

    The new file has the graph's inputs and outputs, beside them ``heatmap``, float32 (N, h, w), 0 or more: the
    evidence, in the method's own unit; and inputs that ask, int64 (N,) or (1,), where a negative number, the default,
    is what the model says itself. Which ones depends on what the outputs are:

    - classes: ``class`` (of a segmentation where it is predicted); of numbers the place of one;
    - boxes: ``box``, a candidate's place in the model's own output, and ``class``;
    - a line of text: ``character``, from 1; the whole line by default;
    - a mask, an embedding, one value, or a ``target`` that is always the same: none.

    Args:
        graph: from `convscope.load`.
        path: the new file.
        method: one of `build.METHODS`; default as for `explain`: Grad-CAM, for boxes ODAM, for text HiResCAM, and
            saliency where no feature map leads to what is explained.
        layer: where the map is; default the last layer with spatial extent, of a detector or a segmentation all that
            enter its head: their maps are enlarged to the picture, divided by their maxima and averaged.
        target: explain always this: a class index or name, ``unit:LAYER:UNIT[@ROW,COLUMN]``, ``output:NAME:INDEX``,
            a `Target`, or a `Question`: a contrast, a region, a vector to be like, a value, a side of boxes.
        class_input: make what asks inputs that have to be given, for runtimes without optional inputs.
        resize: "input" for a map of the picture's height and width (bilinear), None for the layer's.
        normalize: divide each map by its largest value.
        steps: of Integrated Gradients, 20 by default; the file holds so many pictures in memory at once.
        preprocessing: "inside" for a file that takes pictures as they are: its input is ``picture``, uint8
            (N, height, width, 3) RGB of any size, and the graph's preprocessing comes first.
        decoder: how to read the outputs where the default is wrong, see `outputs.DECODERS`.
        output: read this output alone.
        progress: called with the name of each stage as it starts.

    Returns:
        What was written, with the verification against the twin.

    Raises:
        UsageError: unknown method, layer or target. UnsupportedOperator: no gradient for an operator on the way, by
        name. RefusedInput: the model has those names already, or is too large for one file. ConvscopeError: the file's
        map is not the twin's; nothing is written.
    """
    check_request(method, resize, preprocessing, steps)
    folder = Path(path).absolute().parent
    check_folder(folder)
    sweep(folder, everywhere=False)
    asked = one_question(target)
    score = score_of(graph, asked, decoder, output)
    if class_input and not score.inputs:
        raise UsageError("the target is always the same here, so the file takes no class; leave class_input= out")
    method, layers = _chosen(graph, method, layer, score)
    count = (steps or DEFAULT_STEPS) if method == INTEGRATED else None
    inside = preprocessing == "inside"
    request = Request(score, layers, method, class_input, resize == "input", normalize, count or 0, inside)
    progress("writing the backward pass")
    built = build(graph, request)
    progress("comparing with the twin")
    question = Question(score, method, layers, request.resize, request.normalize, count)
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
    describe(written, graph, question, Stated(asked, decoder, output), check)
    write_bytes(path, serialized(written))
    return Exported(
        path=Path(path),
        method=method,
        layer=", ".join(found.name for found in layers) or None,
        target=score.name,
        inputs=score.inputs,
        constants=tuple(graph.given),
        reading=score.reading.reason if score.reading else None,
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
