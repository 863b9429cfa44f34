"""The model with its explanation inside: the old nodes, and after them the backward pass and the map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...errors import RefusedInput, UnsupportedOperator, UsageError
from ..attribution.batch import side_tensors
from ..attribution.places import default_layers
from ..attribution.targets import as_question, direct
from ..graph.graph import Graph
from ..graph.labels import class_name
from ..graph.layers import Layer
from ..outputs.reads import Channel
from ..outputs.specs import class_index
from ..outputs.target import Target
from .backward import backward, lacking
from .heads import INPUT_HEADS, LAYER_HEADS
from .interface import as_source
from .linear_head import linear_head_gradient
from .opset import NEEDED, raised
from .path import path_attribution
from .pictures import OPSET, take_pictures
from .seed import CLASS_INPUT, Seed, chosen_classes, class_seed, unit_seed
from .trace import Trace
from .writer import Value, Writer

HEATMAP = "heatmap"
INTEGRATED = "integratedgradients"
METHODS = (*LAYER_HEADS, *INPUT_HEADS, INTEGRATED)
_ANY_CLASS = 10**6  # where the graph does not say how many classes it has


@dataclass(frozen=True)
class Request:
    """What the exported model is to do; see `export` for the meaning of each."""

    method: str = "gradcam"
    layer: Layer | None = None
    target: Target | str | int | None = None
    class_input: bool = False
    resize: bool = False
    normalize: bool = False
    steps: int = 20
    pictures: bool = False


@dataclass(frozen=True, eq=False)
class Built:
    """The new model and what was decided on the way.

    Attributes:
        model: with the output ``heatmap``.
        layer: where the map is; None for methods that attribute to the input.
        target: the one target of every picture, or None where a class is asked for.
        added: how many nodes were added to the model.
        pictures: with ``model``'s own preprocessing before it, where that was asked for.
    """

    model: onnx.ModelProto
    layer: Layer | None
    target: Target | None
    added: int
    pictures: onnx.ModelProto | None = None


def build(graph: Graph, request: Request) -> Built:
    """The exported model, not yet verified.

    Raises:
        UsageError: an unknown method or layer, a target that one picture alone has.
        UnsupportedOperator: an operator on the way from the target to the layer has no gradient.
    """
    target = fixed_target(graph, request.target)
    tensor = _tensor(graph, request.target, target)
    layer = _layer(graph, request, tensor)
    feeds = example(graph)
    spec = graph.inputs[0].shape
    is_fixed = len(spec) == 4 and None not in spec[2:]
    model = raised(graph.model, _ranks(graph, feeds), OPSET if request.pictures else NEEDED)
    trace = Trace(model, feeds, is_fixed=is_fixed)
    writer = Writer(_opset(model), taken=_names(model))
    start = layer.tensor if layer is not None else graph.inputs[0].name
    seed = _seed(writer, trace, tensor, target, request)
    second_outputs: dict[str, str] = {}
    try:
        if request.method == INTEGRATED:
            shares, second_outputs = path_attribution(graph, model, writer, feeds, seed, request.steps)
            heatmap = shares.sum([1], keep=False)
        else:
            gradient = linear_head_gradient(model, writer, trace, start, seed)
            if gradient is None:
                walked = backward(model.graph.node, writer, trace, start, {seed.tensor: seed.gradient})
                gradient, second_outputs = walked.gradient, walked.second_outputs
            heatmap = _head(writer, trace, start, gradient, layer, request)
    except UnsupportedOperator as error:
        raise UnsupportedOperator(f"{error}; {_advice(graph, model, trace, tensor)}") from error
    _finish(writer, heatmap, graph, request)
    assembled = _assembled(model, trace, writer, second_outputs, request)
    pictures = None
    if request.pictures:
        pictures = onnx.ModelProto()
        pictures.CopyFrom(assembled)
        take_pictures(pictures, graph)
    as_source(assembled, graph)
    added = len((assembled if pictures is None else pictures).graph.node) - len(graph.model.graph.node)
    return Built(assembled, layer, target, added, pictures)


def example(graph: Graph) -> dict[str, np.ndarray]:
    """Two random images of the graph's own size (one, where its batch is fixed at one)."""
    if len(graph.inputs) > 1:
        names = ", ".join(i.name for i in graph.inputs)
        raise UsageError(f"{graph.name} has {len(graph.inputs)} inputs ({names[:160]}); a picture fills one alone")
    spec = graph.inputs[0]
    rest = (graph.channels, *graph.image_size) if len(spec.shape) in (0, 4) else [s or 1 for s in spec.shape[1:]]
    image = np.random.default_rng(0).random((2, *rest), dtype=np.float32)
    image = graph.preprocessing.normalize(image) if image.ndim == 4 else image
    return {spec.name: image.astype(spec.dtype)}


