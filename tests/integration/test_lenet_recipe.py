"""The classic LeNet recipe: the best 36 of conv2's 50 filters, 28 pixels, in a 6 x 6 grid, from every format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.cli.main import run
from convscope.engine.ascent.filters import filters
from convscope.engine.render.grid import CAPTION

FOLDER = Path(__file__).parents[2] / "models" / "lenet"
SOME = [5, 11, 49, 1]  # unit 5 is silent: its kernel inhibits whatever it sees


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("lenet")
    wanted = ["--layer", "conv2", "--units", "top:36", "--size", "28", "--steps", "96", "-q", "-o", str(out)]
    assert run(["filters", str(FOLDER / "lenet.h5"), *wanted]) == 0
    return out


def test_the_grid_is_six_by_six_and_its_best_filter_comes_first(folder: Path) -> None:
    told = json.loads((folder / "result.json").read_text())
    ends = [unit["activation_end"] for unit in told["units"]]
    assert len(ends) == 36 and ends == sorted(ends, reverse=True)
    assert {unit["status"] for unit in told["units"]} <= {"ok", "weak"} and told["units"][0]["status"] == "ok"
    with Image.open(folder / "grid.png") as grid:
        side = 4 * 28  # enlarged by a whole number
        assert grid.size == (6 * side + 5 * 2, 6 * (side + CAPTION) + 5 * 2)


def test_the_silent_filters_are_dead_with_a_reason_and_left_out(folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / "units.jsonl").read_text().splitlines()[1:]]
    assert sorted(line["unit"] for line in lines) == list(range(50))
    dead = {line["unit"]: line["reason"] for line in lines if line["status"] == "dead"}
    assert 5 in dead and len(dead) <= 14 and all("stays at zero" in reason for reason in dead.values())
    shown = {unit["unit"] for unit in json.loads((folder / "result.json").read_text())["units"]}
    assert not shown & set(dead)


def test_every_tile_shows_strokes_not_a_blank_or_noise(folder: Path) -> None:
    for unit in json.loads((folder / "result.json").read_text())["units"][:20]:
        with Image.open(folder / unit["file"]) as picture:
            pixels = np.asarray(picture, dtype=float) / 255
        assert pixels.std() > 0.15, unit["unit"]
        changes = [np.abs(np.diff(pixels, axis=axis)).mean() for axis in (0, 1)]
        assert min(changes) < 0.3, unit["unit"]  # noise of this contrast changes by half of it from pixel to pixel


@pytest.mark.parametrize("suffix", ["onnx", "pt2", "keras"])
def test_every_format_of_the_network_gives_the_same_pictures(suffix: str) -> None:
    first, other = (
        filters(convscope.load(FOLDER / f"lenet.{s}", preprocessing="unit"), "conv2", SOME, size=28, steps=24)
        for s in ("h5", suffix)
    )
    for one, two in zip(first.units, other.units, strict=True):
        np.testing.assert_allclose(one.image, two.image, atol=1e-3)
        assert one.status == two.status
