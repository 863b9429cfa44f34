"""Model files of other runtimes, which are not read here: what each is, and how to come from it to one that is.

Some bear a mark in their first bytes. Of the others, protocol buffers most of them, nothing but the name tells, which
is believed only where a file is none of ours by its content.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_ORIGINAL = "no converter leads back from it: export the network that it was made from to ONNX"


@dataclass(frozen=True)
class Foreign:
    """One format.

    Attributes:
        name: with its article.
        advice: how to get a file that is read here; ``{file}`` stands for the file's name.
        endings: of its files' names, lower case.
        marks: whether the first bytes of a file are its own.
    """

    name: str
    advice: str
    endings: tuple[str, ...] = ()
    marks: Callable[[bytes], bool] = lambda head: False


FOREIGN = (
    Foreign(
        "a TensorFlow Lite model", "convert it: python -m tf2onnx.convert --tflite {file} --output model.onnx",
        (".tflite",), lambda head: head[4:8] == b"TFL3",
    ),
    Foreign(
        "a model in ONNX Runtime's own format", "take the .onnx file that it was made from",
        (".ort",), lambda head: head[4:8] == b"ORTM",
    ),
    Foreign("an OpenVINO model", _ORIGINAL, marks=lambda head: b"<net " in head[:1024] and b"version=" in head[:1024]),
    Foreign("an ncnn model", _ORIGINAL, (".ncnn.bin",), lambda head: head.startswith(b"7767517")),
    Foreign(
        "a TensorFlow.js model",
        "convert it to Keras (tensorflowjs_converter --input_format=tfjs_layers_model --output_format=keras) or to a "
        "SavedModel, and that with tf2onnx",
        marks=lambda head: head.lstrip().startswith(b"{") and (b"layers-model" in head or b"graph-model" in head
                                                               or b'"modelTopology"' in head),
    ),
    Foreign("a Core ML model", _ORIGINAL, (".mlmodel",)),
    Foreign("a TensorRT engine", _ORIGINAL, (".engine", ".plan", ".trt")),
    Foreign("an MNN model", _ORIGINAL, (".mnn",)),
    Foreign("an RKNN model", _ORIGINAL, (".rknn",), lambda head: head.startswith(b"RKNN")),
    Foreign("a file of weights for language models", "it holds no network", (".gguf",),
            lambda head: head.startswith(b"GGUF")),
    Foreign("a Caffe model", "convert it with its .prototxt to ONNX (caffe2onnx, for instance)",
            (".caffemodel", ".prototxt")),
    Foreign("a Darknet model", "convert its .cfg and .weights to ONNX (darknet2any, for instance)",
            (".weights",), lambda head: head.lstrip().startswith(b"[net]")),
    Foreign(
        "a TensorFlow graph",
        "convert it: python -m tf2onnx.convert --graphdef {file} --inputs NAME:0 --outputs NAME:0 --output model.onnx "
        "(the folder of a saved_model.pb: --saved-model FOLDER)",
        (".pb",),
    ),
    Foreign("a Paddle model", "convert it: paddle2onnx --model_dir FOLDER --save_file model.onnx",
            (".pdmodel", ".pdiparams")),
    Foreign("a file of MXNet's weights", "convert it with its -symbol.json: mxnet.onnx.export_model", (".params",)),
    Foreign("a NumPy array", "it is no model; arrays are taken in the place of pictures", (".npy",),
            lambda head: head.startswith(b"\x93NUMPY")),
    Foreign("an archive of NumPy arrays", "weights alone need a network: save them as a state dict, and give arch=",
            (".npz",)),
)  # fmt: skip


def by_mark(path: Path, head: bytes) -> str | None:
    """What a file of these first bytes is, with advice, as a refusal says it; None where none of these bears them."""
    return next((_said(row, path) for row in FOREIGN if row.marks(head)), None)


def by_name(path: Path) -> str | None:
    """What a file of this name usually is; for files that are nothing that is read here."""
    name = path.name.lower()
    return next((_said(row, path, likely=True) for row in FOREIGN if name.endswith(row.endings or ("\0",))), None)


def _said(row: Foreign, path: Path, likely: bool = False) -> str:
    verb = "is by its name" if likely else "is"
    return f"{path} {verb} {row.name}, which is not read here; {row.advice.format(file=path.name)}"