def _layer(graph: Graph, request: Request, tensor: str) -> Layer | None:
    if request.method not in LAYER_HEADS:
        if request.layer is not None:
            raise UsageError(f"method '{request.method}' attributes to the picture and takes no layer")
        return None
    layer = request.layer or default_layers(graph, (tensor,))[0]
    if not layer.is_spatial:
        raise UsageError(
            f"layer '{layer.name}' has shape {layer.shape}, no feature maps; choose a layer with height and width"
        )
    side_tensors(graph, [layer], [tensor])  # refuses a layer that the target does not depend on
    return layer


def fixed_target(graph: Graph, spec: Target | str | int | None) -> Target | None:
    """The target where it is the same for every picture; None where it is a class that the user of the file names."""
    if spec is None:
        return None
    if isinstance(spec, str) and spec.strip().startswith("top:"):
        raise UsageError(f"target '{spec}' is not one number; give the exported file a class when it runs")
    shape = graph.outputs[0].shape
    classes = (shape[1] if len(shape) > 1 else None) or _ANY_CLASS
    found = direct(graph, as_question(spec))
    if found is not None:
        return found[0]
    index = class_index(graph, spec, classes)
    return Target(Channel(graph.logits, index), class_name(graph, index))


def _tensor(graph: Graph, spec: Target | str | int | None, target: Target | None) -> str:
    """The one tensor that the target is read from."""
    if target is None or _is_class(spec):
        return graph.logits
    if len(target.tensors) > 1:
        raise UsageError(f"target '{target.name}' reads {len(target.tensors)} tensors; an exported model takes one")
    return target.tensors[0]


def _seed(w: Writer, trace: Trace, tensor: str, target: Target | None, request: Request) -> Seed:
    shape = trace.shape(tensor)
    if target is not None and not _is_class(request.target):
        return unit_seed(w, target, shape)
    if len(shape) not in (2, 4):
        raise UsageError(
            f"the logits have shape {shape}, no class axis is known; name a target: "
            "unit:LAYER:UNIT or output:NAME:INDEX"
        )
    if target is not None:
        return class_seed(w, tensor, shape, w.integers([target.index or 0]).expand(w.value(tensor).shape(0, 1)))
    return class_seed(w, tensor, shape, chosen_classes(w, tensor, len(shape), w.value(CLASS_INPUT)))


def _is_class(spec: Target | str | int | None) -> bool:
    return not isinstance(spec, Target) and not str(spec).strip().startswith(("unit:", "output:"))


def _head(w: Writer, trace: Trace, start: str, gradient: Value, layer: Layer | None, request: Request) -> Value:
    activations = w.value(start) if trace.kind(start) == w.kind else w.value(start).cast()
    if layer is None:
        return INPUT_HEADS[request.method](activations, gradient)
    if layer.channel_axis not in (None, 1):
        order = [0, layer.channel_axis, *(a for a in range(1, 4) if a != layer.channel_axis)]
        activations, gradient = activations.transpose(order), gradient.transpose(order)
    return LAYER_HEADS[request.method](activations, gradient)


