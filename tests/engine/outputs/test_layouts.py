"""One detection in every layout that exporters write; what is no detection, mask or line is not read as one.

Candidates as rows or columns, corners or centres, pixels or shares, one table or several outputs, chosen in the file or
not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import convscope
from convscope.engine.graph.graph import Graph
from convscope.engine.outputs import Question, read_outputs
from convscope.engine.outputs.geometry import follows_grid, form_of
from convscope.engine.outputs.target import row_of
from convscope.engine.render.answers import drawn_answer

from ...tiny import model
from .planted import SIZE, planted
from .test_decoders import CELLS, boxes_of

RNG = np.random.default_rng(0)
BOX = [20, 26, 8, 12]  # centre and size
FOUND = [(1, 0.9, [16, 20, 24, 32])]
PLACE = 30


def centres(count: int = CELLS) -> np.ndarray:
    """(count, 4) boxes all over the picture; the one at PLACE is the one to find."""
    found = np.concatenate([RNG.uniform(10, 54, (count, 2)), RNG.uniform(4, 16, (count, 2))], axis=1)
    found[PLACE] = BOX
    return found


def corners(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], axis=1)


def scores(count: int = CELLS) -> np.ndarray:
    found = np.full((count, 3), 0.01)
    found[PLACE, 1] = 0.9
    return found


def objectness(count: int = CELLS, sure: float = 1.0) -> np.ndarray:
    found = np.full((count, 1), 0.02)
    found[PLACE] = sure
    return found


def logit(p: Any) -> Any:
    return np.log(p / (1 - p))


def on_grid(anchors: int) -> np.ndarray:
    """Boxes (A, 4) as shares that lie at the cells of strides 8, 16, 32, as a trained detector's do."""
    parts = []
    for stride in (8, 16, 32):
        side = SIZE // stride
        rows, columns = np.indices((side, side)).reshape(2, -1)
        cells = (np.stack([columns, rows], axis=1) + 0.5) * stride
        parts.append(np.tile(np.concatenate([cells, np.full((side * side, 2), stride)], axis=1), (anchors, 1)))
    found = np.concatenate(parts)
    found[PLACE] = BOX
    return found / SIZE


def answered(graph: Graph, **options: Any) -> tuple[Any, Any]:
    reading = read_outputs(graph, **options)
    x = np.zeros((1, 3, *graph.image_size), np.float32)
    rows = row_of(graph.session(list(reading.tensors)).run(x), reading.axes, 0)
    return reading, reading.answer(rows)


