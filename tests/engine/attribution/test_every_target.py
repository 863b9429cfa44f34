"""Methods and measures answer the question that is asked: its sign, its contrast, its options, one copy at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import convscope
from convscope.engine.attribution import Batch, Executors, Question, explain
from convscope.engine.attribution.faithfulness import measures
from convscope.engine.attribution.methods.masks import random_masks
from convscope.engine.attribution.methods.sensitivity import dependence
from convscope.engine.graph.graph import Graph
from convscope.engine.outputs.reads import Box, Channel, Cosine, Entry, Masked
from convscope.engine.outputs.target import Target
from convscope.engine.runs import explain as explain_run
from convscope.errors import UsageError

SIZE = 16


@pytest.fixture(scope="module")
def graph() -> Graph:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
    )  # fmt: skip
    with torch.no_grad():
        net[-1].weight.mul_(9)
    labels = ["a", "b", "c", "d"]
    return convscope.load(net.eval(), example_input=torch.zeros(1, 3, SIZE, SIZE), check=False, labels=labels)


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).random((SIZE, SIZE, 3), dtype=np.float32)


def outputs_under(graph: Graph, picture: np.ndarray, masks: np.ndarray) -> np.ndarray:
    x = graph.preprocessing.normalize(picture.transpose(2, 0, 1)[None])
    return np.concatenate([graph.session([graph.logits]).run(np.float32(x * m))[graph.logits] for m in masks])


@pytest.mark.parametrize("asked", ["against", "sign"])
def test_rise_weighs_its_masks_by_the_number_that_is_asked(graph: Graph, picture: np.ndarray, asked: str) -> None:
    masks = np.concatenate(list(random_masks(np.random.default_rng(0), 40, 4, 0.5, (SIZE, SIZE), 16)))
    logits = outputs_under(graph, picture, masks).astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    if asked == "against":
        question: Any = Question("b", against="c")
        weights = logits[:, 1] - 0.6 * logits[:, 2]
    else:
        question = Target(Channel(graph.logits, 1), "not b", sign=-1.0)
        weights = 1 - shares[:, 1]
    found = explain(graph, picture, "rise", question, masks=40, cells=4)
    expected = np.tensordot(weights, masks, axes=1) / (40 * 0.5)
    assert np.allclose(found.values, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ["sobol", "hsic", "rise", "occlusion", "kernelshap"])
def test_no_method_drops_what_a_class_is_contrasted_with(graph: Graph, picture: np.ndarray, method: str) -> None:
    options: dict[str, dict[str, int]] = {
        "sobol": {"cells": 3, "designs": 8}, "hsic": {"cells": 3, "designs": 40}, "rise": {"masks": 40},
        "kernelshap": {"pieces": 6},
    }  # fmt: skip
    own = options.get(method, {})
    plain = explain(graph, picture, method, "b", **own)
    contrast = explain(graph, picture, method, Question("b", against="c"), **own)
    assert np.abs(plain.values - contrast.values).max() > 1e-3 * np.abs(plain.values).max()


def test_measures_of_a_negative_number_see_it_fall(graph: Graph, picture: np.ndarray) -> None:
    x = graph.preprocessing.normalize(picture.transpose(2, 0, 1)[None])[0].astype(np.float32)
    heat = np.random.default_rng(1).random((SIZE, SIZE)).astype(np.float32)
    executors = Executors(graph)
    for index in range(4):
        for sign in (1.0, -1.0):
            target = Target(
                Channel(graph.logits, index), "", sign=sign, against=(Target(Channel(graph.logits, 0), ""),)
            )
            before, after = executors.scores(np.stack([x, x * heat]), [target])
            drop, _ = measures.average_drop_increase(executors, x, heat, target)
            assert drop == pytest.approx(max(0.0, before - after) / abs(before))


def test_hsic_sees_a_dependence_where_most_scores_are_equal() -> None:
    rng = np.random.default_rng(0)
    masks = (rng.random((300, 6)) < 0.5).astype(np.float64)
    found = dependence(masks, masks[:, 0] * masks[:, 1] * masks[:, 2])  # 1 for an eighth of the masks
    assert found[:3].min() > 5 * found[3:].max() > 0
    assert not dependence(masks, np.ones(300)).any()


class Company(nn.Module):
    """A line with time first whose pictures change one another in a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 4, 3, padding=1)
        self.head = nn.Linear(4 * 6, 5)

    def forward(self, x: Tensor) -> Tensor:
        found = torch.relu(self.features(x))
        found = found / (found.mean() + 1)
        return self.head(found.permute(3, 0, 1, 2).flatten(2))


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("ablationcam", {}),
        ("smoothgrad", {"samples": 3}),
        ("integratedgradients", {"steps": 6}),
        ("smoothgradcam++", {}),
    ],
)
def test_copies_of_a_picture_are_asked_one_at_a_time_where_they_would_mix(method: str, options: dict[str, int]) -> None:
    torch.manual_seed(1)
    graph = convscope.load(Company().eval(), example_input=torch.zeros(1, 1, 6, 12), check=False)
    assert graph.mixes_batch is not None
    pictures = np.random.default_rng(2).random((2, 1, 6, 12)).astype(np.float32)
    together = explain(graph, pictures, method, Question(box=1), **options)
    alone = [explain(graph, p[None], method, Question(box=1), batch=1, **options) for p in pictures]
    for left, right in zip(together, alone, strict=True):
        assert np.array_equal(left.values, right.values)
    if method == "integratedgradients":
        finer = explain(graph, pictures[:1], method, Question(box=1), steps=200)
        figures = finer.figures
        assert abs(figures["completeness_gap"]) < 0.05 * abs(figures["score_change"])


