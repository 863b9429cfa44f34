"""Classes are found by any of their names, and outputs decoded as the model's head means them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import convscope
from convscope.engine.graph import labels
from convscope.errors import RefusedInput, UsageError
from tests import tiny

NAMES = ("tench, Tinca tinca", "bald eagle, American eagle", "crane", "crane", "Egyptian cat")


@pytest.fixture(scope="module")
def graph() -> convscope.Graph:
    return convscope.load(tiny.small_cnn(), labels=NAMES, check=False)


@pytest.mark.parametrize(
    "text", ["bald eagle", "Bald_Eagle", "american eagle", "BALD-EAGLE", "1", 1, "bald eagle, American eagle"]
)
def test_a_class_is_found_by_index_and_by_any_name(graph: convscope.Graph, text: str | int) -> None:
    assert labels.find_class(graph, text) == 1
    assert labels.class_name(graph, 1) == "bald eagle"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bald eagel", "closest: 'bald eagle'"),
        ("xylophone", "they are 'tench, .* or give an index, 0-4"),
        ("5", r"out of range: .* \(0-4\)"),
        (-1, "out of range"),
        ("crane", "2, 3"),
        ("1, 2,4", "class '1, 2,4' is a list of 3 classes; one is taken at a time"),
    ],
)
def test_unknown_ambiguous_and_impossible_classes_are_named(graph: convscope.Graph, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        labels.find_class(graph, text)


def test_without_labels_only_an_index_will_do() -> None:
    bare = convscope.load(tiny.small_cnn(), check=False)
    assert labels.find_class(bare, "3") == 3
    assert labels.class_name(bare, 3) == "class 3"
    with pytest.raises(UsageError, match="no class names"):
        labels.find_class(bare, "cat")


def test_probabilities_are_the_softmax_of_the_logits_best_first(graph: convscope.Graph) -> None:
    logits = np.array([1.0, 3.0, 2.0, 3.0, -1.0])
    found = labels.predictions(graph, logits, top=3)
    assert [p.index for p in found] == [1, 3, 2]
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose([p.probability for p in found], expected[[1, 3, 2]])
    assert found[0].logit == 3.0


def test_imagenet_has_a_thousand_names_in_the_usual_order() -> None:
    names = labels.load_labels("imagenet")
    assert len(names) == 1000
    assert names[0].startswith("tench")
    assert names[22].startswith("bald eagle")
    assert names[999].startswith("toilet tissue")


@pytest.mark.parametrize(
    "text",
    [
        "a\nb\nc\n",
        '["a", "b", "c"]',
        '{"0": "a", "1": "b", "2": "c"}',
        '{"0": ["n1", "a"], "1": ["n2", "b"], "2": ["n3", "c"]}',
    ],
)
def test_label_files_are_lines_or_json(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels"
    path.write_text(text)
    assert labels.load_labels(path) == ("a", "b", "c")


@pytest.mark.parametrize("text", ['{"0": "a", "2": "b"}', "[1, 2]", "[", "", "\n\n"])
def test_label_files_that_make_no_sense_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels"
    path.write_text(text)
    with pytest.raises(RefusedInput):
        labels.load_labels(path)


@pytest.mark.parametrize("name", ["x" * 5000, "missing", ".", "/dev/zero", "/proc/self/mem", "", "a\0b", "\ud800"])
def test_a_labels_file_that_cannot_be_read_is_refused_by_its_name(name: str) -> None:
    with pytest.raises((UsageError, RefusedInput), match=r"neither|holds no names") as refused:
        labels.load_labels(name)
    assert len(str(refused.value)) < 300


def test_a_labels_file_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "labels.txt")
    with pytest.raises(UsageError, match="neither 'imagenet' nor a file"):
        labels.load_labels(tmp_path / "labels.txt")


def test_a_labels_file_of_absurd_names_is_refused_and_many_alike_are_found_at_once(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("a\n" * 1_000_001)
    with pytest.raises(RefusedInput, match="1,000,001 names"):
        labels.load_labels(path)
    path.write_text("a\n" + "b" * 10_001)
    with pytest.raises(RefusedInput, match="10,001 characters"):
        labels.load_labels(path)
