"""top and stats from the outside: equal to brute force, resumed and sharded without a trace, broken pictures named."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.cli.main import run
from convscope.engine.pictures.read import model_input, read_image
from tests.pictures import mixed_folder

FAST = ["--no-check", "--preprocessing", "torch", "--device", "cpu", "--image-size", "16", "--batch", "3"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(11):
        name = f"more/{i:02d}.png" if i % 3 == 0 else f"{i:02d}.png"
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(folder / name)
    return folder


def activations(model: str, photos: Path, layer: str) -> dict[str, np.ndarray]:
    """Name -> (C, H, W), by the other executor."""
    import torch

    graph = convscope.load(model, check=False, preprocessing="torch", size=(16, 16))
    twin = graph.until(layer)
    paths = sorted(photos.rglob("*.png"))
    with torch.no_grad():
        return {
            p.relative_to(photos).as_posix(): twin.only(torch.from_numpy(model_input(read_image(p), graph))).numpy()[0]
            for p in paths
        }


def result_of(folder: Path) -> dict:
    found = json.loads((folder / "result.json").read_text())
    found.pop("command")
    return found


def test_top_finds_the_strongest_pictures_and_where_in_them(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["top", model, str(photos), "--layer", "conv2", "-k", "4", *FAST, "-o", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out / "index.html")
    values = activations(model, photos, "conv2")
    entry = result_of(out)["layers"][0]
    assert entry["images"] == 11
    for unit in entry["units"]:
        best = sorted(values, key=lambda name: (-values[name][unit["unit"]].max(), name))[:4]
        assert [t["image"] for t in unit["top"]] == best
        for found in unit["top"]:
            plane = values[found["image"]][unit["unit"]]
            assert found["value"] == pytest.approx(plane.max(), rel=1e-4)
            assert (found["row"], found["column"]) == np.unravel_index(plane.argmax(), plane.shape)
        with Image.open(out / unit["file"]) as strip:
            assert strip.size == (4 * 98 - 2, 96) and strip.info["unit"] == str(unit["unit"])
    assert "default-src 'none'" in (out / "index.html").read_text()


def test_the_parquet_file_holds_the_numbers_of_the_json(model: str, photos: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / os.fsdecode(b"\xff")  # a name that is no text
    assert run(["top", model, str(photos), "--layer", "conv1,conv2", "-k", "2", *FAST, "-o", str(out)]) == 0
    rows = parquet.read_table(io.BytesIO((out / "result.parquet").read_bytes())).to_pylist()
    expected = [
        (layer["layer"], unit["unit"], rank, best["image"], best["box"])
        for layer in result_of(out)["layers"]
        for unit in layer["units"]
        for rank, best in enumerate(unit["top"])
    ]
    found = [
        (r["layer"], r["unit"], r["rank"], r["image"], [r["top"], r["left"], r["bottom"], r["right"]]) for r in rows
    ]
    assert found == expected


def test_top_interrupted_and_run_again_gives_the_same_bytes(
    model: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convscope.engine.activations.topk import TopImages

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    arguments = ["top", model, str(photos), "--layer", "conv2", "-k", "4", *FAST]
    assert run([*arguments, "-o", str(whole)]) == 0
    seen: list[int] = []
    add = TopImages.add_outputs

    def stop(self: TopImages, layer: object, names: list[str], outputs: dict) -> None:
        seen.extend(map(len, [names]))
        if len(seen) == 3:
            raise KeyboardInterrupt
        add(self, layer, names, outputs)  # type: ignore[arg-type]

    monkeypatch.setattr(TopImages, "add_outputs", stop)
    assert run([*arguments, "-o", str(cut)]) == 130
    assert not (cut / "result.json").exists()
    assert run([*arguments, "-o", str(cut)]) == 0
    assert sum(seen[2:]) < 11  # what was seen before the interruption was not seen again
    for file in sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file()):
        if file.name not in ("result.json", "index.html"):  # these quote the command line, with its -o
            assert (cut / file).read_bytes() == (whole / file).read_bytes(), file
    assert result_of(cut) == result_of(whole)


def test_shards_in_any_order_give_the_same_bytes(model: str, photos: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    arguments = ["top", model, str(photos), "--layer", "conv2", "-k", "3", *FAST]
    assert run([*arguments, "-o", str(whole)]) == 0
    for order in (("1/3", "2/3", "3/3"), ("3/3", "1/3", "2/3")):
        out = tmp_path / order[0].replace("/", "-")
        for shard in order:
            assert run([*arguments, "--shard", shard, "-o", str(out)]) == 0
        assert not (out / "result.json").exists()
        assert run([*arguments, "-o", str(out)]) == 0
        state = sorted((whole / "state").iterdir())[0].name
        assert (out / "state" / state).read_bytes() == (whole / "state" / state).read_bytes()
        assert (out / "result.parquet").read_bytes() == (whole / "result.parquet").read_bytes()
        assert result_of(out) == result_of(whole)


@pytest.mark.parametrize("command", ["top", "stats", "activations"])
def test_in_a_mixed_folder_the_good_are_done_and_the_others_named(
    command: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "mixed", tmp_path / "out"
    folder.mkdir()
    bad = mixed_folder(folder).keys()
    assert run([command, model, str(folder), "--layer", "conv2", *FAST, "-o", str(out)]) == 4
    result = result_of(out)
    assert {Path(f["file"]).name for f in result["failed"]} == bad
    count = result["images"] if isinstance(result["images"], int) else len(result["images"])
    assert count == 6
    said = capsys.readouterr().err
    assert all(f"skipped: image '{folder / name}'" in said for name in bad)


def test_stats_equal_numpy_and_name_dead_units(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["stats", model, str(photos), "--layer", "relu1", *FAST, "-o", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["layers"] == result_of(out)["layers"]
    values = np.stack(list(activations(model, photos, "relu1").values()))
    entry = printed["layers"][0]
    for unit in entry["units"]:
        mine = values[:, unit["unit"]].astype(np.float64)
        expected = (mine.mean(), mine.std(), mine.max(), (mine == 0).mean())
        assert (unit["mean"], unit["std"], unit["max"], unit["sparsity"]) == pytest.approx(expected, rel=1e-3, abs=1e-6)
        assert sum(unit["histogram"]) == 11
    assert entry["dead"] == np.flatnonzero((values <= 0).all(axis=(0, 2, 3))).tolist()


def test_stats_run_again_does_nothing_twice_and_goes_on_with_new_pictures(
    model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = tmp_path / "some"
    some.mkdir()
    files = sorted(photos.rglob("*.png"))
    for file in files[:5]:
        shutil.copy(file, some / file.name)
    arguments = ["stats", model, str(some), "--layer", "conv2", *FAST]
    assert run([*arguments, "-o", str(tmp_path / "out")]) == 0
    for file in files[5:]:
        shutil.copy(file, some / file.name)
    capsys.readouterr()
    assert run([*arguments, "-o", str(tmp_path / "out")]) == 0
    assert "5 of 11 images are done already" in capsys.readouterr().err
    assert run([*arguments, "-o", str(tmp_path / "fresh")]) == 0
    first, second = (result_of(tmp_path / f)["layers"][0] for f in ("out", "fresh"))
    assert first["units"] == second["units"]


@pytest.mark.parametrize("command", ["top", "stats"])
def test_figures_of_another_model_are_never_mixed(
    command: str, model: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = [command, model, str(photos), "--layer", "conv2", "-o", str(out)]
    assert run([*arguments, *FAST]) == 0
    assert run([*arguments, *FAST, "--mean", "0.1"]) == 2
    assert "--force" in capsys.readouterr().err
    assert run([*arguments, *FAST, "--mean", "0.1", "--force"]) == 0


@pytest.mark.parametrize("wrong", [["--shard", "0/2"], ["--shard", "3/2"], ["--shard", "one"], ["--units", "900"]])
def test_wrong_use_ends_with_2_and_one_line(
    model: str, photos: Path, tmp_path: Path, wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["top", model, str(photos), "--layer", "conv2", *wrong, *FAST, "-o", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.strip().startswith("error: ")
