"""The scale that a network gives its own input: what its first operators take from every pixel, and divide it by.

Many exports hold a Rescaling, a Normalization, a batch-norm of the data or a plain (x - mean) / std in front of the
first convolution. The pixel that becomes zero there, and the distance that becomes one, are in the range of the pixels
that the network was made for: 127.5 is the middle of 0..255 and of no other range.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from ..engine.graph.graph import Graph
from ..engine.graph.operators import operator
from ..engine.graph.preprocessing import PREPROCESSINGS, Preprocessing
from ..errors import RefusedInput

_MOVES, _ASKS_SIZE = ("Resize", "Upsample", "Slice"), ("Shape", "Size")  # resized and cropped pixels keep their range
_BYTES, _UNIT = (20.0, 400.0), (0.02, 1.05)  # a distance in 0..255, and in 0..1
_MIDDLE = (0.15, 1.05)  # a pixel in 0..1; around zero nothing tells it from -1..1
_PLAIN = {"movement", "arithmetic", "sampling", "size", "constant"}  # operators that a rescaling may be written with
_STEPS = ("Cast", "Identity", "BatchNormalization")
_MOST_STEPS = 64
_SAME = 0.04  # of the range: two means that are this near are the same
_IMAGENET = np.array([123.68, 116.779, 103.939])  # mean pixel in RGB (keras.applications.imagenet_utils)


def own_scale(graph: Graph) -> tuple[Preprocessing, str] | None:
    """``raw`` or ``unit`` with the order of channels, and why; None where no clear scale stands in front."""
    measured = (_measured(graph, tensor) for tensor in (_end_of_steps(graph), _before_convolution(graph)))
    found = _of_data(graph) or next((one for one in measured if one is not None), None)
    if found is None:
        return None
    zero, distance = found
    middle = f"its first operators take {_listed(zero)} from the pixels and divide by {_listed(distance)}"
    in_bytes = (np.all(distance >= _BYTES[0]) and np.all(distance <= _BYTES[1])) or np.all(zero > _BYTES[0])
    if in_bytes and np.all(zero > -1) and np.all(zero < _BYTES[1]):
        return replace(PREPROCESSINGS["raw"], order=_order(zero / 255)), f"{middle}, so they are of the range 0..255"
    in_unit = np.all(distance >= _UNIT[0]) and np.all(distance <= _UNIT[1])
    if in_unit and np.all(zero > _MIDDLE[0]) and np.all(zero < _MIDDLE[1]):
        return replace(PREPROCESSINGS["unit"], order=_order(zero)), f"{middle}, so they are of the range 0..1"
    return None


def _of_data(graph: Graph) -> tuple[np.ndarray, np.ndarray] | None:
    """What a batch-norm of the pictures has seen of the data, as `_measured`; its own scale does not matter."""
    node = _reader(graph, graph.inputs[0].name)
    if node is None or node.op_type != "BatchNormalization":
        return None
    mean, variance = (graph.index.constant(name) for name in node.input[3:5])
    if mean is None or variance is None or not (mean.any() or np.any(variance != 1)):
        return None  # it never saw data, or is a scale that was written so
    return mean, np.sqrt(variance)


def _end_of_steps(graph: Graph) -> str:
    """The tensor behind the operators, one after the other, that take a constant to or from every pixel."""
    tensor = graph.inputs[0].name
    while (node := _reader(graph, tensor)) is not None and _is_step(graph, node, tensor):
        tensor = node.output[0]
    return tensor


def _before_convolution(graph: Graph) -> str:
    """What the first convolution reads, the image where there is none.

    Some exporters turn RGB into BGR by picking out each channel and joining them anew (keras.applications'
    ``preprocess_input`` for VGG and ResNet), in whatever order of axes.
    """
    first = next((n for n in graph.index.nodes if operator(n).family == "convolution"), None)
    return graph.inputs[0].name if first is None else first.input[0]


def _reader(graph: Graph, tensor: str) -> onnx.NodeProto | None:
    """The one operator that reads a tensor's values, past those that move pixels; None where there are several."""
    while True:
        readers = [n for n in graph.index.nodes if tensor in n.input and n.op_type not in _ASKS_SIZE]
        if len(readers) != 1:
            return None
        node = readers[0]
        if node.op_type not in _MOVES or node.input[0] != tensor or not _keeps_channels(graph, node):
            return node
        tensor = node.output[0]


