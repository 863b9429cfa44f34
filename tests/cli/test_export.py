"""``convscope export`` and ``convscope verify`` of what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from convscope.cli import main

from ..tiny import small_cnn


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(small_cnn(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_a_model_is_exported_and_its_file_verified(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = model.with_name("out.onnx")
    assert main.run(["export", str(model), "-o", str(out), "--layer", "relu1", "--method", "layercam"]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(out)
    assert "layercam at 'relu1'" in captured.err and "8 pictures x 3 classes" in captured.err
    assert main.run(["verify", str(out), "--quiet"]) == 0
    assert "heatmap  " in capsys.readouterr().out


def test_json_says_what_was_proven(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["export", str(model), "-o", str(model.with_name("out.onnx")), "--json", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["difference"] < 1e-5 and result["method"] == "gradcam" and result["added_nodes"] > 0


def test_verify_finds_a_file_whose_map_was_tampered_with(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = model.with_name("out.onnx")
    main.run(["export", str(model), "-o", str(out), "--layer", "relu1", "--quiet"])
    file = onnx.load(out)
    for node in file.graph.node:
        if node.name.startswith("heatmap/ReduceMean"):
            node.op_type = "ReduceMax"
    onnx.save(file, out)
    capsys.readouterr()
    assert main.run(["verify", str(out), "--json", "--quiet"]) == 1
    assert json.loads(capsys.readouterr().out)["heatmap_rel"] > 1e-3


def test_an_unwritable_place_is_said_in_a_line(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["export", str(model), "-o", str(model / "out.onnx")]) == 2
    assert "cannot write" in capsys.readouterr().err


def test_an_exported_file_is_no_model_to_export_again(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = model.with_name("out.onnx")
    main.run(["export", str(model), "-o", str(out), "--quiet"])
    assert main.run(["export", str(out), "-o", str(model.with_name("twice.onnx"))]) == 3
    assert "'heatmap' already" in capsys.readouterr().err


def test_the_labels_and_the_preprocessing_travel_with_the_file(model: Path) -> None:
    import convscope

    out = model.with_name("out.onnx")
    labels = model.with_name("labels.txt")
    labels.write_text("a\nb\nc\nd\ne\n")
    arguments = ["--preprocessing", "torch", "--labels", str(labels), "--quiet"]
    assert main.run(["export", str(model), "-o", str(out), *arguments]) == 0
    graph = convscope.load(out)
    assert graph.labels == tuple("abcde") and graph.preprocessing.mean == (0.485, 0.456, 0.406)
    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load(out).graph.initializer}
    assert np.array_equal(weights["class"], [-1])


@pytest.mark.parametrize(
    "flags",
    [
        ["--target", "3"],
        ["--target", "unit:relu2:4"],
        ["--method", "integratedgradients", "--steps", "4"],
        ["--preprocessing", "torch,inside"],
    ],
    ids=" ".join,
)
def test_verify_compares_every_kind_of_file(model: Path, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    out = model.with_name("out.onnx")
    assert main.run(["export", str(model), "-o", str(out), "--quiet", *flags]) == 0
    capsys.readouterr()
    code = main.run(["verify", str(out), "--quiet", "--json", "--size", "16"])
    said = capsys.readouterr()
    assert code == 0, said
    assert json.loads(said.out)["heatmap_rel"] < 1e-4
