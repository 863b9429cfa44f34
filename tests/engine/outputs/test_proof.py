"""On trained nets the maps lie where the answer lies: in the right box, mask and character, in 95 of 100 pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper

import convscope
from convscope.engine.attribution import Attribution, Batch, Executors, Question, explain, explain_batch, find_methods
from convscope.engine.attribution.methods.masks import random_masks
from convscope.engine.attribution.where import box_mask
from convscope.engine.graph.graph import Graph
from convscope.engine.outputs import read_outputs
from convscope.engine.outputs.boxes import Candidates, Match, iou
from convscope.engine.outputs.target import row_of

from ...tiny import model
from . import proof

COUNT = 100


def loaded(net: Any, size: tuple[int, int], name: str, labels: list[str]) -> Graph:
    trained = proof.trained(net, name)
    return convscope.load(trained, example_input=torch.zeros(1, 3, *size), check=False, labels=labels)


def pictures(draw: Any) -> tuple[np.ndarray, list[Any]]:
    drawn = [draw(seed) for seed in range(COUNT)]
    return np.stack([p for p, _ in drawn]), [truth for _, truth in drawn]


def answers(graph: Graph, x: np.ndarray) -> list[Any]:
    reading = read_outputs(graph)
    values = graph.session(list(reading.tensors)).run(x)
    return [reading.answer(row_of(values, reading.axes, i)) for i in range(len(x))]


def explained(graph: Graph, x: np.ndarray, method: str) -> list[list[Attribution]]:
    """What each picture's own answer is explained by, without a target."""
    executors = Executors(graph, batch=25)
    parts = [Batch(executors, x[start : start + 25]) for start in range(0, len(x), 25)]
    return [row for part in parts for row in explain_batch(part, find_methods(method))]


def share(heatmap: np.ndarray, place: np.ndarray) -> float:
    return float(heatmap[place].sum() / max(float(heatmap.sum()), 1e-12))


def test_a_detector_s_maps_lie_in_the_right_box() -> None:
    graph = loaded(proof.Detector(), (64, 64), "detector", ["red", "green", "blue"])
    assert read_outputs(graph).decoder == "yolov8"
    x, truth = pictures(proof.squares)
    right = 0
    for found, wanted in zip(explained(graph, x, "odam"), truth, strict=True):
        boxes = np.asarray([box for _, box in wanted], float)
        good = 0
        for attribution in found:
            overlaps = iou(np.asarray([attribution.target.box]), boxes)[0]
            mine = int(overlaps.argmax())
            own = share(attribution.heatmap, box_mask(tuple(boxes[mine] + [-2, -2, 2, 2]), (64, 64)))
            others = [share(attribution.heatmap, box_mask(tuple(b), (64, 64))) for b in np.delete(boxes, mine, 0)]
            good += (
                overlaps[mine] > 0.5 and attribution.target.index == wanted[mine][0] and own > 0.7 and own > sum(others)
            )
        right += good == len(found) == len(wanted)
    assert right >= 0.95 * COUNT


def test_a_segmenter_s_maps_lie_in_the_right_mask() -> None:
    graph = loaded(proof.Segmenter(), (64, 64), "segmenter", ["background", "square", "disc"])
    assert read_outputs(graph).decoder == "segmentation"
    x, truth = pictures(proof.shapes)
    right = np.zeros(3)
    for index in (1, 2):
        for start in range(0, COUNT, 25):
            rows = slice(start, start + 25)
            found = explain(graph, x[rows], "hirescam", index, preprocessed=True, batch=25)
            for attribution, classes in zip(found, truth[rows], strict=True):
                own, other = (share(attribution.heatmap, classes == i) for i in (index, 3 - index))
                right[index] += own > 0.5 and own > 3 * other
    assert right[1:].min() >= 0.95 * COUNT


def test_a_reader_s_maps_lie_on_the_right_digit() -> None:
    graph = loaded(proof.Reader(), (16, 96), "reader", list("0123456789"))
    reading = read_outputs(graph)
    assert (reading.decoder, reading.form) == ("ctc", "text")
    x, truth = pictures(proof.line)
    read = [answer.string for answer in answers(graph, x)]
    assert sum(r == "".join(str(d) for d, _, _ in t) for r, t in zip(read, truth, strict=True)) >= 0.95 * COUNT
    right = total = 0
    for found, string, wanted in zip(explained(graph, x, "hirescam"), read, truth, strict=True):
        if string != "".join(str(d) for d, _, _ in wanted):
            continue
        good = []
        for attribution, (_, first, last) in zip(found, wanted, strict=True):
            columns = attribution.heatmap.sum(axis=0)
            near = columns[max(first - 4, 0) : last + 4].sum() / max(float(columns.sum()), 1e-12)
            good.append(near > 0.5 and first - 4 <= int(columns.argmax()) < last + 4)
        right, total = right + all(good), total + 1
    assert right >= 0.95 * total


