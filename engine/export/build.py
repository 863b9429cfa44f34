"""The model with its explanation inside: the old nodes, and after them the backward pass and the map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...errors import RefusedInput, UnsupportedOperator, UsageError
from ..attribution.batch import side_tensors
from ..attribution.capture import require_spatial
from ..attribution.places import chosen_layers
from ..graph.graph import Graph
from ..graph.index import trains
from ..graph.layers import Layer, Tokens
from .backward import backward, lacking
from .expand import expanded
from .heads import ADDED_UP, INPUT_HEADS, LAYER_HEADS
from .interface import as_source
from .linear_head import linear_head_gradient
from .opset import NEEDED, raised
from .path import path_attribution
from .pictures import OPSET, take_pictures
from .scores.base import Score
from .scores.classes import ClassScore
from .trace import Trace
from .writer import Value, Writer, total

HEATMAP = "heatmap"
INTEGRATED = "integratedgradients"
METHODS = (*LAYER_HEADS, *INPUT_HEADS, INTEGRATED)


@dataclass(frozen=True)
class Request:
    """What the exported model is to do; see `export` for the meaning of each.

    Attributes:
        score: what is explained.
        layers: where, see `layers_for`; none for methods that attribute to the picture.
    """

    score: Score
    layers: tuple[Layer, ...]
    method: str = "gradcam"
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
        added: how many nodes were added to the model.
        pictures: with ``model``'s own preprocessing before it, where that was asked for.
    """

    model: onnx.ModelProto
    added: int
    pictures: onnx.ModelProto | None = None


def build(graph: Graph, request: Request) -> Built:
    """The exported model, not yet verified.

    Raises:
        UnsupportedOperator: an operator on the way from the target to the layer has no gradient.
        UsageError: the score cannot be written into a file.
        RefusedInput: the model has the names that a file gets, or a batch-norm in training mode.
    """
    _require_inference(graph)
    feeds = example(graph)
    spec = graph.inputs[0].shape
    is_fixed = len(spec) == 4 and None not in spec[2:]
    model = raised(graph.model, _ranks(graph, feeds), OPSET if request.pictures else NEEDED)
    trace = Trace(model, feeds, is_fixed=is_fixed)
    written_out = expanded(model, _lacking(model, trace, graph, request))
    if written_out is not model:
        model, trace = written_out, Trace(written_out, feeds, is_fixed=is_fixed)
    _require_rows(request.layers, trace, graph.inputs[0].name)
    writer = Writer(_opset(model), taken=_names(model, (HEATMAP, *request.score.inputs)))
    try:
        heatmap, second_outputs = _heatmap(graph, model, writer, trace, feeds, request)
    except UnsupportedOperator as error:
        raise UnsupportedOperator(f"{error}; {_advice(graph, model, trace, request.score)}") from error
    _finish(writer, heatmap, graph, request)
    assembled = _assembled(model, trace, writer, second_outputs, request)
    if graph.mixes_batch is not None:
        _fix_sizes(assembled, graph.inputs[0].name, {0: 1})
    if any(layer.tokens is not None for layer in request.layers):  # their grid is that of one size
        _fix_sizes(assembled, graph.inputs[0].name, dict(enumerate(feeds[graph.inputs[0].name].shape[1:], 1)))
    pictures = None
    if request.pictures:
        pictures = onnx.ModelProto()
        pictures.CopyFrom(assembled)
        take_pictures(pictures, graph)
        as_source(pictures, graph)
    as_source(assembled, graph)
    added = len((assembled if pictures is None else pictures).graph.node) - len(graph.model.graph.node)
    return Built(assembled, added, pictures)


def example(graph: Graph) -> dict[str, np.ndarray]:
    """Two random images of the graph's own size; one, where those of a batch would change one another's results."""
    spec = graph.inputs[0]
    rest = (graph.channels, *graph.image_size) if len(spec.shape) in (0, 4) else [s or 1 for s in spec.shape[1:]]
    count = 2 if graph.mixes_batch is None else 1
    image = np.random.default_rng(0).random((count, *rest), dtype=np.float32)
    image = graph.preprocessing.normalize(image) if image.ndim == 4 else image
    return {spec.name: image.astype(spec.dtype)}