def _finish(w: Writer, heatmap: Value, graph: Graph, request: Request) -> None:
    """Positive evidence alone, resized and normalized where asked for, under its final name."""
    if request.resize:
        size = w.value(graph.inputs[0].name).shape(2, 4)
        planes = heatmap.positive().unsqueeze([1])
        wanted = w.concat(planes.shape(0, 2), size)
        resized = planes.apply("Resize", None, None, wanted, mode="linear", coordinate_transformation_mode="half_pixel")
        heatmap = resized.squeeze([1])
    if request.normalize:
        heatmap = heatmap.positive()
        largest = heatmap.reduce("ReduceMax", [1, 2])
        heatmap = heatmap / w.where(largest > 0.0, largest, 1.0)
    w.nodes.append(helper.make_node("Relu", [heatmap.name], [HEATMAP], "heatmap/result"))
    w.keep_only(HEATMAP)


def _assembled(
    model: onnx.ModelProto,
    trace: Trace,
    w: Writer,
    second_outputs: Mapping[str, str],
    request: Request,
) -> onnx.ModelProto:
    """The raised model with the new nodes, constants, inputs and outputs."""
    graph = model.graph
    graph.node.extend(w.nodes)
    for node in graph.node:
        if node.output[0] in second_outputs:
            del node.output[1:]
            node.output.append(second_outputs[node.output[0]])
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in w.constants.items())
    if any(CLASS_INPUT in node.input for node in w.nodes):
        rows = "N" if request.class_input else "classes"
        graph.input.append(helper.make_tensor_value_info(CLASS_INPUT, TensorProto.INT64, [rows]))
        if not request.class_input:
            graph.initializer.append(numpy_helper.from_array(np.array([-1], dtype=np.int64), CLASS_INPUT))
    for output in graph.output:
        kind = helper.np_dtype_to_tensor_dtype(trace.kind(output.name))
        shape = [None] * len(trace.shape(output.name))
        output.CopyFrom(helper.make_tensor_value_info(output.name, kind, shape))
    graph.output.append(helper.make_tensor_value_info(HEATMAP, TensorProto.FLOAT, ["N", None, None]))
    model.ir_version = max(model.ir_version, 8)
    model.producer_name = "convscope"
    return model


def _advice(graph: Graph, model: onnx.ModelProto, trace: Trace, target: str) -> str:
    """Which layer works."""
    for layer in graph.layers:
        if not layer.is_spatial or layer.tensor == target:
            continue
        try:
            side_tensors(graph, [layer], [target])
        except UsageError:
            continue
        if not lacking(model.graph.node, trace, layer.tensor, target):
            return f"the deepest layer that works is '{layer.name}'"
    return "no layer of it works"


def _ranks(graph: Graph, feeds: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Of every tensor, where an old operator set makes them necessary."""
    if _opset(graph.model) >= 13:
        return {}
    trace = Trace(graph.model, feeds)
    names = [name for node in graph.model.graph.node for name in (*node.input, *node.output) if name]
    return {name: len(trace.shape(name)) for name in names}


def _opset(model: onnx.ModelProto) -> int:
    return next(e.version for e in model.opset_import if e.domain in ("", "ai.onnx"))


def _names(model: onnx.ModelProto) -> set[str]:
    """Every name in the model; refuses a model that has the names that the export gives.

    Raises:
        RefusedInput: a tensor is called ``heatmap`` or ``class``.
    """
    graph = model.graph
    names = {n for node in graph.node for n in (*node.input, *node.output, node.name)}
    names |= {t.name for t in graph.initializer} | {i.name for i in (*graph.input, *graph.output)}
    for name in (HEATMAP, CLASS_INPUT):
        if name in names:
            raise RefusedInput(
                f"a tensor of the model is called '{name}' already; rename it, or export the plain model"
            )
    return names
