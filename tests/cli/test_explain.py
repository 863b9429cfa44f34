"""``convscope explain`` and ``convscope attack`` from the outside: files, JSON, exit codes."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

pytest.importorskip("convscope.engine.pictures.read")
pytest.importorskip("convscope.engine.graph.labels")

from convscope.cli import main
from convscope.engine.attribution import METHODS
from tests.engine.attribution.nets import residual

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The small residual network as an ONNX file, five classes, 32 px."""
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    torch.onnx.export(
        residual()[0],
        (torch.zeros(2, 3, 32, 32),),
        path,
        dynamo=False,
        dynamic_axes={"x": {0: "n"}},
        input_names=["x"],
        output_names=["logits"],
    )
    onnx.load(path)
    return str(path)


@pytest.fixture
def photos(tmp_path):
    """Two pictures of different sizes and one broken file."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name, size in (("a.png", (40, 60, 3)), ("b.png", (33, 32, 3))):
        Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)).save(folder / name)
    return folder


def explained(model, photos, out, *more):
    return main.run(["explain", model, str(photos), "-o", str(out), "--no-check", "--quiet", *more])


def test_each_map_has_its_files_at_the_pictures_own_size(model, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert explained(model, photos, out, "--method", "gradcam,saliency", "--class", "3") == 0
    assert capsys.readouterr().out.strip() == str(out / "index.html")
    result = json.loads((out / "result.json").read_text())
    assert result["schema_version"] == 1 and result["failed"] == []
    assert [i["file"] for i in result["images"]] == [str(photos / "a.png"), str(photos / "b.png")]
    first = result["images"][0]
    assert [m["method"] for m in first["maps"]] == ["gradcam", "saliency"]
    assert first["maps"][0]["index"] == 3 and first["maps"][0]["layer"]
    assert set(first["predictions"][0]) == {"index", "name", "probability", "logit"}
    for entry in first["maps"]:
        assert np.load(out / entry["heatmap"]).shape == (32, 32)
        for picture in ("overlay", "colored"):
            with Image.open(out / entry[picture]) as opened:
                assert opened.size == (60, 40)
    assert not list(out.rglob("*.part"))


def test_a_broken_image_is_reported_and_skipped_and_the_exit_code_says_so(model, photos, tmp_path, capsys):
    (photos / "broken.png").write_bytes(b"not a picture")
    assert explained(model, photos, tmp_path / "out") == 4
    said = capsys.readouterr()
    assert "1 of 3 images could not be read" in said.err and "Traceback" not in said.err
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert len(result["images"]) == 2 and "broken.png" in result["failed"][0]["file"]


def test_nothing_but_broken_images_is_refused(model, tmp_path, capsys):
    (tmp_path / "x.png").write_bytes(b"no")
    assert explained(model, tmp_path / "x.png", tmp_path / "out") == 3
    assert not (tmp_path / "out").exists()


def test_images_stream_in_batches_with_the_same_result(model, photos, tmp_path):
    for size in ("1", "16"):
        assert explained(model, photos, tmp_path / size, "--batch", size, "--class", "2") == 0
    one, many = (np.load(tmp_path / size / "b" / "gradcam-2.npy") for size in ("1", "16"))
    assert np.abs(one - many).max() < 1e-4


def test_json_prints_one_object(model, photos, tmp_path, capsys):
    assert explained(model, photos, tmp_path / "out", "--json", "--class", "top:2") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["schema_version"] == 1
    assert len(printed["images"][0]["maps"]) == 2


def test_metrics_rank_the_methods(model, photos, tmp_path, capsys):
    options = ("--method", "gradcam,layercam,eigencam", "--metrics", "--box", "0,0,32,32")
    assert explained(model, photos / "a.png", tmp_path / "out", *options) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].split()[:2] == ["rank", "method"]
    rows = json.loads((tmp_path / "out" / "result.json").read_text())["images"][0]["metrics"]
    assert {r["method"] for r in rows} == {"gradcam", "layercam", "eigencam"}
    assert rows[0]["rank"] == 1 and all(r["pointing"] == 1 for r in rows)


def test_all_methods_run_on_a_model_with_a_linear_head(model, photos, tmp_path):
    small = ("--set", "masks=8", "--set", "samples=2", "--set", "steps=4", "--set", "designs=4", "--set", "cells=3")
    assert explained(model, photos / "b.png", tmp_path / "out", "--method", "all", *small) == 0
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert {entry["method"] for entry in result["images"][0]["maps"]} == set(METHODS)
    gaps = [m["figures"]["completeness_gap"] for m in result["images"][0]["maps"] if m["method"] == "deeplift"]
    assert abs(gaps[0]) < 1e-3


def test_pictures_of_one_name_do_not_overwrite_each_other(model, photos, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.png").write_bytes((photos / "b.png").read_bytes())
    arguments = ["explain", model, str(photos / "a.png"), str(other / "a.png"), "-o", str(tmp_path / "out")]
    assert main.run([*arguments, "--no-check", "--quiet"]) == 0
    assert (tmp_path / "out" / "a").is_dir() and (tmp_path / "out" / "a-2").is_dir()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--method", "gradcan"), "method 'gradcan' is unknown; closest: gradcam"),
        (("--colormap", "mauve"), "mauve"),
        (("--style", "oil"), "--style 'oil' is unknown"),
        (("--class", "99"), "class 99 is out of range"),
        (("--layer", "nowhere"), "layer 'nowhere' is not in small"),
        (("--set", "steps=3"), "no method here has that option"),
        (("--set", "steps"), "write NAME=VALUE"),
        (("--box", "1,2,3"), "write a number, or top,left,bottom,right"),
        (("--box", "5,5,5,9"), "in pixels, not empty"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(model, photos, tmp_path, capsys, options, message):
    assert explained(model, photos, tmp_path / "out", *options) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_attack_writes_the_picture_and_what_changed(model, photos, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["attack", model, str(photos / "a.png"), "-o", str(out), "--no-check", "--quiet"]
    assert main.run([*arguments, "--pixels", "2", "--population", "12", "--iterations", "2"]) == 0
    assert capsys.readouterr().out.strip() == str(out / "a-pixels.png")
    result = json.loads((out / "a-pixels.json").read_text())
    assert result["pixels_changed"] <= 2 and isinstance(result["success"], bool)
    with Image.open(out / "a-pixels.png") as picture:
        assert picture.size == (32, 32)
    assert main.run([*arguments, "--method", "pgd", "--epsilon", "0.2", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["method"] == "pgd" and printed["distance"] <= 0.2 + 1e-5


def test_an_attack_towards_the_present_class_is_wrong_use(model, photos, tmp_path, capsys):
    arguments = ["attack", model, str(photos / "a.png"), "-o", str(tmp_path / "out"), "--no-check", "--quiet"]
    codes = [main.run([*arguments, "--target", str(c), "--population", "5", "--iterations", "1"]) for c in range(5)]
    assert sorted(codes) == [0, 0, 0, 0, 2]
    assert "already" in capsys.readouterr().err