B, C, S = centres(), corners(centres()), scores()
C[PLACE] = FOUND[0][2]
WIDE = centres(3 * CELLS)
LAYOUTS: dict[str, dict[str, np.ndarray]] = {
    "columns": {"y": np.concatenate([B, S], 1).T},
    "columns, shares": {"y": np.concatenate([B / SIZE, S], 1).T},
    "columns, corners": {"y": np.concatenate([C, S], 1).T},
    "columns, corners, shares": {"y": np.concatenate([C / SIZE, S], 1).T},
    "columns, logits": {"y": np.concatenate([B, logit(S)], 1).T},
    "rows with objectness": {"y": np.concatenate([WIDE, objectness(3 * CELLS), scores(3 * CELLS)], 1)},
    "rows with objectness, turned": {"y": np.concatenate([WIDE, objectness(3 * CELLS), scores(3 * CELLS)], 1).T},
    "rows with objectness, shares": {"y": np.concatenate([on_grid(3), objectness(3 * CELLS), scores(3 * CELLS)], 1)},
    "one anchor, objectness always 1": {"y": np.concatenate([B, np.ones((CELLS, 1)), S], 1)},
    "two outputs": {"boxes": B, "scores": S},
    "two outputs, corners": {"boxes": C, "scores": S},
    "two outputs, corners, shares": {"boxes": C / SIZE, "scores": S},
    "two outputs, shares": {"boxes": B / SIZE, "scores": S},
    "scores first, logits, no names": {"a": logit(S), "b": C},
    "scores turned (PP-YOLOE)": {"boxes": C, "scores": S.T},
    "both turned": {"boxes": B.T, "scores": S.T},
    "an axis of one between (YOLOv4)": {"boxes": (C / SIZE)[:, None], "confs": S},
    "objectness of its own": {"boxes": B, "obj": objectness(), "cls": S},
    "objectness as a list, last": {"cls": S, "boxes": B, "objectness": objectness()[:, 0]},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_detection_is_found_in_every_layout(layout: str) -> None:
    reading, found = answered(planted({name: value[None] for name, value in LAYOUTS[layout].items()}))
    assert reading.form == "detection"
    assert boxes_of(found) == FOUND
    x = np.zeros((1, 3, SIZE, SIZE), np.float32)
    rows = row_of(reading.graph.session(list(reading.tensors)).run(x), reading.axes, 0)
    (target,) = reading.targets(rows, Question(box=1))
    sure = float(target.score(rows))  # a logit of the class, with an objectness of 1 more
    assert sure == pytest.approx(logit(np.float64(0.9)), abs=1e-3) or "sum of" in target.meaning
    if reading.table is not None:
        (left,) = reading.targets(rows, Question(box=1, of="left"))
        assert float(left.score(rows)) == pytest.approx(16, abs=1e-3)


def test_an_objectness_of_its_own_is_multiplied_and_asked_about() -> None:
    reading, found = answered(planted({"boxes": B[None], "obj": objectness(sure=0.95)[None], "cls": S[None]}))
    assert boxes_of(found) == [(1, round(0.9 * 0.95, 4), FOUND[0][2])] and "times 'obj'" in reading.reason
    x = np.zeros((1, 3, SIZE, SIZE), np.float32)
    rows = row_of(reading.graph.session(list(reading.tensors)).run(x), reading.axes, 0)
    (target,) = reading.targets(rows, Question(box=1))
    assert float(target.score(rows)) == pytest.approx(float(logit(np.float64(0.9)) + logit(np.float64(0.95))), abs=1e-3)


@pytest.mark.parametrize("known", [{"labels": ["a", "b", "c"]}, {}])
def test_turned_rows_of_one_anchor_have_objectness_unless_names_say_no(known: dict[str, Any]) -> None:
    table = np.concatenate([B, S], 1)[None]
    reading, found = answered(planted({"y": table}, **known))
    if known:
        assert boxes_of(found) == FOUND and reading.decoder == "yolov8"
    else:
        assert "objectness in column 4 (assumed; decoder=yolov8 where it is a class)" in reading.reason
        assert boxes_of(answered(planted({"y": table}), decoder="yolov8")[1]) == FOUND


def test_a_detr_is_found_whichever_output_comes_first() -> None:
    logits = np.zeros((20, 4))
    logits[:, 3] = 6
    logits[PLACE % 20] = [0, 6, 0, 0]
    boxes = np.full((20, 4), 0.2)
    boxes[PLACE % 20] = np.asarray(BOX) / SIZE
    for heads in ({}, {"a": "Softmax"}):
        reading, found = answered(planted({"a": logits[None], "b": boxes[None]}, heads=heads))
        assert reading.decoder == "detr" and [box for *_, box in boxes_of(found)] == [[16, 20, 24, 32]]
    by_corners = answered(planted({"a": logits[None], "b": corners(boxes)[None]}))
    assert [box for *_, box in boxes_of(by_corners[1])] == [[16, 20, 24, 32]]


LISTED = np.asarray([[16, 20, 24, 32], [40, 40, 50, 52], [0, 0, 5, 5]], float)
SURE, NAMES = np.asarray([0.9, 0.8, 0.1]), np.asarray([1.0, 2, 0])
FILLED = [(1, 0.9, [16, 20, 24, 32]), (2, 0.8, [40, 40, 50, 52])]
ROWS = np.zeros(3)
TABLES: dict[str, dict[str, np.ndarray]] = {
    "corners, score, class": {"y": np.column_stack([LISTED, SURE, NAMES])[None]},
    "class, score, corners (Paddle)": {"nms": np.column_stack([NAMES, SURE, LISTED])},
    "picture, corners, class, score (YOLOv7)": {"y": np.column_stack([ROWS, LISTED, NAMES, SURE])},
    "picture, class, score, corners (Caffe)": {"y": np.column_stack([ROWS, NAMES, SURE, LISTED / SIZE])[None, None]},
    "labels first, no names": {"a": NAMES[None], "b": LISTED[None], "c": SURE[None]},
    "scores first, no names": {"a": SURE[None], "b": LISTED[None], "c": NAMES[None]},
    "without an axis for pictures": {"labels": NAMES, "boxes": LISTED, "scores": SURE},
    "scores in the boxes (mmdetection)": {"dets": np.column_stack([LISTED, SURE])[None], "labels": NAMES[None]},
    "TFLite": {
        "TFLite_Detection_PostProcess": (LISTED / SIZE)[None][:, :, [1, 0, 3, 2]],
        "TFLite_Detection_PostProcess:1": NAMES[None],
        "TFLite_Detection_PostProcess:2": SURE[None],
        "TFLite_Detection_PostProcess:3": np.asarray([3.0]),
    },
}


def choosing(outputs: dict[str, np.ndarray]) -> Graph:
    """Planted outputs of a file that holds an operator whose result's size depends on the picture."""
    made = onnx.load_from_string(planted(outputs).model.SerializeToString())
    made.graph.node.extend(
        [
            helper.make_node("NonZero", ["features"], ["some"]),
            helper.make_node("ReduceSum", ["some"], ["many"], keepdims=0),
        ]
    )
    made.graph.output.append(helper.make_tensor_value_info("many", TensorProto.INT64, []))
    for side, size in enumerate((1, 3, SIZE, SIZE)):
        made.graph.input[0].type.tensor_type.shape.dim[side].dim_value = size
    return convscope.load(made, check=False)


@pytest.mark.parametrize("layout", TABLES)
def test_boxes_that_a_file_chose_are_read_in_every_order(layout: str) -> None:
    reading, found = answered(choosing(TABLES[layout]))
    assert reading.form == "detection" and boxes_of(found) == FILLED


NONE: dict[str, tuple[dict[str, np.ndarray], dict[str, Any]]] = {
    "raw grids of three levels": ({n: RNG.normal(-3, 1, (1, 24, s, s)) for n, s in (("a", 8), ("b", 4), ("c", 2))}, {}),
    "the raw grid of YOLOv2": ({"grid": RNG.normal(0, 1, (1, 125, 2, 2))}, {}),
    "anchors, classes, rows, columns": ({"grid": RNG.normal(0, 1, (1, 5, 25, 2, 2))}, {}),
    "a pyramid of features": ({n: RNG.normal(0, 1, (1, 256, s, s)) for n, s in (("p3", 8), ("p4", 4))}, {}),
    "a backbone's last map": ({"x": np.maximum(RNG.normal(0, 1, (1, 512, 4, 4)), 0)}, {}),
    "key points as heat maps": ({"heatmaps": RNG.normal(0, 0.1, (1, 17, 16, 16))}, {}),
    "centres as heat maps": (
        {"hm": RNG.normal(-4, 1, (1, 3, 16, 16)), "wh": RNG.random((1, 2, 16, 16))}, {"heads": {"hm": "Sigmoid"}},
    ),
    "offsets from anchors": ({"loc": RNG.normal(0, 0.5, (1, 756, 4)), "cls": np.full((1, 756, 3), 0.01)}, {}),
    "tokens": ({"last_hidden_state": RNG.normal(0, 1, (1, 197, 768))}, {}),
    "a sequence of vectors": ({"y": RNG.normal(0, 1, (1, 16, 96))}, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", NONE)
def test_what_nothing_tells_the_meaning_of_is_not_read_as_boxes_masks_or_text(name: str) -> None:
    outputs, options = NONE[name]
    assert read_outputs(planted(outputs, **options)).decoder == "unknown"


def test_classes_of_a_coarse_map_are_read_where_something_says_so() -> None:
    maps = RNG.normal(0, 1, (1, 5, 4, 4))
    assert read_outputs(planted({"y": maps})).decoder == "unknown"
    assert read_outputs(planted({"y": maps}), decoder="segmentation").form == "segmentation"
    for known in ({"labels": list("abcde")}, {"heads": {"y": "Softmax"}}):
        assert read_outputs(planted({"y": maps}, **known)).decoder == "segmentation"
    assert read_outputs(planted({"segments": maps})).decoder == "segmentation"


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("kept", [0, 1])
@pytest.mark.parametrize("cast", [False, True])
def test_class_maps_are_found_before_an_argmax_wherever_their_channels_lie(last: bool, kept: int, cast: bool) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"])]
    if last:
        nodes.append(helper.make_node("Transpose", ["c"], ["t"], perm=[0, 2, 3, 1]))
    nodes.append(helper.make_node("ArgMax", ["t" if last else "c"], ["a"], axis=-1 if last else 1, keepdims=kept))
    nodes.append(helper.make_node("Cast", ["a"], ["y"], to=TensorProto.FLOAT if cast else TensorProto.INT32))
    weights = {"w": RNG.normal(size=(5, 3, 1, 1)).astype(np.float32)}
    graph = convscope.load(model(nodes, weights), check=False)
    reading = read_outputs(graph)
    assert (reading.decoder, reading.tensors) == ("segmentation", ("c",)) and "5 classes" in reading.reason


@pytest.mark.parametrize(
    ("second", "decoder"), [(["Softplus"], "unknown"), (["Sigmoid", "Mul"], "unknown"), (["Identity"], "segmentation")]
)
def test_maps_of_scores_and_of_distances_joined_are_no_classes(second: list[str], decoder: str) -> None:
    """As a detector of lines writes them: a logit of text, and how far its ends are."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Split", ["c", "two"], ["a", "b"], axis=1)]
    behind = "b"
    for op in second:
        more = ["scale"] if op == "Mul" else []
        nodes.append(helper.make_node(op, [behind, *more], [op]))
        behind = op
    nodes.append(helper.make_node("Concat", ["a", behind], ["y"], axis=1))
    weights = {"w": RNG.normal(size=(5, 3, 1, 1)).astype(np.float32), "scale": np.array(4, np.float32)}
    graph = convscope.load(model(nodes, {**weights, "two": np.array([2, 3])}), check=False)
    assert read_outputs(graph).decoder == decoder


def test_values_that_are_never_negative_are_no_mask() -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    graph = convscope.load(model(nodes, {"w": np.full((1, 3, 1, 1), 5, np.float32)}), check=False)
    assert read_outputs(graph).form == "image" and "never negative" in read_outputs(graph).reason
    depth = planted({"predicted_depth": 1 + 9 * RNG.random((1, SIZE, SIZE))})
    reading, found = answered(depth)
    assert reading.form == "image" and "(depth)" in reading.reason
    assert found.pixels.shape == (SIZE, SIZE) and (found.pixels.min(), found.pixels.max()) == (0, 1)
    x = np.zeros((1, 3, SIZE, SIZE), np.float32)
    rows = row_of(depth.session(list(reading.tensors)).run(x), reading.axes, 0)
    (mean,) = reading.targets(rows, Question())
    assert float(mean.score(rows)) == pytest.approx(float(rows["predicted_depth"].mean()), rel=1e-4)


@pytest.mark.parametrize("order", ["steps first", "symbols first", "time first"])
@pytest.mark.parametrize("blank", [0, 4])
def test_a_line_is_read_in_every_order_with_its_blank_first_or_last(order: str, blank: int) -> None:
    symbols = [s for s in range(5) if s != blank]
    path = [blank, symbols[2], symbols[2], blank, symbols[2], symbols[0], symbols[0], symbols[1], *[blank] * 4]
    logits = np.full((len(path), 5), -2.0)
    logits[np.arange(len(path)), path] = 4
    outputs = {"steps first": logits[None], "symbols first": logits.T[None], "time first": logits[:, None]}
    reading, found = answered(planted({"y": outputs[order]}, labels=list("abcd")))
    assert reading.decoder == "ctc" and found.string == "ccab"


def test_symbols_lie_where_the_file_s_softmax_is() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Squeeze", ["c", "two"], ["s"]),
        helper.make_node("Softmax", ["s"], ["y"], axis=1),
    ]
    weights = {"w": RNG.normal(size=(12, 3, 16, 1)).astype(np.float32), "two": np.asarray([2])}
    graph = convscope.load(model(nodes, weights, shape=("N", 3, 16, 40)), check=False)
    reading = read_outputs(graph)
    assert reading.decoder == "ctc" and "(N, K, T): 12 symbols" in reading.reason


def test_landmarks_from_minus_one_to_one_are_pixels_from_the_middle() -> None:
    reading, found = answered(planted({"landmarks": np.asarray([[-1.0, -0.5, 0.25, 1.0]])}))
    assert "from -1 to 1" in reading.reason and found.points == ((0, 16), (40, 64))


def test_classes_are_read_though_features_come_first() -> None:
    vectors = {"y": RNG.normal(0, 1, (1, 64)), "logits": RNG.normal(0, 1, (1, 10))}
    reading = read_outputs(planted(vectors))
    assert reading.form == "classification" and "10 classes" in reading.reason and reading.unread == ("y",)


def test_no_form_is_made_of_numbers_that_are_no_boxes() -> None:
    size = (SIZE, SIZE)
    assert form_of(None, size) == form_of(np.zeros((0, 4)), size)
    assert form_of(RNG.normal(0, 1, (50, 4)), size) is None
    assert form_of(np.full((50, 4), 500.0), size) is None  # outside
    assert not follows_grid(np.full((4, 4), 0.5), np.ones((4, 2)))


def test_names_on_a_small_picture_do_not_cover_what_they_name() -> None:
    reading, found = answered(planted({"y": LAYOUTS["columns"]["y"][None]}))
    drawn = drawn_answer(reading.graph, found, np.zeros((SIZE, SIZE, 3), np.float32))
    assert drawn is not None and drawn.shape == (5 * SIZE, 5 * SIZE, 3)
    frame = (drawn[20 * 5 : 32 * 5, 16 * 5 : 24 * 5] > 0).any(axis=2)
    assert frame[0].all() and frame[:, 0].all() and frame[4:-4, 4:-4].mean() < 0.01  # the box is seen, its inside free


@pytest.mark.parametrize("form", [(1, 5), (1, 5, 1)])
def test_classes_before_maps_are_the_answer_and_the_maps_before_classes_too(form: tuple[int, ...]) -> None:
    """Probabilities of the whole picture, and the maps that they were pooled from (or the other way round)."""
    values = np.linspace(-2, 2, 5, dtype=np.float32).reshape(form)
    maps = RNG.normal(0, 2, (1, 5, 16, 16)).astype(np.float32)
    heads = {"probs": "Sigmoid"}
    first = read_outputs(planted({"probs": values, "maps": maps}, heads=heads))
    assert (first.decoder, first.unread) == ("sigmoids", ("maps",))
    second = read_outputs(planted({"maps": maps, "probs": values}, heads=heads))
    assert (second.decoder, second.unread) == ("segmentation", ("probs",))
