"""filters, maximize, dream and invert from the outside: files, exit codes, resume."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from convscope.cli.main import run
from convscope.engine.render.grid import CAPTION

from ..tiny import model as tiny_model
from ..tiny import small_cnn

if TYPE_CHECKING:
    from convscope.engine.ascent.results import UnitResult

FAST = ["--steps", "2", "--size", "16", "--no-check", "--preprocessing", "torch", "--device", "cpu"]


@pytest.fixture
def photo(tmp_path: Path) -> str:
    pytest.importorskip("convscope.engine.pictures.read")
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(path)
    return str(path)


def test_filters_writes_a_png_per_unit_the_grid_the_numbers_and_the_page(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["filters", model, "--layer", "conv2", "--units", "0-3", *FAST, "-o", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out / "index.html")
    result = json.loads((out / "result.json").read_text())
    assert [u["unit"] for u in result["units"]] == [0, 1, 2, 3]
    assert {"model", "layer", "preset", "size", "steps", "seed"} <= set(result)
    for unit in result["units"]:
        assert {"file", "status", "activation_start", "activation_end", "history"} <= set(unit)
        with Image.open(out / unit["file"]) as picture:
            assert picture.size == (16, 16) and picture.info["layer"] == "conv2"
    with Image.open(out / "grid.png") as grid:
        assert grid.size == (258, 258 + 2 * CAPTION)  # each enlarged eight times, above its number
    assert "default-src 'none'" in (out / "index.html").read_text()


def test_the_same_command_continues_and_computes_nothing_twice(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["filters", model, "--layer", "conv2", *FAST, "-o", str(out), "--units"]
    assert run([*command, "0,1"]) == 0
    before = (out / "unit-0001.png").stat().st_mtime_ns
    assert run([*command, "0-2"]) == 0
    assert "2 of 3 units are finished" in capsys.readouterr().err
    assert (out / "unit-0001.png").stat().st_mtime_ns == before
    assert run([*command, "0", "--seed", "1"]) == 2
    assert "made with other settings" in capsys.readouterr().err
    assert run([*command, "0", "--seed", "1", "--force"]) == 0


def test_other_noise_is_another_album_under_every_preset(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["filters", model, "--layer", "conv2", "--units", "0", *FAST, "-o", str(tmp_path / "out")]
    assert run([*command, "--noise", "uniform", "--noise-mean", "40"]) == 0
    assert run([*command, "--noise", "uniform", "--noise-mean", "90"]) == 2
    assert "made with other settings" in capsys.readouterr().err


def test_top_keeps_the_strongest(model: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(["filters", model, "--layer", "relu1", "--units", "top:4", *FAST, "-o", str(out), "--live"]) == 0
    ends = [u["activation_end"] for u in json.loads((out / "result.json").read_text())["units"]]
    assert len(ends) == 4 and ends == sorted(ends, reverse=True)


def test_maximize_writes_classes(model: str, tmp_path: Path) -> None:
    pytest.importorskip("convscope.engine.graph.labels")
    out = tmp_path / "out"
    assert run(["maximize", model, "--class", "3,1", *FAST, "-o", str(out)]) == 0
    assert [u["unit"] for u in json.loads((out / "result.json").read_text())["units"]] == [3, 1]


@pytest.mark.parametrize(("command", "name"), [("dream", "dream.png"), ("invert", "inverted.png")])
def test_a_photograph_is_dreamt_and_inverted(command: str, name: str, model: str, photo: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run([command, model, photo, "--layer", "conv2", *FAST, "-o", str(out)]) == 0
    assert {name, "before.png", "result.json", "index.html"} <= {p.name for p in out.iterdir()}


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (["--layer", "conv22"], 2, "closest: 'conv2'"),
        (["--layer", "conv2", "--units", "99"], 2, "out of range"),
        (["--layer", "conv2", "--size", "0"], 2, "size 0 is not positive"),
        (["--layer", "conv2", "--preset", "x"], 2, "preset 'x' is unknown"),
        (["--layer", "conv2", "--noise-std", "20"], 2, "add --noise uniform"),
        (["--layer", "conv2", "--batch", "0"], 2, "batch '0'"),
        (["--units", "0"], 2, "filters needs --layer"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    change: list[str], code: int, message: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["filters", model, *FAST, "-o", str(out), *change]) == code
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1] and error[-1].startswith("error:")
    assert not out.exists()


def test_nan_in_the_model_is_refused_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken, out = _with_bias(tmp_path / "nan.onnx", np.nan), tmp_path / "out"
    assert run(["filters", broken, "--layer", "conv2", *FAST, "-o", str(out)]) == 3
    assert "NaN" in capsys.readouterr().err
    assert not out.exists()


def test_a_dream_of_the_strongest_units_is_refused_before_the_model_is_opened(
    model: str, photo: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("convscope.models.load.load", _never)
    assert run(["dream", model, photo, "--layer", "conv2", "--units", "top:3"]) == 2
    assert "--units 'top:3'" in capsys.readouterr().err


@pytest.mark.parametrize("nothing", ["", ",", " , "])
def test_no_class_is_refused(nothing: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(["maximize", model, "--class", nothing, *FAST, "-o", str(out)]) == 2
    assert "names no class" in capsys.readouterr().err
    assert not out.exists()


def test_a_class_named_twice_is_made_once(model: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(["maximize", model, "--class", "1,01,3,1", *FAST, "-o", str(out)]) == 0
    assert [u["unit"] for u in json.loads((out / "result.json").read_text())["units"]] == [1, 3]


def _with_bias(path: Path, value: float) -> str:
    """The small model with every bias of its second convolution replaced."""
    changed = small_cnn()
    for tensor in changed.graph.initializer:
        if tensor.name == "conv2.bias":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(12, value, dtype=np.float32), tensor.name))
    onnx.save(changed, path)
    return str(path)


def test_the_strongest_of_dead_units_are_none_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dead, out = _with_bias(tmp_path / "dead.onnx", -1e6), tmp_path / "out"
    command = ["filters", dead, "--layer", "relu2", "--units", "top:2", *FAST, "-o", str(out)]
    assert run(command) == 0
    assert "all 12 units of relu2 are dead" in capsys.readouterr().err
    result = json.loads((out / "result.json").read_text())
    assert result["units"] == [] and result["grid"] is None
    assert not (out / "grid.png").exists()
    assert run([*command, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def _never(*_: object, **__: object) -> None:
    raise AssertionError("this must not be reached")


@pytest.mark.parametrize("command", ["filters", "maximize", "dream", "invert"])
@pytest.mark.parametrize("place", ["taken", "taken/inside", "/proc/convscope"])
def test_a_folder_that_cannot_be_written_is_found_before_any_work(
    command: str,
    place: str,
    model: str,
    photo: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "taken").write_text("")
    monkeypatch.setattr("convscope.models.load.load", _never)
    subject = ["--class", "1"] if command == "maximize" else ["--layer", "conv2"]
    photos = [photo] if command in ("dream", "invert") else []
    code = 1 if place.startswith("/") else 2  # a file in the way is wrong use
    assert run([command, model, *photos, *subject, *FAST, "-o", str(tmp_path / place)]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: cannot write {tmp_path / place}: ") and line.endswith("another folder")


def test_a_page_that_was_filling_stops_reloading_when_the_work_is_interrupted(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from convscope.engine.ascent.many import Studio

    make, out = Studio.make, tmp_path / "out"

    def interrupted(*arguments: Any) -> Iterator[UnitResult]:
        yield next(make(*arguments))
        assert 'http-equiv="refresh"' in (out / "index.html").read_text()
        raise KeyboardInterrupt

    monkeypatch.setattr(Studio, "make", interrupted)
    command = ["filters", model, "--layer", "conv2", "--units", "0-3", *FAST, "--live", "-o", str(out)]
    assert run(command) == 130
    assert 'http-equiv="refresh"' not in (out / "index.html").read_text()
    assert "1 of 4 units are kept" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["dream", "invert"])
def test_albums_and_single_pictures_do_not_overwrite_each_other(
    command: str, model: str, photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    album, single = tmp_path / "album", tmp_path / "single"
    fill = ["filters", model, "--layer", "conv2", "--units", "0", *FAST, "-o"]
    draw = [command, model, photo, "--layer", "conv2", *FAST, "-o"]
    assert run([*fill, str(album)]) == 0
    assert run([*draw, str(single)]) == 0
    before = {p: p.read_bytes() for p in (*album.rglob("*.*"), *single.rglob("*.*"))}
    capsys.readouterr()
    assert run([*draw, str(album)]) == 2
    assert run([*fill, str(single)]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert str(album) in first and "another folder" in first
    assert str(single) in second and "--force" in second
    assert {p: p.read_bytes() for p in (*album.rglob("*.*"), *single.rglob("*.*"))} == before
    assert run([*fill, str(single), "--force"]) == 0


def test_pictures_on_the_way_of_an_earlier_dream_do_not_stay(model: str, photo: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["dream", model, photo, "--layer", "conv2", *FAST, "-o", str(out)]
    assert run([*command, "--strip", "2"]) == 0
    assert (out / "on-the-way-0.png").exists()
    (out / "on-the-way-home.png").write_text("the user's own")
    assert run(command) == 0
    assert [p.name for p in out.glob("on-the-way-*")] == ["on-the-way-home.png"]


def test_the_numbers_of_a_single_picture_name_all_it_depends_on(model: str, photo: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    digest = hashlib.sha256(Path(photo).read_bytes()).hexdigest()

    def said(*command: str) -> dict[str, Any]:
        assert run([command[0], model, photo, "--layer", "conv2", *FAST, *command[1:], "-o", str(out)]) == 0
        result: dict[str, Any] = json.loads((out / "result.json").read_text())
        assert result["image_sha256"] == digest
        return result

    assert said("dream")["layer_units"] == "all"
    assert said("dream", "--units", "2-4")["layer_units"] == [2, 3, 4]
    assert said("invert", "--gain", "3")["gain"] == 3


@pytest.mark.parametrize("channels", [2, 4])
def test_pictures_of_inputs_that_are_no_colours_show_every_channel(channels: int, tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(0, 0.3, (3, channels, 3, 3)).astype(np.float32)
    path, out = tmp_path / "odd.onnx", tmp_path / "out"
    onnx.save(
        tiny_model([helper.make_node("Conv", ["x", "w"], ["y"], "/c")], {"w": weight}, ("N", channels, 16, 16)), path
    )
    command = ["filters", str(path), "--layer", "c", "--steps", "2", "--size", "16", "--preprocessing", "unit"]
    assert run([*command, "--live", "-o", str(out)]) == 0
    for name in ("unit-0000.png", "starts/unit-0000.png"):
        with Image.open(out / name) as picture:
            assert (picture.mode, picture.size) == ("L", (16 * channels, 16))
    with Image.open(out / "grid.png") as picture:
        assert (picture.mode, picture.size) == (
            "L",
            (2 * 16 * channels * (8 // channels) + 2, 2 * (16 * (8 // channels) + CAPTION) + 2),
        )


def test_negative_pictures_are_others_and_say_so(model: str, tmp_path: Path) -> None:
    for name, flags in (("up", []), ("down", ["--negative"])):
        command = ["filters", model, "--layer", "relu2", "--units", "0", *FAST, *flags, "-o", str(tmp_path / name)]
        assert run(command) == 0
    up, down = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("up", "down"))
    assert "inhibition" in down["units"][0]["reason"] and "inhibition" not in up["units"][0]["reason"]
    assert (tmp_path / "up" / "unit-0000.png").read_bytes() != (tmp_path / "down" / "unit-0000.png").read_bytes()
    for name, negative in (("up", False), ("down", True)):
        page = (tmp_path / name / "index.html").read_text()
        assert ("· relu2 · negative</h1>" in page) is ("what inhibits each unit" in page) is negative
        with Image.open(tmp_path / name / "unit-0000.png") as picture:
            assert picture.info.get("negative") == ("True" if negative else None)
    assert run(["filters", model, "--layer", "relu2", "--units", "0", *FAST, "-o", str(tmp_path / "down")]) == 2


def test_facets_of_one_unit_come_on_one_page(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = ["filters", model, "--layer", "conv2", *FAST, "--diversity", "3", "-o", str(out), "--units"]
    assert run([*command, "4"]) == 0
    assert capsys.readouterr().out.strip() == str(out / "index.html")
    result = json.loads((out / "result.json").read_text())
    assert [(u["unit"], u["name"], u["file"]) for u in result["units"]] == [
        (4, f"facet {i}", f"facet-{i}.png") for i in (1, 2, 3)
    ]
    assert all((out / u["file"]).exists() for u in result["units"]) and (out / "grid.png").exists()
    assert run([*command, "4,5"]) == 2
    assert "--diversity shows one unit, not 2" in capsys.readouterr().err
    assert run([*command, "4", "--negative"]) == 2
    assert "--negative and --diversity exclude each other" in capsys.readouterr().err


def test_a_photograph_is_accented(model: str, photo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(["accent", model, photo, "--layer", "conv2", "--units", "3", *FAST, "-o", str(out)]) == 0
    result = json.loads((out / "result.json").read_text())
    assert result["unit"] == 3 and result["weight"] == 4.0 and len(result["image_sha256"]) == 64
    with Image.open(out / "accent.png") as after, Image.open(out / "before.png") as before:
        assert after.size == before.size == (16, 16)
    assert run(["accent", model, photo, "--class", "2", *FAST, "-o", str(tmp_path / "class")]) == 0
    capsys.readouterr()
    no_class = "accent needs --class 5, a class by number or name"
    for wrong, said in ((["--layer", "conv2"], no_class), (["--layer", "conv2", "-u", "1,2"], "not 2")):
        assert run(["accent", model, photo, *wrong, *FAST, "-o", str(tmp_path / "wrong")]) == 2
        assert said in capsys.readouterr().err


def test_pictures_come_transparent_and_animated_where_asked(model: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["filters", model, "--layer", "conv2", "--units", "0,1", *FAST, "--alpha", "--animate", "-o", str(out)]
    assert run(command) == 0
    with Image.open(out / "transparent" / "unit-0001.png") as clear, Image.open(out / "unit-0001.png") as picture:
        assert clear.mode == "RGBA" and np.array_equal(np.asarray(clear)[:, :, :3], np.asarray(picture))
    links = '{"the ascent, animated":"unit-0001.webp","transparent":"transparent/unit-0001.png"}'
    assert links in (out / "index.html").read_text()
    with Image.open(out / "unit-0001.webp") as moving:
        assert getattr(moving, "n_frames", 1) >= 3 and moving.size == (128, 128)
        moving.seek(getattr(moving, "n_frames", 1) - 1)
        last = np.asarray(moving.convert("RGB")).astype(float)
    with Image.open(out / "unit-0001.png") as picture:
        assert np.abs(last[4::8, 4::8] - np.asarray(picture).astype(float)).mean() < 12
    animations = [path.read_bytes() for path in sorted(out.glob("*.webp"))]
    (out / "transparent" / "unit-0001.png").unlink()
    first, second = animations
    for damaged in (
        None,
        b"",
        first[:-9],
        first[:500] + bytes(99) + first[599:],
        second,
    ):  # the last is the other unit's
        (out / "unit-0000.webp").unlink()
        if damaged is not None:
            (out / "unit-0000.webp").write_bytes(damaged)
        assert run(command) == 0
        assert [path.read_bytes() for path in sorted(out.glob("*.webp"))] == animations
    assert (out / "transparent" / "unit-0001.png").exists()
    assert run([*command[:-4], "--force", "-o", str(out)]) == 0
    assert not list(out.glob("*.webp")) and not (out / "transparent").exists()