def _measured(graph: Graph, tensor: str) -> tuple[np.ndarray, np.ndarray] | None:
    """The pixel that becomes zero at a tensor and the distance that becomes one, by channel of the picture.

    Found by what plain pictures become; None where a channel of the tensor is not a channel of the picture, scaled and
    shifted, or the very same.
    """
    image = graph.inputs[0].name
    if tensor in (image, *graph.index.weights):
        return None
    if not graph.index.ancestors(tensor).isdisjoint(i.name for i in graph.inputs[1:]):
        return None
    nodes = graph.index.between([image], [tensor])
    if len(nodes) > _MOST_STEPS or any(n.op_type not in _STEPS and operator(n).family not in _PLAIN for n in nodes):
        return None
    count = graph.channels
    colours = np.concatenate([np.zeros((1, count)), np.eye(count), 2 * np.ones((1, count))]).astype(np.float32)
    session = graph.session([tensor], device="cpu")
    rows = []
    for colour in colours:
        picture = np.tile(colour.reshape(1, count, 1, 1), (1, 1, *graph.image_size))
        try:
            values = session.run({image: picture})[tensor]
        except RefusedInput:  # it takes no picture of this size
            return None
        if values.ndim != 4 or values.shape[1] != count:
            return None
        rows.append(values[0, :, values.shape[2] // 2, values.shape[3] // 2].astype(np.float64))
    bias, matrix = rows[0], np.stack(rows[1:-1], axis=1) - rows[0][:, None]
    is_affine = np.allclose(rows[-1], bias + 2 * matrix.sum(axis=1), rtol=1e-3, atol=1e-3 * np.abs(bias).max(initial=1))
    marks = np.abs(matrix) > 1e-9
    if not is_affine or np.any(marks.sum(axis=0) != 1) or np.any(marks.sum(axis=1) != 1):
        return None
    if np.array_equal(matrix, np.eye(count)) and not bias.any():
        return None
    return -np.linalg.solve(matrix, bias), 1 / np.abs(matrix.sum(axis=0))


def _keeps_channels(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether an operator that moves pixels leaves each channel in its place."""
    if node.op_type != "Slice":
        return True
    axes = graph.index.constant(node.input[3]) if len(node.input) > 3 and node.input[3] else None
    return axes is not None and all(int(axis) in (2, 3, -1, -2) for axis in axes.ravel())


def _is_step(graph: Graph, node: onnx.NodeProto, tensor: str) -> bool:
    """Whether an operator takes a constant, one for each channel at most, to or from every pixel."""
    if node.op_type in _STEPS:
        return True
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(node.input) != 2:
        return False
    constant = graph.index.constant(node.input[1 if node.input[0] == tensor else 0])
    return constant is not None and constant.size in (1, graph.channels)


def _order(zero: np.ndarray) -> str:
    """BGR where the zeros are ImageNet's mean pixel read backwards."""
    if zero.size != 3:
        return "GRAY" if zero.size == 1 else "RGB"
    return "BGR" if np.abs(zero - _IMAGENET[::-1] / 255).max() < _SAME < np.abs(zero - _IMAGENET / 255).max() else "RGB"


def _listed(values: np.ndarray) -> str:
    values = np.round(values, 9) + 0.0  # no -0
    return f"{values[0]:.4g}" if np.ptp(values) == 0 else ", ".join(f"{v:.4g}" for v in values)
