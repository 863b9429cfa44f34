"""Pictures as values of inputs beside the picture: pairs, masks, in Python and on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import convscope
from convscope.cli.main import run
from convscope.engine.pictures.read import model_input, read_image
from convscope.errors import RefusedInput, UsageError

RNG = np.random.default_rng(3)
SIDE = 12


def pair(path: Path, other: list[Any], kind: int = TensorProto.FLOAT, name: str = "other") -> Path:
    """A file that gives x + the other input, both moved to channels first: what each was fed can be read off."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"])]
    last = name
    if kind != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [last], ["cast"], to=TensorProto.FLOAT))
        last = "cast"
    if other[3] in (1, 3):
        nodes.append(helper.make_node("Transpose", [last], ["first"], perm=[0, 3, 1, 2]))
        last = "first"
    sides = ["N", 3, *(other[2:] if "H" in other else (SIDE, SIDE))]
    nodes += [helper.make_node("Mul", ["c", "zero"], ["z"]), helper.make_node("Add", ["z", last], ["y"])]
    graph = helper.make_graph(
        nodes,
        "pair",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, sides),
            helper.make_tensor_value_info(name, kind, other),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(RNG.normal(size=(3, 3, 1, 1)).astype(np.float32), "w"),
            numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
        ],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(RNG.integers(0, 256, (20, 31, 3), dtype=np.uint8)).save(path)
    return path


def fed(graph: convscope.Graph) -> np.ndarray:
    """What the other input holds, (C, H, W)."""
    x = np.zeros((1, 3, SIDE, SIDE), np.float32)
    return np.asarray(graph.session(["y"], device="cpu").run({"x": x})["y"][0])


@pytest.mark.parametrize("other", [["N", 3, SIDE, SIDE], ["N", SIDE, SIDE, 3], ["N", 3, "H", "W"]])
def test_the_other_picture_is_preprocessed_as_the_first_one(other: list[Any], photo: Path, tmp_path: Path) -> None:
    file = pair(tmp_path / "pair.onnx", other)
    options: dict[str, Any] = {"preprocessing": "caffe", "size": SIDE if "H" in other else None}
    graph = convscope.load(file, inputs={"other": photo}, **options)
    np.testing.assert_allclose(fed(graph), model_input(read_image(photo), graph)[0], atol=1e-5)
    assert any("photo.png" in note and "BGR" in note for note in graph.source.notes)
    with Image.open(photo) as picture:
        again = convscope.load(file, inputs={"other": picture}, **options)
    np.testing.assert_array_equal(fed(again), fed(graph))


def test_a_mask_is_in_gray_from_0_to_1_without_blending_whatever_the_picture_s_range(tmp_path: Path) -> None:
    drawn = np.zeros((24, 24), np.uint8)
    drawn[6:13] = 255
    Image.fromarray(drawn).save(tmp_path / "drawn.png")
    file = pair(tmp_path / "pair.onnx", ["N", 1, SIDE, SIDE], name="mask")
    graph = convscope.load(file, inputs={"mask": tmp_path / "drawn.png"}, preprocessing="torch")
    found = fed(graph)[0]
    assert set(np.unique(found.round(6))) == {0.0, 1.0}
    assert found[3:6].all()
    assert any("without blending" in note for note in graph.source.notes)


def test_what_takes_no_picture_and_what_is_none_is_refused_in_one_line(photo: Path, tmp_path: Path) -> None:
    file = pair(tmp_path / "pair.onnx", ["N", 4, SIDE, SIDE])
    with pytest.raises(UsageError, match=r"other.*photo.png is a picture, and the input takes 1x4x12x12"):
        convscope.load(file, inputs={"other": photo})
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(RefusedInput, match=r"broken.png"):
        convscope.load(pair(tmp_path / "p.onnx", ["N", 3, SIDE, SIDE]), inputs={"other": tmp_path / "broken.png"})
    with pytest.raises(UsageError, match=r"does not exist|no such"):
        convscope.load(file, inputs={"other": tmp_path / "none.png"})


def test_the_command_line_takes_a_picture_and_prepares_it_with_the_flags_of_the_first(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = pair(tmp_path / "pair.onnx", ["N", 3, SIDE, SIDE]), tmp_path / "out"
    flags = ["--input", f"other={photo}", "--range=-1,1", "--no-check", "--layer", "y", "--save", "npz"]
    assert run(["activations", str(file), str(photo), *flags, "-o", str(out)]) == 0
    said = capsys.readouterr().err
    assert f"{photo}, preprocessed as the picture is (range -1..1" in said
    graph = convscope.load(file, preprocessing=convscope.load(file).preprocessing.changed(range=(-1, 1)), check=False)
    with np.load(next(out.rglob("*.npz"))) as saved:
        np.testing.assert_allclose(saved["y"][0], model_input(read_image(photo), graph)[0], atol=1e-5)