def test_deeplift_refuses_a_network_that_would_mix_a_picture_with_its_baseline() -> None:
    torch.manual_seed(1)
    graph = convscope.load(Company().eval(), example_input=torch.zeros(1, 1, 6, 12), check=False)
    picture = np.random.default_rng(2).random((1, 1, 6, 12)).astype(np.float32)
    with pytest.raises(UsageError, match=r"runs a picture and its baseline in one batch, which .* take integratedgr"):
        explain(graph, picture, "deeplift", Question(box=1))
    notes: list[str] = []
    options = explain_run.Options(
        method="all", box=1, settings={"masks": 4, "samples": 4, "designs": 4, "cells": 2, "steps": 2, "pieces": 3}
    )
    done = explain_run.run(graph, picture, options, on_event=lambda e: notes.append(getattr(e, "text", "")))
    assert any("left out: deeplift runs a picture" in note for note in notes)
    assert "deeplift" not in {found.method for found in done.attributions[0]}


@pytest.mark.parametrize("method", ["refinecam", "gradcam"])
def test_methods_on_several_layers_are_measured_on_all_of_them(graph: Graph, picture: np.ndarray, method: str) -> None:
    layers = [layer.name for layer in graph.layers if layer.is_spatial and (layer.shape[2] or 0) > 1]
    both, first = (
        explain_run.run(graph, picture, explain_run.Options(method=method, target="b", layer=names, metrics=True))
        for names in (",".join(layers[::2]), layers[-1])
    )
    assert both.ranking[0].sensitivity is not None and first.ranking[0].sensitivity is not None
    assert both.ranking[0].sensitivity != first.ranking[0].sensitivity


