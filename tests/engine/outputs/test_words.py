"""Every word that the documentation knows for a target, in every form of output: what it asks for, or why nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convscope.engine.attribution.targets import resolve
from convscope.engine.graph.graph import Graph
from convscope.engine.outputs import Question, read_outputs
from convscope.engine.outputs.target import Target, row_of
from convscope.engine.runs import explain as explain_run
from convscope.errors import UsageError

from .planted import SIZE, planted
from .test_parts_of_a_question import boxes, line, maps

TEXT = np.full((1, 1, 16, 16), -5.0)
TEXT[0, 0, 1:3, 1:8] = 5  # the first line
TEXT[0, 0, 6:9, 2:12] = 1  # a longer one below it, of which the file is less sure
ONE = np.full((1, 1, 16, 16), -2.0)
ONE[0, 0, :4] = 3.0
VALUES = np.array([[3.0, 1, 2]])
FORMS: dict[str, dict[str, Any]] = {
    "classes": {"outputs": {"logits": np.array([[1.0, 3, 2, 0]])}},
    "names": {"outputs": {"y": np.array([[1.0, 3, 2]])}, "labels": ["cat", "dog, hound", "owl"]},
    "labels": {"outputs": {"y": np.array([[1.0, 3, -2, 0]])}, "heads": {"y": "Sigmoid"}},
    "yes or no": {"outputs": {"y": np.array([[1.0]])}, "heads": {"y": "Sigmoid"}, "labels": ["fire"]},
    "boxes": {"outputs": {"output0": boxes()}, "labels": ["red", "blue", "green"]},
    "masks": {"outputs": {"seg": maps()}, "labels": ["sky", "sea", "sand", "sun"]},
    "one mask": {"outputs": {"seg": ONE}},
    "text regions": {"outputs": {"shrink_map": TEXT}, "heads": {"shrink_map": "Sigmoid"}},
    "line": {"outputs": {"y": line()}, "heads": {"y": "Softmax"}, "labels": list("abcdefghijk")},
    "numbers of a line": {"outputs": {"y": line()}, "heads": {"y": "Softmax"}},
    "embedding": {"outputs": {"embedding": np.random.default_rng(3).normal(size=(1, 6))}},
    "values": {"outputs": {"angle": VALUES}},
    "landmarks": {"outputs": {"landmarks": np.random.default_rng(4).random((1, 8))}},
    "picture": {"outputs": {"rgb": np.random.default_rng(2).random((1, 3, 16, 16))}},
}
REFUSED = "refused: "
WORDS: list[tuple[str, Any, list[str] | str]] = [
    ("classes", None, ["class 1"]),
    ("classes", 2, ["class 2"]),
    ("classes", "2", ["class 2"]),
    ("classes", "class 2", ["class 2"]),  # as it is shown
    ("classes", "top:2", ["class 1", "class 2"]),
    ("classes", "all:0.2", ["class 1", "class 2"]),
    ("classes", "all", ["class 1"]),
    ("classes", "all:0.9", REFUSED + "reaches a probability of 0.9"),
    ("classes", "class 4", REFUSED + "out of range"),
    ("classes", "top:0", REFUSED + "asks for no class"),
    ("names", "hound", ["dog"]),
    ("names", "Owl", ["owl"]),
    ("names", "fox", REFUSED + "not among the 3 class names"),
    ("labels", "all", ["class 1", "class 0", "class 3"]),
    ("labels", "all:0.9", ["class 1"]),
    ("labels", "top:2", ["class 1", "class 0"]),
    ("yes or no", None, ["fire"]),
    ("yes or no", "fire", ["fire"]),
    ("yes or no", "not fire", ["not fire"]),
    ("yes or no", 1, ["fire"]),
    ("yes or no", 0, ["not fire"]),
    ("yes or no", "top:1", ["fire"]),
    ("yes or no", "top:2", ["fire", "not fire"]),
    ("yes or no", "all", ["fire"]),
    ("yes or no", "all:0.9", REFUSED + "neither side"),
    ("yes or no", "all:0.2", ["fire", "not fire"]),
    ("boxes", None, ["box 1: red", "box 2: blue"]),
    ("boxes", "blue", ["box 2: blue"]),
    ("boxes", "green", ["green anywhere"]),
    ("boxes", "top:1", ["box 1: red"]),
    ("boxes", "all", ["box 1: red", "box 2: blue"]),
    ("boxes", "all:0.85", ["box 1: red"]),
    ("masks", None, ["sea", "sand", "sky"]),
    ("masks", "sky", ["sky"]),
    ("masks", "top:2", ["sea", "sand"]),
    ("masks", "all", ["sea", "sand", "sky", "sun"]),
    ("masks", "all:0.5", REFUSED + "masks have none"),
    ("one mask", None, ["foreground"]),
    ("one mask", "foreground", ["foreground"]),
    ("one mask", "background", ["background"]),
    ("one mask", "not foreground", ["background"]),
    ("one mask", "all", ["foreground"]),
    ("one mask", "top:3", ["foreground"]),
    ("one mask", "all:0.5", REFUSED + "masks have none"),
    ("one mask", "sky", REFUSED + "ask for 'foreground' or 'background'"),
    ("text regions", None, ["text 2", "text 1"]),  # the larger first
    ("text regions", "text 2", ["text 2"]),
    ("text regions", "text 1", ["text 1"]),
    ("text regions", "text 3", REFUSED + "2 regions of text found"),
    ("text regions", "top:1", ["text 2"]),
    ("text regions", "all", ["text 2", "text 1"]),
    ("text regions", "all:0.9", ["text 1"]),
    ("text regions", "all:0.999", REFUSED + "no region of text"),
    ("text regions", "text", ["text"]),
    ("text regions", "background", ["background"]),
    ("line", None, ["1: c", "2: e", "3: g"]),
    ("line", "all", ["1: c", "2: e", "3: g"]),
    ("line", "e", ["2: e"]),
    ("line", "7", ["3: g"]),
    ("line", "top:1", ["1: c"]),
    ("line", "all:0.9", REFUSED + "no character"),
    ("line", "z", REFUSED + "'z' was not read; 'ceg' was"),
    ("numbers of a line", "<5>", ["2: <5>"]),
    ("embedding", None, ["norm (squared)"]),
    ("embedding", 4, ["number 4"]),
    ("embedding", "number 4", ["number 4"]),
    ("embedding", "top:2", ["number 0", "number 2"]),
    ("embedding", "all", [f"number {i}" for i in range(6)]),
    ("embedding", "all:0.5", REFUSED + "these numbers have none"),
    ("values", None, ["value 0"]),
    ("values", 2, ["value 2"]),
    ("values", "value 2", ["value 2"]),
    ("values", "top:2", ["value 0", "value 2"]),
    ("values", "all", ["value 0", "value 1", "value 2"]),
    ("values", "all:0.5", REFUSED + "these numbers have none"),
    ("landmarks", None, [f"point {n} {s}" for n in (1, 2, 3) for s in "xy"]),
    ("landmarks", "point 2", ["point 2 x", "point 2 y"]),
    ("landmarks", "point 2 y", ["point 2 y"]),
    ("landmarks", 3, ["point 2 y"]),
    ("landmarks", "top:1", ["point 1 x", "point 1 y"]),
    ("landmarks", "all", [f"point {n} {s}" for n in (1, 2, 3, 4) for s in "xy"]),
    ("landmarks", "point 5", REFUSED + "gives 4 points"),
    ("picture", None, ["mean brightness"]),
    ("picture", 0, REFUSED + "target= means nothing"),
    ("boxes", "unit:features:0", ["features:0"]),
    ("boxes", "unit:features:0@2,3", ["features:0@2,3"]),
    ("boxes", "output:output0:4", ["output0:4"]),
]  # fmt: skip


def found(graph: Graph, question: Question) -> tuple[list[Target], Any]:
    reading = read_outputs(graph)
    values = graph.session(list(reading.tensors)).run(np.zeros((1, 3, SIZE, SIZE), np.float32))
    rows = row_of(values, reading.axes, 0)
    return resolve(reading, question, rows), rows


@pytest.mark.parametrize(("form", "word", "expected"), WORDS, ids=lambda value: str(value)[:30])
def test_a_word_asks_for_what_it_says(form: str, word: Any, expected: list[str] | str) -> None:
    graph = planted(**FORMS[form])
    if isinstance(expected, str):
        with pytest.raises(UsageError, match=expected.removeprefix(REFUSED)):
            found(graph, Question(word))
        return
    targets, _ = found(graph, Question(word))
    assert [target.name.replace("Relu", "features") for target in targets] == expected


def test_every_form_of_output_has_its_words() -> None:
    assert {form for form, _, _ in WORDS} == set(FORMS)


NUMBERS: list[tuple[str, Any, float]] = [
    ("classes", "class 2", 2.0),
    ("yes or no", "not fire", -1.0),
    ("one mask", None, 3.0 * 64),
    ("one mask", "background", 2.0 * 192),  # minus the sum of what lies outside
    ("text regions", "text 1", 5.0 * 14),
    ("text regions", "text 2", 1.0 * 30),
    ("text regions", "text", 5.0 * 14 + 1.0 * 30),
    ("text regions", "background", 5.0 * (256 - 44)),
    ("values", "value 2", 2.0),
    ("boxes", "output:output0:4", (0.01 * 82 + 0.9 + 0.1) / 84),
]


@pytest.mark.parametrize(("form", "word", "number"), NUMBERS, ids=lambda value: str(value)[:30])
def test_the_number_of_a_word_is_the_one_by_hand(form: str, word: Any, number: float) -> None:
    (target,), rows = found(planted(**FORMS[form]), Question(word))
    if form == "boxes":
        session = planted(**FORMS[form]).session(list(target.tensors))
        rows = {name: value[0] for name, value in session.run(np.zeros((1, 3, SIZE, SIZE), np.float32)).items()}
    assert float(target.score(rows)) == pytest.approx(number, rel=1e-4)


def test_a_region_s_place_is_its_own_line() -> None:
    (first,), _ = found(planted(**FORMS["text regions"]), Question("text 1"))
    (second,), _ = found(planted(**FORMS["text regions"]), Question("text 2"))
    assert first.box is not None and second.box is not None and first.box[3] < second.box[3]
    assert first.place is not None and second.place is not None and not (first.place & second.place).any()


@pytest.mark.parametrize(("form", "word"), [("text regions", "text 2"), ("one mask", "background"), ("masks", "all")])
def test_the_command_s_run_takes_the_words(form: str, word: str, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).random((SIZE, SIZE, 3)).astype(np.float32)
    options = explain_run.Options(method="saliency", target=word)
    maps_made = explain_run.run(planted(**FORMS[form]), picture, options, tmp_path).content["images"][0]["maps"]
    expected = next(names for f, w, names in WORDS if (f, w) == (form, word))
    assert [entry["class"] for entry in maps_made] == expected
