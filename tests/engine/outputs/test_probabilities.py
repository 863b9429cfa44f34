"""What is a probability already goes through no second softmax or sigmoid, and what is no score is read as none."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import convscope
from convscope.engine.graph.graph import Graph
from convscope.engine.outputs import read_outputs
from convscope.engine.outputs.reading import Question
from convscope.engine.outputs.target import row_of

from .planted import SIZE, planted
from .test_parts_of_a_question import COUNT


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def rows_of(graph: Graph) -> tuple[Any, dict[str, Any]]:
    reading = read_outputs(graph)
    values = graph.session(list(reading.tensors)).run(np.zeros((1, 3, SIZE, SIZE), np.float32))
    return reading, row_of(values, reading.axes, 0)


def answer(graph: Graph) -> tuple[Any, Any]:
    reading, rows = rows_of(graph)
    return reading, reading.answer(rows)


def behind(values: np.ndarray, head: str, axis: int, *more: tuple[str, dict[str, Any], list[Any]], name: str) -> Graph:
    """Values, a softmax or sigmoid of them, and operators that only move what comes out."""
    graph = planted({"start": values})
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    options: dict[str, Any] = {"axis": axis} if head == "Softmax" else {}
    nodes = [helper.make_node(head, ["start"], ["headed"], **options)]
    for i, (op, attributes, inputs) in enumerate(more):
        names = []
        for j, value in enumerate(inputs):
            names.append(f"given{i}_{j}")
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), names[-1]))
        nodes.append(helper.make_node(op, [nodes[-1].output[0], *names], [f"moved{i}"], **attributes))
    nodes[-1].output[0] = name
    model.graph.node.extend(nodes)
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return convscope.load(onnx.shape_inference.infer_shapes(model), check=False)


LOGITS = np.array([[1.0, 4, 2, 0]])
SOFTMAX = np.exp(LOGITS[0]) / np.exp(LOGITS[0]).sum()


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        ([("Reshape", {}, [[1, 4, 1, 1]])], [0, 1, 2, 3]),
        ([("Unsqueeze", {}, [[2]])], [0, 1, 2, 3]),
        ([("Slice", {}, [[1], [4], [1]])], [1, 2, 3]),  # the background left out
    ],
)
def test_classes_behind_a_softmax_that_is_moved_or_cut_keep_its_probabilities(more: Any, kept: list[int]) -> None:
    _, found = answer(behind(LOGITS, "Softmax", 1, *more, name="y"))
    got = {p.index: p.probability for p in found.predictions}
    expected = {i: SOFTMAX[c] for i, c in enumerate(kept)}
    assert got == {i: pytest.approx(expected[i], rel=1e-5) for i in got}


def test_labels_and_yes_or_no_behind_a_sigmoid_that_is_cut_keep_its_probabilities() -> None:
    graph = behind(np.array([[-2.0, 1, 3]]), "Sigmoid", 1, ("Slice", {}, [[1], [3], [1]]), name="y")
    _, found = answer(graph)
    assert {p.index: p.probability for p in found.predictions} == pytest.approx({0: sigmoid(1), 1: sigmoid(3)})
    graph = behind(np.array([[-2.0, 1, 3]]), "Sigmoid", 1, ("Slice", {}, [[0], [1], [1]]), name="y")
    reading, rows = rows_of(graph)
    best = reading.answer(rows).predictions[0]
    assert (best.index, best.probability) == (0, pytest.approx(1 - sigmoid(-2), rel=1e-5))
    (target,) = reading.targets(rows, Question())
    assert target.name == "not positive" and target.score(rows) == pytest.approx(2, rel=1e-4)  # the logit again
    assert reading.targets(rows, Question(1))[0].score(rows) == pytest.approx(-2, rel=1e-4)


def test_a_line_whose_softmax_is_transposed_or_cut_is_as_sure_as_the_file_says() -> None:
    values = np.zeros((1, 6, 5))
    for step, symbol in enumerate([0, 3, 0, 2, 2, 0]):
        values[0, step, symbol] = 3
    share = np.exp(3) / (np.exp(3) + 4)
    for more in ([("Transpose", {"perm": [1, 0, 2]}, [])], [("Slice", {}, [[0], [6], [1]])]):
        reading, rows = rows_of(behind(values, "Softmax", 2, *more, name="y"))
        found = reading.answer(rows)
        assert [(c.index, c.probability) for c in found.characters] == [
            (3, pytest.approx(share, rel=1e-5)), (2, pytest.approx(share, rel=1e-5))
        ]  # fmt: skip
        assert reading.targets(rows, Question(box=1))[0].score(rows) == pytest.approx(3, rel=1e-4)


def test_a_map_of_text_behind_a_moved_sigmoid_is_not_text_everywhere() -> None:
    values = np.full((1, 2, 32, 32), -4.0)
    values[0, 0, 8:14, 4:20] = 4
    _, found = answer(behind(values, "Sigmoid", 1, ("Slice", {}, [[0], [1], [1]]), name="shrink_map"))
    assert len(found.regions) == 1
    assert found.regions[0].score == pytest.approx(sigmoid(4), rel=1e-4)
    assert found.regions[0].mask.sum() == 6 * 16


def test_maps_with_a_sigmoid_each_overlap_and_leave_gaps() -> None:
    values = np.full((1, 5, 16, 16), -4.0)
    values[0, 1, :8] = 3
    values[0, 2, 4:12] = 5
    for graph in (
        planted({"y": values}, heads={"y": "Sigmoid"}),
        behind(np.concatenate([values, values], 1), "Sigmoid", 1, ("Slice", {}, [[0], [5], [1]]), name="y"),
    ):
        reading, rows = rows_of(graph)
        found = reading.answer(rows)
        assert {r.index: r.share for r in found.regions} == {1: 0.5, 2: 0.5}
        assert [t.index for t in reading.targets(rows, Question())] == [1, 2]
        below = reading.targets(rows, Question(region=(48, 0, 64, 64)))  # where no mask is: the largest is asked about
        assert [t.index for t in below] == [1]


@pytest.mark.parametrize("is_label", [False, True])
def test_a_map_without_a_channel_axis_is_a_mask_and_no_line_of_text(is_label: bool) -> None:
    values = np.full((1, SIZE, SIZE), -3.0)
    values[0, :16] = 2
    if is_label:
        maps = np.stack([-values[0], values[0], values[0] - 9])[None]
        graph = behind(
            maps, "Identity", 1, ("ArgMax", {"axis": 1, "keepdims": 0}, []), ("Cast", {"to": 1}, []), name="y"
        )
        reading, rows = rows_of(graph)
        assert {r.index: r.share for r in reading.answer(rows).regions} == {0: 0.75, 1: 0.25}
    else:
        reading, rows = rows_of(planted({"y": values}, heads={"y": "Sigmoid"}))
        assert reading.decoder == "mask"
        assert reading.answer(rows).regions[0].share == 0.25
        assert reading.targets(rows, Question())[0].score(rows) == pytest.approx(2 * 16 * SIZE)


@pytest.mark.parametrize("columns", [("keypoints", 1, 51), ("coefficients of masks", 3, 32)])
def test_columns_behind_the_scores_of_a_yolo_table_are_no_classes(columns: tuple[str, int, int]) -> None:
    name, classes, more = columns
    table = np.full((1, 4 + classes + more, COUNT), 0.01)
    table[0, :4] = np.array([20, 20, 10, 10])[:, None]
    table[0, 3 + classes, 5] = 0.9
    rng = np.random.default_rng(0)
    table[0, 4 + classes :] = (
        rng.uniform(0, SIZE, (more, COUNT)) if name == "keypoints" else rng.normal(size=(more, COUNT))
    )
    reading, found = answer(planted({"output0": table}))
    assert reading.classes == classes and f"last {more} columns are no scores" in reading.reason
    assert [(d.index, d.score) for d in found.boxes] == [(classes - 1, pytest.approx(0.9))]


@pytest.mark.parametrize(
    ("points", "classes", "said"),
    [
        ("in front", 1, "1 class, .*; 10 columns in front of the scores are no scores"),  # YOLOv5-face
        ("in front", 3, "3 classes, .*; 10 columns in front of the scores are no scores"),
        ("behind", 1, "1 class, .*; its last 10 columns are no scores"),  # YOLOv7-pose
        ("alone", 0, "1 class, .*; its last 10 columns are no scores"),
    ],
)
def test_points_beside_the_scores_of_a_table_with_objectness_are_no_classes(
    points: str, classes: int, said: str
) -> None:
    table = np.full((1, 3 * COUNT, 15 + classes), 0.01)
    table[0, :, :4] = [20, 20, 10, 10]
    table[0, 5, 4] = 0.9
    first = 15 if points == "in front" else 5
    place = 5 + classes if points == "behind" else 5
    table[0, :, place : place + 10] = np.random.default_rng(0).uniform(-SIZE, SIZE, (3 * COUNT, 10))
    if classes:
        table[0, 5, first + classes - 1] = 0.8
    reading, found = answer(planted({"output": table}))
    assert reading.decoder == "yolov5" and re.search(said, reading.reason)
    score = pytest.approx(0.9 * (0.8 if classes else 1))
    assert [(d.index, d.score) for d in found.boxes] == [(max(classes - 1, 0), score)]


@pytest.mark.parametrize("head", ["Softmax", "LogSoftmax", None])
@pytest.mark.parametrize("background", [0, 4])
def test_boxes_with_a_class_for_nothing_are_read_with_any_kind_of_softmax(head: str | None, background: int) -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0.2, 0.4, (1, 20, 2))
    scores = rng.normal(0, 1, (1, 20, 5))
    scores[0, :, background] = 6
    scores[0, 3, 2] = 12
    share = np.exp(12) / np.exp(scores[0, 3]).sum()
    boxes = np.concatenate([corner, corner + 0.2], axis=2)
    graph = planted({"boxes": boxes, "scores": scores}, heads={"scores": head} if head else None)
    reading, rows = rows_of(graph)
    (found,) = reading.answer(rows).boxes
    assert (found.index, found.score) == (2 - (background == 0), pytest.approx(share, rel=1e-4))
    assert reading.targets(rows, Question())[0].score(rows) == pytest.approx(12, rel=1e-5)


def test_boxes_chosen_in_the_file_are_in_pixels_where_the_probe_shows_none_and_shares_where_it_shows_them() -> None:
    empty = {"boxes": np.zeros((1, 4, 4)), "scores": np.zeros((1, 4)), "labels": np.zeros((1, 4))}
    assert "boxes in pixels" in read_outputs(planted(empty)).reason
    full = {**empty, "boxes": np.tile([0.25, 0.25, 0.5, 0.75], (1, 4, 1)), "scores": np.full((1, 4), 0.9)}
    _, found = answer(planted(full))
    assert found.boxes[0].box == pytest.approx((16, 16, 32, 48))


def test_offsets_from_anchors_that_the_file_does_not_hold_are_not_drawn_as_boxes() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 1, (1, 64, 2))
    offsets = {"loc": rng.normal(0, 0.5, (1, 64, 4)), "conf": scores}  # as RetinaFace's
    reading = read_outputs(planted(offsets, heads={"conf": "Softmax"}))
    assert reading.form == "unknown"
    centred = {**offsets, "loc": rng.uniform(0.2, 0.4, (1, 64, 4))}
    assert read_outputs(planted(centred, heads={"conf": "Softmax"})).form == "detection"


def test_a_sigmoid_for_every_note_and_moment_is_neither_a_box_nor_a_line_of_text() -> None:
    values = np.random.default_rng(0).normal(-2, 1, (1, 172, 88))  # as basic-pitch gives them
    assert read_outputs(planted({"note": values}, heads={"note": "Sigmoid"})).form == "unknown"
