"""What somebody meets who has just installed convscope: help, samples, completion, mistyped names."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import helper
from PIL import Image

from convscope.cli.main import run
from convscope.models import catalog

from ..tiny import model as tiny_model

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", [[], ["models"]])
def test_a_command_line_that_ends_early_gives_help_and_no_stray_error(
    line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line) in (0, 2)
    out, err = capsys.readouterr()
    assert "Usage:" in out + err
    assert "error" not in err


def test_a_missing_file_is_no_such_file_and_a_mistyped_name_gets_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", "nowhere.onnx"]) == 2
    assert run(["info", "folder/net"]) == 2
    assert run(["info", "lenett"]) == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert first == "error: no such file: 'nowhere.onnx'"
    assert second == "error: no such file: 'folder/net'"
    assert "closest: 'lenet'" in third


def test_photographs_that_ship_can_be_had(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "sample", "cat.jpg", "-o", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "cat.jpg")
    assert Image.open(tmp_path / "cat.jpg").size[0] > 100
    assert run(["models", "sample", "-o", str(tmp_path / "photos")]) == 0
    assert len(list((tmp_path / "photos").iterdir())) == len(capsys.readouterr().out.splitlines()) >= 4
    assert run(["models", "sample", "dog.jpg"]) == 2
    assert "choose one of astronaut.jpg, cat.jpg" in capsys.readouterr().err


def test_every_line_of_the_tour_names_what_a_fresh_checkout_has() -> None:
    lines = re.findall(r"^\| [^|]+ \| `(convscope [^`]+)`", README, re.M)
    assert len(lines) >= 15
    made = {"photos/", "cat.jpg"}
    assert all(f"convscope models sample {end}" in README for end in ("-o photos/", "cat.jpg"))
    for line in lines:
        words = shlex.split(line)[2:]
        inputs = [
            w for w in words if re.search(r"\.(jpg|png|keras|onnx|h5|pt2)$|/$", w) and words[words.index(w) - 1] != "-o"
        ]
        for word in inputs:
            assert word in made or (ROOT / word).exists(), f"{line}: nobody has {word}"
        if words and not words[0].startswith(("-", "models/")):
            assert words[0] in catalog.names(), line


def _completed(line: str) -> list[str]:
    words = line.split(" ")
    environment = {"_CONVSCOPE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    command = [sys.executable, "-P", "-m", "convscope.cli.main"]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("convscope info len", ["lenet"]),
        ("convscope filters lenet --layer conv1,po", ["conv1,pool1", "conv1,pool2"]),
        ("convscope filters lenet --preset yosinski-a", ["yosinski-a"]),
        ("convscope explain lenet cat.jpg --method layerc", ["layercam"]),
        ("convscope explain lenet cat.jpg --colormap vir", ["viridis"]),
    ],
)
def test_the_tab_key_offers_what_there_is(line: str, offered: list[str]) -> None:
    assert _completed(line) == offered


def test_help_options_lists_every_method_with_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    from convscope.engine.attribution import METHODS

    assert run(["explain", "--help-options"]) == 0
    out = capsys.readouterr().out
    assert [line.rstrip(":") for line in out.splitlines() if not line.startswith(" ")] == [
        "cam",
        "gradient",
        "perturbation",
    ]
    listed = {line.split()[0]: line for line in out.splitlines() if line.startswith(" ")}
    assert list(listed) == list(METHODS)
    assert all(name in listed[m.name] for m in METHODS.values() for name in m.options)


def test_explain_says_what_is_seen_and_what_was_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = str(ROOT / "engine/pictures/photos/cat.jpg")
    assert run(["explain", "lenet", photo, "--class", "3", "-o", str(tmp_path), "--no-check"]) == 0
    said = capsys.readouterr().err
    assert re.search(r"cat\.jpg: sees \S+ [\d.]+%, \S+ [\d.]+%, \S+ [\d.]+%; explained: 3 \(", said)


def test_info_says_which_sizes_are_free_and_what_each_layer_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "a"),
        helper.make_node("Sigmoid", ["x"], ["b"], "b"),
        helper.make_node("Add", ["a", "b"], ["y"], "sum"),
    ]
    for name, shape in (("free", ("N", 3, "h", "w")), ("fixed", ("N", 3, 16, 16))):
        onnx.save(tiny_model(nodes, {}, shape), tmp_path / f"{name}.onnx")
    assert run(["info", str(tmp_path / "free.onnx"), "--json", "--no-check", "-q"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["free"] == ["height", "width"]
    assert [layer["inputs"] for layer in told["layers"]] == [["x"], ["x"], ["a", "b"]]
    assert run(["info", str(tmp_path / "free.onnx"), "--no-check", "-q"]) == 0
    assert "height and width; the shapes above are those at" in capsys.readouterr().out
    assert run(["info", str(tmp_path / "fixed.onnx"), "--json", "--no-check", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["free"] == []


def test_the_record_says_the_command_line_without_what_changes_no_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["weights", "lenet", "--layer", "conv1", "-o", str(tmp_path / "a b"), "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)["command"]
    assert shlex.split(told) == ["convscope", "weights", "lenet", "--layer", "conv1", "-o", str(tmp_path / "a b")]
    assert "a b" in (tmp_path / "a b" / "index.html").read_text()
