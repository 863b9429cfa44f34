"""Whatever is asked beside a target changes what is explained, or is refused; nothing of a question is dropped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from convscope.engine.graph.graph import Graph
from convscope.engine.outputs import read_outputs
from convscope.engine.outputs.reading import Question
from convscope.engine.outputs.target import row_of
from convscope.engine.runs.reading import Asked
from convscope.errors import UsageError

from .planted import SIZE, planted

COUNT = 84  # cells of 8, 16 and 32 pixels in a picture of 64


def boxes() -> np.ndarray:
    table = np.full((1, 7, COUNT), 0.01)
    table[0, :4] = np.array([20, 20, 10, 10])[:, None]
    table[0, :4, 9] = 44, 44, 10, 10
    table[0, 4:, 5] = 0.9, 0.6, 0.5
    table[0, 4:, 9] = 0.1, 0.8, 0.3
    return table


def maps() -> np.ndarray:
    found = np.random.default_rng(0).normal(0, 1, (1, 4, 16, 16))
    found[0, 1, :6] += 4
    found[0, 2, 8:12] += 4
    return found


def line() -> np.ndarray:
    steps = np.random.default_rng(1).normal(0, 0.1, (1, 8, 12))
    for step, symbol in enumerate([0, 3, 3, 0, 5, 0, 7, 0]):
        steps[0, step, symbol] += 3
    return steps


FORMS: dict[str, dict[str, Any]] = {
    "detection": {"outputs": {"output0": boxes()}},
    "classes": {"outputs": {"logits": np.array([[1.0, 3, 2, 0]])}},
    "labels": {"outputs": {"y": np.array([[1.0, 3, 2, 0]])}, "heads": {"y": "Sigmoid"}},
    "yes or no": {"outputs": {"y": np.array([[1.0]])}, "heads": {"y": "Sigmoid"}},
    "segmentation": {"outputs": {"seg": maps()}},
    "overlapping masks": {"outputs": {"seg": maps()}, "heads": {"seg": "Sigmoid"}},
    "one mask": {"outputs": {"seg": maps()[:, :1]}, "heads": {"seg": "Sigmoid"}},
    "text regions": {"outputs": {"shrink_map": maps()[:, 1:2] * 2}, "heads": {"shrink_map": "Sigmoid"}},
    "picture": {"outputs": {"rgb": np.random.default_rng(2).random((1, 3, 16, 16))}},
    "text": {"outputs": {"y": line()}, "heads": {"y": "Softmax"}},
    "embedding": {"outputs": {"embedding": np.random.default_rng(3).normal(size=(1, 6))}},
    "values": {"outputs": {"angle": np.array([[3.0, 1, 2]])}},
    "landmarks": {"outputs": {"landmarks": np.random.default_rng(4).random((1, 8))}},
}
PARTS: dict[str, Any] = {
    "box": 2,
    "of": "left",
    "against": 2,
    "region": (8, 0, 40, 24),
    "mask": np.pad(np.ones((8, 8), np.float32), ((20, 36), (4, 52))),
    "to": 5.0,
    "like": np.arange(1.0, 7.0),
    "target": 1,
}


def asked(graph: Graph, question: Question) -> list[Any]:
    reading = read_outputs(graph)
    values = graph.session(list(reading.tensors)).run(np.zeros((1, 3, SIZE, SIZE), np.float32))
    return [target.to_json() for target in reading.targets(row_of(values, reading.axes, 0), question)]


def outcome(graph: Graph, question: Question) -> str:
    try:
        return repr([{k: v for k, v in target.items() if k != "name"} for target in asked(graph, question)])
    except UsageError as error:
        return f"refused: {error}"


@pytest.mark.parametrize("form", FORMS)
def test_no_two_parts_of_a_question_hide_one_another(form: str) -> None:
    graph = planted(**FORMS[form])
    plain = outcome(graph, Question())
    for name, value in PARTS.items():
        alone = outcome(graph, replace(Question(), **{name: value}))
        # what the outputs say anyway may be asked for by name
        assert alone != plain or name == "target", f"{name}= is dropped"
        for other, second in PARTS.items():
            if other <= name or alone.startswith("refused"):
                continue
            both = outcome(graph, replace(Question(), **{name: value, other: second}))
            if both.startswith("refused"):
                continue
            single = outcome(graph, replace(Question(), **{other: second}))
            assert both not in (alone, single) or "target" in (name, other), f"{name}= and {other}=: one is dropped"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"box": True}, "box True is not a whole number"),
        ({"box": 1.5}, "box 1.5 is not a whole number"),
        ({"region": (1, 2, 3)}, "is not four whole numbers"),
        ({"region": (5, 0, 5, 9)}, "is empty"),
        ({"to": "thirty"}, "to='thirty' is no finite number"),
        ({"to": float("nan")}, "no finite number"),
        ({"like": [1.0, float("inf")]}, "like= holds values that are no finite numbers"),
        ({"mask": np.full((2, 2), np.nan)}, "mask= holds values"),
        ({"count": 0}, "count 0 is less than 1"),
    ],
)
def test_a_part_that_means_nothing_anywhere_is_refused_at_once(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Question(**parts)


def test_a_question_is_asked_alone() -> None:
    with pytest.raises(UsageError, match="box= does not go with a Question"):
        Asked(Question("cat"), box=2).question(None)  # type: ignore[arg-type]


def test_a_threshold_that_no_box_reaches_and_a_box_s_own_class_are_refused() -> None:
    graph = planted(**FORMS["detection"])
    assert len(asked(graph, Question("all:0.85"))) == 1
    assert outcome(graph, Question("all:0.95")).endswith("no box of planted reaches a score of 0.95 here")
    assert "the box's own" in outcome(graph, Question(box=1, against=0))
    assert "against= contrasts a box's classes" in outcome(graph, Question(box=1, against=1, of="left"))


def test_a_class_that_no_box_has_is_asked_for_with_the_objectness_it_needs() -> None:
    table = np.full((1, 252, 8), 0.01)
    table[0, :, :4] = 20, 20, 10, 10
    table[0, 7, 4:] = 0.2, 0.9, 0.01, 0.01  # a sure class in a place where no object is
    table[0, 8, 4:] = 0.9, 0.9, 0.02, 0.01
    graph = planted({"y": table})
    (target,) = asked(graph, Question(2))
    assert target["read"] == "logsumexp"
    reading = read_outputs(graph)
    rows = graph.session(list(reading.tensors)).run(np.zeros((1, 3, SIZE, SIZE), np.float32))
    row = row_of(rows, reading.axes, 0)
    both = (np.log(p / (1 - p)) for p in (table[0, :, 4], table[0, :, 7]))
    expected = np.log(np.exp(sum(both)).sum())
    assert reading.targets(row, Question(2))[0].score(row) == pytest.approx(expected, rel=1e-5)
