"""Every method takes every target: boxes by ODAM and D-RISE, masks, characters, embeddings, contrasts, callables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

import convscope
from convscope.engine.attribution import Question, explain
from convscope.engine.graph.graph import Graph
from convscope.engine.graph.labels import unit_name
from convscope.engine.outputs import read_outputs
from convscope.engine.outputs.heads import maps_into_head
from convscope.engine.outputs.target import of_function
from convscope.engine.runs import explain as explain_run
from convscope.engine.runs import maximize as maximize_run
from convscope.engine.runs import predict as predict_run
from convscope.errors import UsageError

SIZE = 32


class TwoSquares(nn.Module):
    """A detector that is exact by construction: a red and a blue cell of 8 x 8 pixels each make one box.

    Feature maps are the picture's colours averaged over cells; a cell's box is the cell, its score the colour's excess.
    """

    def __init__(self) -> None:
        super().__init__()
        self.colours = nn.Conv2d(3, 2, 1)
        self.cells = nn.AvgPool2d(8)
        self.scores = nn.Conv2d(2, 2, 1)
        with torch.no_grad():
            self.colours.weight.copy_(torch.tensor([[1.0, -1, -1], [-1, -1, 1]]).reshape(2, 3, 1, 1))
            self.colours.bias.zero_()
            self.scores.weight.copy_(torch.eye(2).reshape(2, 2, 1, 1) * 12)
            self.scores.bias.fill_(-6.0)
        rows, columns = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
        centres = torch.stack([columns, rows]).float().reshape(2, 16) * 8 + 4
        self.register_buffer("boxes", torch.cat([centres, torch.full((2, 16), 8.0)])[None])

    def forward(self, x: Tensor) -> Tensor:
        scores = self.scores(self.cells(torch.relu(self.colours(x)))).flatten(2)
        return torch.cat([self.boxes + 0 * scores.mean(1, keepdim=True), torch.sigmoid(scores)], 1)


@pytest.fixture(scope="module")
def squares() -> Graph:
    return convscope.load(
        TwoSquares().eval(), example_input=torch.zeros(1, 3, SIZE, SIZE), check=False, labels=["red", "blue"]
    )


@pytest.fixture
def picture() -> np.ndarray:
    found = np.zeros((SIZE, SIZE, 3), np.float32)
    found[8:16, 16:24, 0] = 1.0
    found[24:32, 0:8, 2] = 0.9
    return found


def test_a_detector_without_a_flag_explains_its_boxes_inside_the_boxes(squares: Graph, picture: np.ndarray) -> None:
    found = explain(squares, picture)
    assert [(a.target.name, a.method) for a in found] == [("box 1: red", "odam"), ("box 2: blue", "odam")]
    assert [a.target.box for a in found] == [(16, 8, 24, 16), (0, 24, 8, 32)]
    assert found[0].score == pytest.approx(6, abs=1e-3)  # the logit, not the probability
    for attribution in found:
        assert attribution.figures["pointing"] == 1
        assert attribution.figures["energy_inside"] > 0.5  # a map of 4 x 4, enlarged, reaches over the edge of a cell
    assert found[0].layers and "colours" not in found[0].layers  # behind it: the map that enters the head


def test_odam_is_activation_times_gradient_of_the_boxs_logit(squares: Graph, picture: np.ndarray) -> None:
    (tap,) = maps_into_head(squares, read_outputs(squares).head)
    (values,) = (
        squares.session([tap.tensor]).run(squares.preprocessing.normalize(picture.transpose(2, 0, 1)[None])).values()
    )
    found = explain(squares, picture, "odam", Question(box=1), tap)
    expected = np.zeros(tap.shape[2:])
    if tap.shape[2] == 4:  # by hand: 12 * the red map at its own cell
        expected[1, 2] = 12 * values[0, 0, 1, 2]
        assert np.allclose(found.values, expected, atol=1e-4)


@pytest.mark.parametrize("method", ["drise", "rise", "occlusion", "saliency", "smoothgrad", "integratedgradients"])
def test_other_methods_take_a_box_too(squares: Graph, picture: np.ndarray, method: str) -> None:
    options = {"drise": {"masks": 600, "cells": 8}, "rise": {"masks": 400}}.get(method, {})
    found = explain(squares, picture, method, Question(box=1), **options)
    row, column = np.unravel_index(int(found.heatmap.argmax()), found.heatmap.shape)
    assert 7 <= row <= 16 and 15 <= column <= 24


def test_a_side_of_a_box_another_class_and_a_wrong_number(squares: Graph, picture: np.ndarray) -> None:
    side = explain(squares, picture, "saliency", Question(box=2, of="left"))
    assert side.score == pytest.approx(0)
    assert "does not depend on the picture" in side.notes[0]  # the boxes of this net are fixed
    contrast = explain(squares, picture, "saliency", Question(box=1, against="blue"))
    assert contrast.score == pytest.approx(6 - 0.6 * -6, abs=1e-3)
    assert explain(squares, picture, "saliency", "blue").target.name == "box 2: blue"
    for question, message in [
        (Question(box=3), "box=3 is not there: 2 boxes found"),
        (Question(of="middle"), "of=middle is unknown"),
        (Question(like=np.zeros(3)), "like= means nothing"),
        (Question("green"), "not among the 2 class names"),
    ]:
        with pytest.raises(UsageError, match=message):
            explain(squares, picture, "saliency", question)


def test_pictures_may_have_different_numbers_of_boxes(squares: Graph, picture: np.ndarray) -> None:
    one = picture.copy()
    one[24:] = 0
    found = explain(squares, [picture, one])
    assert [a.target.name for a in found] == ["box 1: red", "box 2: blue", "box 1: red"]


def black_box(path: Path) -> Graph:
    """Boxes chosen by NonMaxSuppression in the file, and by a Gather that leaves the scores behind it untouched."""
    net = TwoSquares().eval()
    torch.onnx.export(
        net, (torch.zeros(1, 3, SIZE, SIZE),), path, dynamo=False, output_names=["table"], opset_version=17
    )
    model = onnx.load(path)
    graph = model.graph
    ints = {"start": [4], "end": [6], "axis": [1], "zero": [0], "four": [4], "most": [5], "two": [2], "flat": [-1]}
    for name, value in ints.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    graph.initializer.append(numpy_helper.from_array(np.asarray([0.5], np.float32), "threshold"))
    graph.initializer.append(numpy_helper.from_array(np.asarray([0.3], np.float32), "least"))
    graph.initializer.append(numpy_helper.from_array(np.asarray(2), "column"))
    nodes: list[tuple[str, list[str], list[str], dict[str, Any]]] = [
        ("Slice", ["table", "zero", "four", "axis"], ["columns"], {}),
        ("Transpose", ["columns"], ["rows"], {"perm": [0, 2, 1]}),
        ("Slice", ["table", "start", "end", "axis"], ["sure"], {}),
        ("NonMaxSuppression", ["rows", "sure", "most", "threshold", "least"], ["chosen"], {"center_point_box": 1}),
        ("Gather", ["chosen", "column"], ["places"], {"axis": 1}),
        ("Squeeze", ["rows", "zero"], ["all_boxes"], {}),
        ("Gather", ["all_boxes", "places"], ["centred"], {"axis": 0}),
        ("Slice", ["centred", "zero", "two", "axis"], ["centres"], {}),
        ("Slice", ["centred", "two", "four", "axis"], ["sizes"], {}),
        ("Mul", ["sizes", "half"], ["halves"], {}),
        ("Sub", ["centres", "halves"], ["low"], {}),
        ("Add", ["centres", "halves"], ["high"], {}),
        ("Concat", ["low", "high"], ["boxes_out"], {"axis": 1}),
        ("GatherND", ["sure", "chosen"], ["scores_out"], {}),
        ("Slice", ["chosen", "axis", "two", "axis"], ["class_column"], {}),
        ("Squeeze", ["class_column", "axis"], ["labels_out"], {}),
    ]
    graph.initializer.append(numpy_helper.from_array(np.asarray(0.5, np.float32), "half"))
    graph.node.extend(helper.make_node(op, reads, makes, **more) for op, reads, makes, more in nodes)
    del graph.output[:]
    ends: tuple[tuple[str, int, list[Any]], ...] = (
        ("boxes_out", TensorProto.FLOAT, ["d", 4]),
        ("scores_out", TensorProto.FLOAT, ["d"]),
        ("labels_out", TensorProto.INT64, ["d"]),
    )
    for name, kind, shape in ends:
        graph.output.append(helper.make_tensor_value_info(name, kind, shape))
    return convscope.load(model, check=False, labels=["red", "blue"])


def test_a_file_that_ends_in_suppression_is_explained_before_it(picture: np.ndarray, tmp_path: Path) -> None:
    graph = black_box(tmp_path / "table.onnx")
    reading = read_outputs(graph)
    assert (reading.decoder, reading.differentiable) == ("chosen", True)
    found = explain(graph, picture)
    assert [(a.target.name, a.method) for a in found] == [("box 1: red", "odam"), ("box 2: blue", "odam")]
    assert found[0].target.box == (16, 8, 24, 16)
    assert found[0].score == pytest.approx(6, abs=1e-3)
    assert all(a.figures["energy_inside"] > 0.5 for a in found)
    both = explain(graph, [picture, picture[:, ::-1]], "drise", Question(box=1), masks=300, cells=8)
    assert [a.figures["pointing"] for a in both] == [1, 1]


def test_a_callable_of_the_outputs_is_a_target(squares: Graph, picture: np.ndarray) -> None:
    (name,) = (o.name for o in squares.outputs)
    found = explain(squares, picture, "saliency", lambda rows: rows[name][5].max())
    row, column = np.unravel_index(int(found.heatmap.argmax()), found.heatmap.shape)
    assert row >= 24 and column < 8
    target = of_function(lambda rows: rows[name][5].max(), [name])
    again = explain(squares, picture, "saliency", target)
    assert np.array_equal(again.heatmap, found.heatmap)


class Tower(nn.Module):
    """An embedding of unit length: the mean colours."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(nn.functional.avg_pool2d(x, 4).relu().mean((2, 3)))


