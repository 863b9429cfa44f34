"""Preprocessing is read where the file or its companion states it, and nonsense is ignored as a whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper

import convscope
from convscope.adapters.onnx.metadata import companion_characters, companion_labels, stated_labels
from convscope.adapters.preprocessing import METADATA_KEY, companion, embedded, from_config, to_metadata
from convscope.engine.graph.preprocessing import preprocessing_of
from convscope.engine.outputs.registry import read_outputs

from .. import tiny

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def model(**texts: str) -> ModelProto:
    made = ModelProto()
    helper.set_model_props(made, texts)
    return made


def test_our_own_metadata_comes_back_as_it_was() -> None:
    told = replace(preprocessing_of("caffe"), size=(224, 192), resize="crop", crop=0.9, layout="NHWC")
    assert embedded(model(**{METADATA_KEY: to_metadata(told)})) == replace(told, found="embedded")


def test_the_image_metadata_of_the_onnx_standard_is_understood() -> None:
    found = embedded(model(**{"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": "NominalRange_0_255"}))
    assert found is not None and (found.low, found.high, found.order) == (0, 255, "BGR")


def test_plain_mean_and_std_are_understood() -> None:
    found = embedded(model(mean=json.dumps(MEAN), std=json.dumps(STD)))
    assert found is not None and found.mean == tuple(MEAN) and found.std == tuple(STD)


def test_a_timm_config_gives_size_crop_and_interpolation() -> None:
    config = {"mean": MEAN, "std": STD, "input_size": [3, 240, 256], "crop_pct": 0.95, "interpolation": "bicubic"}
    found = from_config({"architecture": "x", "pretrained_cfg": config})
    assert found is not None
    assert (found.size, found.resize, found.crop, found.interpolation) == ((240, 256), "crop", 0.95, "bicubic")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"image_mean": MEAN, "image_std": STD, "size": {"height": 224, "width": 192}}, ((224, 192), "squash", 1.0)),
        ({"image_mean": MEAN, "image_std": STD, "size": {"shortest_edge": 256}, "crop_size": 224,
          "do_center_crop": True}, ((224, 224), "crop", 0.875)),
        ({"image_mean": MEAN, "image_std": STD, "size": 128}, ((128, 128), "squash", 1.0)),
    ],
)  # fmt: skip
def test_a_hugging_face_config_gives_size_and_crop(
    config: dict[str, Any], expected: tuple[tuple[int, int], str, float]
) -> None:
    found = from_config(config)
    assert found is not None and (found.size, found.resize, found.crop) == expected
    assert (found.low, found.high) == (0, pytest.approx(1.0))


def test_a_hugging_face_config_without_rescaling_keeps_the_bytes() -> None:
    found = from_config({"do_normalize": False, "do_rescale": False, "resample": 3})
    assert found is not None and found.high == 255 and found.mean == (0.0,) and found.interpolation == "bicubic"


def test_the_companion_beside_the_model_is_found(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {"mean": MEAN, "std": STD}}))
    found = companion(tmp_path / "model.onnx")
    assert found is not None and found.found == "companion" and found.mean == tuple(MEAN)


@pytest.mark.parametrize(
    "change",
    [
        {"mean": [0.5, "x", 0.5]},
        {"mean": []},
        {"mean": [0.5] * 99},
        {"std": [0.2, 0.0, 0.2]},
        {"std": [float("inf")] * 3},
        {"std": [-1, 1, 1]},
        {"input_size": [3, 10**9, 10**9]},
        {"input_size": [3, 0, 224]},
        {"input_size": "3x224x224"},
        {"crop_pct": 7},
        {"mean": True},
    ],
)
def test_a_value_that_makes_no_sense_discards_the_whole(change: dict[str, Any]) -> None:
    config = {"mean": MEAN, "std": STD, "input_size": [3, 224, 224]}
    assert from_config({"pretrained_cfg": config}) is not None
    assert from_config({"pretrained_cfg": {**config, **change}}) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "[" * 100_000, '{"mean": 3, "std": {}}', '{"order": "XYZ"}'])
def test_metadata_that_is_no_preprocessing_is_ignored(text: str) -> None:
    found = embedded(model(**{METADATA_KEY: text, "pretrained_cfg": text}))
    assert found is None


def test_a_companion_that_is_huge_broken_or_no_file_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for text in ("{", "[1]", "[" * 100_000, " " * 2**21 + json.dumps({"mean": MEAN, "std": STD})):
        path.write_text(text)
        assert companion(tmp_path / "model.onnx") is None
    path.unlink()
    path.mkdir()
    assert companion(tmp_path / "model.onnx") is None


def test_no_statement_gives_none(tmp_path: Path) -> None:
    assert embedded(model()) is None
    assert companion(tmp_path / "model.onnx") is None
    assert from_config({"architectures": ["ResNetForImageClassification"]}) is None


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"label_names": ["cat", "dog"]}, ("cat", "dog")),
        ({"pretrained_cfg": {"label_names": ["cat", "dog"]}}, ("cat", "dog")),
        ({"id2label": {"1": "dog", "0": "cat"}}, ("cat", "dog")),
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, None),
        ({"label_names": ["cat", "dog", "bird"]}, None),
        ({"label_names": ["cat", 7]}, None),
        ({"id2label": {"0": "cat", "7": "dog"}}, None),
        ({"id2label": 3, "label_names": None, "pretrained_cfg": []}, None),
    ],
)
def test_class_names_beside_the_model_are_taken_where_they_fit_it(
    config: dict[str, Any], expected: tuple[str, ...] | None, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert companion_labels(tmp_path / "model.pt2", 2) == expected


def test_one_input_channel_means_gray() -> None:
    found = from_config({"mean": [0.1], "std": [0.3], "input_size": [1, 28, 28]})
    assert found is not None and (found.order, found.size) == ("GRAY", (28, 28))


ULTRALYTICS = {"imgsz": "[320, 416]", "stride": "32", "task": "detect", "names": "{0: 'person', 1: 'traffic light'}"}


def test_what_ultralytics_writes_gives_labels_and_the_size_as_height_and_width() -> None:
    assert stated_labels(ULTRALYTICS) == ("person", "traffic light")
    found = embedded(model(**ULTRALYTICS))
    assert found is not None and (found.size, found.low, found.high, found.order) == ((320, 416), 0, 1, "RGB")
    classifier = embedded(model(**{**ULTRALYTICS, "task": "classify"}))
    assert classifier is not None and classifier.resize == "crop"


@pytest.mark.parametrize(
    "names", ["{0: 'a', 2: 'b'}", "__import__('os')", "[" * 5000, "{0: 1}", "[]", "'" + "x" * 300_000]
)
def test_names_that_are_no_list_of_classes_are_ignored(names: str) -> None:
    assert stated_labels({**ULTRALYTICS, "names": names}) is None


def test_paddle_s_characters_are_labels_where_there_is_one_for_each_class() -> None:
    characters = {"character": "0\n90\n180\n270"}
    assert stated_labels(characters, 4) == ("0", "90", "180", "270")
    assert stated_labels(characters, 6625) is None


CONVNEXT = {"image_mean": MEAN, "image_std": STD, "image_processor_type": "ConvNextImageProcessor"}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, ((224, 224), "crop", 0.875)),
        ({"size": {"shortest_edge": 224}}, ((224, 224), "crop", 0.875)),  # the share that is meant where none is said
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, ((384, 384), "squash", 1.0)),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.9, "do_center_crop": True, "crop_size": 224,
          "image_processor_type": "PoolFormerImageProcessor"}, ((224, 224), "crop", 0.9)),
        ({"size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": 224,
          "image_processor_type": "LevitImageProcessor"}, ((224, 224), "crop", 0.875)),
    ],
)  # fmt: skip
def test_hugging_face_s_processors_crop_as_each_of_them_does(
    config: dict[str, Any], expected: tuple[tuple[int, int], str, float]
) -> None:
    """By their code in transformers (image_processing_convnext, _poolformer, _levit)."""
    found = from_config({**CONVNEXT, **config})
    assert found is not None and (found.size, found.resize, found.crop) == expected


def test_efficientnet_of_hugging_face_divides_twice_and_shifts_as_its_processor_does() -> None:
    """Oracle: its steps by hand, on one pixel of 200."""
    base = {"image_mean": MEAN, "image_std": STD, "size": 32, "rescale_factor": 1 / 127.5}
    pixel = np.full((1, 3, 1, 1), 200 / 255)
    plain = (200 / 127.5 - np.array(MEAN)) / np.array(STD)
    shifted = (200 / 127.5 - 1 - np.array(MEAN)) / np.array(STD) / np.array(STD)
    once = from_config({**base, "include_top": False, "rescale_offset": False})
    twice = from_config({**base, "include_top": True, "rescale_offset": True})
    assert once is not None and twice is not None
    assert np.allclose(once.normalize(pixel).ravel(), plain)
    assert np.allclose(twice.normalize(pixel).ravel(), shifted)
    without = from_config({**base, "include_top": True, "do_normalize": False})
    assert without is not None and np.allclose(without.normalize(pixel).ravel(), 200 / 127.5 / np.array(STD))


CLASSIFIER = """
Global: {model_name: PP-LCNet_x1_0_doc_ori}
PreProcess:
  transform_ops:
  - ResizeImage: {resize_short: 256}
  - CropImage: {size: 224}
  - NormalizeImage: {channel_num: 3, mean: [0.485, 0.456, 0.406], order: '', scale: 0.00392156862745098,
                     std: [0.229, 0.224, 0.225]}
  - ToCHWImage: null
