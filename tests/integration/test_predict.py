"""``convscope predict`` from a picture file to a decoded class, on the LeNet that ships."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from convscope.cli.main import run
from convscope.models import catalog
from convscope.models.lenet import LeNet

SIDE, PEN = 280, 26
READ = "outputs: 10 classes (class names)\n"  # how the outputs are read, and why, is said on stderr
LENET = Path(catalog.__file__).parent / "lenet"


def one(draw: ImageDraw.ImageDraw) -> None:
    draw.line([(140, 60), (140, 220)], 255, PEN)


def seven(draw: ImageDraw.ImageDraw) -> None:
    draw.line([(80, 70), (200, 70)], 255, PEN)
    draw.line([(195, 70), (130, 225)], 255, PEN)


def zero(draw: ImageDraw.ImageDraw) -> None:
    draw.ellipse([85, 60, 195, 220], outline=255, width=PEN)


DIGITS: dict[str, Callable[[ImageDraw.ImageDraw], None]] = {"0": zero, "1": one, "7": seven}


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """A folder with one drawn picture per digit, white on black as in MNIST, ten times as large."""
    folder = tmp_path / "digits"
    folder.mkdir()
    for name, draw in DIGITS.items():
        picture = Image.new("L", (SIDE, SIDE), 0)
        draw(ImageDraw.Draw(picture))
        picture.save(folder / f"{name}.png")
    return folder


def predicted(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[dict[str, Any], str]:
    """The JSON on stdout, and stderr."""
    assert run(["predict", *arguments, "--json", "--device", "cpu"]) == code
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_drawn_digits_are_read(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, err = predicted(capsys, "lenet", str(digits))
    assert [Path(entry["file"]).stem for entry in found["images"]] == sorted(DIGITS)
    assert [entry["predictions"][0]["name"] for entry in found["images"]] == sorted(DIGITS)
    assert err == READ


def test_the_json_is_as_promised_and_its_numbers_are_the_network_s_own(
    digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from safetensors.torch import load_file

    network = LeNet().eval()
    network.load_state_dict(load_file(LENET / "lenet.safetensors"))
    path = digits / "7.png"
    with Image.open(path) as picture:
        small = picture.convert("F").resize((28, 28), Image.Resampling.BILINEAR)
    with torch.no_grad():
        expected = network(torch.from_numpy(np.array(small))[None, None] / 255)[0]

    found, _ = predicted(capsys, "lenet", str(path), "--top", "10")
    assert {"schema_version", "model", "images", "failed"} <= set(found)
    (entry,) = found["images"]
    assert list(entry) == ["file", "predictions"]
    assert entry["file"] == str(path)
    assert all(list(p) == ["index", "name", "probability", "logit"] for p in entry["predictions"])
    assert [p["index"] for p in entry["predictions"]] == expected.argsort(descending=True).tolist()
    by_index = sorted(entry["predictions"], key=lambda p: p["index"])
    np.testing.assert_allclose([p["logit"] for p in by_index], expected.numpy(), atol=1e-3)
    np.testing.assert_allclose([p["probability"] for p in by_index], expected.softmax(0).numpy(), atol=1e-4)


def test_several_pictures_with_a_broken_one_are_partly_done(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (digits / "3.png").write_bytes((digits / "1.png").read_bytes()[:200])
    found, err = predicted(capsys, "lenet", str(digits), code=4)
    assert [Path(entry["file"]).stem for entry in found["images"]] == sorted(DIGITS)
    assert [entry["file"] for entry in found["failed"]] == [str(digits / "3.png")]
    said, read, ending = err.splitlines()
    assert read == READ.strip()
    assert said.startswith("skipped: image '") and "3.png" in said
    assert ending == "error: 1 of 4 images could not be read; the others are done"


def test_where_no_picture_can_be_read_nothing_is_printed_and_it_is_a_refusal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert run(["predict", "lenet", str(tmp_path / "bad.png"), "--json", "--device", "cpu"]) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: image ") and said.err.count("\n") == 1
    (tmp_path / "worse.png").write_bytes(b"no picture")
    assert run(["predict", "lenet", str(tmp_path), "--json", "--device", "cpu"]) == 3
    assert "none of the 2 images could be read" in capsys.readouterr().err


def test_a_labels_file_names_the_classes(digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join(["null", "eins", *(f"n{i}" for i in range(2, 7)), "sieben", "n8", "n9"]))
    assert run(["predict", "lenet", str(digits), "--labels", str(names), "--top", "1", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    said = [(Path(line.split(": ")[0]).stem, line.split(": ")[1].split()[0]) for line in lines]
    assert said == [("0", "null"), ("1", "eins"), ("7", "sieben")]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["missing.png"], 2, "missing.png"),
        (["1.png", "--labels", "missing.txt"], 2, "missing.txt"),
        (["1.png", "--top", "0"], 2, "--top"),
        ([], 2, "IMAGE"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str],
    code: int,
    text: str,
    digits: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(digits)
    assert run(["predict", "lenet", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert text in err and err.count("\n") == 1


def test_a_real_process_prints_the_object_and_nothing_else(digits: Path) -> None:
    pictures = pytest.importorskip("sklearn.datasets").load_digits()
    rows = np.pad(pictures.images[0] / 16 * 255, 2).astype(np.uint8)
    Image.fromarray(rows).resize((84, 84)).save(digits / "zero.png")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "convscope.cli.main", "predict", "lenet", "zero.png", "--json", "--no-check"],
        capture_output=True,
        text=True,
        cwd=digits,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, READ)
    (entry,) = json.loads(done.stdout)["images"]
    assert (entry["file"], entry["predictions"][0]["name"]) == ("zero.png", "0")
