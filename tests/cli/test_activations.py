"""activations from the outside: grids, arrays, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.cli.main import run
from convscope.engine.pictures.read import model_input, read_image

FAST = ["--no-check", "--preprocessing", "torch", "--device", "cpu", "--image-size", "16"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def expected(model: str, photos: Path, layer: str) -> np.ndarray:
    graph = convscope.load(model, check=False, preprocessing="torch", size=(16, 16))
    twin = graph.until(layer)
    import torch

    x = np.concatenate([model_input(read_image(p), graph) for p in sorted(photos.glob("?.png"))])
    with torch.no_grad():
        return twin.only(torch.from_numpy(x)).numpy()


def test_every_layer_has_a_grid_of_its_units_and_the_page_shows_them(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = [
        "activations",
        model,
        str(photos / "0.png"),
        "--layer",
        "conv*",
        "--per-row",
        "4",
        *FAST,
        "-o",
        str(out),
    ]
    assert run(arguments) == 0
    assert capsys.readouterr().out.strip() == str(out / "index.html")
    result = json.loads((out / "result.json").read_text())
    for entry, layer in zip(result["images"][0]["layers"], result["layers"], strict=True):
        rows, columns = -(-layer["channels"] // 4), min(layer["channels"], 4)
        height, width = layer["shape"][2:]
        with Image.open(out / entry["grid"]) as grid:
            assert grid.size == (columns * (width + 1) - 1, rows * (height + 1) - 1)
            assert grid.info["layer"] == layer["name"]
    assert "default-src 'none'" in (out / "index.html").read_text()


@pytest.mark.parametrize("kind", ["npz", "zarr"])
def test_saved_arrays_are_the_activations_keyed_by_layer_in_the_order_of_the_pictures(
    model: str, photos: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = [model, str(photos), "--layer", "conv2", "--save", kind, "--no-grids", "--batch", "2", "-o", str(out)]
    assert run(["activations", *arguments, *FAST]) == 0
    assert capsys.readouterr().out.split() == [str(out / f"activations.{kind}"), str(out / "result.json")]
    if kind == "npz":
        found = np.load(out / "activations.npz")["conv2"]
    else:
        found = pytest.importorskip("zarr").open_group(str(out / "activations.zarr"))["conv2"][:]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(model, photos, "conv2"), rtol=1e-4, atol=1e-6)
    assert not list(out.glob("*/")) or kind == "zarr"
    assert not list(out.glob(".*"))


def test_units_choose_what_is_drawn_and_saved(model: str, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    chosen = [model, str(photos / "1.png"), "--layer", "conv2", "--units", "0,2-3", "--save", "npz", "-o", str(out)]
    assert run(["activations", *chosen, *FAST]) == 0
    want = expected(model, photos, "conv2")[1:2]
    np.testing.assert_allclose(np.load(out / "activations.npz")["conv2"], want[:, [0, 2, 3]], rtol=1e-4, atol=1e-6)
    assert (
        run(
            ["activations", model, str(photos / "1.png"), "--layer", "conv2", "--units", "top:2", *FAST, "-o", str(out)]
        )
        == 0
    )
    entry = json.loads((out / "result.json").read_text())["images"][0]["layers"][0]
    assert entry["units"] == list(np.argsort(-want[0].mean(axis=(1, 2)), kind="stable")[:2])


def test_a_broken_picture_is_named_and_the_others_are_done(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "2.png").write_bytes(b"no picture")
    assert run(["activations", model, str(photos), "--layer", "conv1", *FAST, "-o", str(tmp_path / "out")]) == 4
    said = capsys.readouterr().err
    assert "2.png" in said and "1 of 5 images" in said
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert len(result["images"]) == 4 and [Path(f["file"]).name for f in result["failed"]] == ["2.png"]


def test_nothing_is_written_where_no_picture_can_be_read(model: str, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    assert run(["activations", model, str(tmp_path / "bad.png"), "--save", "npz", *FAST, "-o", str(out)]) == 3
    assert not [p for p in out.rglob("*") if p.is_file()]


@pytest.mark.parametrize(
    "wrong",
    [["--layer", "nothere"], ["--scale", "loud"], ["--colormap", "mud"], ["--save", "mat"], ["--units", "900"]],
)
def test_wrong_use_ends_with_2_and_one_line(
    model: str, photos: Path, tmp_path: Path, wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["activations", model, str(photos), *wrong, *FAST, "-o", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in lines if line.startswith("error:")]) == 1