PostProcess:
  Topk: {topk: 1, label_list: ['0', '90', '180', '270']}
"""
READER = """
PreProcess:
  transform_ops:
  - DecodeImage: {channel_first: false, img_mode: BGR}
  - RecResizeImg: {image_shape: [3, 48, 320]}
"""
DETECTOR = """
PreProcess:
  transform_ops:
  - DecodeImage: {channel_first: false, img_mode: BGR}
  - DetResizeForTest: {resize_long: 960}
  - NormalizeImage: {mean: [0.485, 0.456, 0.406], order: hwc, scale: 1./255., std: [0.229, 0.224, 0.225]}
"""
OBJECTS = """
Preprocess:
- {interp: 2, keep_ratio: false, target_size: [640, 512], type: Resize}
- {type: NormalizeImage, is_scale: true, norm_type: none, mean: [0.0, 0.0, 0.0], std: [1.0, 1.0, 1.0]}
- {type: Permute}
label_list: [person, bicycle]
"""


@pytest.mark.parametrize(
    ("text", "like", "order", "size", "fitted"),
    [
        (CLASSIFIER, "torch", "RGB", (224, 224), ("crop", 0.875)),
        (READER, "tf", "BGR", (48, 320), ("squash", 1.0)),
        (DETECTOR, "torch", "BGR", None, ("squash", 1.0)),
        (OBJECTS, "unit", "RGB", (640, 512), ("squash", 1.0)),
    ],
)
def test_paddle_s_inference_yml_beside_the_model_is_read(
    text: str, like: str, order: str, size: tuple[int, int] | None, fitted: tuple[str, float], tmp_path: Path
) -> None:
    (tmp_path / "inference.yml").write_text(text)
    found = companion(tmp_path / "inference.onnx")
    assert found is not None and (found.order, found.size, found.resize, found.crop) == (order, size, *fitted)
    image = np.random.default_rng(0).random((1, 3, 2, 2))
    np.testing.assert_allclose(
        found.normalize(image), replace(preprocessing_of(like), order=order).normalize(image), atol=1e-6
    )


def test_paddle_s_class_names_are_taken_where_they_fit_the_model(tmp_path: Path) -> None:
    (tmp_path / "inference.yml").write_text(CLASSIFIER)
    assert companion_labels(tmp_path / "inference.onnx", 4) == ("0", "90", "180", "270")
    assert companion_labels(tmp_path / "inference.onnx", 5) is None


# forty mappings, each of which merges the one before twice
MERGED = "a0: &a0 {k: v}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40))


@pytest.mark.parametrize(
    "text",
    ["", "- 1", "a: [", "[" * 5000, "!!python/object/apply:os.system ['true']", "PreProcess: 3",
     "PreProcess: {transform_ops: [{NormalizeImage: {mean: [.nan, 0, 0], std: [1, 1, 1]}}]}",
     "PreProcess: {transform_ops: [{NormalizeImage: {scale: import os}}]}",
     "PreProcess: {transform_ops: [NormalizeImage, 7, {}]}", "a: !!bool x", "a: !!int ''", "a: !!timestamp x",
     "a: " + "9:" * 900 + "9.5", MERGED],
)  # fmt: skip
def test_an_inference_yml_that_makes_no_sense_is_ignored(text: str, tmp_path: Path) -> None:
    (tmp_path / "inference.yml").write_text(text)
    assert companion(tmp_path / "inference.onnx") is None
    assert companion_labels(tmp_path / "inference.onnx", 4) is None


def test_the_characters_beside_a_reader_name_what_it_reads(tmp_path: Path) -> None:
    """PP-OCR's exports have the blank in front of the list and a space behind it."""
    listed = ["a", "0", "\u4e9c", "'", "#", ":"]
    rows = "".join(f"  - {json.dumps(one)}\n" for one in listed)
    (tmp_path / "inference.yml").write_text(f"{READER}PostProcess:\n  name: CTCLabelDecode\n  character_dict:\n{rows}")
    nodes = [
        helper.make_node("AveragePool", ["x"], ["p"], kernel_shape=[48, 40], strides=[48, 40]),
        helper.make_node("Squeeze", ["p", "two"], ["s"]),
        helper.make_node("Transpose", ["s"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["t", "w"], ["m"]),
        helper.make_node("Softmax", ["m"], ["y"], axis=2),
    ]
    weights = {"two": np.array([2]), "w": np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)}
    onnx.save(tiny.model(nodes, weights, ("N", 3, 48, 320)), tmp_path / "inference.onnx")
    graph = convscope.load(tmp_path / "inference.onnx", trust=True, check=False)
    reading = read_outputs(graph)
    assert reading.form == "text" and reading.symbols == ("", *listed, " ")
    (tmp_path / "inference.yml").write_text("PostProcess: {character_dict: [a, ~, [b]]}")
    assert companion_characters(tmp_path / "inference.onnx") is None
    (tmp_path / "inference.yml").write_text("PostProcess: {character_dict: [a, 1]}")
    assert companion_characters(tmp_path / "inference.onnx") == "a\n1"