def layers_for(
    graph: Graph, method: str, layer: str | int | Layer | Sequence[Layer] | None, score: Score
) -> tuple[Layer, ...]:
    """Where the map is: as named, else the last feature map, of a detector or a segmentation all that enter its head.

    Raises:
        UsageError: no such layer, no feature map, or none that the score depends on.
    """
    if method not in LAYER_HEADS:
        if layer is not None:
            raise UsageError(f"method '{method}' attributes to the picture and takes no layer")
        return ()
    layers = tuple(chosen_layers(graph, layer, score.head, score.reading))
    for chosen in layers:
        require_spatial(chosen)
        side_tensors(graph, [chosen], score.tensors)  # refuses a layer that the target does not depend on
    return layers


def _heatmap(
    graph: Graph,
    model: onnx.ModelProto,
    w: Writer,
    trace: Trace,
    feeds: Mapping[str, np.ndarray],
    request: Request,
) -> tuple[Value, dict[str, str]]:
    """(N, h, w) signed, and second outputs that nodes of the model have to get."""
    if request.method == INTEGRATED:
        shares, second_outputs = path_attribution(graph, model, w, trace, feeds, request.score, request.steps)
        return shares.sum([1], keep=False), second_outputs
    choices = request.score.choices(w, trace)
    at = {tensor: tensor for tensor in request.score.tensors}
    seeds = request.score.gradients(w, trace, at, choices)
    maps, second = [], dict[str, str]()
    for layer in request.layers or (None,):
        start = layer.tensor if layer is not None else graph.inputs[0].name
        gradient = None
        if isinstance(request.score, ClassScore) and request.score.others == ():
            gradient = linear_head_gradient(model, w, trace, start, request.score.tensor, choices["class"])
            if gradient is not None and request.method in ADDED_UP:
                gradient = gradient.expand(w.value(start).shape())
        if gradient is None:
            walked = backward(model.graph.node, w, trace, start, seeds, request.score.straight, second)
            gradient = walked.gradient
            second = walked.second_outputs
        maps.append(_head(w, trace, start, gradient, layer, request))
    return (maps[0] if len(maps) == 1 else _averaged(w, maps, graph, request.layers)), second


def _head(w: Writer, trace: Trace, start: str, gradient: Value, layer: Layer | None, request: Request) -> Value:
    activations = w.value(start) if trace.kind(start) == w.kind else w.value(start).cast()
    if layer is None:
        return INPUT_HEADS[request.method](activations, gradient)
    return LAYER_HEADS[request.method](_maps(activations, layer), _maps(gradient, layer))


def _maps(value: Value, layer: Layer) -> Value:
    """(N, C, h, w) of a feature map in any order of axes, or of tokens with a grid; see `Layer.maps`."""
    rank = len(layer.shape)
    if layer.channel_axis not in (None, 1):
        value = value.transpose([0, layer.channel_axis, *(a for a in range(1, rank) if a != layer.channel_axis)])
    grid = layer.tokens
    if grid is None:
        return value
    w = value.writer
    if grid.end < grid.count or grid.prefix:
        value = value.slice(w.integers([grid.prefix]), w.integers([grid.end]), [2])
    return value.reshape([0, 0, grid.rows, grid.columns])


def _averaged(w: Writer, maps: Sequence[Value], graph: Graph, layers: Sequence[Layer]) -> Value:
    """Several layers' maps in the picture's size, each with its maximum at 1, averaged."""
    large = [_resized(w, found.positive(), graph, layer) for found, layer in zip(maps, layers, strict=True)]
    return total([_normalized(w, found) for found in large]) / float(len(maps))


def _finish(w: Writer, heatmap: Value, graph: Graph, request: Request) -> None:
    """Positive evidence alone, resized and normalized where asked for, under its final name."""
    if request.resize and len(request.layers) < 2:
        heatmap = _resized(w, heatmap.positive(), graph, next(iter(request.layers), None))
    if request.normalize:
        heatmap = _normalized(w, heatmap.positive())
    w.nodes.append(helper.make_node("Relu", [heatmap.name], [HEATMAP], "heatmap/result"))
    w.keep_only(HEATMAP)


def _resized(w: Writer, heatmap: Value, graph: Graph, layer: Layer | None) -> Value:
    grid = None if layer is None else layer.tokens
    if grid is not None and grid.depth > 1:
        return _stacked(w, heatmap, graph, grid)
    size = w.value(graph.inputs[0].name).shape(2, 4)
    planes = heatmap.unsqueeze([1])
    wanted = w.concat(planes.shape(0, 2), size)
    resized = planes.apply("Resize", None, None, wanted, mode="linear", coordinate_transformation_mode="half_pixel")
    return resized.squeeze([1])


