"""Where nobody states the preprocessing, weights and form tell it: oracles are networks whose training is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import convscope
from convscope.adapters.load import load_here
from convscope.engine.graph.preprocessing import PREPROCESSINGS, Preprocessing, preprocessing_of
from convscope.engine.pictures.photographs import photographs
from convscope.engine.pictures.read import read_image, resize
from convscope.engine.runs import predict
from tests import tiny

SIDE = 64
UNITS = 24


def pictures() -> np.ndarray:
    """(12, 3, H, W) in [0, 1]: other views of photographs than a network's input shows."""
    shown = []
    for path in photographs():
        pixels = resize(read_image(path).pixels, (2 * SIDE, 2 * SIDE)).clip(0, 1).transpose(2, 0, 1)
        shown += [pixels[:, ::2, ::-2], pixels[:, : SIDE + 20, -SIDE - 20 :][:, 20:, :-20], pixels[:, 32:-32, 32:-32]]
    return np.stack(shown).astype(np.float32)


def trained(preprocessing: Preprocessing, folded: bool, seed: int = 0) -> onnx.ModelProto:
    """A network whose batch-norm saw photographs in this preprocessing; its filters have mean and colour."""
    rng = np.random.default_rng(seed)
    weight = (rng.normal(0, 0.3, (UNITS, 3, 3, 3)) + rng.normal(0, 0.15, (UNITS, 1, 1, 1))).astype(np.float32)
    x = torch.from_numpy(preprocessing.normalize(pictures()))
    values = torch.nn.functional.conv2d(x, torch.from_numpy(weight), padding=1).numpy().astype(np.float64)
    mean, variance = values.mean((0, 2, 3)).astype(np.float32), values.var((0, 2, 3)).astype(np.float32)
    gamma, beta = rng.uniform(0.5, 1.5, UNITS).astype(np.float32), rng.normal(0, 1, UNITS).astype(np.float32)
    head = rng.normal(0, 1, (5, UNITS)).astype(np.float32)
    weights = {"w": weight, "gamma": gamma, "beta": beta, "mean": mean, "variance": variance, "head": head}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "c", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "variance"], ["n"], "n"),
    ]
    if folded:
        scale = gamma / np.sqrt(variance)
        weights |= {"w": weight * scale[:, None, None, None], "b": beta - mean * scale}
        nodes = [helper.make_node("Conv", ["x", "w", "b"], ["n"], "n", pads=[1, 1, 1, 1])]
        weights = {name: weights[name] for name in ("w", "b", "head")}
    nodes += [
        helper.make_node("Relu", ["n"], ["r"], "r"),
        helper.make_node("GlobalAveragePool", ["r"], ["g"], "g"),
        helper.make_node("Flatten", ["g"], ["f"], "f"),
        helper.make_node("Gemm", ["f", "head"], ["logits"], "logits", transB=1),
    ]
    return tiny.model(nodes, weights, ("N", 3, SIDE, SIDE), ("logits",))


@pytest.mark.parametrize("name", sorted(PREPROCESSINGS))
def test_the_statistics_of_a_batch_norm_tell_with_which_preset_a_network_was_trained(name: str) -> None:
    graph = load_here(trained(preprocessing_of(name), folded=False), check=False)
    assert (graph.preprocessing.preset, graph.preprocessing.found) == (name, "weights")
    assert any("told from the weights" in note for note in graph.source.notes)


@pytest.mark.parametrize(("name", "told"), [("caffe", "caffe"), ("raw", "raw"), ("unit", "unit"), ("torch", "unit")])
def test_a_folded_batch_norm_tells_the_range_and_whether_pixels_are_centred(name: str, told: str) -> None:
    """Of the small ranges it tells none: 0..1 stays assumed."""
    graph = load_here(trained(preprocessing_of(name), folded=True), check=False)
    assert (graph.preprocessing.preset, graph.preprocessing.found == "weights") == (told, name in ("caffe", "raw"))


def test_what_is_stated_is_never_overruled_by_the_weights() -> None:
    model = trained(preprocessing_of("caffe"), folded=False)
    assert load_here(model, check=False, preprocessing="unit").preprocessing.preset == "unit"
    helper.set_model_props(model, {"mean": "[0.5, 0.5, 0.5]", "std": "[0.5, 0.5, 0.5]"})
    assert load_here(model, check=False).preprocessing.found == "embedded"


