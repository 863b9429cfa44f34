"""What an exported file says about itself, and reading it back."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import onnx

from ...errors import RefusedInput
from ..graph.graph import Graph
from ..graph.preprocessing import Preprocessing, whole_numbers
from ..outputs.reading import Question as Asked
from ..outputs.reads import packed, unpacked
from ..outputs.target import Target
from ..outputs.target import from_json as target_from_json
from ..render.artifacts import plain
from .pictures import PICTURE
from .verification import Question, Verification

_METHOD, _TARGET, _LAYER, _TENSOR = "convscope.method", "convscope.target", "convscope.layer", "convscope.layer_tensor"
_STEPS, _IMAGE, _ASKED = "convscope.steps", "convscope.image", "convscope.question"
_SHA, _VERIFIED, _FORM = "convscope.graph_sha256", "convscope.verified", "convscope.heatmap"


@dataclass(frozen=True, eq=False)
class Stated:
    """What was asked for when a file was made, as it is stored in it.

    Attributes:
        question: the question.
        decoder, output: how the outputs were read, where that was said.
    """

    question: Asked
    decoder: str | None = None
    output: str | None = None

    def to_json(self) -> dict[str, Any]:
        """What is not the default, as JSON has it; arrays are packed."""
        q = self.question
        target = {"stored": q.target.to_json()} if isinstance(q.target, Target) else q.target
        arrays = {name: None if v is None else packed(v) for name, v in (("mask", q.mask), ("like", q.like))}
        given = {
            "target": target, "of": None if q.of == "score" else q.of, "region": q.region, "to": q.to,
            "against": q.against, "decoder": self.decoder, "output": self.output, **arrays,
        }  # fmt: skip
        return plain({name: value for name, value in given.items() if value is not None})

    @property
    def text(self) -> str:
        """The target in words, "" where the file's inputs ask."""
        target = self.question.target
        return "" if target is None else target.name if isinstance(target, Target) else str(target)


def _stated(stored: Mapping[str, Any]) -> Stated:
    """From `Stated.to_json`.

    Raises:
        RefusedInput: it is of another form.
    """
    try:
        own = {name: unpacked(value) if name in ("mask", "like", "region") else value for name, value in stored.items()}
        decoder, output = own.pop("decoder", None), own.pop("output", None)
        if isinstance(own.get("target"), Mapping):
            own["target"] = target_from_json(own["target"]["stored"])
        return Stated(Asked(**own), decoder, output)
    except (TypeError, ValueError, KeyError, AttributeError, zlib.error) as error:
        raise RefusedInput(f"the file's {_ASKED} is not understood: {str(error)[:160]}") from error


@dataclass(frozen=True, eq=False)
class Record:
    """What an exported file states.

    Attributes:
        method: of the map.
        layers: the layers' names, none for methods that attribute to the picture.
        asked: what was asked for.
        graph_sha256: of the canonical graph that it was made from.
        resize, normalize: whether the map has the picture's size, and its maximum at 1.
        steps: of Integrated Gradients.
        image: the tensor that the model's own input became where the file takes pictures, "" elsewhere.
    """

    method: str
    layers: tuple[str, ...]
    asked: Stated
    graph_sha256: str
    resize: bool
    normalize: bool
    steps: int | None = None
    image: str = ""


def describe(model: onnx.ModelProto, graph: Graph, question: Question, asked: Stated, check: Verification) -> None:
    """Writes into a file the record, and what its importer needs: layer names, labels, preprocessing."""
    form = [word for word, on in (("input size", question.resize), ("maximum 1", question.normalize)) if on]
    stated = {
        _METHOD: question.method,
        _LAYER: ", ".join(layer.name for layer in question.layers),
        _TENSOR: json.dumps([layer.tensor for layer in question.layers]),
        _TARGET: asked.text,
        _ASKED: json.dumps(asked.to_json(), sort_keys=True),
        _SHA: graph.sha256,
        _FORM: ", ".join(form),
        **({} if question.steps is None else {_STEPS: str(question.steps)}),
        **({_IMAGE: graph.inputs[0].name} if PICTURE in {i.name for i in model.graph.input} else {}),
        _VERIFIED: f"{check.difference:.2g} of the maximum from the twin, {check.compared}",
        "convscope.preprocessing": json.dumps(_preprocessing(graph).to_json(), sort_keys=True),
        "convscope.names": json.dumps({la.tensor: la.name for la in graph.layers}),
        **({"convscope.labels": json.dumps(list(graph.labels))} if graph.labels else {}),
    }
    if PICTURE in {i.name for i in model.graph.input}:  # what is left to do before the file: nothing but whole numbers
        raw = replace(whole_numbers("uint8"), size=graph.image_size, layout="NHWC")
        stated["convscope.preprocessing"] = json.dumps(raw.to_json(), sort_keys=True)
    kept = {p.key: p.value for p in model.metadata_props}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {**kept, **stated})


def _preprocessing(graph: Graph) -> Preprocessing:
    """The graph's, with the size that pictures get where the file's own input leaves it open."""
    own = graph.preprocessing
    return replace(own, size=graph.image_size) if own.size is None and len(graph.inputs[0].shape) == 4 else own


def read_record(metadata: Mapping[str, str]) -> Record | None:
    """The record of an exported file, None for any other."""
    if _METHOD not in metadata or _SHA not in metadata:
        return None
    form = metadata.get(_FORM, "")
    return Record(
        method=metadata[_METHOD],
        layers=_names(metadata.get(_TENSOR, "[]")),
        asked=_stated(_object(metadata.get(_ASKED, "{}"))),
        graph_sha256=metadata[_SHA],
        resize="input size" in form,
        normalize="maximum 1" in form,
        steps=int(metadata[_STEPS]) if metadata.get(_STEPS, "").isdecimal() else None,
        image=metadata.get(_IMAGE, ""),
    )


def _object(text: str) -> dict[str, Any]:
    found = _parsed(text)
    return found if isinstance(found, dict) else {}


def _names(text: str) -> tuple[str, ...]:
    found = _parsed(text)
    return tuple(str(name) for name in found) if isinstance(found, list) else ()


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
