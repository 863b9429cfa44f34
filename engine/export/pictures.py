"""Preprocessing inside the file: it takes pictures as they are, uint8 (N, height, width, 3) RGB of any size."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...errors import RefusedInput, UsageError
from ..executors.session import Session
from ..graph.graph import Graph
from ..pictures.photographs import photographs
from ..pictures.read import model_input, read_image
from .writer import Value, Writer

PICTURE = "picture"
GREY_LEVEL = 1 / 255
OPSET = 18  # the first whose Resize averages when it shrinks
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as `pictures.read` has it
_MODES = {"bilinear": "linear", "bicubic": "cubic"}


def take_pictures(model: onnx.ModelProto, graph: Graph) -> None:
    """Puts the graph's preprocessing before the model, whose input becomes ``picture``; edits the model.

    Raises:
        UsageError: the model takes no pictures, or its preprocessing has a resampling that ONNX lacks.
        RefusedInput: a tensor of the model is called ``picture``.
    """
    p, name = graph.preprocessing, graph.inputs[0].name
    if graph.channels not in (1, 3):
        raise UsageError(
            f"{graph.name} takes {graph.channels} channels; a picture has 1 or 3: leave preprocessing= out"
        )
    if p.interpolation not in _MODES:
        raise UsageError(
            f"preprocessing with {p.interpolation} resampling cannot be put inside: ONNX has none that gives the same; "
            f"it has {' and '.join(_MODES)}"
        )
    if p.resize not in ("squash", "crop"):
        raise UsageError(f"preprocessing with {p.resize} cannot be put inside; only squash and crop can")
    taken = {n for node in model.graph.node for n in (*node.input, *node.output, node.name)}
    taken |= {t.name for t in model.graph.initializer}
    if PICTURE in taken:
        raise RefusedInput(f"a tensor of the model is called '{PICTURE}' already; rename it")
    w = Writer(next(e.version for e in model.opset_import if not e.domain), taken=taken)
    x = _normalized(_fitted(w, graph), graph)
    w.nodes[-1].output[0] = name
    assert x.name != name
    nodes = [*w.nodes, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in w.constants.items())
    image = next(i for i in model.graph.input if i.name == name)
    model.graph.value_info.append(image)
    image.CopyFrom(helper.make_tensor_value_info(PICTURE, TensorProto.UINT8, ["N", "height", "width", 3]))


def picture_difference(graph: Graph, model: onnx.ModelProto) -> float:
    """How far the file's own preprocessing is from Python's on the shipped photographs, in grey levels of 1 / 255."""
    name = graph.inputs[0].name
    measured = onnx.ModelProto()
    measured.CopyFrom(model)
    measured.graph.output.append(helper.make_empty_tensor_value_info(name))
    session = Session(measured, "cpu")
    low, high = graph.preprocessing.bounds(graph.channels)
    span = (high - low).reshape(1, -1, 1, 1)
    differences = []
    for path in photographs():
        pixels = np.rint(read_image(path).pixels * 255).astype(np.uint8)
        asked = {i.name: np.array([-1]) for i in session.ort.get_inputs() if i.name != PICTURE}
        found = session.run({PICTURE: pixels[None], **asked}, [name])[name]
        differences.append(np.abs(found - model_input(pixels, graph)) / span)
    return float(max(map(np.max, differences))) / GREY_LEVEL


def _fitted(w: Writer, graph: Graph) -> Value:
    """(N, 3, height, width) in [0, 1], as `pictures.read.fit` gives it."""
    p, size = graph.preprocessing, list(graph.image_size)
    picture = w.value(PICTURE)
    x = (picture.cast() / 255.0).transpose([0, 3, 1, 2])
    scaled = [math.floor(side / p.crop) for side in size]
    if p.resize == "squash":
        larger = w.integers(scaled)
    else:
        sides = picture.shape(1, 3)
        if scaled[0] == scaled[1]:
            shorter = sides.reduce("ReduceMin", [0])
            larger = sides.apply("Mul", w.integers(scaled)).apply("Div", shorter)
        else:
            exact = sides.cast(np.float64)
            ratio = (exact / w.constant(np.array(scaled, dtype=np.float64))).reduce("ReduceMin", [0])
            larger = (exact / ratio).apply("Round").cast(np.int64)
    half = w.constant(np.array(2.0))
    begin = ((larger - w.integers(size)).cast(np.float64) / half).apply("Round").cast(np.int64)
    placed = _resized(x, larger, p.interpolation)
    return _clipped(placed.slice(begin, begin + w.integers(size), [2, 3]))


def _resized(x: Value, size: Value, interpolation: str) -> Value:
    sizes = x.writer.concat(x.shape(0, 2), size)
    return x.apply(
        "Resize", None, None, sizes, mode=_MODES[interpolation], antialias=1, cubic_coeff_a=-0.5, exclude_outside=1
    )


def _clipped(x: Value) -> Value:
    return x.apply("Clip", x.writer.number(0.0), x.writer.number(1.0))


def _normalized(x: Value, graph: Graph) -> Value:
    """The model's range, channel order and number of channels."""
    w, p, channels = x.writer, graph.preprocessing, graph.channels
    if channels == 1:
        weights = w.constant(np.array(_LUMA, dtype=np.float32).reshape(1, 3, 1, 1))
        x = (x * weights).sum([1])
    elif p.order == "BGR":
        x = x.apply("Gather", w.integers([2, 1, 0]), axis=1)
    bias = p.normalize(np.zeros((1, channels, 1, 1)))
    scale = p.normalize(np.ones((1, channels, 1, 1))) - bias
    assert math.isfinite(float(scale.sum()))
    return x.apply("Mul", w.constant(scale.astype(np.float32))).apply("Add", w.constant(bias.astype(np.float32)))