def test_a_network_that_was_not_trained_on_photographs_stays_assumed() -> None:
    assert load_here(tiny.small_cnn(), check=False).preprocessing.found == "assumed"
    model = trained(preprocessing_of("torch"), folded=False)
    for stored in model.graph.initializer:
        if stored.name in ("mean", "variance"):
            untouched = np.full(UNITS, 0.0 if stored.name == "mean" else 1.0, np.float32)
            stored.CopyFrom(numpy_helper.from_array(untouched, stored.name))
    assert load_here(model, check=False).preprocessing.found == "assumed"


def test_predict_says_how_far_the_answer_depends_on_an_unstated_preprocessing() -> None:
    """The right values: the same file under each preset that is stated by hand."""
    model, said = tiny.small_cnn(), []
    graph = load_here(model, check=False)
    result = predict.run(graph, photographs()[:1], on_event=said.append)
    rows = result.content["usual_preprocessings"]
    assert [row["preprocessing"] for row in rows] == ["unit", "caffe", "tf", "torch", "raw RGB"]
    for row in rows:
        stated = load_here(model, check=False, preprocessing=row["preprocessing"].split()[0])
        best = predict.run(stated, photographs()[:1]).content["images"][0]["predictions"][0]
        assert (row["index"], row["probability"]) == (best["index"], pytest.approx(best["probability"], abs=1e-6))
    assert any("states no preprocessing" in getattr(event, "text", "") for event in said)


def test_predict_tries_no_other_preprocessing_where_one_is_stated() -> None:
    graph = load_here(tiny.small_cnn(), check=False, preprocessing="unit")
    assert "usual_preprocessings" not in predict.run(graph, photographs()[:1]).content


def paddle(outputs: list[Any], strides: list[int]) -> onnx.ModelProto:
    """A file as Paddle2ONNX writes it: open sizes called DynamicDimension."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(0, 0.3, (outputs[1], 3, 3, 3)).astype(np.float32)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], "Conv.0", pads=[1, 1, 1, 1], strides=strides)]
    if len(outputs) == 4:
        nodes.append(helper.make_node("Sigmoid", ["c"], ["y"], "Sigmoid.0"))
    else:
        nodes += [helper.make_node("GlobalAveragePool", ["c"], ["g"], "Pool.0")]
        nodes += [helper.make_node("Flatten", ["g"], ["f"], "Flatten.0"), helper.make_node("Softmax", ["f"], ["y"])]
    made = tiny.model(nodes, weights)
    for info, shape in ((made.graph.input[0], [None, 3, None, None]), (made.graph.output[0], outputs)):
        names: list[Any] = [f"p2o.DynamicDimension.{i}" if side is None else side for i, side in enumerate(shape)]
        info.CopyFrom(helper.make_tensor_value_info(info.name, TensorProto.FLOAT, names))
    return made


@pytest.mark.parametrize(
    ("outputs", "strides", "size", "name", "order"),
    [
        ([None, 2], [2, 1], (48, 192), "tf", "BGR"),  # PaddleOCR's cls_image_shape, and (x / 255 - 0.5) / 0.5
        ([None, 1, None, None], [1, 1], (640, 640), "torch", "BGR"),
        ([None, 4], [2, 2], (224, 224), "torch", "RGB"),  # PaddleClas
    ],
)
def test_paddle_files_have_the_preprocessing_of_their_kind(
    outputs: list[Any], strides: list[int], size: tuple[int, int], name: str, order: str
) -> None:
    graph = convscope.load(paddle(outputs, strides))
    found = graph.preprocessing
    assert (graph.image_size, found.preset, found.order, found.found) == (size, name, order, "family")
    assert any("Paddle" in note and "preprocessing= overrules" in note for note in graph.source.notes)


def test_a_file_of_paddle_s_first_exporter_is_known_by_its_producer() -> None:
    model = paddle([None, 2], [2, 1])
    model.producer_name = "PaddlePaddle"
    shapes: list[list[Any]] = [[-1, 3, "?", "?"], [-1, 2]]
    for info, shape in zip((model.graph.input[0], model.graph.output[0]), shapes, strict=True):
        info.CopyFrom(helper.make_tensor_value_info(info.name, TensorProto.FLOAT, shape))
    found = load_here(model, check=False).preprocessing
    assert (found.size, found.preset, found.order, found.found) == ((48, 192), "tf", "BGR", "family")


def test_a_square_file_of_another_exporter_is_no_paddle_file() -> None:
    model = paddle([None, 2], [2, 1])
    shapes: list[list[Any]] = [["N", 3, 32, 32], ["N", 2]]
    for info, shape in zip((model.graph.input[0], model.graph.output[0]), shapes, strict=True):
        info.CopyFrom(helper.make_tensor_value_info(info.name, TensorProto.FLOAT, shape))
    assert load_here(model, check=False).preprocessing.found == "assumed"