def test_an_embedding_is_explained_by_its_norm_or_by_another_picture(picture: np.ndarray) -> None:
    graph = convscope.load(Tower().eval(), example_input=torch.zeros(1, 3, SIZE, SIZE), check=False)
    assert read_outputs(graph).form == "embedding"
    assert explain(graph, picture, "saliency").target.name == "norm (squared)"
    alike = explain(graph, picture, "inputxgradient", Question(like=np.asarray([0.0, 0, 1])))
    mean = picture.mean((0, 1))
    assert alike.score == pytest.approx(mean[2] / np.linalg.norm(mean), abs=1e-5)
    with pytest.raises(UsageError, match="like= has 2 numbers"):
        explain(graph, picture, "saliency", Question(like=np.zeros(2)))


def test_a_box_s_sides_are_no_picture_of_a_class(squares: Graph, picture: np.ndarray) -> None:
    for draw in (lambda: convscope.maximize(squares, "red"), lambda: convscope.accent(squares, picture, wanted=1)):
        with pytest.raises(
            UsageError, match=r"2 classes, boxes in pixels: the channels of '.*' are no classes; use filters"
        ):
            draw()


def test_the_classes_of_masks_are_drawn_and_said_to_be_means_over_a_map(picture: np.ndarray) -> None:
    masks = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1)).eval()
    graph = convscope.load(masks, example_input=torch.zeros(1, 3, SIZE, SIZE), check=False)
    said: list[str] = []
    made = maximize_run.run(graph, 1, maximize_run.Options(steps=2), on_event=lambda e: said.append(str(e)))
    assert made.content["units"][0]["unit"] == 1
    assert any("is a map (3 x 32 x 32): a class here is a channel's mean over it" in text for text in said)


