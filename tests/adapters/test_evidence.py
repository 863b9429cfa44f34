"""Where nobody states the preprocessing, weights and form tell it: oracles are networks whose training is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import convscope
from convscope.adapters.evidence import from_weights
from convscope.adapters.load import load_here
from convscope.adapters.onnx import families
from convscope.engine.graph.preprocessing import PREPROCESSINGS, Preprocessing, preprocessing_of
from convscope.engine.pictures.photographs import photographs
from convscope.engine.pictures.read import read_image, resize
from convscope.engine.runs import predict
from convscope.engine.runs.preprocessings import in_words
from tests import tiny

SIDE = 64
UNITS = 24
MTCNN = "(pixel - 127.5) / 128"


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


@pytest.mark.parametrize("name", ["tf", "torch"])
def test_of_a_gray_network_the_nearest_preset_that_gray_pictures_have_is_told(name: str) -> None:
    """One mean and one deviation; `torch` has three of each, which the import refused for a single channel."""
    model = trained(PREPROCESSINGS[name], folded=False)
    for tensor in model.graph.initializer:
        if tensor.name == "w":
            gray = numpy_helper.to_array(tensor).sum(axis=1, keepdims=True)
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(gray), "w"))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
    found = load_here(model, check=False).preprocessing
    assert (len(found.mean), len(found.std), found.order) == (1, 1, "GRAY")
    assert found.preset == ("tf" if name == "tf" else found.preset) and found.preset != "torch"


def test_a_batch_norm_behind_values_divided_by_their_own_spread_tells_nothing() -> None:
    """Behind a vision transformer's normalizations every range looks alike; the nearest fit is chance."""
    model = trained(PREPROCESSINGS["torch"], folded=False)
    nodes = list(model.graph.node)
    nodes[1].input[0] = "levelled"
    level = helper.make_node("InstanceNormalization", ["c", "gamma", "beta"], ["levelled"], "level")
    del model.graph.node[:]
    model.graph.node.extend([nodes[0], level, *nodes[1:]])
    assert load_here(model, check=False).preprocessing.found == "assumed"


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
    assert [row["preprocessing"] for row in rows] == ["unit", "caffe", "tf", "torch", "raw RGB", "raw BGR", MTCNN]
    for row in rows[:5]:
        stated = load_here(model, check=False, preprocessing=row["preprocessing"].split()[0])
        best = predict.run(stated, photographs()[:1]).content["images"][0]["predictions"][0]
        assert (row["index"], row["probability"]) == (best["index"], pytest.approx(best["probability"], abs=1e-6))
    assert any("states no preprocessing" in getattr(event, "text", "") for event in said)


def scaled(steps: list[tuple[str, Any]], model: onnx.ModelProto | None = None) -> onnx.ModelProto:
    """A network with operators of its own in front, each with a constant, a number or one of each channel."""
    made = model or tiny.small_cnn()
    name = made.graph.input[0].name
    reads = [(node, i) for node in made.graph.node for i, read in enumerate(node.input) if read == name]
    nodes, tensor = [], name
    for number, (operator, constant) in enumerate(steps):
        value = np.asarray(constant, np.float32)
        value = value.reshape(1, -1, 1, 1) if value.ndim else value
        made.graph.initializer.append(numpy_helper.from_array(value, f"own{number}"))
        nodes.append(helper.make_node(operator, [tensor, f"own{number}"], [f"scaled{number}"], f"scale{number}"))
        tensor = f"scaled{number}"
    for node, i in reads:
        node.input[i] = tensor
    kept = [*nodes, *made.graph.node]
    del made.graph.node[:]
    made.graph.node.extend(kept)
    return made


TORCH_MEAN, TORCH_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.mark.parametrize(
    ("steps", "preset_name", "order"),
    [
        ([("Div", 127.5), ("Sub", 1.0)], "raw", "RGB"),  # Rescaling(1 / 127.5, offset=-1) of keras.applications
        ([("Mul", 1 / 255)], "raw", "RGB"),
        ([("Sub", [103.939, 116.779, 123.68])], "raw", "BGR"),
        ([("Mul", 1 / 255), ("Sub", TORCH_MEAN), ("Div", TORCH_STD)], "raw", "RGB"),
        ([("Sub", TORCH_MEAN), ("Div", TORCH_STD)], "unit", "RGB"),
        ([("Mul", 2.0), ("Sub", 1.0)], "unit", "RGB"),
    ],
)
def test_what_a_network_does_to_its_own_input_tells_the_range(
    steps: list[tuple[str, Any]], preset_name: str, order: str
) -> None:
    graph = load_here(scaled(steps), check=False)
    found = graph.preprocessing
    assert (found.preset, found.order, found.found) == (preset_name, order, "operators")
    assert any("its first operators take" in note for note in graph.source.notes)


