"""Every target says what its number is: on the terminal, on the page, in result.json."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import convscope
from convscope.engine.attribution.targets import output_target, segmentation_target, unit_target
from convscope.engine.graph.graph import Graph
from convscope.engine.outputs import read_outputs
from convscope.engine.outputs.reading import Question
from convscope.engine.outputs.reads import READS, Channel, Entry, Symbol
from convscope.engine.outputs.target import Target, of_function, row_of
from convscope.engine.runs import explain as explain_run

from .planted import SIZE, planted
from .test_parts_of_a_question import FORMS


def meanings(form: str, question: Question) -> list[str]:
    graph = planted(**FORMS[form])
    reading = read_outputs(graph)
    values = graph.session(list(reading.tensors)).run(np.zeros((1, 3, SIZE, SIZE), np.float32))
    return [target.meaning for target in reading.targets(row_of(values, reading.axes, 0), question)]


@pytest.mark.parametrize(
    ("form", "question", "said"),
    [
        ("classes", Question(), "logit, before the softmax"),
        ("labels", Question(), "logit, before the sigmoid"),
        ("yes or no", Question(0), "minus the logit, before the sigmoid"),
        ("classes", Question(against=2), "logit, before the softmax, less 0.6 times that of class 2"),
        ("classes", Question(against="top:2"), "less 0.6 times the mean of those of class 2, class 0"),
        ("detection", Question(box=1), "log-odds of the box's score"),
        ("detection", Question(box=1, of="left"), "left side of the box, in pixels of the model's input"),
        ("detection", Question(box=1, of="iou"), "overlap (IoU) with the box where it is now"),
        ("detection", Question(2), "over all boxes, a smooth maximum"),
        ("segmentation", Question(), "sum of the class's logits where it is the strongest class"),
        (
            "segmentation",
            Question(region=(8, 0, 40, 24)),
            "sum of the class's logits over the region that is asked for",
        ),
        ("overlapping masks", Question(), "sum of the class's logits inside the mask"),
        ("one mask", Question("background"), "minus the sum of the mask's logits outside the mask"),
        ("text regions", Question(), "sum of the logits of text over the region"),
        ("picture", Question(), "mean of the picture's values"),
        ("text", Question(box=1), "lead of the symbol's logit over the best other's, summed over its 2 time steps"),
        ("embedding", Question(), "square of the vector's length"),
        ("embedding", Question(like=np.arange(1.0, 7.0)), "cosine to the other picture's vector"),
        ("values", Question(), "value as the file gives it"),
        ("values", Question(to=5.0), "minus the squared distance to 5"),
        ("landmarks", Question(), "coordinate as the file gives it"),
    ],
)
def test_every_form_says_what_its_number_is(form: str, question: Question, said: str) -> None:
    found = meanings(form, question)
    assert found and all(said in meaning for meaning in found)


def test_units_neurons_outputs_masks_and_functions_say_it_too() -> None:
    graph = planted(**FORMS["segmentation"])
    layer = graph.layers[0]
    assert unit_target(graph, layer, 0).meaning == "the unit's activation, the mean over its map"
    assert unit_target(graph, layer, 0, (1, 2)).meaning == "the neuron's activation"
    assert output_target(graph, "seg", 1).meaning == "value of the channel, the mean where it has many"
    assert "over the mask" in segmentation_target(graph, 1, np.ones((16, 16))).meaning
    assert of_function(lambda o: o["seg"].mean(), ["seg"]).meaning == "what the function gives"
    assert Target(Channel("y", 1), "1", sign=-1.0).meaning.startswith("minus the value of the channel")
    assert Target(Entry((("y", (0,)), ("y", (1,))), log_odds=True), "").meaning.startswith("sum of 2 values, log-odds")
    assert "log-probability" in Target(Symbol("y", (1,), 2, log=True), "").meaning


def test_no_read_is_without_words() -> None:
    assert all("quantity" in vars(read) for read in READS.values())


def test_the_number_s_meaning_is_told_on_the_page_and_in_the_result(tmp_path: Path) -> None:
    graph: Graph = planted(**FORMS["detection"])
    options = explain_run.Options(method="saliency", box=1, of="left")
    picture = np.random.default_rng(0).random((SIZE, SIZE, 3)).astype(np.float32)
    explain_run.run(graph, picture, options, tmp_path)
    (entry,) = json.loads((tmp_path / "result.json").read_text())["images"][0]["maps"]
    assert entry["meaning"] == "left side of the box, in pixels of the model's input"
    assert entry["meaning"] in (tmp_path / "index.html").read_text().replace("\\u0027", "'")
    said = explain_run.explained_in_words([entry, entry, {**entry, "class": "x", "score": 2, "meaning": "logit"}])
    assert said == f"{entry['class']} (15): {entry['meaning']}; x (2): logit"


def test_the_result_in_memory_has_it(tmp_path: Path) -> None:
    graph = planted(**FORMS["classes"])
    found = convscope.explain(graph, np.zeros((SIZE, SIZE, 3), np.float32), "saliency")
    assert found.to_json()["meaning"] == found.target.meaning == "logit, before the softmax"
