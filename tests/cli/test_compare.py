"""``convscope compare`` from the outside: exit codes, JSON, page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from convscope.cli.main import run
from tests.cli.browser import dom, driven, needs_chromium
from tests.engine.compare.nets import vgg, weights

FLAGS = ["--preprocessing", "caffe", "--no-check", "--quiet"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("compare")
    permuted, order = weights(), np.random.default_rng(1).permutation(12)
    permuted["conv2.weight"], permuted["conv2.bias"] = permuted["conv2.weight"][order], permuted["conv2.bias"][order]
    permuted["conv3.weight"] = permuted["conv3.weight"][:, order]
    made = {"a": vgg(), "same": vgg(), "epsilon": vgg(bn__epsilon=1e-5), "permuted": vgg(permuted)}
    for name, proto in made.items():
        onnx.save(proto, str(folder / f"{name}.onnx"))
    return {name: str(folder / f"{name}.onnx") for name in made}


def test_identical_ends_with_0(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", files["a"], files["same"], *FLAGS]) == 0
    assert capsys.readouterr().out.startswith("identical\n")


def test_different_ends_with_1_and_says_where_and_why(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compare", files["a"], files["epsilon"], *FLAGS, "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert next(iter(answer)) == "schema_version"
    assert answer["verdict"] == "different"
    assert answer["first_difference"]["layer_a"] == answer["first_difference"]["layer_b"] == "bn"
    assert "epsilon" in answer["first_difference"]["cause"]
    assert {"a", "b", "found_by", "rel", "matched_share", "cka"} <= set(answer["layers"][0])


def test_a_loose_bound_accepts_a_small_difference(files: dict[str, str]) -> None:
    assert run(["compare", files["a"], files["epsilon"], *FLAGS, "--max-rel", "0.9"]) == 0


def test_other_preprocessing_of_b_is_no_identity(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", files["a"], files["same"], *FLAGS, "--preprocessing-b", "torch"]) == 1
    assert "equal up to preprocessing" in capsys.readouterr().out


def test_an_unknown_layer_is_wrong_use(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", files["a"], files["same"], *FLAGS, "--layers", "conv9"]) == 2
    assert "conv9" in capsys.readouterr().err


@pytest.fixture(scope="module")
def page(files: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page")
    few = ["--pictures", "2", "--size", "32", "--steps", "2", "--similarity", "--match", "-o", str(out)]
    assert run(["compare", files["a"], files["permuted"], *FLAGS, *few]) == 1
    return out / "index.html"


def test_the_folder_holds_the_page_and_every_number(page: Path) -> None:
    result = json.loads((page.parent / "result.json").read_text(encoding="utf-8"))
    assert result["verdict"] == "equal up to permutation"
    assert np.array(result["cka_matrix"]["values"]).shape == (4, 4)
    matched = {row["a"]: row for row in result["layers"]}["conv2"]["matching"]["units"]
    order = result["permutations"]["conv2"]
    assert all(order[unit["a"]] == unit["b"] for unit in matched)


@needs_chromium
def test_the_page_shows_matched_units_in_a_browser(page: Path) -> None:
    html, console = dom(page)
    assert console == ""
    assert "equal up to permutation" in html
    said = driven(page, "return [...document.querySelectorAll('.pair .big')].filter(i => i.complete).length + ''")
    assert int(said) == 12


def test_the_page_takes_its_photographs_from_the_users_folder(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from convscope.engine.render.artifacts import save_png

    folder = tmp_path / "mine"
    folder.mkdir()
    for i, colour in enumerate(np.eye(3)):
        save_png(folder / f"{i}.png", np.broadcast_to(colour, (40, 40, 3)) * np.linspace(0.2, 1, 40)[:, None, None])
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    few = ["--pictures", "1", "--size", "32", "--steps", "1", "--match", "--images", str(folder)]
    flags = [flag for flag in FLAGS if flag != "--quiet"]
    assert run(["compare", files["a"], files["same"], *flags, *few, "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err.count("broken.png") == 1
    result = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))
    assert result["images"] == 3
    html = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    tops = re.search(r'"top":.*?\]', html)
    assert tops is not None
    shown = set(re.findall(r'"(data:image/[^"]+)"', tops[0]))
    assert len(shown) == 3  # all of the user's three, and none of ours


def test_a_float16_copy_is_different_and_within_a_loose_bound_still_said(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half = {k: v.astype(np.float16).astype(np.float32) for k, v in weights().items()}
    onnx.save(vgg(half), str(tmp_path / "half.onnx"))
    pair = [files["a"], str(tmp_path / "half.onnx"), "--preprocessing", "caffe", "--no-check"]
    assert run(["compare", *pair]) == 1
    assert "rounded to float16" in capsys.readouterr().out
    assert run(["compare", *pair, "--max-rel", "1e-2"]) == 0
    assert "within the bound on these pictures, but at" in capsys.readouterr().err