def test_only_the_order_of_channels_is_left_open_where_a_network_scales_its_own_input() -> None:
    graph = load_here(scaled([("Mul", 1 / 255)]), check=False)
    assert any("its first operators take 0 from the pixels" in note for note in graph.source.notes)
    said: list[Any] = []
    rows = predict.run(graph, photographs()[:1], on_event=said.append).content["usual_preprocessings"]
    assert [row["preprocessing"] for row in rows] == ["raw RGB", "raw BGR"]
    assert any(getattr(event, "text", "").startswith("the file states no order of channels") for event in said)


def test_a_scale_behind_a_crop_and_a_resizing_tells_the_range_too() -> None:
    """As Keras's Resizing and CenterCrop stand in front of a Rescaling."""
    made = scaled([("Div", 127.5), ("Sub", 1.0)])
    weights = {"from": np.array([1, 1]), "to": np.array([15, 15]), "sides": np.array([2, 3]),
               "factors": np.array([1, 1, 8 / 7, 8 / 7], np.float32)}  # fmt: skip
    made.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    name = made.graph.input[0].name
    made.graph.node[0].input[0] = "resized"
    made.graph.node.insert(0, helper.make_node("Resize", ["cut", "", "factors"], ["resized"], "resize"))
    made.graph.node.insert(0, helper.make_node("Slice", [name, "from", "to", "sides"], ["cut"], "cut"))
    assert load_here(made, check=False).preprocessing.preset == "raw"


@pytest.mark.parametrize("flips", [True, False])
def test_channels_that_are_picked_out_and_joined_anew_are_followed_to_the_mean_pixel(flips: bool) -> None:
    """keras.applications' preprocess_input for VGG and ResNet: pictures of 0..255 in RGB, turned into BGR inside."""
    made = scaled([("Sub", 0.0)])
    name, reads = made.graph.input[0].name, made.graph.node[0]
    order = (2, 1, 0) if flips else (0, 1, 2)
    nodes = [helper.make_node("Transpose", [name], ["last"], "turn", perm=[0, 2, 3, 1])]
    for place, channel in enumerate(order):
        nodes.append(
            helper.make_node("Gather", ["last", f"channel{channel}"], [f"flat{place}"], f"pick{place}", axis=-1)
        )
        nodes.append(helper.make_node("Unsqueeze", [f"flat{place}", "end"], [f"piece{place}"], f"open{place}"))
    nodes.append(helper.make_node("Concat", [f"piece{i}" for i in range(3)], ["joined"], "join", axis=-1))
    nodes.append(helper.make_node("Sub", ["joined", "mean"], ["centred"], "centre"))
    nodes.append(helper.make_node("Transpose", ["centred"], ["first"], "back", perm=[0, 3, 1, 2]))
    reads.input[0] = "first"
    weights = {**{f"channel{i}": np.array(i) for i in range(3)}, "end": np.array([-1]),
               "mean": np.array([103.939, 116.779, 123.68], np.float32)}  # fmt: skip
    made.graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in weights.items())
    kept = [*nodes, *made.graph.node]
    del made.graph.node[:]
    made.graph.node.extend(kept)
    found = load_here(made, check=False).preprocessing
    assert (found.preset, found.order) == ("raw", "RGB" if flips else "BGR")


def test_what_a_network_does_to_its_own_input_overrules_the_family_that_it_has_the_form_of() -> None:
    """keras.applications' preprocess_input inside the model: the family's range, told by names, is not the file's."""
    graph = load_here(scaled([("Div", 127.5), ("Sub", 1.0)]), check=False)
    family = replace(graph, preprocessing=replace(preprocessing_of("tf"), found="family"))
    told = from_weights(family)
    assert told is not None and told.preprocessing.preset == "raw"
    same = replace(graph, preprocessing=replace(preprocessing_of("raw"), found="family"))
    assert from_weights(same) is None


@pytest.mark.parametrize("steps", [[("Mul", 1.7)], [("Add", 0.02)], [("Sub", [0.0, 0.1, 0.0]), ("Div", 0.5)]])
def test_a_scale_that_fits_several_ranges_tells_none(steps: list[tuple[str, Any]]) -> None:
    assert load_here(scaled(steps), check=False).preprocessing.found == "assumed"


