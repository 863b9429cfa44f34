"""Networks whose preprocessing the file does not state but whose exporter and form give it away.

Paddle's exports (Paddle2ONNX) are three kinds of networks with one preprocessing each, which PaddleOCR and PaddleClas
keep in their configurations: readers and classifiers of text lines, detectors of text, and classifiers of pictures. A
network of text lines takes larger steps down than along the line.

The networks of keras.applications are known by their layers' names, which the converters from TensorFlow keep. With the
head that they were published with their own preprocessing is taken. Whoever trained another head may have fed another
range, which a trunk that stood still does not tell: then the family is only named, and `predict` tries the usual ones.

Two published networks of faces are known by the sizes of their first convolutions: the three of MTCNN, and the small
Xception that tells emotions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import onnx
from onnx import helper

from ...engine.graph.preprocessing import Preprocessing, preprocessing_of
from ..keras.family import SCALE_THEMSELVES
from ..keras.family import family as of_layers

_READER = (48, 320)  # PaddleOCR, rec_image_shape of PP-OCRv3 and later
_CRNN = (32, 320)  # before that, when its readers were recurrent (CRNN)
_CLASSIFIER = (48, 192)  # PaddleOCR, cls_image_shape
_DETECTOR = (640, 640)  # PaddleOCR trains its detectors on crops of this size
_MOST_LINE_CLASSES = 8  # 0 and 180 degrees
_PRODUCER = "PaddlePaddle"  # paddle-onnx states it; its successor Paddle2ONNX states nothing but has names of its own
_MTCNN = (  # Zhang et al. 2016, arXiv:1604.02878, table 1: P-Net, R-Net, O-Net, with a PReLU behind each convolution
    ((10, 3, 3, 3), (16, 10, 3, 3), (32, 16, 3, 3)),
    ((28, 3, 3, 3), (48, 28, 3, 3), (64, 48, 2, 2)),
    ((32, 3, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3), (128, 64, 2, 2)),
)
_MTCNN_INPUT = Preprocessing(0, 255, (127.5,), (128.0,), preset="custom", found="family")  # the authors' own code
_MINI_XCEPTION = (  # Arriaga et al. 2017, arXiv:1710.07557, and the code of face_classification: pixels of -1..1
    (8, 1, 3, 3), (8, 8, 3, 3), (8, 1, 3, 3), (16, 8, 1, 1), (16, 1, 3, 3), (16, 16, 1, 1),
)  # fmt: skip
_CONVERTERS = ("tf2onnx", "keras2onnx")
_PUBLISHED = 1000  # classes of ImageNet
_AGAIN = re.compile(r"_\d+$")  # Keras 3's second scope of a layer, see `layers.names`
_CV_ORDER = "BGR"  # OpenCV's, which PaddleOCR leaves as it is


@dataclass(frozen=True)
class Family:
    """What a file's form says.

    Attributes:
        name: for people.
        preprocessing: with the size that such networks take; None where it is not sure, see ``doubt``.
        doubt: what a user is told instead.
    """

    name: str
    preprocessing: Preprocessing | None
    doubt: str = ""


def family(model: onnx.ModelProto) -> Family | None:
    """The family that a file belongs to, or None."""
    if (faces := _of_faces(model)) is not None:
        return faces
    if model.producer_name in _CONVERTERS:
        return _of_keras(model)
    if not _is_paddle(model) or len(model.graph.output) != 1:
        return None
    shape = _shape(model.graph.output[0])
    if _reads_lines(model):
        reader = _CRNN if any(node.op_type == "LSTM" for node in model.graph.node) else _READER
        size = _CLASSIFIER if len(shape) == 2 and (shape[1] or 0) <= _MOST_LINE_CLASSES else reader
        name = "classifiers" if size == _CLASSIFIER else "readers"
        return Family(f"PaddleOCR's {name} of text lines", _found("tf", _CV_ORDER, size))
    if len(shape) == 4 and _channels(model, shape) == 1:
        return Family("PaddleOCR's detectors of text", _found("torch", _CV_ORDER, _DETECTOR))
    if len(shape) == 2:
        found = replace(_found("torch", "RGB", (224, 224)), resize="crop", crop=0.875)
        return Family("PaddleClas' classifiers", found)
    return None


def _of_faces(model: onnx.ModelProto) -> Family | None:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    convolutions = [
        shapes[node.input[1]] for node in model.graph.node if node.op_type == "Conv" and node.input[1] in shapes
    ]
    rectified = any(node.op_type == "PRelu" for node in model.graph.node)
    if rectified and any(tuple(convolutions[: len(known)]) == known for known in _MTCNN):
        return Family("MTCNN's networks", _MTCNN_INPUT)
    if tuple(convolutions[: len(_MINI_XCEPTION)]) == _MINI_XCEPTION:
        return Family("the small Xception of face_classification", _found("tf", "GRAY", None))
    return None


def _of_keras(model: onnx.ModelProto) -> Family | None:
    """A network of keras.applications that does not scale its own input, out of a converter from TensorFlow."""
    named = [name for node in model.graph.node for name in (node.name, *node.output)]
    named += [tensor.name for tensor in model.graph.initializer]
    parts = {part.split(":")[0] for name in named for part in name.split("/")}
    known = of_layers(parts, False) or of_layers({_AGAIN.sub("", part) for part in parts}, False)
    if known is None or known[0] in SCALE_THEMSELVES:
        return None
    title, preprocessing = f"{known[0]} of keras.applications", replace(known[1], layout="NCHW")  # the graph tells it
    shape = _shape(model.graph.output[0]) if len(model.graph.output) == 1 else ()
    if shape[1:] == (_PUBLISHED,):
        return Family(title, preprocessing)
    return Family(title, None, (
        f"its layers are those of {title}, which is fed '{preprocessing.preset}', but its head is another, and whoever "
        f"trained it may have fed another range: preprocessing='{preprocessing.preset}' takes the family's"
    ))  # fmt: skip


def _found(name: str, order: str, size: tuple[int, int] | None) -> Preprocessing:
    return replace(preprocessing_of(name), order=order, size=size, found="family")


def _is_paddle(model: onnx.ModelProto) -> bool:
    if model.producer_name == _PRODUCER:
        return True
    dims = (d.dim_param for i in (*model.graph.input, *model.graph.output) for d in i.type.tensor_type.shape.dim)
    return any("DynamicDimension" in name for name in dims) or any(
        name.startswith("p2o.") for node in model.graph.node[:50] for name in (node.name, *node.output)
    )


def _channels(model: onnx.ModelProto, shape: tuple[int | None, ...]) -> int | None:
    """Of the output's map; where its shape leaves them open, as the last convolution before it makes them."""
    if shape[1] is not None:
        return shape[1]
    sizes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    constants = [node for node in model.graph.node if node.op_type == "Constant"]  # as Paddle's older exporter has them
    sizes |= {node.output[0]: tuple(a.t.dims) for node in constants for a in node.attribute}
    for node in reversed(model.graph.node):
        if node.op_type in ("Conv", "ConvTranspose") and node.input[1] in sizes:
            size, transposed = sizes[node.input[1]], node.op_type == "ConvTranspose"
            groups = next((int(a.i) for a in node.attribute if a.name == "group"), 1)
            return size[1] * groups if transposed else size[0]
    return None


def _reads_lines(model: onnx.ModelProto) -> bool:
    """Whether all steps together are larger down than along."""
    steps = [step for step in _steps(model) if len(step) == 2]
    return prod(down for down, _ in steps) > prod(along for _, along in steps)


def _steps(model: onnx.ModelProto) -> Iterator[tuple[int, ...]]:
    for node in model.graph.node:
        if node.op_type in ("Conv", "MaxPool", "AveragePool"):
            strides = next((helper.get_attribute_value(a) for a in node.attribute if a.name == "strides"), (1, 1))
            yield tuple(strides)


def _shape(info: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    return tuple(d.dim_value if d.dim_value > 0 else None for d in info.type.tensor_type.shape.dim)
