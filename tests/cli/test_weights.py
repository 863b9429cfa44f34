"""weights from the outside: sheets, numbers, arrays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from convscope.cli.main import run

from .. import tiny
from ..tiny import small_cnn

FAST = ["--no-check", "--preprocessing", "torch"]


def test_every_convolution_has_a_sheet_its_numbers_and_its_array(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["weights", model, *FAST, "--save", "-o", str(out)]) == 0
    assert capsys.readouterr().out.split() == [str(out / "weights.npz"), str(out / "index.html")]
    stored = {t.name: numpy_helper.to_array(t) for t in small_cnn().graph.initializer}
    result = json.loads((out / "result.json").read_text())
    saved = np.load(out / "weights.npz")
    assert [e["layer"] for e in result["layers"]][:2] == ["conv1", "conv2"]
    for entry in result["layers"]:
        weight = saved[entry["layer"]]
        assert any(w.shape == weight.shape and np.array_equal(w, weight) for w in stored.values())
        norms = [f["norm"] for f in entry["filters"]]
        np.testing.assert_allclose(norms, np.linalg.norm(weight.reshape(len(weight), -1), axis=1), rtol=1e-5)
        with Image.open(out / entry["file"]) as sheet:
            assert sheet.info["layer"] == entry["layer"] and min(sheet.size) > 20


def planted(order: list[int], tmp_path: Path) -> str:
    """A first layer of one 1 x 1 filter that answers to the model's channel 0 alone."""
    weight = np.zeros((1, 3, 1, 2), np.float32)
    weight[0, order[0]] = 1
    node = helper.make_node("Conv", ["x", "w"], ["y"], "conv1")
    path = tmp_path / f"planted{order[0]}.onnx"
    onnx.save(tiny.model([node], {"w": weight}, ("N", 3, 16, 16), ("y",)), path)
    return str(path)


@pytest.mark.parametrize(("order", "red_channel"), [("RGB", 0), ("BGR", 2)])
def test_a_filter_for_red_looks_red_whatever_the_models_channel_order(
    order: str, red_channel: int, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run(["weights", planted([red_channel], tmp_path), *FAST, "--order", order, "-o", str(out)]) == 0
    entry = json.loads((out / "result.json").read_text())["layers"][0]
    with Image.open(out / entry["file"]) as sheet:
        assert sheet.convert("RGB").getpixel((1, 1)) == (255, 0, 0)


def test_top_units_are_those_with_the_largest_norm(model: str, tmp_path: Path) -> None:
    for units in ("all", "top:2"):
        assert run(["weights", model, *FAST, "--layer", "conv2", "--units", units, "-o", str(tmp_path / units)]) == 0
    every, best = (
        json.loads((tmp_path / u / "result.json").read_text())["layers"][0]["filters"] for u in ("all", "top:2")
    )
    assert [f["unit"] for f in best] == [f["unit"] for f in sorted(every, key=lambda f: -f["norm"])[:2]]


@pytest.mark.parametrize("wrong", [["--layer", "relu1"], ["--layer", "nothere"], ["--scale", "loud"]])
def test_wrong_use_ends_with_2_and_one_line(
    model: str, tmp_path: Path, wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["weights", model, *wrong, *FAST, "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.strip().startswith("error: ")