def biased(pixel: float, reach: float) -> onnx.ModelProto:
    """A network of pages that are all one value, with its batch-norm folded: biases balance that value."""
    rng = np.random.default_rng(3)
    weight = rng.normal(0, 0.3, (UNITS, 3, 3, 3)) + rng.normal(0, 0.3, (UNITS, 1, 1, 1))
    bias = -pixel * weight.sum((1, 2, 3)) + rng.normal(0, reach, UNITS)
    weights = {"w": weight.astype(np.float32), "b": bias.astype(np.float32)}
    weights["head"] = rng.normal(0, 1, (5, UNITS)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["n"], "n", pads=[1, 1, 1, 1]),
             helper.make_node("GlobalAveragePool", ["n"], ["g"], "g"), helper.make_node("Flatten", ["g"], ["f"], "f"),
             helper.make_node("Gemm", ["f", "head"], ["logits"], "logits", transB=1)]  # fmt: skip
    return tiny.model(nodes, weights, ("N", 3, SIDE, SIDE), ("logits",))


@pytest.mark.parametrize(
    ("pixel", "told"), [(2.4, "torch"), (1.0, "unit"), (0.45, "unit"), (0.0, "unit")]
)  # white paper under `torch`; under `tf` or `unit`; photographs under `unit`; centred
def test_biases_that_balance_a_pixel_beyond_one_tell_a_range_like_torch(pixel: float, told: str) -> None:
    found = load_here(biased(pixel, 0.2), check=False).preprocessing
    assert (found.preset, found.found) == (told, "weights" if told == "torch" else "assumed")


@pytest.mark.parametrize(("focus", "order", "fitted"), [(True, "BGR", "letterbox"), (False, "RGB", "squash")])
def test_a_stem_of_every_second_pixel_in_the_range_of_bytes_is_yolox_s(focus: bool, order: str, fitted: str) -> None:
    model = trained(preprocessing_of("raw"), folded=True)
    if focus:
        rng = np.random.default_rng(5)
        first = model.graph.node[0]
        kept = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        weight = np.concatenate([kept["w"] / 4 + rng.normal(0, 1e-3, kept["w"].shape) for _ in range(4)], axis=1)
        nodes, parts = [], []
        for number, (down, along) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
            nodes.append(helper.make_node("Slice", ["x", f"start{number}", "end", "axes", "step"], [f"part{number}"]))
            kept[f"start{number}"] = np.array([down, along])
            parts.append(f"part{number}")
        kept |= {"w": weight.astype(np.float32), "end": np.array([10**9] * 2), "axes": np.array([2, 3]),
                 "step": np.array([2, 2])}  # fmt: skip
        nodes.append(helper.make_node("Concat", parts, ["taken"], "taken", axis=1))
        first.input[0] = "taken"
        model = tiny.model([*nodes, *model.graph.node], kept, ("N", 3, SIDE, SIDE), ("logits",))
    found = load_here(model, check=False).preprocessing
    assert (found.preset, found.order, found.resize, found.found) == ("raw", order, fitted, "weights")


def of_shapes(shapes: Sequence[tuple[int, ...]], operator: str) -> onnx.ModelProto:
    """A network of convolutions of these sizes, each with this operator behind it."""
    rng = np.random.default_rng(0)
    weights = {f"w{i}": rng.normal(0, 0.2, shape).astype(np.float32) for i, shape in enumerate(shapes)}
    nodes, tensor = [], "x"
    for i, shape in enumerate(shapes):
        groups = 1 if i == 0 else shapes[i - 1][0] // shape[1]
        nodes.append(helper.make_node("Conv", [tensor, f"w{i}"], [f"c{i}"], f"c{i}", group=groups))
        further = []
        if operator == "PRelu":
            weights[f"slope{i}"] = np.full((shape[0], 1, 1), 0.25, np.float32)
            further = [f"slope{i}"]
        nodes.append(helper.make_node(operator, [f"c{i}", *further], [f"r{i}"], f"r{i}"))
        tensor = f"r{i}"
    nodes[-1].output[0] = "y"
    return tiny.model(nodes, weights, ("N", shapes[0][1], SIDE, SIDE), ("y",))


R_NET = [(28, 3, 3, 3), (48, 28, 3, 3), (64, 48, 2, 2)]
MINI_XCEPTION = [(8, 1, 3, 3), (8, 8, 3, 3), (8, 1, 3, 3), (16, 8, 1, 1), (16, 1, 3, 3), (16, 16, 1, 1)]