def test_runs_say_and_draw_what_was_found(squares: Graph, picture: np.ndarray, tmp_path: Path) -> None:
    found = predict_run.run(squares, picture, folder=tmp_path / "p")
    row = found.content["images"][0]
    assert found.content["outputs"]["decoder"] == "yolov8"
    assert [(b["name"], b["box"]) for b in row["boxes"]] == [("red", [16, 8, 24, 16]), ("blue", [0, 24, 8, 32])]
    assert (tmp_path / "p" / row["drawn"]).is_file()
    explained = explain_run.run(squares, picture, explain_run.Options(box=2), tmp_path / "e")
    (entry,) = explained.content["images"][0]["maps"]
    assert entry["class"] == "box 2: blue" and entry["target"]["box"] == [0, 24, 8, 32]
    assert "box 2: blue" in (tmp_path / "e" / "index.html").read_text()


def test_a_detector_s_channels_have_no_class_names_and_a_classifier_s_have(squares: Graph) -> None:
    table = next(layer for layer in squares.layers if layer.tensor == squares.logits)
    assert [unit_name(squares, table, unit) for unit in range(table.channels or 0)] == [""] * 6
    lenet = convscope.load("lenet", check=False)
    classes = next(layer for layer in lenet.layers if layer.tensor == lenet.logits)
    assert unit_name(lenet, classes, 3) == "3" and unit_name(lenet, lenet.layers[0], 3) == ""