def test_measures_take_the_options_that_the_map_was_made_with(graph: Graph, picture: np.ndarray) -> None:
    found = [
        explain_run.run(
            graph, picture,
            explain_run.Options(method="smoothgrad", target="b", metrics=True, settings={"samples": 2, "noise": noise}),
        ).ranking[0].sensitivity
        for noise in (0.01, 1.0)
    ]  # fmt: skip
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda t: Channel(t, 99), "channel 99 along axis 1 is not in"),
        (lambda t: Channel(t, -1), "channel -1 along axis 1"),
        (lambda t: Channel(t, 0, axis=3), "channel 0 along axis 3"),
        (lambda t: Entry(((t, (7,)),)), r"entry \(7,\) is not in"),
        (lambda t: Entry(((t, (0, 0)),)), r"entry \(0, 0\) is not in"),
        (lambda t: Cosine(t, np.ones(3, np.float32)), "the reference has 3 numbers, but there are 4"),
        (lambda t: Masked(t, 0, np.ones((2, 2))), r"a mask of shape \(2, 2\) does not fit"),
    ],
)
def test_a_target_that_is_not_in_the_tensor_is_refused_in_one_line(
    graph: Graph, picture: np.ndarray, read: Any, message: str
) -> None:
    for method in ("saliency", "rise"):
        with pytest.raises(UsageError, match=message) as caught:
            explain(graph, picture, method, Target(read(graph.logits), "x"))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda o: o["none"], "asked for 'none', which is not there; outputs are"),
        (lambda o: next(iter(o.values())), "gives 4 numbers"),
        (lambda _: 1.0, "a number without a gradient"),
    ],
)
def test_a_function_that_is_no_target_is_refused_in_one_line(
    graph: Graph, picture: np.ndarray, function: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        explain(graph, picture, "saliency", function)


@pytest.mark.parametrize("target", ["unit:conv1", "unit:", "output:x", "top:", "top:x", "all:2", "all:-1"])
def test_a_target_that_begins_as_one_of_a_kind_and_is_none_says_how_to_write_it(
    graph: Graph, picture: np.ndarray, target: str
) -> None:
    with pytest.raises(UsageError, match=f"target='{target}' is not understood; write .*{target[:2]}"):
        explain(graph, picture, "saliency", target)
    named = replace(graph, labels=(target, "b", "c", "d"))  # unless a class is called so
    assert explain(named, picture, "saliency", target).target.name == target


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": 3}, "method 3 is no name"),
        ({"batch": 1.5}, "batch 1.5 is not a whole number"),
        ({"method": "integratedgradients", "baseline": None}, "no finite numbers"),
        ({"images": np.full((SIZE, SIZE, 3), np.nan)}, "no finite numbers"),
        ({"images": np.full((1, 3, SIZE, SIZE), np.inf), "preprocessed": True}, "no finite numbers"),
    ],
)
def test_odd_arguments_are_refused_in_one_line(
    graph: Graph, picture: np.ndarray, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        explain(graph, **{"images": picture, "target": "b", **arguments})


@pytest.mark.parametrize("form", ["cxcywh", "ltrb"])
def test_the_overlap_of_a_box_with_itself_has_one_slope_whatever_rounding_does(form: str) -> None:
    box = np.array([33.3, 47.7, 20.1, 30.9] if form == "cxcywh" else [23.1, 32.2, 43.7, 63.3], np.float32)
    a, b, c, d = box.astype(np.float64)
    sides = (a - c / 2, b - d / 2, a + c / 2, b + d / 2) if form == "cxcywh" else (a, b, c, d)
    read = Box("y", ((0,), (1,), (2,), (3,)), form, "iou", reference=sides)
    width, height = sides[2] - sides[0], sides[3] - sides[1]
    expected = [0, 0, 1 / width, 1 / height] if form == "cxcywh" else [-1 / width, -1 / height, 1 / width, 1 / height]
    for shift in (-2e-5, 0.0, 2e-5):  # as two executors differ
        values = torch.tensor(box + np.float32(shift), requires_grad=True)
        value = read.value({"y": values})
        assert float(value.detach()) == pytest.approx(1, abs=1e-4)
        assert float(read.value({"y": box + np.float32(shift)})) == pytest.approx(float(value.detach()), abs=1e-6)
        (gradient,) = torch.autograd.grad(value, values)
        assert np.allclose(gradient.numpy(), expected, rtol=1e-3, atol=1e-5)


def test_a_map_that_holds_no_numbers_says_so() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sqrt(x).mean(dim=(2, 3))  # the slope of a square root at 0 is infinite

    graph = convscope.load(Broken().eval(), example_input=torch.zeros(1, 3, SIZE, SIZE), check=False)
    batch = Batch(Executors(graph), np.zeros((1, 3, SIZE, SIZE), np.float32))
    found = explain(graph, batch.x, "saliency", Target(Channel(graph.logits, 0), "0"), preprocessed=True)
    assert "no finite numbers" in found.notes[0]