def test_networks_of_faces_are_known_by_the_sizes_of_their_convolutions() -> None:
    found = load_here(of_shapes(R_NET, "PRelu"), check=False).preprocessing
    np.testing.assert_allclose(
        found.normalize(np.array([[[[0.0]], [[0.5]], [[1.0]]]])).ravel(), [-127.5 / 128, 0, 127.5 / 128]
    )
    found = load_here(of_shapes(MINI_XCEPTION, "Relu"), check=False).preprocessing
    assert (found.preset, found.order, found.found) == ("tf", "GRAY", "family")
    assert load_here(of_shapes(R_NET, "Relu"), check=False).preprocessing.found == "assumed"


def test_a_model_of_one_channel_is_said_to_be_read_gray() -> None:
    graph = load_here(of_shapes([(4, 1, 3, 3)], "Relu"), check=False)
    assert graph.preprocessing.order == "GRAY" and "RGB" not in graph.preprocessing.in_words()


def regression() -> onnx.ModelProto:
    """The sum of all filters' means: one number with neither softmax nor name."""
    model = trained(preprocessing_of("unit"), folded=True)
    for tensor in model.graph.initializer:
        if tensor.name == "head":
            tensor.CopyFrom(numpy_helper.from_array(np.ones((1, UNITS), np.float32), "head"))
    return model


def test_predict_says_for_values_how_far_they_move_with_an_unstated_preprocessing() -> None:
    """The right values: the same file under each preset that is stated by hand."""
    said: list[Any] = []
    graph = load_here(regression(), check=False)
    rows = predict.run(graph, photographs()[:1], on_event=said.append).content["usual_preprocessings"]
    value = {}
    for row in rows[:5]:
        stated = load_here(regression(), check=False, preprocessing=row["preprocessing"].split()[0])
        value[row["preprocessing"]] = predict.run(stated, photographs()[:1]).content["images"][0]["values"][0]["value"]
    for name, row in zip(value, rows, strict=False):
        assert row["text"].startswith("value ") and "index" not in row
        assert row["moved"] == pytest.approx(abs(value[name] - value["unit"]) / abs(value["unit"]), rel=1e-4, abs=1e-6)
    assert any("the answer depends on it: unit value" in getattr(event, "text", "") for event in said)


def test_predict_says_that_the_class_is_the_same_but_not_how_sure_it_is() -> None:
    row = {"index": 1, "name": "cat"}
    sure = [{"preprocessing": "unit", "probability": 0.99, **row}, {"preprocessing": "tf", "probability": 0.95, **row}]
    assert "but the answer is the same under each of the usual" in in_words(sure, "x.png")
    unsure = [sure[0], {**sure[1], "probability": 0.502}]
    said = in_words(unsure, "x.png")
    assert "the first class is the same under each of the usual, but not how sure it is: unit cat 99.0%" in said
    assert said.endswith("say which it is: preprocessing=")


def test_predict_tries_no_other_preprocessing_where_one_is_stated() -> None:
    graph = load_here(tiny.small_cnn(), check=False, preprocessing="unit")
    assert "usual_preprocessings" not in predict.run(graph, photographs()[:1]).content


def paddle(outputs: list[Any], strides: list[int]) -> onnx.ModelProto:
    """A file as Paddle2ONNX writes it: open sizes called DynamicDimension."""
    rng = np.random.default_rng(0)
    channels = 1 if outputs[1] == "?" else outputs[1]
    weights = {"w": rng.normal(0, 0.3, (channels, 3, 3, 3)).astype(np.float32)}
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
        (["?", "?", "?", "?"], [1, 1], (640, 640), "torch", "BGR"),  # PP-OCRv6: the map's one channel is a weight's
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


def test_paddle_s_recurrent_readers_take_lines_of_32_rows_and_its_later_ones_of_48() -> None:
    """PaddleOCR's rec_image_shape was 3, 32, 320 as long as its readers were CRNN, up to PP-OCRv2."""
    model = paddle([None, 25, 6], [2, 1])
    later = families.family(model)
    model.graph.node.append(helper.make_node("LSTM", ["steps", "w", "r"], ["read"]))
    earlier = families.family(model)
    for found, size in ((later, (48, 320)), (earlier, (32, 320))):
        assert found is not None and found.preprocessing is not None and found.preprocessing.size == size


def test_a_map_of_paddle_s_newest_exporter_is_one_of_text() -> None:
    """PP-OCRv6: nodes are called Conv.0, and only the tensors say where they come from."""
    model = paddle(["?", "?", "?", "?"], [1, 1])
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = "p2o.pd_op.conv2d.0.0"
    del model.graph.input[0].type.tensor_type.shape.dim[2:]
    for side in (64, 64):
        model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = side
    assert predict.run(load_here(model, check=False), photographs()[:1]).content["outputs"]["decoder"] == "db"


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