def _converted(trunk: tuple[str, ...], classes: int, suffix: str = "") -> ModelProto:
    """What tf2onnx writes of a network of keras.applications, its convolutions one by one, with a dense head."""
    rng, nodes, last, width = np.random.default_rng(0), [], "x", 3
    nodes.append(helper.make_node("Transpose", [last], ["first"], "model/transpose", perm=[0, 3, 1, 2]))
    weights, last = {"head": rng.normal(size=(4, classes)).astype(np.float32)}, "first"
    for layer in trunk:
        scope = f"model/{layer}{suffix}"
        weights[f"{scope}/kernel"] = rng.normal(size=(4, width, 1, 1)).astype(np.float32)
        nodes.append(helper.make_node("Conv", [last, f"{scope}/kernel"], [f"{scope}/BiasAdd:0"], f"{scope}/BiasAdd"))
        last, width = f"{scope}/BiasAdd:0", 4
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["g"], "model/avg"), helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "head"], ["y"], "model/predictions/MatMul"),
    ]  # fmt: skip
    made = tiny.model(nodes, weights, ("N", 32, 32, 3))
    made.producer_name = "tf2onnx"
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, ["N", classes]))
    return made


VGG = ("block1_conv1", "block3_conv3", "block5_conv3", "block5_pool")
MOBILE = ("Conv1", "expanded_conv_depthwise", "block_16_project")


@pytest.mark.parametrize(("trunk", "preset"), [(VGG, "caffe"), (MOBILE, "tf")])
@pytest.mark.parametrize("suffix", ["", "_1"])
def test_a_converted_network_of_keras_applications_has_its_family_s_preprocessing(
    trunk: tuple[str, ...], preset: str, suffix: str
) -> None:
    graph = convscope.load(_converted(trunk, 1000, suffix), check=False)
    assert (graph.preprocessing.preset, graph.preprocessing.found) == (preset, "family")
    assert graph.preprocessing.layout == "NHWC"
    assert any("of keras.applications" in note for note in graph.source.notes)


def test_with_another_head_the_family_is_named_and_not_taken() -> None:
    graph = convscope.load(_converted(VGG, 4), check=False)
    assert graph.preprocessing.found == "assumed"
    (note,) = [note for note in graph.source.notes if "keras.applications" in note]
    assert "VGG" in note and "preprocessing='caffe'" in note
    other = _converted(VGG, 1000)
    other.producer_name = "pytorch"
    assert convscope.load(other, check=False).preprocessing.found == "assumed"
