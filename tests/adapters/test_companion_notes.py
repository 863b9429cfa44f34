"""Nonsense beside a model is ignored and said; it never refuses nor spoils the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from convscope.adapters.load import load
from convscope.errors import UsageError
from tests import tiny

GOOD = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
NONSENSE: list[dict[str, Any]] = [
    {**GOOD, "resample": [2]},
    {**GOOD, "image_mean": [10**400] * 3},
    {**GOOD, "rescale_factor": 0},
    {"mean": [0.5] * 3, "std": [0.0] * 3},
]


def model(folder: Path, config: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.onnx").write_bytes(tiny.small_cnn().SerializeToString())
    return folder / "model.onnx"


@pytest.mark.parametrize("config", NONSENSE, ids=lambda config: "-".join(config))
def test_a_config_that_makes_no_sense_is_ignored_with_a_note(config: dict[str, Any], tmp_path: Path) -> None:
    graph = load(model(tmp_path, config), check=False)
    assert graph.preprocessing.found == "assumed"
    assert any("config.json beside the file states preprocessing that makes no sense" in n for n in graph.source.notes)


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [("config.json", '{"mean": [0.5', "JSON object"), ("preprocessor_config.json", "[1]", "JSON object"),
     ("inference.yml", "a: [", "YAML mapping")],
)  # fmt: skip
def test_a_file_of_settings_that_cannot_be_read_is_ignored_with_a_note(
    name: str, text: str, kind: str, tmp_path: Path
) -> None:
    path = model(tmp_path, {})
    assert not any("beside the file" in note for note in load(path, check=False).source.notes)
    (tmp_path / name).write_text(text)
    notes = load(path, check=False).source.notes
    assert f"{name} beside the file holds no {kind} that can be read; it was ignored" in notes


def test_a_config_that_does_is_taken_without_a_note(tmp_path: Path) -> None:
    graph = load(model(tmp_path, GOOD), check=False)
    assert graph.preprocessing.found == "companion"
    assert not any("makes no sense" in note for note in graph.source.notes)


def test_another_number_of_names_than_classes_is_said(tmp_path: Path) -> None:
    path = model(tmp_path, {})
    classes = load(path, check=False).outputs[0].shape[-1]
    assert classes is not None
    notes = load(path, check=False, labels=["a"] * (classes + 1)).source.notes
    assert any(f"{classes + 1} class names for {classes} classes" in note for note in notes)
    assert not any("class names" in n for n in load(path, check=False, labels=["a"] * classes).source.notes)


def test_a_size_that_the_file_s_fixed_input_contradicts_is_said_and_not_taken(tmp_path: Path) -> None:
    own = load(model(tmp_path, GOOD), check=False).image_size
    graph = load(model(tmp_path, {**GOOD, "size": {"height": 48, "width": 56}}), check=False)
    assert graph.image_size == graph.preprocessing.size == own
    assert any(
        f"a size of 48x56 is stated, but the model's input is fixed at {own[0]}x{own[1]}" in note
        for note in graph.source.notes
    )
    same = load(model(tmp_path, {**GOOD, "size": {"height": own[0], "width": own[1]}}), check=False)
    assert not any("is stated" in note for note in same.source.notes)


def test_a_size_that_is_asked_for_and_contradicts_the_fixed_input_is_refused(tmp_path: Path) -> None:
    path = model(tmp_path, {})
    own = load(path, check=False).image_size
    assert load(path, check=False, size=own).image_size == own
    with pytest.raises(UsageError, match=f"size 48x48 is asked for, but the model's input is fixed at {own[0]}x"):
        load(path, check=False, size=48)


def test_a_size_that_is_asked_for_overrules_the_companion_where_the_file_leaves_it_open(tmp_path: Path) -> None:
    path = model(tmp_path, {**GOOD, "size": {"height": 48, "width": 56}})
    nodes = [onnx.helper.make_node("Conv", ["x", "w"], ["y"], "conv")]
    weights = {"w": np.ones((4, 3, 3, 3), np.float32)}
    onnx.save(tiny.model(nodes, weights, ("N", 3, "h", "w"), ("y",)), path)
    assert load(path, check=False).image_size == (48, 56)
    assert load(path, check=False, size=32).image_size == (32, 32)
