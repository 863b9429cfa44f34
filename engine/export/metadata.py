"""What an exported file says about itself, and reading it back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx

from ..graph.graph import Graph
from ..graph.preprocessing import whole_numbers
from .pictures import PICTURE
from .verification import Question, Verification

_METHOD, _TARGET, _LAYER, _TENSOR = "convscope.method", "convscope.target", "convscope.layer", "convscope.layer_tensor"
_STEPS, _IMAGE = "convscope.steps", "convscope.image"
_SHA, _VERIFIED, _FORM = "convscope.graph_sha256", "convscope.verified", "convscope.heatmap"


@dataclass(frozen=True)
class Record:
    """What an exported file states.

    Attributes:
        method: of the map.
        layer: the layer's name, "" for methods that attribute to the picture.
        target: how the target was asked for, "" where the class is an input.
        graph_sha256: of the canonical graph that it was made from.
        resize, normalize: whether the map has the picture's size, and its maximum at 1.
        steps: of Integrated Gradients.
        image: the tensor that the model's own input became where the file takes pictures, "" elsewhere.
    """

    method: str
    layer: str
    target: str
    graph_sha256: str
    resize: bool
    normalize: bool
    steps: int | None = None
    image: str = ""


def describe(model: onnx.ModelProto, graph: Graph, question: Question, check: Verification) -> None:
    """Writes into a file the record, and what its importer needs: layer names, labels, preprocessing."""
    form = [word for word, on in (("input size", question.resize), ("maximum 1", question.normalize)) if on]
    stated = {
        _METHOD: question.method,
        _LAYER: question.layer.name if question.layer else "",
        _TENSOR: question.layer.tensor if question.layer else "",
        _TARGET: question.spec,
        _SHA: graph.sha256,
        _FORM: ", ".join(form),
        **({} if question.steps is None else {_STEPS: str(question.steps)}),
        **({_IMAGE: graph.inputs[0].name} if PICTURE in {i.name for i in model.graph.input} else {}),
        _VERIFIED: f"{check.difference:.2g} of the maximum from the twin, {check.pictures} pictures x "
        f"{check.classes} classes",
        "convscope.preprocessing": json.dumps(graph.preprocessing.to_json(), sort_keys=True),
        "convscope.names": json.dumps({la.tensor: la.name for la in graph.layers}),
        **({"convscope.labels": json.dumps(list(graph.labels))} if graph.labels else {}),
    }
    if PICTURE in {i.name for i in model.graph.input}:  # what is left to do before the file: nothing but whole numbers
        raw = replace(whole_numbers("uint8"), size=graph.image_size, layout="NHWC")
        stated["convscope.preprocessing"] = json.dumps(raw.to_json(), sort_keys=True)
    kept = {p.key: p.value for p in model.metadata_props}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {**kept, **stated})


def read_record(metadata: Mapping[str, str]) -> Record | None:
    """The record of an exported file, None for any other."""
    if _METHOD not in metadata or _SHA not in metadata:
        return None
    form = metadata.get(_FORM, "")
    return Record(
        method=metadata[_METHOD],
        layer=metadata.get(_LAYER, ""),
        target=metadata.get(_TARGET, ""),
        graph_sha256=metadata[_SHA],
        resize="input size" in form,
        normalize="maximum 1" in form,
        steps=int(metadata[_STEPS]) if metadata.get(_STEPS, "").isdecimal() else None,
        image=metadata.get(_IMAGE, ""),
    )