def _stacked(w: Writer, heatmap: Value, graph: Graph, grid: Tokens) -> Value:
    """A volume's map, its slices one below the other, at the size of the picture, between slices too."""
    rows, columns = graph.image_size
    sides = [grid.slices, grid.rows // grid.slices, grid.columns]
    volume = heatmap.reshape([-1, 1, *sides])
    wanted = w.concat(volume.shape(0, 2), w.integers([grid.depth, rows // grid.depth, columns]))
    resized = volume.apply("Resize", None, None, wanted, mode="linear", coordinate_transformation_mode="half_pixel")
    return resized.reshape([-1, rows, columns])


def _normalized(w: Writer, heatmap: Value) -> Value:
    largest = heatmap.reduce("ReduceMax", [1, 2])
    return heatmap / w.where(largest > 0.0, largest, 1.0)


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
    for name in request.score.inputs:
        if not any(name in node.input for node in w.nodes):
            continue
        rows = "N" if request.class_input else f"asked {name}"
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.INT64, [rows]))
        if not request.class_input:
            graph.initializer.append(numpy_helper.from_array(np.array([-1], dtype=np.int64), name))
    for output in graph.output:
        kind = helper.np_dtype_to_tensor_dtype(trace.kind(output.name))
        shape = [None] * len(trace.shape(output.name))
        output.CopyFrom(helper.make_tensor_value_info(output.name, kind, shape))
    graph.output.append(helper.make_tensor_value_info(HEATMAP, TensorProto.FLOAT, ["N", None, None]))
    model.ir_version = max(model.ir_version, 8)
    model.producer_name = "convscope"
    return model


def _require_inference(graph: Graph) -> None:
    """Raises RefusedInput for a network that normalizes by the statistics of its batch."""
    names = [node.name or node.output[0] for node in graph.index.nodes if trains(node)]
    if names:
        raise RefusedInput(
            f"batch-norm '{names[0][:80]}' is in training mode: a picture's map would depend on the others of its "
            "batch; write the source file in inference mode (model.eval() in torch)"
        )


def _require_rows(layers: Sequence[Layer], trace: Trace, image: str) -> None:
    """Raises UsageError for a layer whose first axis does not count the pictures."""
    count = trace.shape(image)[0]
    for layer in layers:
        shape = trace.shape(layer.tensor)
        if shape[0] != count:
            raise UsageError(
                f"layer '{layer.name}' gives {shape} for {count} pictures, no row for each; choose another"
            )


def _fix_sizes(model: onnx.ModelProto, image: str, sizes: Mapping[int, int]) -> None:
    """Lets the file take pictures of these sizes alone, by axis."""
    for given in model.graph.input:
        dims = given.type.tensor_type.shape.dim
        if given.name == image and dims:
            for axis, size in sizes.items():
                dims[axis].CopyFrom(onnx.TensorShapeProto.Dimension(dim_value=size))


def _lacking(model: onnx.ModelProto, trace: Trace, graph: Graph, request: Request) -> set[str]:
    """The operators on the way from the targets to the layers (the picture) that are not in the table of gradients."""
    starts = [layer.tensor for layer in request.layers] or [graph.inputs[0].name]
    nodes = model.graph.node
    return {op for start in starts for target in request.score.tensors for op in lacking(nodes, trace, start, target)}


def _advice(graph: Graph, model: onnx.ModelProto, trace: Trace, score: Score) -> str:
    """Which layer works, tried: that nearest to the picture."""
    for layer in graph.layers:
        if not layer.has_maps or layer.tensor in score.tensors:
            continue
        try:
            side_tensors(graph, [layer], score.tensors)
            if any(lacking(model.graph.node, trace, layer.tensor, target) for target in score.tensors):
                continue
            w = Writer(_opset(model))
            seeds = score.gradients(w, trace, {t: t for t in score.tensors}, score.choices(w, trace))
            backward(model.graph.node, w, trace, layer.tensor, seeds, score.straight)
        except (UsageError, UnsupportedOperator):
            continue
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


def _names(model: onnx.ModelProto, own: Sequence[str]) -> set[str]:
    """Every name in the model.

    Raises:
        RefusedInput: a tensor has one of the names ``own`` that the export gives.
    """
    graph = model.graph
    names = {n for node in graph.node for n in (*node.input, *node.output, node.name)}
    names |= {t.name for t in graph.initializer} | {i.name for i in (*graph.input, *graph.output)}
    for name in own:
        if name in names:
            instead = "export the plain model" if name == HEATMAP else "name one target, which needs no such input"
            raise RefusedInput(f"a tensor of the model is called '{name}' already; rename it, or {instead}")
    return names