def test_a_black_box_s_maps_point_into_the_box() -> None:
    graph = loaded(proof.Detector(), (64, 64), "detector", ["red", "green", "blue"])
    pointing = [
        explain(graph, proof.squares(s)[0][None], "drise", Question(box=1), preprocessed=True, masks=600, cells=8)
        for s in range(3)
    ]
    assert [a.figures["pointing"] for a in pointing] == [1, 1, 1]


def shown_box(place: tuple[int, int]) -> Graph:
    """A detector that gives one box, with a score as high as one pixel is bright."""
    pick = np.zeros((1, 3, 32, 32), np.float32)
    pick[0, :, place[0], place[1]] = 1 / 3
    table = np.zeros((1, 5, 20), np.float32)
    table[0, :4, 0] = 10, 12, 8, 6  # the box; the other candidates are empty
    score = np.zeros((1, 5, 20), np.float32)
    score[0, 4, 0] = 1
    nodes = [
        helper.make_node("Conv", ["image", "first"], ["features"]),
        helper.make_node("Relu", ["features"], ["seen"]),
        helper.make_node("Conv", ["seen", "pick"], ["bright"]),
        helper.make_node("Reshape", ["bright", "shape"], ["one"]),
        helper.make_node("Mul", ["one", "score"], ["scored"]),
        helper.make_node("Add", ["scored", "table"], ["output0"]),
    ]
    weights = {"first": np.eye(3, dtype=np.float32)[:, :, None, None], "pick": pick, "score": score, "table": table,
               "shape": np.array([-1, 1, 1])}  # fmt: skip
    return convscope.load(model(nodes, weights, ("N", 3, 32, 32), ("output0",), input_name="image"), check=False)


def test_d_rise_of_a_box_that_one_pixel_shows_is_the_mean_of_the_masks_that_show_it() -> None:
    """Closed form: the weight of a mask is what it leaves of the pixel, and the map E[m(pixel) m] / p."""
    place = (20, 9)
    graph = shown_box(place)
    x = np.ones((1, 3, 32, 32), np.float32)
    options = {"masks": 512, "cells": 8, "keep": 0.5, "seed": 3}
    found = explain(graph, x, "drise", Question(box=1), decoder="yolov8", preprocessed=True, **options)
    masks = np.concatenate(list(random_masks(np.random.default_rng(3), 512, 8, 0.5, (32, 32), 16)))
    masks = masks[: int(found.figures["masks"])]
    wanted = (masks[:, place[0], place[1], None, None] * masks).mean(axis=0) / 0.5
    np.testing.assert_allclose(found.values, wanted, atol=1e-5)
    assert np.unravel_index(found.values.argmax(), (32, 32)) == place or found.values[place] > 0.98 * found.values.max()


def test_d_rise_s_similarity_is_the_library_s_written_again() -> None:
    """The affinity of Microsoft's vision-explanation-methods 0.1.1, the box's own objectness left out."""
    rng = np.random.default_rng(0)
    corner, size = rng.uniform(0, 20, (7, 2)), rng.uniform(4, 12, (7, 2))
    boxes, shares = np.concatenate([corner, corner + size], axis=1), rng.uniform(0.01, 1, (7, 3))
    own, mine = boxes[2] + 1, rng.uniform(0.01, 1, 3)

    class Reading:
        graph = None

        def decode(self, rows: Any) -> Candidates:
            return Candidates(boxes, shares)

    found = Match(Reading(), tuple(own), 0, mine)({"y": np.zeros(1)})  # type: ignore[arg-type]
    best = 0.0
    for box, share in zip(boxes, shares, strict=True):
        wide, high = np.minimum(own[2:], box[2:]) - np.maximum(own[:2], box[:2])
        shared = max(wide, 0) * max(high, 0)
        union = np.prod(own[2:] - own[:2]) + np.prod(box[2:] - box[:2]) - shared
        cosine = share @ mine / np.linalg.norm(share) / np.linalg.norm(mine)
        best = max(best, shared / union * share.max() * cosine)
    assert found == pytest.approx(best, rel=1e-12)
