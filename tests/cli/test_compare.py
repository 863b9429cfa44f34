"""``convscope compare`` from the outside: exit codes, JSON, page."""

from __future__ import annotations

import json
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
    assert list(answer)[0] == "schema_version"
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
