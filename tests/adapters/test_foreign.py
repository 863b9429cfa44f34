"""Model files of other runtimes are named for what they are, and the way to a file that is read is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import convscope
from convscope.errors import RefusedInput
from tests import tiny

NOISE = bytes(range(256)) * 4  # no protocol buffer
MARKED = {
    "tflite": (b"\x1c\0\0\0TFL3" + NOISE, "TensorFlow Lite model", "tf2onnx.convert --tflite given"),
    "ort": (b"\x18\0\0\0ORTM" + NOISE, "ONNX Runtime's own format", "the .onnx file"),
    "openvino": (b'<?xml version="1.0"?>\n<net name="x" version="11"><layers>', "OpenVINO model", "to ONNX"),
    "ncnn": (b"7767517\n3 3\nInput data 0 1 data\n", "ncnn model", "to ONNX"),
    "tfjs": (b'{"format": "layers-model", "modelTopology": {}}', "TensorFlow.js model", "tensorflowjs_converter"),
    "darknet": (b"[net]\nbatch=1\n", "Darknet model", ".weights"),
    "gguf": (b"GGUF\3\0\0\0" + NOISE, "language models", "no network"),
    "npy": (b"\x93NUMPY\1\0" + NOISE, "NumPy array", "no model"),
}


@pytest.mark.parametrize("kind", MARKED)
def test_a_file_with_another_runtimes_mark_is_named_whatever_it_is_called(kind: str, tmp_path: Path) -> None:
    content, name, advice = MARKED[kind]
    path = tmp_path / "given"
    path.write_bytes(content)
    with pytest.raises(RefusedInput) as caught:
        convscope.load(path)
    assert name in str(caught.value) and advice in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.caffemodel", "Caffe model"), ("saved_model.pb", "TensorFlow graph"), ("yolo.weights", "Darknet model"),
        ("inference.pdmodel", "Paddle model"), ("net.mlmodel", "Core ML model"), ("net.engine", "TensorRT engine"),
    ],
)  # fmt: skip
def test_what_is_none_of_ours_by_content_is_named_by_its_ending(name: str, kind: str, tmp_path: Path) -> None:
    for content in (NOISE, b"\x0a\x04name"):  # no protocol buffer, and one of something else
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RefusedInput, match=f"by its name an? {kind}, which is not read here; "):
            convscope.load(tmp_path / name)


def test_an_archive_of_arrays_is_named_and_a_model_is_read_under_any_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", x=np.zeros(3))
    with pytest.raises(RefusedInput, match="archive of NumPy arrays"):
        convscope.load(tmp_path / "weights.npz")
    for name in ("graph.pb", "net.caffemodel"):
        (tmp_path / name).write_bytes(tiny.small_cnn().SerializeToString())
        assert convscope.load(tmp_path / name, check=False).layers
